"""Operations that move elements and compute nothing: reshape, transpose, slice, splice."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import FREE, INFERRED, Axis, GraphError, Node, apply
from ..graph.axis import END
from ..graph.node import Shape, Type
from .records import as_node, define, follow_axes, operation
from .repetition import gather_up


def static_index(axis: int | Axis, rank: int, extra: int = 0) -> int:
    """A static axis as a negative index, so that rows in front make no difference.

    Raises `GraphError` for an axis that a value of this rank does not have.
    """
    if isinstance(axis, Axis):
        axis = axis.static_axis_index()
    if axis == END and extra:
        return -rank - 1
    if not -rank - extra <= axis < rank:
        raise GraphError(
            f"axis {axis} does not exist: the operand has {rank} static axes"
            + (f", 0 to {rank - 1}" if rank else "")
        )
    return axis - rank if axis >= 0 else axis


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
    """The values as what one layer of this kind and name makes of the arguments."""
    layer = outputs[0].uid if outputs else 0
    return [apply(ALIAS, x, *arguments, block=kind, layer=layer, name=name) for x in outputs]


@operation
def alias(x: Any) -> Any:
    """`x` under another name.

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
            mend=f"put {before} before it, or "
            + (
                "write a step function with convolutions"
                if len(shape) > 2
                else "declare what comes frame by frame as "
                f"sequence.input_variable({shape[1:] or (1,)})".replace(
                    str(FREE), "C.FreeDimension"
                )
            ),
        )
    return shape


def _vector_type(types: Sequence[Type], *, who: str, map_rank: int) -> Type:
    """Free sizes are seen as such: a free axis before the vector's is one of many."""
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


def require_vector(x: Any, who: str, map_rank: int = 0) -> Node:
    """`x`, or an error which says that `who` needs a vector (or a grid of them) per frame."""
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
            f"axes {first} to {last} are no part of {shape}",
            mend=f"begin_axis is at most end_axis, both are from 0 to {len(shape)}",
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
            mend=_total_mend(math.prod(old), to),
        )
    return shape[:first] + tuple(new) + shape[last:]


def _total_mend(size: int, to: Shape) -> str:
    rule = "a shape here is one sample's or one frame's, without batch or time"
    times, rest = divmod(math.prod(to), size) if size else (0, 0)
    if times > 1 and not rest:
        leave = f": leave out the axis of {times}" if times in to else ""
        return f"{rule}{leave}; sequence.unpack puts all frames of a sequence into one array"
    return f"to make a vector of it, reshape to ({size},) or to (-1,); {rule}"


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


def as_shape(shape: int | Sequence[int]) -> Shape:
    """A shape as a tuple, one number being a vector's."""
    try:
        return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(map(int, shape))
    except (TypeError, ValueError):
        raise GraphError(
            f"a shape is a number or a tuple of numbers, got {shape!r}",
            mend=f"a name is given as name={shape!r}" if isinstance(shape, str) else "",
        ) from None


def _axis_number(axis: int | Axis | None) -> int | None:
    return axis.static_axis_index() if isinstance(axis, Axis) else axis


@operation
def reshape(
    x: Any,
    shape: int | Sequence[int],
    begin_axis: int | Axis | None = None,
    end_axis: int | Axis | None = None,
) -> Any:
    """The elements of each sample in another shape, in the same (row-major) order.

    Args:
        x: any value.
        shape: the new sizes; one may be `C.InferredDimension` (-1).
        begin_axis, end_axis: the axes of `x` that `shape` replaces; by default all.

    >>> C.reshape(C.constant([[0, 1], [2, 3], [4, 5]]), (2, 3)).eval()
    array([[0., 1., 2.],
           [3., 4., 5.]], dtype=float32)
    """
    begin, end = _axis_number(begin_axis), _axis_number(end_axis)
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


def _transpose(run: Any, x: Any, *, perm: Shape) -> Any:
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
def transpose(x: Any, perm: Sequence[int | Axis] | None = None) -> Any:
    """`x` with its static axes in another order; reversed if `perm` is left out.

    >>> C.transpose(C.constant([[0, 1], [2, 3], [4, 5]]), (1, 0)).eval()
    array([[0., 2., 4.],
           [1., 3., 5.]], dtype=float32)
    """
    numbers = None if perm is None else tuple(_axis_number(p) for p in perm)
    return apply(TRANSPOSE, as_node(x), perm=numbers)


@operation
def swapaxes(x: Any, axis1: int | Axis = 0, axis2: int | Axis = 1) -> Any:
    """`x` with two static axes in each other's place.

    >>> C.swapaxes([[0, 1], [2, 3], [4, 5]], 0, 1).eval()
    array([[0., 2., 4.],
           [1., 3., 5.]], dtype=float32)
    """
    return apply(TRANSPOSE, as_node(x), perm=None, swap=(_axis_number(axis1), _axis_number(axis2)))


# Slice, and its adjoint that puts a slice back where it was


def _cut(
    shape: Shape, cuts: Sequence[tuple[int, int | None, int | None, int]]
) -> list[builtins.slice | None]:
    """One slice an axis; None where the axis' size is not known yet."""
    result = [None if n == INFERRED else builtins.slice(0, n, 1) for n in shape]
    for axis, begin, end, stride in cuts:
        at = static_index(axis, len(shape))
        size = shape[at]
        if not stride:
            raise GraphError("a stride of 0 leads nowhere", mend="1 takes every element")
        if size == INFERRED:
            if 0 <= (begin or 0) < (end or 0):
                result[at] = builtins.slice(begin or 0, end, stride)
            continue
        first, last, _ = builtins.slice(
            begin, end if end != 0 or (begin or 0) >= 0 else None
        ).indices(size)
        if end == 0 and begin is not None and begin >= 0:
            last = size  # CNTK: an end of 0 is the end
        if last <= first:
            raise GraphError(f"from {begin} to {end} there is nothing along axis {axis} of {shape}")
        result[at] = (
            builtins.slice(first, last, 1) if stride == 1 else builtins.slice(first, last, stride)
        )
    return result


def _cut_shape(shape: Shape, *, cuts: Any) -> Shape:
    return tuple(
        INFERRED if s is None else len(range(s.start, s.stop, abs(s.step)))
        for s in _cut(shape, cuts)
    )


def _slices(shape: Shape, cuts: Any) -> tuple[Any, ...]:
    def back_and_forth(s: builtins.slice | None) -> builtins.slice | None:
        if s is None or s.step > 0:
            return s
        return builtins.slice(s.stop - 1, s.start - 1 if s.start else None, s.step)

    return (Ellipsis, *map(back_and_forth, _cut(shape, cuts)))


def _place(run: Any, g: Any, *, shape: Shape, where: Any, rank: int) -> Any:
    whole = run.empty(g.shape[: g.ndim - rank] + shape, g.dtype)
    whole[...] = 0
    whole[where] = g
    return whole


SLICE = define(
    "slice",
    shape=_cut_shape,
    kernel=lambda run, x, where: x[where],
    arguments=lambda node: {"where": _slices(node.inputs[0].shape or (), node.attrs["cuts"])},
    gradient=lambda node, g: [apply(PLACE, g, cuts=node.attrs["cuts"], shape=node.inputs[0].shape)],
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4))], {"cuts": ((1, 1, 3, 1),)}),
        lambda rng: ([rng.normal(size=(2, 3, 4))], {"cuts": ((0, 0, 3, 2), (1, 0, 4, -1))}),
    ),
)
PLACE = define(
    "place",
    shape=lambda s, cuts, shape: shape,
    kernel=_place,
    arguments=lambda node: {
        "shape": node.shape,
        "where": _slices(node.shape or (), node.attrs["cuts"]),
        "rank": rank_of(node),
    },
    gradient=lambda node, g: [apply(SLICE, g, cuts=node.attrs["cuts"])],
    cases=(lambda rng: ([rng.normal(size=(2, 3, 2))], {"cuts": ((1, 1, 3, 1),), "shape": (3, 4)}),),
)


@operation
def slice_axes(x: Any, cuts: Sequence[tuple[int, int | None, int | None, int]]) -> Any:
    """`x` cut along several static axes; each cut is (axis, begin, end, stride)."""
    return apply(SLICE, as_node(x), cuts=tuple(cuts))


# Splice


def _spliced(*given: Shape | None, axis: int) -> Shape | None:
    shapes = tuple(s for s in given if s is not None)
    if not shapes:
        return None
    rank = max(map(len, shapes))
    at = static_index(axis, rank, extra=1)
    shapes = tuple((1,) * (rank - len(s)) + s for s in shapes)
    if at < -rank:  # a new axis in front
        shapes = tuple((1, *s) for s in shapes)
        rank += 1
    for s in shapes:
        same = len(s) == rank and all(
            a == b for i, (a, b) in enumerate(zip(s, shapes[0], strict=True)) if i != at + rank
        )
        if not same:
            raise GraphError(
                f"shapes {' and '.join(map(str, shapes))} can't be joined along axis {axis}: "
                "they must agree along all others"
            )
    result = list(shapes[0])
    sizes = [s[at] for s in shapes]
    open_ = len(shapes) < len(given) or INFERRED in sizes
    result[at] = INFERRED if open_ else sum(sizes)
    return tuple(result)


def _splice(run: Any, *arrays: Any, axis: int, new: bool, shape: Shape, out: Any = None) -> Any:
    if new:
        arrays = tuple(
            a.reshape(a.shape[: a.ndim + axis + 1] + (1,) + a.shape[a.ndim + axis + 1 :])
            for a in arrays
        )
    rows = max((a.shape[: a.ndim - len(shape)] for a in arrays), default=())
    out = run.empty(rows + shape, arrays[0].dtype) if out is None else out
    start = 0
    for a in arrays:
        stop = start + a.shape[axis]
        out[(Ellipsis, builtins.slice(start, stop), *[builtins.slice(None)] * (-axis - 1))] = a
        start = stop
    return out


def _same_rank(inputs: Sequence[Node], axes: tuple[Axis, ...], /, **_: Any) -> list[Node]:
    rank = max(len(i.shape or ()) for i in inputs)
    return [
        reshape_to(i, (1,) * (rank - len(i.shape or ())) + (i.shape or ()))
        for i in follow_axes(inputs, axes)
    ]


def _splice_arguments(node: Node) -> dict[str, Any]:
    rank = max(len(i.shape or ()) for i in node.inputs)
    at = static_index(node.attrs["axis"], rank, extra=1)
    return {"axis": at, "new": at < -rank, "shape": node.shape}


def _splice_gradient(node: Node, g: Node) -> list[Node]:
    arguments = _splice_arguments(node)
    start, parts = 0, []
    for i in node.inputs:
        shape = i.shape or ()
        size = 1 if arguments["new"] else shape[arguments["axis"]]
        part = apply(SLICE, g, cuts=((arguments["axis"], start, start + size, 1),))
        parts.append(gather_up(reshape_to(part, shape), i.axes or ()))
        start += size
    return parts


SPLICE = define(
    "splice",
    shape=_spliced,
    kernel=_splice,
    arguments=_splice_arguments,
    gradient=_splice_gradient,
    align=_same_rank,
    guess=True,
    into=True,
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 2, 4))], {"axis": 0}),
        lambda rng: ([rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], {"axis": -1}),
    ),
)


@operation
def splice(*inputs: Any, axis: int | Axis = -1) -> Any:
    """The inputs joined along a static axis; all other axes must agree.

    >>> C.splice(C.constant([[1, 2]]), C.constant([[3, 4]]), axis=0).eval()
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    return apply(SPLICE, *map(as_node, inputs), axis=_axis_number(axis))


@operation
def slice(
    x: Any,
    axis: int | Axis | Sequence[int | Axis],
    begin_index: int | Sequence[int],
    end_index: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
) -> Any:
    """`x` from `begin_index` up to `end_index` (0: to the end) along one axis or several.

    Args:
        axis: static axes.
        begin_index, end_index, strides: one number, or one per axis; negative ones count from
            the end, a negative stride goes backwards.

    >>> C.slice(C.constant([[1, 2, 3], [4, 5, 6]]), 1, 0, 2).eval()
    array([[1., 2.],
           [4., 5.]], dtype=float32)
    """
    axes = axis if isinstance(axis, (list, tuple)) else [axis]

    def each(value: Any) -> list[Any]:
        return list(value) if isinstance(value, (list, tuple)) else [value] * len(axes)

    steps = each(1 if strides is None else strides)
    cuts = zip(axes, each(begin_index), each(end_index), steps, strict=True)
    return slice_axes(as_node(x), [(_axis_number(a), b, e, s) for a, b, e, s in cuts])


@operation
def get_item(x: Any, key: Any) -> Any:
    """`x[key]` for Python's indices and slices of static axes, and lists of indices.

    An index drops no axis, as in CNTK.
    """
    keys = key if isinstance(key, tuple) else (key,)
    cuts: list[tuple[int, Any, Any, int]] = []
    for axis, k in enumerate(keys):
        if isinstance(k, (list, tuple)):
            parts = [get_item(as_node(x), (*[builtins.slice(None)] * axis, int(i))) for i in k]
            x = apply(SPLICE, *parts, axis=axis)
        elif isinstance(k, int):
            cuts.append((axis, k, k + 1 if k != -1 else None, 1))
        elif isinstance(k, builtins.slice):
            if k != builtins.slice(None):
                cuts.append((axis, k.start or 0, k.stop, k.step or 1))
        else:
            raise GraphError(f"an index must be an integer or a slice, got {k!r}")
    return slice_axes(as_node(x), cuts) if cuts else as_node(x)
