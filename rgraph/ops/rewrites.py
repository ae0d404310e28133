"""What computes the same with less work: each rewrite is a pattern and a replacement.

`passes.algebra` puts the replacement wherever the pattern is found. Both are Python expressions:

    x, a, b, …      any value; the same name is the same value
    + - * / and -x  `plus`, `minus`, `element_times`, `element_divide`, `negate`;
                    the operands of + and * in either order
    f(x, y)         the operation whose record is called so; `f(x, *rest)` whatever else it reads
    0, 1            a constant that consists of this number
    (n := …)        what is found there is called n
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
    """One rewrite. What stands for the result must have its type: shape, axes and elements.

    Args:
        alike: names of what must have the result's type too.
        once: names of what nothing else may read.
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


Rule = Callable[[Node], Node | None]  # the node that may stand for one; None: none may

_MOST_PARTS = 512  # that a value is looked at as taken apart into; the search is quadratic


def filling(node: Node) -> float | None:
    """The number that a constant consists of, if it is one number throughout, for good."""
    if not isinstance(node, Constant) or not node.is_fixed:
        return None
    value = node.value
    if value.size == 1 or value.size and not any(value.strides):
        return float(value.flat[0])
    return None


def _unrepeated(node: Node) -> Node | None:
    """A pointwise operation repeats by itself what others have along rows and axes."""
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
    """A sum of parts put each in its own place is the parts joined.

    That is what comes back to a value that was taken apart with `slice`, as an LSTM's gates are.
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
    """The summands of a sum, in their order, if all of them are parts put in a place."""
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
        if len(found) + len(pending) > _MOST_PARTS:
            return []
    return found


# In stages: what a stage gives is what the next one looks at.
REWRITES: Sequence[Sequence[Rewrite | Rule]] = [
    [  # what only meant something while the graph was built
        Rewrite("alias(x, *rest)", "x"),
        Rewrite("require_vector(x)", "x"),
        Rewrite("cast(x)", "x"),  # to the type that it has
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
    # As in a GRU. Either is exact but for what the larger of a and b is rounded by: so only where
    # z is rounded too, not a mask that chooses what must come out as it is. The first need not keep
    # b, if nothing else reads it.
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
