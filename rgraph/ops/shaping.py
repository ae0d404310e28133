"""Operations that change shapes: reshape, transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import FREE, INFERRED, Axis, GraphError, Node, apply, whole
from ..graph.axis import END
from ..graph.node import Shape, Type
from ..graph.types import Array, OperandLike, ShapeLike
from .records import as_node, define, operation

if TYPE_CHECKING:
    from ..plan import Run


def static_index(axis: int | Axis, rank: int, extra: int = 0) -> int:
    """A static axis as a negative index, which is independent of leading rows.

    Raises `GraphError` for an axis that a value of this rank does not have.
    """
    if isinstance(axis, Axis):
        axis = axis.static_axis_index()
    axis = whole(axis, "an axis")
    if axis == END and extra:
        return -rank - 1
    if not -rank - extra <= axis < rank:
        raise GraphError(
            f"axis {axis} does not exist: the operand has {rank} static axes"
            + (f", 0 to {rank - 1}" if rank else "")
        )
    return axis - rank if axis >= 0 else axis


def joined(x: Array, first: int) -> Array:
    """Merge the axes of an array from `first` on. (A size of -1 would fail for empty arrays.)"""
    return x.reshape(*x.shape[:first], math.prod(x.shape[first:]))


def rank_of(node: Node, operand: int = 0) -> int:
    return len(node.inputs[operand].shape or ())


def _pass_on(node: Node, g: Node) -> list[Node]:
    return [g]


ALIAS = define(
    "alias",
    shape=lambda s, *_, **__: s,
    axes=lambda axes, **_: axes[0],
    dtype=lambda dtypes, **_: dtypes[0],
    align=None,
    kernel=lambda run, x, *_, **__: x,
    gradient=lambda node, g: [g] + [None] * (len(node.inputs) - 1),
    guess=True,
    cases=(lambda rng: ([rng.normal(size=(2, 3))], {}),),
)


def mark_block(
    outputs: Sequence[Node], kind: str, name: str, arguments: Sequence[Node]
) -> list[Node]:
    """Mark `outputs` as the results of one layer of this kind and name, applied to `arguments`."""
    layer = outputs[0].uid if outputs else 0
    return [apply(ALIAS, x, *arguments, block=kind, layer=layer, name=name) for x in outputs]


@operation
def alias(x: OperandLike) -> Node:
    """`x` with another name.

    >>> C.alias(C.constant([1, 2]), name="y").name
    'y'
    """
    return apply(ALIAS, as_node(x))


def _vector(shape: Shape | None, *, who: str, map_rank: int) -> Shape | None:
    if shape is None:
        return None
    rank = 1 + map_rank
    if len(shape) < rank or any(n != 1 for n in shape[:-rank]):  # (1, 5) is one vector too
        expected = f"a grid of vectors, with {1 + map_rank} axes," if map_rank else "a vector"
        before = f"a Dense or a reshape to ({math.prod(shape)},)"
        if FREE in shape:
            before = "a reduction over the axes of free size"
        raise GraphError(
            f"{who} expects {expected} per frame, got {shape}".replace(str(FREE), "free"),
            hint=f"put {before} before it, or "
            + (
                "write a step function with convolutions"
                if len(shape) > 2
                else f"declare sequences as sequence.input_variable({shape[1:] or (1,)})".replace(
                    str(FREE), "C.FreeDimension"
                )
            ),
        )
    return shape


def _vector_type(types: Sequence[Type], *, who: str, map_rank: int) -> Type:
    """Keep free sizes: a free axis before the vector does not count as size 1."""
    x = types[0]
    return Type(_vector(x.shape, who=who, map_rank=map_rank), x.axes, x.dtype)


REQUIRE_VECTOR = define(
    "require_vector",
    shape=_vector,
    type=_vector_type,
    title="",
    kernel=lambda run, x, **_: x,
    gradient=_pass_on,
    guess=True,
    cases=(lambda rng: ([rng.normal(size=(2, 3))], {"who": "a test", "map_rank": 0}),),
)


def require_vector(x: OperandLike, who: str, map_rank: int = 0) -> Node:
    """`x`; raises `GraphError` unless it is a vector (or a grid of vectors) per frame."""
    return apply(REQUIRE_VECTOR, as_node(x), who=who, map_rank=map_rank)


# Reshape


def _span(rank: int, begin: int | None, end: int | None) -> tuple[int, int]:
    def place(axis: int) -> int:
        return rank if axis == END else axis if axis >= 0 else axis + rank

    return place(0 if begin is None else begin), place(END if end is None else end)


def _reshaped(
    shape: Shape | None, *, to: Shape, begin: int | None = None, end: int | None = None
) -> Shape | None:
    if shape is None:
        return to if begin is None and end is None and INFERRED not in to else None
    first, last = _span(len(shape), begin, end)
    if not 0 <= first <= last <= len(shape):
        raise GraphError(
            f"shape {shape} has no axes {first} to {last}",
            hint=f"begin_axis and end_axis must be in order, and from 0 to {len(shape)}",
        )
    old, new = shape[first:last], list(to)
    if INFERRED in old:
        return None
    if new.count(INFERRED) > 1:
        raise GraphError(f"only one dimension of a new shape can be inferred, got {to}")
    if INFERRED in new:
        others = math.prod(n for n in new if n != INFERRED)
        new[new.index(INFERRED)] = math.prod(old) // others if others else 0
    if math.prod(new) != math.prod(old):
        raise GraphError(
            f"{old} has {math.prod(old)} elements, the new shape {to} has {math.prod(new)}",
            hint=_total_hint(math.prod(old), to),
        )
    return shape[:first] + tuple(new) + shape[last:]


def _total_hint(size: int, to: Shape) -> str:
    rule = "shapes are those of a sample or frame, without batch or time"
    times, rest = divmod(math.prod(to), size) if size else (0, 0)
    if times > 1 and not rest:
        leave = f": leave out the axis of {times}" if times in to else ""
        return f"{rule}{leave}; sequence.unpack puts all frames of a sequence into one array"
    return f"to make it a vector, reshape to ({size},) or to (-1,); {rule}"


RESHAPE = define(
    "reshape",
    shape=_reshaped,
    kernel=lambda run, x, shape, rank: x.reshape(x.shape[: x.ndim - rank] + shape),
    arguments=lambda node: {"shape": node.shape, "rank": rank_of(node)},
    gradient=lambda node, g: [reshape_to(g, node.inputs[0].shape or ())],
    guess=True,
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4))], {"to": (2, 6)}),
        lambda rng: ([rng.normal(size=(2, 3, 4))], {"to": (2, -1), "begin": 1, "end": 2}),
    ),
)


def reshape_to(x: Node, shape: Shape) -> Node:
    return x if x.shape == shape else apply(RESHAPE, x, to=tuple(shape))


def as_shape(shape: ShapeLike) -> Shape:
    """A shape as a tuple; a single number is the shape of a vector."""
    try:
        sizes = (shape,) if np.isscalar(shape) and not isinstance(shape, str) else shape
        return tuple(whole(n, "a size") for n in sizes)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        hint = f"pass a name as name={shape!r}" if isinstance(shape, str) else ""
        if hasattr(shape, "dynamic_axes"):
            hint = "create a layer before applying it: Dense(10)(x), not Dense(x)"
        raise GraphError(
            f"a shape must be a whole number or a tuple of them, got {shape!r}", hint=hint
        ) from None


def as_size(shape: ShapeLike, of: str, least: int = 1) -> Shape:
    """Same as `as_shape`, for sizes that can't be inferred. `of` names them in errors."""
    size = as_shape(shape)
    if min(size, default=least) < least:
        raise GraphError(f"{of}: sizes must be at least {least}, got {shape}")
    return size


def axis_number(axis: int | Axis | None) -> int | None:
    return axis.static_axis_index() if isinstance(axis, Axis) else axis


@operation
def reshape(
    x: OperandLike,
    shape: ShapeLike,
    begin_axis: int | Axis | None = None,
    end_axis: int | Axis | None = None,
) -> Node:
    """Changes the shape of each sample; the (row-major) order of elements stays the same.

    Args:
        x: any value.
        shape: the new sizes; one may be `C.InferredDimension` (-1).
        begin_axis, end_axis: the axes of `x` that `shape` replaces; by default all.

    >>> C.reshape(C.constant([[0, 1], [2, 3], [4, 5]]), (2, 3)).eval()
    array([[0., 1., 2.],
           [3., 4., 5.]], dtype=float32)
    """
    begin, end = axis_number(begin_axis), axis_number(end_axis)
    return apply(RESHAPE, as_node(x), to=as_shape(shape), begin=begin, end=end)


# Transpose


def _permutation(rank: int, perm: Sequence[int] | None, swap: Sequence[int] = ()) -> Shape:
    if perm is None:
        order = list(range(rank))[:: 1 if swap else -1]
        if swap:
            a, b = (static_index(i, rank) for i in swap)
            order[a], order[b] = order[b], order[a]
        return tuple(order)
    result = tuple(static_index(p, rank) + rank for p in perm)
    if sorted(result) != list(range(rank)):
        raise GraphError(f"{tuple(perm)} is not a permutation of the operand's {rank} axes")
    return result


def _transpose(run: Run, x: Array, *, perm: Shape) -> Array:
    rows = x.ndim - len(perm)
    return x.transpose(*range(rows), *(rows + p for p in perm))


def _transpose_gradient(node: Node, g: Node) -> list[Node]:
    perm = _permutation(rank_of(node), **node.attrs)
    return [apply(TRANSPOSE, g, perm=tuple(perm.index(i) for i in range(len(perm))))]


TRANSPOSE = define(
    "transpose",
    shape=lambda s, perm, swap=(): tuple(s[p] for p in _permutation(len(s), perm, swap)),
    kernel=_transpose,
    arguments=lambda node: {"perm": _permutation(rank_of(node), **node.attrs)},
    gradient=_transpose_gradient,
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4, 2))], {"perm": (2, 0, 1)}),
        lambda rng: ([rng.normal(size=(2, 3, 4, 2))], {"perm": None, "swap": (-1, 0)}),
    ),
)


@operation
def transpose(x: OperandLike, perm: Sequence[int | Axis] | None = None) -> Node:
    """Permutes static axes; by default reverses them.

    >>> C.transpose(C.constant([[0, 1], [2, 3], [4, 5]]), (1, 0)).eval()
    array([[0., 2., 4.],
           [1., 3., 5.]], dtype=float32)
    """
    numbers = None if perm is None else tuple(axis_number(p) for p in perm)
    return apply(TRANSPOSE, as_node(x), perm=numbers)


@operation
def swapaxes(x: OperandLike, axis1: int | Axis = 0, axis2: int | Axis = 1) -> Node:
    """Swaps two static axes.

    >>> C.swapaxes([[0, 1], [2, 3], [4, 5]], 0, 1).eval()
    array([[0., 2., 4.],
           [1., 3., 5.]], dtype=float32)
    """
    return apply(TRANSPOSE, as_node(x), perm=None, swap=(axis_number(axis1), axis_number(axis2)))
