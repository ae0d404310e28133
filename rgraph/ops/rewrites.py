"""Algebraic rewrites that compute the same with less work: patterns and their replacements.

`passes.algebra` replaces every occurrence of a pattern. Both are Python expressions:

    x, a, b, …      any value; equal names stand for the same value
    + - * / and -x  `plus`, `minus`, `element_times`, `element_divide`, `negate`;
                    the operands of + and * in either order
    f(x, y)         the operation whose record has this name; `f(x, *rest)`: with any more operands
    0, 1            a constant filled with this number
    (n := …)        names the value that matches
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from ..graph import Constant, Node
from ..graph.node import same_type, twin
from .repetition import SPREAD
from .slicing import PLACE, SPLICE

SIGNS: dict[type[ast.operator | ast.unaryop], str] = {
    ast.Add: "plus",
    ast.Sub: "minus",
    ast.Mult: "element_times",
    ast.Div: "element_divide",
    ast.USub: "negate",
}


class Rewrite:
    """One rewrite. The replacement must have the type of the result: shape, axes and dtype.

    Args:
        alike: names of values that must have this type too.
        once: names of values that nothing else may read.
    """

    def __init__(self, pattern: str, replacement: str, alike: str = "", once: str = "") -> None:
        self.pattern, self.replacement = pattern, replacement
        self.alike, self.once = alike.split(), once.split()

    @cached_property
    def parsed(self) -> tuple[ast.expr, ast.expr]:
        pattern, replacement = (
            ast.parse(text, mode="eval").body for text in (self.pattern, self.replacement)
        )
        return pattern, replacement


Rule = Callable[[Node], Node | None]  # returns a replacement, or None

_MAX_PARTS = 512  # longer sums are not searched, since the search is quadratic


def filling(node: Node) -> float | None:
    """The number that a constant is filled with; None if it is not, or if its value may change."""
    if not isinstance(node, Constant) or not node.is_fixed:
        return None
    value = node.value
    if value.size == 1 or value.size and not any(value.strides):
        return float(value.flat[0])
    return None


def _unrepeated(node: Node) -> Node | None:
    """Remove repetition before a pointwise operation, which broadcasts its operands itself."""
    if node.op is None or not node.op.pointwise:
        return None
    inputs = list(node.inputs)
    for i, operand in enumerate(inputs):
        source = operand.inputs[0] if operand.op is SPREAD else operand
        others = inputs[:i] + inputs[i + 1 :]
        if not source.axes and any(o.axes == node.axes for o in others):
            inputs[i] = source
        number = filling(inputs[i])
        if number is not None and inputs[i].shape and any(o.shape == node.shape for o in others):
            inputs[i] = Constant(np.asarray(number, operand.dtype), (), operand.dtype)
    if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
        return None
    new = twin(node)
    new.inputs = inputs
    return new


def _joined(node: Node) -> Node | None:
    """Replace a sum of parts, each put in its own place, by a splice of the parts.

    Such sums are the adjoints of values that were split with `slice`, such as the gates of an LSTM.
    """
    places = _placed(node)
    if len(places) < 2:
        return None
    cuts = [p.attrs["cuts"] for p in places]
    axis = cuts[0][0][0] if len(cuts[0]) == 1 else None
    if axis is None or any(len(c) != 1 or c[0][0] != axis or c[0][3] != 1 for c in cuts):
        return None
    parts = sorted(places, key=lambda p: p.attrs["cuts"][0][1])
    ends = [p.attrs["cuts"][0][1:3] for p in parts]
    size = (node.shape or ())[axis]
    tiled = ends[0][0] == 0 and ends[-1][1] == size
    if not tiled or any(a[1] != b[0] for a, b in zip(ends, ends[1:], strict=False)):
        return None
    return twin(node, SPLICE, [p.inputs[0] for p in parts], {"axis": axis})


def _placed(node: Node) -> list[Node]:
    """The summands of a sum, in order, if all of them are `PLACE` operations, else nothing."""
    found: list[Node] = []
    pending = [node]
    while pending:
        summand = pending.pop()
        if summand.op is PLACE:
            found.append(summand)
        elif summand.op is not None and summand.op.name == "plus" and same_type(
            summand, *summand.inputs
        ):  # fmt: skip
            if any(i.op is not PLACE and i.op is not summand.op for i in summand.inputs):
                return []
            pending += reversed(summand.inputs)
        else:
            return []
        if len(found) + len(pending) > _MAX_PARTS:
            return []
    return found


# In stages: each stage works on the result of the one before.
REWRITES: Sequence[Sequence[Rewrite | Rule]] = [
    [  # operations that matter only while the graph is built
        Rewrite("alias(x, *rest)", "x"),
        Rewrite("require_vector(x)", "x"),
        Rewrite("cast(x)", "x"),  # to the type that x has
        Rewrite("stop_gradient(x)", "x"),
        Rewrite("reconcile_dynamic_axes(x, like)", "x"),
    ],
    [_unrepeated],
    [
        Rewrite("x + 0", "x"),
        Rewrite("x - 0", "x"),
        Rewrite("x * 1", "x"),
        Rewrite("x / 1", "x"),
        Rewrite("adjoint_times(x, 1)", "x"),
        Rewrite("adjoint_times(1, x)", "x"),
    ],
    [_joined],
    [Rewrite("a + (n := -b)", "a - b", alike="n")],
    # As in a GRU. Both replacements have a rounding error relative to the larger of a and b. So
    # they are used only for a z that is rounded itself, not for a mask of 0 and 1, which must
    # select exactly. The first one frees b early if nothing else reads it.
    [
        Rewrite(
            "(z := sigmoid(x)) * a + (rest := 1 - z) * b",
            "a + rest * (b - a)",
            alike="z a b",
            once="b",
        ),
        Rewrite("(z := sigmoid(x)) * a + (1 - z) * b", "b + z * (a - b)", alike="z a b"),
    ],
    [Rewrite("(p := a * b) - (q := a * c)", "a * (b - c)", alike="a b c", once="p q")],
]
