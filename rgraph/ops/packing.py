"""Conversion between sequences and padded arrays with a static axis for time.

`sequence_unpack` and `to_sequence_like` are each other's adjoint; `sequence_steps_of` creates the
time axis of `to_sequence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import FREE, Axis, GraphError, Layout, Node, apply, one_batch
from ..graph.node import Shape, Type
from ..graph.types import Array, DTypeLike, OperandLike
from .frames import needs_time
from .records import as_node, carried, define, operation

if TYPE_CHECKING:
    from ..plan import Run


def _unpack(run: Run, x: Array, *, unpacked: Shape, padding: float, axis: Axis) -> Array:
    layout, steps = run.layouts[axis], unpacked[-1]
    if layout.steps > steps:
        raise GraphError(
            f"sequence.unpack: a sequence of {layout.steps} frames does not fit into {steps} frames"
        )
    out = run.xp.full((len(layout), steps, *x.shape[1:]), padding, x.dtype)
    out[run.index(layout, "batch_row_of_row"), run.index(layout, "step_of_row")] = x
    return out


def _pack(run: Run, x: Array, like: Array, *, axis: Axis) -> Array:
    layout = run.layouts[axis]
    if layout.steps > x.shape[1]:
        raise GraphError(
            f"can't make a sequence of {layout.steps} frames from an axis of size {x.shape[1]}"
        )
    return x[run.index(layout, "batch_row_of_row"), run.index(layout, "step_of_row")]


def _steps_of(
    run: Run, x: Array, lengths: Array = None, *, axis: Axis, source: Axis, dtype: DTypeLike
) -> Array:
    most = x.shape[1]
    order = run.order(source)
    order = np.arange(len(x)) if order is None else order
    if lengths is None:
        counts = np.full(len(x), most)
    else:
        counts = run.engine.to_numpy(lengths).reshape(len(x)).astype(np.intp)
        if counts.min(initial=0) < 0 or counts.max(initial=0) > most:
            raise GraphError(f"lengths must be from 0 to {most}, got {counts.tolist()}")
    given = np.empty_like(counts)
    given[order] = counts
    run.layouts[axis] = layout = Layout(given, order)
    return run.engine.from_numpy(layout.step_of_row.astype(dtype))


def _unpacked_type(types: Sequence[Type], *, unpacked: Shape, padding: float) -> Type:
    shape, axes, dtype = types[0].shape, types[0].axes, types[0].dtype
    if axes is not None and len(axes) < 2:
        raise GraphError("sequence.unpack needs a sequence, but the operand has no time axis")
    if shape is None or axes is None:
        return Type(None, None, dtype)
    steps = _steps_along(axes[-1]) if unpacked[-1] == FREE else unpacked[-1]
    return Type(_unpacked_shape(shape, (steps,)), axes[:1], dtype)


def _unpacked_shape(x: Shape, unpacked: Shape, padding: float = 0) -> Shape:
    return (unpacked[-1], *x)


def _steps_along(axis: Axis) -> int:
    """The frames of each sequence, if `to_sequence` made them from all of a static axis."""
    source = axis.source
    if source is None or source.op is not STEPS_OF or len(source.inputs) > 1:
        return FREE
    return (source.inputs[0].shape or (FREE,))[0]


def _frame_shape(x: Shape, *_: object, **__: object) -> Shape:
    if not x:
        raise GraphError(
            "to_sequence needs an operand with a static axis, which becomes the time axis"
        )
    return x[1:]


def _no_sequence(axes: tuple[Axis, ...] | None) -> None:
    if axes is not None and len(axes) > 1:
        raise GraphError(
            "the operand is already a sequence; it must have only a batch axis",
            hint="sequence.unpack makes time a static axis, sequence.slice and sequence.window "
            "make new sequences",
        )
    if axes == ():
        raise GraphError(
            "to_sequence needs an operand with a batch axis",
            hint="use sequence.broadcast_as to repeat one value for every frame of a sequence",
        )


def _packed_axes(axes: Sequence[tuple[Axis, ...] | None]) -> tuple[Axis, ...] | None:
    _no_sequence(axes[0])
    needs_time(axes[1], "to_sequence_like")
    one_batch(axes)
    return axes[1]


def _new_axes(axes: Sequence[tuple[Axis, ...] | None], axis: Axis) -> tuple[Axis, ...] | None:
    _no_sequence(axes[0])
    one_batch(axes)
    return None if axes[0] is None else (axes[0][0], axis)


UNPACK = define(
    "sequence_unpack",
    title="sequence.unpack",
    shape=_unpacked_shape,
    type=_unpacked_type,
    align=None,
    kernel=_unpack,
    arguments=lambda node: {**node.attrs, "axis": node.inputs[0].time_axis},
    gradient=lambda node, g: [apply(PACK, g, node.inputs[0])],
    operands=("sequence",),
    framewise=False,
)
PACK = define(
    "to_sequence_like",
    shape=_frame_shape,
    axes=_packed_axes,
    align=lambda inputs, axes, /, **_: [carried(inputs[0], inputs[1]), inputs[1]],
    dtype=lambda dtypes: dtypes[0],
    kernel=_pack,
    arguments=lambda node: {"axis": node.time_axis},
    gradient=lambda node, g: [
        apply(UNPACK, g, unpacked=(node.inputs[0].shape or ())[:1], padding=0.0),
        None,
    ],
    operands=("operand", "like"),
    framewise=False,
    waits=True,
)
STEPS_OF = define(
    "sequence_steps_of",
    title="to_sequence",
    shape=lambda *_, **__: (),
    axes=_new_axes,
    align=lambda inputs, axes, /, **_: [carried(i, inputs[0]) for i in inputs],
    dtype=lambda dtypes, **_: dtypes[0],
    kernel=_steps_of,
    arguments=lambda node: {
        "axis": node.attrs["axis"],
        "source": node.batch_axis,
        "dtype": node.dtype,
    },
    operands=("operand", "lengths"),
    framewise=False,
    new_axis=True,
)


def unpacked(x: Node, padding: float) -> Node:
    """The frames of each sequence along a new first static axis, padded to the longest sequence."""
    return apply(UNPACK, x, unpacked=(FREE,), padding=float(padding))


@operation
def to_sequence(
    x: OperandLike,
    sequence_lengths: OperandLike | None = None,
    sequence_axis_name_prefix: str = "toSequence_",
) -> Node:
    """Makes a sequence of the slices along the first static axis, on a new time axis.

    Args:
        x: shape (frames, *shape) per sample; `frames` may be `C.FreeDimension`.
        sequence_lengths: the length of each sequence; by default all slices.
        sequence_axis_name_prefix: the prefix of the new axis' name.

    Returns:
        a sequence of frames of shape `shape`.

    Source: CNTK's `to_sequence`.

    >>> x = C.input_variable((3, 1))
    >>> n = C.input_variable(())
    >>> C.to_sequence(x, n).eval({x: [[[1], [2], [3]]], n: [2]})[0]
    array([[1.],
           [2.]], dtype=float32)
    """
    node = as_node(x)
    _no_sequence(node.axes)
    axis = Axis.new_unique_dynamic_axis(sequence_axis_name_prefix)
    lengths = [] if sequence_lengths is None else [as_node(sequence_lengths)]
    axis.source = apply(STEPS_OF, node, *lengths, axis=axis)
    return apply(PACK, node, axis.source)


@operation
def to_sequence_like(x: OperandLike, dynamic_axes_like: OperandLike) -> Node:
    """Makes a sequence of slices along the first static axis, with another operand's lengths.

    Args:
        x: shape (frames, *shape) per sample.
        dynamic_axes_like: a sequence; the result has its time axis.

    Source: CNTK's `to_sequence_like`.

    >>> x, y = C.input_variable((3, 1)), C.sequence.input_variable(1)
    >>> C.to_sequence_like(x, y).eval({x: [[[1], [2], [3]]], y: np.zeros((2, 1))})[0]
    array([[1.],
           [2.]], dtype=float32)
    """
    return apply(PACK, as_node(x), as_node(dynamic_axes_like))
