"""Comparisons, selection, logic and rounding: functions that are constant almost everywhere.

No gradient flows through these, except through what `element_select` selects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pointwise import PAIR, pointwise

if TYPE_CHECKING:
    from .records import Operation


def _comparing(name: str, sign: str, words: str, example: str) -> Operation[...]:
    doc = f"""1 where `left` is {words} `right`, 0 elsewhere. No gradient flows through it.

    >>> C.{name}([1, 2, 3], 2).eval()
    array({example}, dtype=float32)
    """
    return pointwise(name, f"left {sign} right", operands=PAIR, doc=doc)


equal = _comparing("equal", "==", "equal to", "[0., 1., 0.]")
not_equal = _comparing("not_equal", "!=", "not equal to", "[1., 0., 1.]")
less = _comparing("less", "<", "less than", "[1., 0., 0.]")
less_equal = _comparing("less_equal", "<=", "at most", "[1., 1., 0.]")
greater = _comparing("greater", ">", "greater than", "[0., 0., 1.]")
greater_equal = _comparing("greater_equal", ">=", "at least", "[0., 1., 1.]")
# Steps: no gradient flows through them.
floor = pointwise(
    "floor",
    "floor(arg)",
    operands="arg",
    doc="""Rounds down to an integer. No gradient flows through it.

    >>> C.floor([0.2, -1.5]).eval()
    array([ 0., -2.], dtype=float32)
    """,
)
ceil = pointwise(
    "ceil",
    "ceil(arg)",
    operands="arg",
    doc="""Rounds up to an integer. No gradient flows through it.

    >>> C.ceil([0.2, -1.5]).eval()
    array([ 1., -1.], dtype=float32)
    """,
)


round = pointwise(
    "round",
    "floor(arg) + (arg - floor(arg) >= 0.5)",
    operands="arg",
    doc="""Rounds to the nearest integer, halves up as in CNTK. No gradient flows through it.

    >>> C.round([0.5, 1.2, -0.5]).eval()
    array([1., 1., 0.], dtype=float32)
    """,
)
sign = pointwise(
    "sign",
    "x if x != x else (x > 0) - (x < 0)",
    arrays="sign",
    doc="""The sign: -1, 0 or 1. No gradient flows through it.

    >>> C.ops.sign([-3, 0, 2]).eval()
    array([-1.,  0.,  1.], dtype=float32)
    """,
)


element_select = pointwise(
    "element_select",
    "value_if_true if flag != 0 else value_if_false",
    None,
    lambda g, _, c, a, b: element_select(c, g, 0.0),
    lambda g, _, c, a, b: element_select(c, 0.0, g),
    operands="flag value_if_true value_if_false",
    doc="""`value_if_true` where `flag` is not 0, `value_if_false` elsewhere, with broadcasting.

    >>> C.element_select([1, 0], [5, 6], [7, 8]).eval()
    array([5., 8.], dtype=float32)
    """,
)


element_not = pointwise(
    "element_not",
    "x == 0",
    doc="""1 where `x` is 0, else 0.

    >>> C.element_not([0, 1]).eval()
    array([1., 0.], dtype=float32)
    """,
)
element_and = pointwise(
    "element_and",
    "x != 0 and y != 0",
    operands="x y",
    doc="""1 where neither operand is 0, else 0.

    >>> C.element_and([0, 1], [1, 1]).eval()
    array([0., 1.], dtype=float32)
    """,
)
element_or = pointwise(
    "element_or",
    "x != 0 or y != 0",
    operands="x y",
    doc="""1 where one operand is not 0, else 0.

    >>> C.element_or([0, 0], [1, 0]).eval()
    array([1., 0.], dtype=float32)
    """,
)
element_xor = pointwise(
    "element_xor",
    "(x != 0) ^ (y != 0)",
    operands="x y",
    doc="""1 where one operand is 0 and the other is not, else 0.

    >>> C.element_xor([0, 1], [1, 1]).eval()
    array([1., 0.], dtype=float32)
    """,
)
stop_gradient = pointwise(
    "stop_gradient",
    "input",
    operands="input",
    constant=True,
    doc="""Returns `input`, but no gradient flows through it.

    >>> x = C.input_variable(1, needs_gradient=True)
    >>> (C.stop_gradient(x) * x).grad({x: [[3.0]]})
    array([[3.]], dtype=float32)
    """,
)
