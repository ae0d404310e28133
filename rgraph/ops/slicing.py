"""Slicing and splicing along static axes."""

from __future__ import annotations

import builtins
import itertools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..default_options import default_override_or, get_default_override, get_global_option
from ..graph import INFERRED, Axis, GraphError, Node, apply, whole
from ..graph.node import Attributes, Shape
from ..graph.types import Array, OperandLike
from .records import as_node, define, follow_axes, operation
from .repetition import sum_rows
from .shaping import axis_number, rank_of, reshape_to, static_index

if TYPE_CHECKING:
    from ..plan import Run

# Slice, and its adjoint, which puts a slice back into zeros


# (axis, begin, end, stride)
_Cuts = Sequence[tuple[int, int | None, int | None, int]]


def _cut(shape: Shape, cuts: _Cuts) -> list[builtins.slice | None]:
    """A slice for each axis, or None if the size of the axis is not known yet."""
    result = [None if n == INFERRED else builtins.slice(0, n, 1) for n in shape]
    for axis, begin, end, stride in cuts:
        at = static_index(axis, len(shape))
        size = shape[at]
        if not stride:
            raise GraphError("a stride can't be 0", hint="use 1 for every element")
        if size == INFERRED:
            if 0 <= (begin or 0) < (end or 0):
                result[at] = builtins.slice(begin or 0, end, stride)
            continue
        first = (begin or 0) + (size if (begin or 0) < 0 else 0)
        last = (end or 0) + (size if (end or 0) <= 0 else 0)  # CNTK: an end of 0 is the end
        if not 0 <= first < last <= size:
            raise GraphError(
                f"{begin} to {'the end' if end is None else end} is not a valid range of axis "
                f"{axis} of {shape}"
            )
        result[at] = (
            builtins.slice(first, last, 1) if stride == 1 else builtins.slice(first, last, stride)
        )
    return result


def _cut_shape(shape: Shape, *, cuts: _Cuts) -> Shape:
    return tuple(
        INFERRED if s is None else len(range(s.start, s.stop, abs(s.step)))
        for s in _cut(shape, cuts)
    )


def _slices(shape: Shape, cuts: _Cuts) -> tuple[Any, ...]:
    def back_and_forth(s: builtins.slice | None) -> builtins.slice | None:
        if s is None or s.step > 0:
            return s
        return builtins.slice(s.stop - 1, s.start - 1 if s.start else None, s.step)

    return (Ellipsis, *map(back_and_forth, _cut(shape, cuts)))


def _part(node: Node) -> tuple[int, int, int] | None:
    shape = node.inputs[0].shape or ()
    _, *where = _slices(shape, node.attrs["cuts"])
    if None in where or min(shape, default=0) < 0:
        return None
    ranges = [w.indices(n) for w, n in zip(where, shape, strict=True)]
    cut = [i for i, n in enumerate(shape) if ranges[i] != (0, n, 1)]
    if len(cut) != 1 or ranges[cut[0]][2] != 1:
        return None
    axis = cut[0] - len(shape)
    return axis, ranges[axis][0], (node.shape or ())[axis]


def _cntk_attributes(node: Node) -> dict[str, object]:
    """Attributes under CNTK's names. Axes are counted from the last, as in CNTK's C++ code."""
    rank, cuts = rank_of(node), node.attrs["cuts"]
    axes = [("ordered", "static", -1 - a if a < 0 else rank - 1 - a) for a, *_ in cuts]
    names = "beginIndex", "endIndex", "sliceStrides"
    columns = zip(*([begin or 0, end or 0, step] for _, begin, end, step in cuts), strict=True)
    found = {"axis": axes, **dict(zip(names, map(list, columns), strict=True))}
    if len(cuts) == 1:
        return {name: values[0] for name, values in found.items()}
    return {f"{name}Vec": values for name, values in found.items()}


def _place(run: Run, g: Array, *, shape: Shape, where: tuple[Any, ...], rank: int) -> Array:
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
    part=_part,
    attributes=_cntk_attributes,
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4))], {"cuts": ((1, 1, 3, 1),)}),
        lambda rng: ([rng.normal(size=(2, 3, 4))], {"cuts": ((0, 0, 3, 2), (1, 0, 4, -1))}),
    ),
)
PLACE = define(
    "place",
    title="gradient of slice",
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
def slice_axes(x: OperandLike, cuts: _Cuts) -> Node:
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
                f"can't splice shapes {' and '.join(map(str, shapes))} along axis {axis}: "
                "all other axes must have equal sizes"
            )
    result = list(shapes[0])
    sizes = [s[at] for s in shapes]
    open_ = len(shapes) < len(given) or INFERRED in sizes
    result[at] = INFERRED if open_ else sum(sizes)
    return tuple(result)


def _splice(
    run: Run, *arrays: Array, axis: int, new: bool, shape: Shape, out: Array | None = None
) -> Array:
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


def same_rank(inputs: Sequence[Node], axes: tuple[Axis, ...], /, **_: object) -> list[Node]:
    rank = max(len(i.shape or ()) for i in inputs)
    return [
        reshape_to(i, (1,) * (rank - len(i.shape or ())) + (i.shape or ()))
        for i in follow_axes(inputs, axes)
    ]


def _splice_arguments(node: Node) -> Attributes:
    rank = max(len(i.shape or ()) for i in node.inputs)
    at = static_index(node.attrs["axis"], rank, extra=1)
    return {"axis": at, "new": at < -rank, "shape": node.shape}


def _splice_gradient(node: Node, g: Node) -> list[Node | None]:
    arguments = _splice_arguments(node)
    start = 0
    parts: list[Node | None] = []
    for i in node.inputs:
        shape = i.shape or ()
        size = 1 if arguments["new"] else shape[arguments["axis"]]
        if not size:
            parts.append(None)
            continue
        part = apply(SLICE, g, cuts=((arguments["axis"], start, start + size, 1),))
        parts.append(sum_rows(reshape_to(part, shape), i.axes or ()))
        start += size
    return parts


def _joins_along(node: Node) -> int | None:
    arguments = _splice_arguments(node)
    return None if arguments["new"] else arguments["axis"]


SPLICE = define(
    "splice",
    shape=_spliced,
    kernel=_splice,
    arguments=_splice_arguments,
    gradient=_splice_gradient,
    joins_along=_joins_along,
    align=same_rank,
    guess=True,
    into=True,
    cases=(
        lambda rng: ([rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 2, 4))], {"axis": 0}),
        lambda rng: ([rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], {"axis": -1}),
    ),
)


@operation
def splice(*inputs: OperandLike, axis: int | Axis = -1) -> Node:
    """Concatenates values along a static axis; all other axes must have equal sizes.

    >>> C.splice(C.constant([[1, 2]]), C.constant([[3, 4]]), axis=0).eval()
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    if not inputs:
        raise GraphError("splice needs at least one value")
    return apply(SPLICE, *map(as_node, inputs), axis=axis_number(axis))


@operation
def slice(
    x: OperandLike,
    axis: int | Axis | Sequence[int | Axis],
    begin_index: int | Sequence[int],
    end_index: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
) -> Node:
    """A slice from `begin_index` up to `end_index` (0: to the end) along one or several axes.

    Args:
        axis: a static axis, or a list of them.
        begin_index, end_index, strides: one number, or one per axis; negative ones count from
            the end, a negative stride goes backwards.

    >>> C.slice(C.constant([[1, 2, 3], [4, 5, 6]]), 1, 0, 2).eval()
    array([[1., 2.],
           [4., 5.]], dtype=float32)
    """
    axes = axis if isinstance(axis, (list, tuple)) else [axis]

    def each(value: int | Sequence[int], of: str) -> list[int]:
        values = list(value) if isinstance(value, (list, tuple)) else [value] * len(axes)
        if len(values) != len(axes):
            raise GraphError(f"{of}: expected {len(axes)} values, one per axis, got {len(values)}")
        return [whole(v, of) for v in values]

    numbers = map(axis_number, axes)
    begins, ends = each(begin_index, "begin_index"), each(end_index, "end_index")
    steps = each(1 if strides is None else strides, "strides")
    return slice_axes(as_node(x), list(zip(numbers, begins, ends, steps, strict=True)))


@operation
def get_item(x: OperandLike, key: OperandLike) -> Node:
    """`x[key]` with indices, slices and lists of indices of static axes, and `...`.

    As in CNTK, an axis with a single index is kept, with size 1. After
    `set_global_option("align_axis", 1)` keys include the dynamic axes: `x[:, 0]` is the first
    element of each sample.
    """
    node = as_node(x)
    cuts: list[tuple[int, int, int | None, int]] = []
    for axis, k in _keys(_static(node, key if isinstance(key, tuple) else (key,))):
        if isinstance(k, (list, tuple)) or isinstance(k, np.ndarray) and k.ndim:
            if not len(k):
                raise GraphError("a list of indices can't be empty")
            parts = [slice_axes(node, [_one(axis, i)]) for i in k]
            node = apply(SPLICE, *parts, axis=axis)
        elif isinstance(k, builtins.slice):
            begin, end, step = (v if v is None else _whole(v) for v in (k.start, k.stop, k.step))
            if end == 0:
                raise GraphError(
                    f"a slice that ends before element 0 of axis {axis} is empty",
                    hint="leave out the end to slice to the end of the axis",
                )
            if k != builtins.slice(None):
                cuts.append((axis, begin or 0, end, 1 if step is None else step))
        else:
            cuts.append(_one(axis, k))
    return slice_axes(node, cuts) if cuts else node


def _static(node: Node, keys: tuple[object, ...]) -> tuple[object, ...]:
    """The keys of static axes: with the option `align_axis`, without those of dynamic axes."""
    if not get_global_option("align_axis", 0) or node.axes == ():
        return keys
    default = default_override_or(len(node.axes or ()))
    count = get_default_override(None, axis_offset=default)
    dynamic = list(itertools.takewhile(lambda k: k is not Ellipsis, keys[:count]))
    if any(k != builtins.slice(None) for k in dynamic):
        raise GraphError(
            f"{dynamic} selects along a dynamic axis",
            hint="with the option align_axis, batch and time are the first axes: x[:, 0]",
        )
    return keys[len(dynamic) :]


def _one(axis: int, key: object) -> tuple[int, int, int | None, int]:
    index = _whole(key)
    return axis, index, index + 1 if index != -1 else None, 1


def _whole(key: Any) -> int:
    try:
        return operator.index(key)
    except TypeError:
        raise GraphError(
            f"an index must be an integer or a slice, got {key!r}",
            hint="use C.gather for computed indices",
        ) from None


def _keys(keys: tuple[object, ...]) -> list[tuple[int, object]]:
    """Each key with its axis; axes after `...` are negative."""
    gaps = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(gaps) > 1:
        raise GraphError("an index can have only one ...")
    count = gaps[0] if gaps else len(keys)
    behind = keys[count + 1 :]
    return [*enumerate(keys[:count]), *enumerate(behind, -len(behind))]
