"""Selecting elements by computed indices: gather, one_hot, top_k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Node, apply, whole
from ..graph.node import Attributes, Shape
from ..graph.types import Array, Library, OperandLike
from .records import as_node, define, operation
from .shaping import as_size, axis_number, static_index

if TYPE_CHECKING:
    from ..plan import Run

# gather, and its adjoint, which adds each element back to where it was taken from


def _gathered(reference: Shape, indices: Shape, *, axis: int, **_: object) -> Shape:
    at = static_index(axis, len(reference)) + len(reference)
    return reference[:at] + indices + reference[at + 1 :]


class _Places:
    """The positions of the axes of `gather` in its arrays.

    Attributes:
        before: the number of static axes before the gathered axis.
        own, chosen: whether the reference and the indices have rows.
        count: the number of static axes of the indices.
    """

    def __init__(self, reference: Node, indices: Node, axis: int) -> None:
        rank = len(reference.shape or ())
        self.before = static_index(axis, rank) + rank
        self.own = bool(reference.axes)
        self.chosen = bool(indices.axes)
        self.count = len(indices.shape or ())

    def lead(
        self, xp: Library, indices: Array, rows: int, size: int
    ) -> Array | tuple[Array, Array]:
        """An index into the reference, once its gathered axis is moved to the front (after rows).

        Args:
            size: the size of the gathered axis.
        """
        index = _whole(xp, indices, size)
        if not self.own:
            return index
        if not self.chosen:
            index = index[None]
        return xp.arange(rows).reshape(-1, *[1] * self.count), index


def _whole(xp: Library, indices: Array, size: int) -> Array:
    """Indices as integers: fractions are truncated, as in CNTK."""
    if xp is np:  # on a GPU the check would have to wait for the result
        outside = ~((indices > -1) & (indices < size))  # NaN too
        if outside.any():
            raise GraphError(
                f"index {indices[outside].flat[0]:g} is out of range for {size} elements",
                hint=f"indices must be from 0 to {size - 1}" if size else "",
            )
    return indices.astype(int)


def _gather(run: Run, x: Array, indices: Array, *, places: _Places) -> Array:
    at = places.before + places.own
    moved = run.xp.moveaxis(x, at, int(places.own))
    found = moved[places.lead(run.xp, indices, len(x), x.shape[at])]
    return run.xp.moveaxis(found, *_moves(places))


def _moves(places: _Places) -> tuple[Shape, Shape]:
    """Where to move the axes of the indices: after indexing they are in front of the axes that come
    before the gathered axis."""
    rows = int(places.own or places.chosen)
    source = tuple(range(rows, rows + places.count))
    return source, tuple(i + places.before for i in source)


def _scatter(run: Run, g: Array, indices: Array, *, places: _Places, shape: Shape) -> Array:
    source, target = _moves(places)
    g = run.xp.moveaxis(g, target, source)
    rows = g.shape[:1] if places.own else ()
    whole = run.xp.zeros((*rows, shape[places.before], *_without(shape, places.before)), g.dtype)
    run.xp.add.at(whole, places.lead(run.xp, indices, len(whole), shape[places.before]), g)
    return run.xp.moveaxis(whole, int(places.own), places.before + places.own)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _numbers(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, (2, 2, 2)) + 0.5


GATHER = define(
    "gather",
    shape=_gathered,
    dtype=lambda dtypes, **_: dtypes[0],
    kernel=_gather,
    arguments=lambda node: {"places": _Places(node.inputs[0], node.inputs[1], node.attrs["axis"])},
    gradient=lambda node, g: [
        apply(
            SCATTER,
            g,
            node.inputs[1],
            axis=node.attrs["axis"],
            shape=node.inputs[0].shape,
            axes=node.inputs[0].axes,
        ),
        None,
    ],
    operands=("reference", "indices"),
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 2)), _numbers(rng)], {"axis": 0}),
        lambda rng: ([rng.normal(size=(2, 2, 3)), _numbers(rng)], {"axis": -1}),
    ),
)


def _scatter_arguments(node: Node) -> dict[str, object]:
    places = _Places(node, node.inputs[1], node.attrs["axis"])
    return {"places": places, "shape": node.shape}


SCATTER = define(
    "gather_back",
    title="gradient of gather",
    shape=lambda g, indices, shape, **_: shape,
    axes=lambda operands, axes, **_: axes,
    align=None,
    dtype=lambda dtypes, **_: dtypes[0],
    kernel=_scatter,
    arguments=_scatter_arguments,
    gradient=lambda node, g: [apply(GATHER, g, node.inputs[1], axis=node.attrs["axis"]), None],
    operands=("adjoint", "indices"),
)


@operation
def gather(reference: OperandLike, indices: OperandLike, axis: int | Axis | None = None) -> Node:
    """The elements of `reference` at `indices` along an axis.

    Args:
        reference: a value of shape (*before, n, *behind), with n at `axis` (by default the first).
        indices: numbers from 0 to n - 1, truncated to integers. No gradient flows to them. Other
            numbers are an error (but not checked on a GPU).

    Returns:
        a value of shape (*before, *indices.shape, *behind).

    Source: CNTK's `gather`.

    >>> C.gather(C.constant([[1, 2], [3, 4], [5, 6]]), C.constant([2, 0])).eval()
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """
    at = 0 if axis is None else axis_number(axis)
    return apply(GATHER, as_node(reference), as_node(indices), axis=at)


# one_hot


def _one_hot(run: Run, x: Array, *, num_classes: int, axis: int) -> Array:
    found = _whole(run.xp, x, num_classes)[..., None] == run.xp.arange(num_classes)
    return run.xp.moveaxis(found.astype(x.dtype), -1, axis)


def _one_hot_shape(shape: Shape, *, num_classes: int, axis: int, **_: object) -> Shape:
    at = static_index(axis, len(shape) + 1) + len(shape) + 1
    return (*shape[:at], num_classes, *shape[at:])


ONE_HOT = define(
    "one_hot",
    shape=_one_hot_shape,
    sparse=lambda node: node.attrs.get("sparse", False),
    kernel=_one_hot,
    arguments=lambda node: {
        "num_classes": node.attrs["num_classes"],
        "axis": static_index(node.attrs["axis"], len(node.shape or ())),
    },
    cases=(
        lambda rng: ([_numbers(rng)], {"num_classes": 3, "axis": -1}),
        lambda rng: ([_numbers(rng)], {"num_classes": 4, "axis": 0}),
    ),
)


@operation
def one_hot(
    x: OperandLike, num_classes: int, sparse_output: bool = False, axis: int | Axis = -1
) -> Node:
    """One-hot vectors of class numbers: 1 at the class, 0 elsewhere. No gradient flows.

    Args:
        x: numbers from 0 to num_classes - 1 of shape `shape`, truncated to integers. Other numbers
            are an error (on a GPU they give zeros).
        sparse_output: whether the result counts as sparse, like an input with `is_sparse`.
        axis: the position of the new axis in the result, by default the last.

    Returns:
        a value of shape (*shape, num_classes), or with the new axis at `axis`.

    >>> C.one_hot([0, 2], 3).eval()
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    (count,) = as_size(num_classes, "num_classes")
    at = axis_number(axis)
    return apply(ONE_HOT, as_node(x), num_classes=count, axis=at, sparse=bool(sparse_output))


# The k largest, and their adjoint


def _top_shape(shape: Shape, *_: Shape, k: int, axis: int) -> Shape:
    at = static_index(axis, len(shape)) + len(shape)
    if not 0 < k <= shape[at]:
        raise GraphError(
            f"top_k: k must be from 1 to the {shape[at]} elements along axis {axis}, got {k}"
        )
    return (*shape[:at], k, *shape[at + 1 :])


def _top_arguments(node: Node) -> Attributes:
    return {"axis": static_index(node.attrs["axis"], len(node.inputs[0].shape or ()))}


def _top(run: Run, x: Array, *, axis: int, k: int) -> Array:
    order = run.xp.argsort(-x, axis=axis, kind="stable")
    return run.xp.take(order, run.xp.arange(k), axis=axis).astype(x.dtype)


def _put(run: Run, g: Array, indices: Array, *, axis: int, size: int) -> Array:
    shape = list(g.shape)
    shape[axis] = size
    whole = run.xp.zeros(shape, g.dtype)
    run.xp.put_along_axis(whole, run.xp.rint(indices).astype(int), g, axis)
    return whole


TOP = define(
    "top_k_indices",
    title="top_k",
    shape=_top_shape,
    kernel=_top,
    arguments=lambda node: {"k": node.attrs["k"], **_top_arguments(node)},
    waits=True,
    cases=(lambda rng: ([rng.normal(size=(2, 4, 3))], {"k": 2, "axis": 0}),),
)
TAKE = define(
    "take_along",
    title="top_k",
    shape=lambda s, indices, axis: indices,
    kernel=lambda run, x, indices, axis: run.xp.take_along_axis(
        x, run.xp.rint(indices).astype(int), axis
    ),
    arguments=_top_arguments,
    gradient=lambda node, g: [
        apply(
            PUT,
            g,
            node.inputs[1],
            axis=node.attrs["axis"],
            size=(node.inputs[0].shape or ())[_top_arguments(node)["axis"]],
        ),
        None,
    ],
    operands=("operand", "indices"),
)
PUT = define(
    "put_along",
    title="gradient of top_k",
    shape=lambda g, indices, axis, size: tuple(
        size if i == static_index(axis, len(g)) + len(g) else n for i, n in enumerate(g)
    ),
    kernel=_put,
    arguments=lambda node: {"size": node.attrs["size"], **_top_arguments(node)},
    gradient=lambda node, g: [apply(TAKE, g, node.inputs[1], axis=node.attrs["axis"]), None],
    operands=("adjoint", "indices"),
)


@operation
def top_k(x: OperandLike, k: int, axis: int | Axis = -1) -> tuple[Node, Node]:
    """The `k` largest elements along a static axis, in descending order.

    Returns:
        a function with two outputs, of the shape of `x` with `k` elements along the axis: the
        elements, and their indices (through which no gradient flows).

    Source: CNTK's `top_k`.

    >>> top = C.top_k([3, 1, 4], 2)
    >>> values = top.eval()
    >>> values[top.outputs[0]], values[top.outputs[1]]
    (array([4., 3.], dtype=float32), array([2., 0.], dtype=float32))
    """
    node, at = as_node(x), axis_number(axis)
    indices = apply(TOP, node, k=whole(k, "k"), axis=at)
    return apply(TAKE, node, indices, axis=at), indices
