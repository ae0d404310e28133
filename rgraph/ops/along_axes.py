"""Operations along static axes, or along all rows, that keep the shape.

The gradients of reductions and of softmax are built from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..graph import GraphError, Node, Op, apply
from ..graph.node import Case, Shape
from ..graph.types import Array, Library
from .pointwise import shrink
from .records import TABLE, define
from .repetition import spread
from .shaping import joined, rank_of, static_index

if TYPE_CHECKING:
    from ..plan import Run

SPACE = "space"  # stands for all static axes but the first, the channels
Named = Sequence[int] | str | None  # axes by number, or `SPACE`; None: all static ones


def chosen(axis: Named, rank: int) -> Shape:
    """The static axes that `axis` names, as negative indices; all for None."""
    if axis is None:
        return tuple(range(-rank, 0))
    if isinstance(axis, str):  # SPACE
        return tuple(range(1 - rank, 0))
    return tuple(sorted({static_index(a, rank) for a in axis}))


def chosen_of_some(shape: Shape, *, axis: Named) -> Shape:
    """Same as `chosen`, but raises `GraphError` if one of the axes has no elements."""
    axes = chosen(axis, len(shape))
    if not all(shape[a] for a in axes):
        raise GraphError(f"a value of shape {shape} has no elements, so none is the largest")
    return axes


def flattened(xp: Library, x: Array, axis: Shape) -> Array:
    """`x` with these axes merged into one, the last."""
    return joined(xp.moveaxis(x, axis, tuple(range(-len(axis), 0))), -len(axis))


def unflattened(xp: Library, flat: Array, shape: Shape, axis: Shape) -> Array:
    """The inverse of `flattened` for an array of this shape."""
    last = tuple(range(-len(axis), 0))
    moved = xp.moveaxis(xp.empty(shape, bool), axis, last).shape
    return xp.moveaxis(flat.reshape(moved), last, axis)


@dataclass(frozen=True)
class StaticAxes:
    """Applies operations along static axes."""

    axis: Named

    def __call__(self, name: str, *operands: Node) -> Node:
        return apply(TABLE[name], *operands, axis=self.axis)

    def total(self, x: Node) -> Node:
        """The sum of `x`, in a shape that broadcasts to that of `x`."""
        return apply(TABLE["reduce_sum"], x, axis=self.axis, keepdims=True)


class Rows:
    """Applies operations along all rows."""

    def __call__(self, name: str, *operands: Node) -> Node:
        return apply(_ALONG_ROWS, *operands, how=name)

    def total(self, x: Node) -> Node:
        summed = apply(TABLE["reduce_over_rows"], x, how="reduce_sum", whole=True)
        return spread(summed, x.axes or ())


Along = StaticAxes | Rows
Gradient = Callable[[Along, Node, Node], list[Node]]

_GRADIENTS: dict[str, Gradient | None] = {}


def along_axes(
    name: str, kernel: Callable[..., Array], gradient: Gradient | None, operands: int = 1
) -> Op:
    """Define an operation along axes that keeps the shape.

    Args:
        kernel: `kernel(xp, *arrays, axis)`.
        gradient: `gradient(along, node, adjoint)`; it applies other operations with `along`, so
            that it works for static axes and for rows.
        operands: the number of operands in the test cases, all of the same shape.
    """
    _GRADIENTS[name] = gradient

    def compute(run: Run, *arrays: Array, axis: Shape) -> Array:
        if not arrays[0].size:
            return arrays[0].copy()
        if axis:
            return kernel(run.xp, *arrays, axis=axis)
        return kernel(run.xp, *(a[..., None] for a in arrays), axis=(-1,))[..., 0]

    def case(axis: Named) -> Case:
        return lambda rng: ([rng.normal(size=(2, 3, 4)) for _ in range(operands)], {"axis": axis})

    return define(
        name,
        shape=lambda s, *_, axis: (chosen(axis, len(s)), s)[1],
        kernel=compute,
        arguments=lambda node: {"axis": chosen(node.attrs["axis"], rank_of(node))},
        gradient=partial(_carried, gradient) if gradient else None,
        cases=tuple(map(case, (None, (0,)))),
    )


def _carried(gradient: Gradient, node: Node, g: Node) -> list[Node]:
    return gradient(StaticAxes(node.attrs["axis"]), node, g)


def _rows_gradient(node: Node, g: Node) -> list[Node]:
    gradient = _GRADIENTS[node.attrs["how"]]
    return gradient(Rows(), node, g) if gradient else []


_ALONG_ROWS = define(
    "along_rows",
    shape=lambda s, *_, how: s,
    align=None,
    kernel=lambda run, *arrays, how, axis: TABLE[how].kernel(run, *arrays, axis=axis),
    arguments=lambda node: {"how": node.attrs["how"], "axis": (0,) if node.axes else ()},
    gradient=_rows_gradient,
    framewise=False,
)


# The product of all other elements: the gradient of a product, correct for zeros too


def _products(xp: Library, a: Array, b: Array) -> Array:
    """The product of two polynomials in infinitesimals (e, f, …) whose squares are 0.

    The first axis holds the coefficients; the bits of its index say which infinitesimals a term
    has.
    """
    result = xp.zeros_like(a)
    for union in range(len(a)):
        for part in range(len(a)):
            if part & union == part:
                result[union] += a[part] * b[union ^ part]
    return result


def _others(xp: Library, x: Array) -> Array:
    """For each element along the last axis, the product of the others, by divide and conquer."""
    count = x.shape[-1]
    one = xp.zeros_like(x[..., :1])
    one[0] = 1
    if count < 2:
        return one[..., :count]
    half = (count + 1) // 2
    a, b = x[..., :half], x[..., half:]
    if count % 2:
        b = xp.concatenate([b, one], axis=-1)
    rest = _others(xp, _products(xp, a, b))
    both = [_products(xp, rest, b), _products(xp, rest, a)]
    return xp.concatenate(both, axis=-1)[..., :count]


def _product_of_others(xp: Library, x: Array, *steps: Array, axis: Shape) -> Array:
    """The product of the other elements, differentiated once in the direction of each of `steps`.

    It is the coefficient of e * f * … in the product for x + e * steps[0] + f * steps[1] + ….
    """
    shape = np.broadcast_shapes(x.shape, *(s.shape for s in steps))
    parts = xp.zeros((2 ** len(steps), *shape), x.dtype)
    parts[0] = x
    for i, step in enumerate(steps):
        parts[2**i] = step
    from_end = tuple(a if a < 0 else a - len(shape) for a in axis)
    others = _others(xp, flattened(xp, parts, from_end))
    return unflattened(xp, others[-1], shape, axis)


def _product_gradient(along: Along, node: Node, g: Node) -> list[Node]:
    """The derivative is linear in each step and symmetric in the steps."""
    name, (x, *steps) = "product_of_others", node.inputs
    others = [steps, *(steps[:i] + steps[i + 1 :] for i in range(len(steps)))]
    return [shrink(along(name, x, *o, g), i) for o, i in zip(others, node.inputs, strict=True)]


along_axes("product_of_others", _product_of_others, _product_gradient, operands=2)
