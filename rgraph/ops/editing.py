"""Editing sequences: reverse, stride, pad, join, window.

Results whose lengths differ from the operand's have a new time axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Node, apply, one_batch
from ..graph.types import Array, DTypeLike, OperandLike
from .arithmetic import element_divide, element_times, minus, plus
from .delays import delayed
from .frames import SCATTER, chosen_frames, needs_time, on_new_axis
from .rearranging import insert_axis
from .records import as_node, define, operation
from .repetition import SPREAD, over_time
from .slicing import splice

if TYPE_CHECKING:
    from ..plan import Run


def _axis_of(node: Node) -> dict[str, object]:
    return {"axis": node.inputs[0].time_axis}


def _reversed(run: Run, x: Array, *, axis: Axis) -> Array:
    return x[run.index(run.layouts[axis], "mirrored_row")]


def _sequence(axes: Sequence[tuple[Axis, ...] | None], **_: object) -> tuple[Axis, ...] | None:
    needs_time(axes[0], "this")
    return axes[0]


REVERSE = define(
    "sequence_reverse",
    title="sequence.reverse",
    shape=lambda s: s,
    axes=_sequence,
    kernel=_reversed,
    arguments=_axis_of,
    gradient=lambda node, g: [apply(REVERSE, g)],
    framewise=False,
)


def _numbers(run: Run, x: Array, *, axis: Axis, dtype: DTypeLike) -> Array:
    return run.index(run.layouts[axis], "step_of_row").astype(dtype)


NUMBERS = define(
    "sequence_numbers",
    title="the numbers of frames",
    shape=lambda s: (),
    axes=_sequence,
    kernel=_numbers,
    arguments=lambda node: {**_axis_of(node), "dtype": node.dtype},
    framewise=False,
)


def _longer(
    run: Run, *parts: Array, extra: int, sources: Sequence[Axis], axis: Axis, dtype: DTypeLike
) -> Array:
    layout = run.layouts[sources[0]]
    given: np.ndarray = np.sum([run.layouts[s].given for s in sources], axis=0) + extra
    chosen = [np.arange(n) for n in given[layout.order]]
    return on_new_axis(run, chosen, axis, layout, dtype)


def _longer_axes(
    axes: Sequence[tuple[Axis, ...] | None], *, axis: Axis, **_: object
) -> tuple[Axis, ...] | None:
    for a in axes:
        needs_time(a, "this")
    one_batch(axes)
    return None if axes[0] is None else (axes[0][0], axis)


LONGER = define(
    "sequence_longer",
    title="sequence.pad or sequence.join",
    shape=lambda *shapes, **_: (),
    axes=_longer_axes,
    align=None,
    kernel=_longer,
    arguments=lambda node: {
        **node.attrs,
        "sources": [i.time_axis for i in node.inputs],
        "dtype": node.dtype,
    },
    framewise=False,
    new_axis=True,
)


def _on_longer_axis(*parts: Node, extra: int = 0) -> Node:
    """Frame numbers on a new time axis whose sequences are as long as all parts together."""
    axis = Axis.new_unique_dynamic_axis("longer")
    axis.source = apply(LONGER, *parts, extra=extra, axis=axis)
    return axis.source


@operation
def reverse(seq: OperandLike) -> Node:
    """Reverses the frames of each sequence.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.reverse(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([[3.],
           [2.],
           [1.]], dtype=float32)
    """
    return apply(REVERSE, as_node(seq))


@operation
def length(seq: OperandLike) -> Node:
    """The number of frames of each sequence.

    >>> x = C.sequence.input_variable(2)
    >>> C.sequence.length(x).eval({x: [np.zeros((3, 2)), np.zeros((1, 2))]})
    array([3., 1.], dtype=float32)
    """
    x = as_node(seq)
    needs_time(x.axes, "sequence.length")
    return over_time(apply(SPREAD, as_node(1.0), x))


@operation
def reduce_mean(seq: OperandLike) -> Node:
    """The mean over the frames of each sequence; 0 for an empty sequence.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.reduce_mean(x).eval({x: np.array([[1], [2], [6]])})
    array([[3.]], dtype=float32)
    """
    x = as_node(seq)
    needs_time(x.axes, "sequence.reduce_mean")
    return element_divide(over_time(x), length(x))


@operation
def stride(seq: OperandLike, step: int, begin: int = 0) -> Node:
    """Every `step`-th frame of each sequence, starting at frame `begin`, on a new time axis.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.stride(x, 2).eval({x: np.array([[1], [2], [3]])})[0]
    array([[1.],
           [3.]], dtype=float32)
    """
    if step < 1:
        raise GraphError(f"a step must be at least 1, got {step}", hint="see sequence.reverse")
    return chosen_frames(as_node(seq), int(begin), None, int(step))


@operation
def pad(seq: OperandLike, before: int = 0, after: int = 0, value: float = 0) -> Node:
    """Pads each sequence with frames of `value` before and after, on a new time axis.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.pad(x, 1, 1, 9).eval({x: np.array([[1], [2]])})[0].ravel()
    array([9., 1., 2., 9.], dtype=float32)
    """
    if before < 0 or after < 0:
        raise GraphError(
            f"sequence.pad can't add a negative number of frames, got {before} and {after}",
            hint="use sequence.slice to remove frames",
        )
    x = as_node(seq)
    like = _on_longer_axis(x, extra=int(before) + int(after))
    place = plus(apply(NUMBERS, x), float(before))
    padded = apply(SCATTER, x, place, like)
    if value == 0:
        return padded
    there = apply(SCATTER, apply(SPREAD, as_node(1.0), x), place, like)
    return plus(padded, element_times(float(value), minus(1.0, there)))


@operation
def join(*seqs: OperandLike) -> Node:
    """Concatenates the sequences of several operands, on a new time axis.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.join(x, x * 10).eval({x: np.array([[1], [2]])})[0].ravel()
    array([ 1.,  2., 10., 20.], dtype=float32)
    """
    if not seqs:
        raise GraphError("sequence.join needs at least one sequence")
    parts = list(map(as_node, seqs))
    like = _on_longer_axis(*parts)
    joined, start = None, None
    for x in parts:
        place = apply(NUMBERS, x)
        if start is not None:
            place = plus(place, apply(SPREAD, start, x))
        part = apply(SCATTER, x, place, like)
        joined = part if joined is None else plus(joined, part)
        start = length(x) if start is None else plus(start, length(x))
    return joined


@operation
def window(seq: OperandLike, size: int, stride: int = 1) -> Node:
    """Windows of `size` frames in each sequence, every `stride` frames, on a new time axis.

    The frames of a window are along a new first static axis, the earliest first. Incomplete windows
    are left out: a sequence of n frames has (n - size) // stride + 1 windows, or none.

    >>> x = C.sequence.input_variable(())
    >>> C.sequence.window(x, 2).eval({x: np.array([1, 2, 3])})[0]
    array([[1., 2.],
           [2., 3.]], dtype=float32)
    """
    if size < 1 or stride < 1:
        raise GraphError(f"a window's size and stride must be at least 1, got {size} and {stride}")
    x = as_node(seq)
    ago = range(int(size) - 1, -1, -1)
    frames = [delayed(x, as_node(0.0), n) if n else x for n in ago]
    stacked = splice(*[insert_axis(f, 0) for f in frames], axis=0)
    return chosen_frames(stacked, int(size) - 1, None, int(stride))


__all__ = ["join", "length", "pad", "reduce_mean", "reverse", "stride", "window"]
