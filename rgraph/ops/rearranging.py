"""Squeezing, flattening, padding and so on: shapes that follow from the operand's shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..graph import Axis, GraphError, Node, Op, apply
from ..graph.axis import END
from ..graph.node import Attributes, Case, Shape
from ..graph.types import Array, OperandLike
from .records import as_node, define, operation
from .shaping import as_size, axis_number, rank_of, reshape, reshape_to, static_index, transpose

if TYPE_CHECKING:
    from ..plan import Run
    from .windows import Pads

CONSTANT_PAD, REFLECT_PAD, SYMMETRIC_PAD = 0, 1, 2
_MODES = ("constant", "reflect", "symmetric")


def _reshaping(name: str, rule: Callable[..., Shape], *cases: Attributes) -> Op:
    """Define an operation that only changes the shape, to `rule(shape, **attrs)`."""

    def case(attrs: Attributes) -> Case:
        return lambda rng: ([rng.normal(size=(2, 1, 3, 2))], attrs)

    return define(
        name,
        shape=rule,
        kernel=lambda run, x, shape, rank: x.reshape(x.shape[: x.ndim - rank] + shape),
        arguments=lambda node: {"shape": node.shape, "rank": rank_of(node)},
        gradient=lambda node, g: [reshape_to(g, node.inputs[0].shape or ())],
        cases=tuple(map(case, cases)),
    )


def _squeezed(shape: Shape, *, axes: Shape | None) -> Shape:
    rank = len(shape)
    if axes is None:
        return tuple(n for n in shape if n != 1)
    chosen = {static_index(a, rank) + rank for a in axes}
    for a in chosen:
        if shape[a] != 1:
            raise GraphError(f"can't squeeze axis {a} of shape {shape}: its size must be 1")
    return tuple(n for i, n in enumerate(shape) if i not in chosen)


def _expanded(shape: Shape, *, axis: int) -> Shape:
    if axis == END:
        return (1, *shape)
    at = static_index(axis, len(shape) + 1) + len(shape) + 1
    return (*shape[:at], 1, *shape[at:])


def _flattened(shape: Shape, *, axis: int) -> Shape:
    at = axis if axis >= 0 else axis + len(shape) + 1
    if not 0 <= at <= len(shape):
        raise GraphError(f"axis {axis} does not exist: the operand has {len(shape)} static axes")
    return (math.prod(shape[:at]), math.prod(shape[at:]))


_SQUEEZE = _reshaping("squeeze", _squeezed, {"axes": None}, {"axes": (-3,)})
_EXPAND = _reshaping("expand_dims", _expanded, {"axis": -1}, {"axis": 1})
_FLATTEN = _reshaping("flatten", _flattened, {"axis": 0}, {"axis": 2})


@operation
def squeeze(x: OperandLike, axes: int | Axis | Sequence[int | Axis] | None = None) -> Node:
    """Removes static axes of size 1.

    Args:
        axes: the axes to remove; by default all of size 1.

    >>> C.squeeze([[[1], [2]]]).shape
    (2,)
    """
    chosen = axes if isinstance(axes, (list, tuple)) or axes is None else (axes,)
    numbers = None if chosen is None else tuple(map(axis_number, chosen))
    return apply(_SQUEEZE, as_node(x), axes=numbers)


@operation
def expand_dims(x: OperandLike, axis: int | Axis) -> Node:
    """Adds a static axis of size 1.

    Args:
        axis: the axis of `x` after which to insert the new one. If negative, the position of the
            new axis in the result. `C.Axis.new_leading_axis()`: before all others.

    Source: CNTK's `expand_dims`.

    >>> x = C.input_variable((2, 3))
    >>> C.expand_dims(x, 0).shape, C.expand_dims(x, -1).shape
    ((2, 1, 3), (2, 3, 1))
    >>> C.expand_dims(x, C.Axis.new_leading_axis()).shape
    (1, 2, 3)
    """
    at = axis_number(axis)
    return apply(_EXPAND, as_node(x), axis=at + 1 if 0 <= at < END else at)


def insert_axis(x: Node, at: int) -> Node:
    """`x` with a new static axis of size 1, which is axis `at` of the result."""
    return apply(_EXPAND, x, axis=at)


@operation
def flatten(x: OperandLike, axis: int | Axis | None = None) -> Node:
    """Reshapes to a matrix, by merging the axes before `axis` and those from `axis` on.

    Args:
        axis: by default 0, which gives a single row; -1 gives a single column.

    >>> C.flatten(C.input_variable((2, 3, 4)), 1).shape
    (2, 12)
    """
    return apply(_FLATTEN, as_node(x), axis=axis_number(axis) or 0)


@operation
def depth_to_space(operand: OperandLike, block_size: int) -> Node:
    """Rearranges blocks of channels into blocks of pixels.

    Args:
        operand: shape (channels, height, width); channels must be a multiple of block_size**2.

    Returns:
        shape (channels / block_size**2, height * block_size, width * block_size).

    >>> C.depth_to_space(C.input_variable((8, 2, 3)), 2).shape
    (2, 4, 6)
    """
    (b,) = as_size(block_size, "block_size")
    x = reshape(as_node(operand), (b, b, -1), 0, 1)
    x = reshape(transpose(x, (2, 3, 0, 4, 1)), -1, 1, 3)
    return reshape(x, -1, 2, 4)


@operation
def space_to_depth(operand: OperandLike, block_size: int) -> Node:
    """Rearranges blocks of pixels into channels: the inverse of `depth_to_space`.

    Args:
        operand: shape (channels, height, width), both sizes multiples of block_size.

    Returns:
        shape (channels * block_size**2, height / block_size, width / block_size).

    >>> C.space_to_depth(C.input_variable((2, 4, 6)), 2).shape
    (8, 2, 3)
    """
    (b,) = as_size(block_size, "block_size")
    x = reshape(reshape(as_node(operand), (-1, b), 2, 3), (-1, b), 1, 2)
    return reshape(transpose(x, (2, 4, 0, 1, 3)), -1, 0, 3)


# Padding, and its adjoint


def _padded(shape: Shape, *, pattern: Pads, mode: int, **_: object) -> Shape:
    if len(pattern) != len(shape):
        raise GraphError(
            f"pad: the pattern has {len(pattern)} pairs, but the operand has shape {shape}"
        )
    if mode != CONSTANT_PAD:
        for n, (low, high) in zip(shape, pattern, strict=True):
            if max(low, high) > n - (mode == REFLECT_PAD):
                raise GraphError(
                    f"pad: {max(low, high)} elements are too many to mirror an axis of {n} elements"
                )
    return tuple(n + low + high for n, (low, high) in zip(shape, pattern, strict=True))


def _pad(run: Run, x: Array, *, pattern: Pads, mode: int, value: float, rank: int) -> Array:
    widths = ((0, 0),) * (x.ndim - rank) + pattern
    options = {"constant_values": value} if mode == CONSTANT_PAD else {}
    return run.xp.pad(x, widths, mode=_MODES[mode], **options)


def _fold(run: Run, g: Array, *, pattern: Pads, mode: int, rank: int) -> Array:
    for axis, (low, high) in zip(range(g.ndim - rank, g.ndim), pattern, strict=True):
        g = run.xp.moveaxis(g, axis, 0)
        size = len(g) - low - high
        whole = g[low : low + size].copy()
        if mode != CONSTANT_PAD:
            index = run.xp.pad(run.xp.arange(size), (low, high), mode=_MODES[mode])
            run.xp.add.at(whole, index[:low], g[:low])
            run.xp.add.at(whole, index[low + size :], g[low + size :])
        g = run.xp.moveaxis(whole, 0, axis)
    return g


def _unpadded(shape: Shape, *, pattern: Pads, mode: int) -> Shape:
    return tuple(n - low - high for n, (low, high) in zip(shape, pattern, strict=True))


def _pad_case(mode: int, **options: object) -> Case:
    attrs = {"pattern": ((1, 2), (0, 1)), "mode": mode, **options}
    size = (2, 6, 3) if "value" not in attrs else (2, 4, 3)
    return lambda rng: ([rng.normal(size=size)], attrs)


PAD = define(
    "pad",
    shape=_padded,
    kernel=_pad,
    arguments=lambda node: {**node.attrs, "rank": rank_of(node)},
    gradient=lambda node, g: [
        apply(FOLD, g, pattern=node.attrs["pattern"], mode=node.attrs["mode"])
    ],
    cases=tuple(_pad_case(mode, value=value) for mode, value in ((0, 1.5), (1, 0.0), (2, 0.0))),
)
FOLD = define(
    "fold",
    title="gradient of pad",
    shape=_unpadded,
    kernel=_fold,
    arguments=lambda node: {**node.attrs, "rank": rank_of(node)},
    gradient=lambda node, g: [apply(PAD, g, value=0.0, **node.attrs)],
    cases=tuple(map(_pad_case, range(3))),
)


@operation
def pad(
    x: OperandLike,
    pattern: Sequence[tuple[int, int]],
    mode: int = CONSTANT_PAD,
    constant_value: float = 0,
) -> Node:
    """Pads `x` at the start and end of each static axis.

    Args:
        pattern: for each static axis, the number of elements to add before and after it.
        mode: `C.ops.CONSTANT_PAD`: `constant_value`; `C.ops.REFLECT_PAD`: mirrored at the last
            element, which is not repeated; `C.ops.SYMMETRIC_PAD`: mirrored at the edge, so that the
            last element is repeated.

    >>> C.pad([1, 2, 3], [(1, 2)], mode=C.ops.REFLECT_PAD).eval()
    array([2., 1., 2., 3., 2., 1.], dtype=float32)
    """
    widths = tuple(as_size((low, high), "pattern", least=0) for low, high in pattern)
    return apply(PAD, as_node(x), pattern=widths, mode=int(mode), value=float(constant_value))
