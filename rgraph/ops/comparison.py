"""Comparisons, selection, logic and rounding: what is constant almost everywhere.

No gradient flows through these, except through what `element_select` selects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .pointwise import PAIR, pointwise


def _truth(name: str) -> Callable[..., Any]:
    """A kernel that gives the truth values of the library's function as 1 and 0."""

    def kernel(xp: Any, *operands: Any, out: Any = None) -> Any:
        if out is None:
            return getattr(xp, name)(*operands).astype(np.result_type(*operands))
        return getattr(xp, name)(*operands, out=out)

    return kernel


def _comparing(name: str, sign: str, words: str, example: str) -> Callable[..., Any]:
    doc = f"""1 where `left` is {words} `right`, 0 elsewhere. No gradient flows through it.

    >>> C.{name}([1, 2, 3], 2).eval()
    array({example}, dtype=float32)
    """
    expression = f"T({{0}} {sign} {{1}})"
    return pointwise(name, _truth(name), operands=PAIR, expression=expression, doc=doc)


equal = _comparing("equal", "==", "equal to", "[0., 1., 0.]")
not_equal = _comparing("not_equal", "!=", "not equal to", "[1., 0., 1.]")
less = _comparing("less", "<", "less than", "[1., 0., 0.]")
less_equal = _comparing("less_equal", "<=", "at most", "[1., 1., 0.]")
greater = _comparing("greater", ">", "greater than", "[0., 0., 1.]")
greater_equal = _comparing("greater_equal", ">=", "at least", "[0., 1., 1.]")
# Steps: no gradient flows through them.
floor = pointwise(
    "floor",
    "floor",
    operands="arg",
    expression="floor({0})",
    doc="""The largest integer not above `arg`. No gradient flows through it.

    >>> C.floor([0.2, -1.5]).eval()
    array([ 0., -2.], dtype=float32)
    """,
)
ceil = pointwise(
    "ceil",
    "ceil",
    operands="arg",
    expression="ceil({0})",
    doc="""The smallest integer not below `arg`. No gradient flows through it.

    >>> C.ceil([0.2, -1.5]).eval()
    array([ 1., -1.], dtype=float32)
    """,
)


def _round(xp: Any, x: Any, out: Any = None) -> Any:
    whole = xp.floor(x)
    return xp.add(whole, xp.greater_equal(x - whole, 0.5), out=out)


round = pointwise(
    "round",
    _round,
    operands="arg",
    expression="floor({0}) + T({0} - floor({0}) >= T(0.5))",
    doc="""The nearest integer, halves going up as in CNTK. No gradient flows through it.

    >>> C.round([0.5, 1.2, -0.5]).eval()
    array([1., 1., 0.], dtype=float32)
    """,
)
sign = pointwise(
    "sign",
    "sign",
    expression="({0} != {0} ? {0} : T({0} > T(0)) - T({0} < T(0)))",
    doc="""-1, 0 or 1. No gradient flows through it.

    >>> C.ops.sign([-3, 0, 2]).eval()
    array([-1.,  0.,  1.], dtype=float32)
    """,
)


def _select(xp: Any, condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    chosen = xp.where(condition != 0, a, b)
    if out is None:
        return chosen
    out[...] = chosen
    return out


element_select = pointwise(
    "element_select",
    _select,
    None,
    lambda g, _, c, a, b: element_select(c, g, 0.0),
    lambda g, _, c, a, b: element_select(c, 0.0, g),
    operands="flag value_if_true value_if_false",
    expression="({0} != T(0) ? {1} : {2})",
    doc="""`value_if_true` where `flag` is not 0, `value_if_false` elsewhere, shapes broadcast.

    >>> C.element_select([1, 0], [5, 6], [7, 8]).eval()
    array([5., 8.], dtype=float32)
    """,
)


element_not = pointwise(
    "element_not",
    _truth("logical_not"),
    expression="T({0} == T(0))",
    doc="""1 where `x` is 0, else 0.

    >>> C.element_not([0, 1]).eval()
    array([1., 0.], dtype=float32)
    """,
)
element_and = pointwise(
    "element_and",
    _truth("logical_and"),
    operands="x y",
    expression="T({0} != T(0) && {1} != T(0))",
    doc="""1 where neither operand is 0, else 0.

    >>> C.element_and([0, 1], [1, 1]).eval()
    array([0., 1.], dtype=float32)
    """,
)
element_or = pointwise(
    "element_or",
    _truth("logical_or"),
    operands="x y",
    expression="T({0} != T(0) || {1} != T(0))",
    doc="""1 where one operand is not 0, else 0.

    >>> C.element_or([0, 0], [1, 0]).eval()
    array([1., 0.], dtype=float32)
    """,
)
element_xor = pointwise(
    "element_xor",
    _truth("logical_xor"),
    operands="x y",
    expression="T(({0} != T(0)) != ({1} != T(0)))",
    doc="""1 where one operand is 0 and the other is not, else 0.

    >>> C.element_xor([0, 1], [1, 1]).eval()
    array([1., 0.], dtype=float32)
    """,
)
stop_gradient = pointwise(
    "stop_gradient",
    "positive",
    operands="input",
    expression="{0}",
    constant=True,
    doc="""`input`, through which no gradient flows.

    >>> x = C.input_variable(1, needs_gradient=True)
    >>> (C.stop_gradient(x) * x).grad({x: [[3.0]]})
    array([[3.]], dtype=float32)
    """,
)
