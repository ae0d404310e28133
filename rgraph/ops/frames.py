"""Selecting frames of sequences: the only operations whose result lengths depend on values.

`sequence_where` and `sequence_steps` return the numbers of the selected frames on a new time axis;
`sequence_gather` fetches these frames, and `sequence_scatter` is its adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Layout, Node, apply, one_batch
from ..graph.types import Array, DTypeLike
from .records import define

if TYPE_CHECKING:
    from ..plan import Run


def needs_time(axes: tuple[Axis, ...] | None, what: str) -> None:
    """Raise `GraphError` if `axes` have no time axis; unknown axes (None) are accepted."""
    if axes is not None and len(axes) < 2:
        raise GraphError(
            f"{what} needs a sequence, but the operand has no time axis",
            hint="declare the input with sequence.input_variable, or give the operand the time "
            "axis of another with sequence.broadcast_as",
        )


def on_new_axis(
    run: Run, chosen: Sequence[np.ndarray], axis: Axis, layout: Layout, dtype: DTypeLike
) -> Array:
    """Pack the numbers of the chosen frames, listed by sequence (longest first), on `axis`."""
    in_batch_order = [chosen[i] for i in layout.order.argsort()]
    new = Layout([len(c) for c in in_batch_order], layout.batch_order)
    if not np.array_equal(run.layouts.setdefault(axis, new).given, new.given):
        raise GraphError(
            "slices must have equal lengths, but a sequence has too few frames",
            hint="give longer sequences, or slice up to a position counted from the end",
        )
    return run.engine.from_numpy(new.pack(in_batch_order, np.empty(new.rows, dtype)))


def _where(run: Run, condition: Array, *, axis: Axis, source: Axis) -> Array:
    layout = run.layouts[source]
    counts = run.engine.to_numpy(condition)
    counts = counts.reshape(layout.rows, math.prod(counts.shape[1:]))[:, 0]
    if not ((counts >= 0) & np.isfinite(counts)).all():
        raise GraphError(
            "a condition has negative or NaN values",
            hint="use a comparison: x > 0 is 1 where true and 0 elsewhere",
        )
    chosen = []
    for i in range(len(layout)):
        rows = layout.row(np.full(layout.lengths[i], i), np.arange(layout.lengths[i]))
        ends = np.ceil(np.cumsum(counts[rows], dtype=float) - 1e-4).astype(int)
        chosen.append(np.repeat(np.arange(len(rows)), np.diff(ends, prepend=0)))
    return on_new_axis(run, chosen, axis, layout, counts.dtype)


def _steps(
    run: Run,
    like: Array,
    *,
    begin: int | None,
    end: int | None,
    step: int,
    axis: Axis,
    source: Axis,
    dtype: DTypeLike,
) -> Array:
    layout = run.layouts[source]
    chosen = [np.arange(n)[begin:end:step] for n in layout.lengths]
    return on_new_axis(run, chosen, axis, layout, dtype)


def _chosen_rows(run: Run, index: Array, axis: Axis, source: Axis) -> Array:
    """For each chosen frame: its row in the packed sequences that it was chosen from."""
    new, layout = run.layouts[axis], run.layouts[source]
    step = run.engine.to_numpy(index).astype(int)
    sequence = layout.sorted_rows[new.batch_row_of_row]
    return run.engine.from_numpy(layout.row(sequence, step))


def _gather(run: Run, x: Array, index: Array, *, axis: Axis, source: Axis) -> Array:
    return x[_chosen_rows(run, index, axis, source)]


def _scatter(run: Run, g: Array, index: Array, like: Array, *, axis: Axis, source: Axis) -> Array:
    out = run.xp.zeros((run.layouts[source].rows, *g.shape[1:]), g.dtype)
    run.xp.add.at(out, _chosen_rows(run, index, axis, source), g)
    return out


def _on_axis(
    axes: Sequence[tuple[Axis, ...] | None], *, axis: Axis, **_: object
) -> tuple[Axis, ...] | None:
    needs_time(axes[0], "selecting frames")
    return None if axes[0] is None else (axes[0][0], axis)


def _sliced_axes(
    axes: Sequence[tuple[Axis, ...] | None],
    *,
    begin: int | None,
    end: int | None,
    step: int,
    axis: Axis,
) -> tuple[Axis, ...] | None:
    """Slices of equal lengths get equal axes, as in CNTK, so that x[1:] - x[:-1] is possible."""
    chosen = _on_axis(axes, axis=axis)
    if chosen is None or axes[0] is None:
        return None
    length = _length(begin or 0, end, step)
    return chosen[0], Axis(f"{length} of {axes[0][1].name}", source=axis.source)


def _length(begin: int, end: int | None, step: int) -> str:
    """A name for a slice's length: the maximum number of frames, or how many are left out."""
    if step != 1 or begin < 0 < (end or 0):
        return f"[{begin}:{end}:{step}]"
    if begin >= 0 and (end is None or end < 0):
        return f"all but {begin - (end or 0)}"
    return f"at most {(end or 0) - begin}"


WHERE = define(
    "sequence_where",
    title="sequence.where",
    shape=lambda s, axis: (),
    axes=_on_axis,
    align=None,
    kernel=_where,
    arguments=lambda node: {
        "axis": node.attrs["axis"],
        "source": node.inputs[0].time_axis,
    },
    operands=("condition",),
    framewise=False,
    new_axis=True,
)
STEPS = define(
    "sequence_steps",
    title="sequence.slice",
    shape=lambda s, **_: (),
    axes=_sliced_axes,
    align=None,
    kernel=_steps,
    arguments=lambda node: {
        **node.attrs,
        "axis": node.time_axis,
        "source": node.inputs[0].time_axis,
        "dtype": node.dtype,
    },
    operands=("like",),
    framewise=False,
    new_axis=True,
)


def _gathered_axes(axes: Sequence[tuple[Axis, ...] | None]) -> tuple[Axis, ...] | None:
    needs_time(axes[0], "selecting frames")
    one_batch(axes)
    return axes[1]


GATHER = define(
    "sequence_gather",
    title="sequence.gather",
    shape=lambda x, index: x,
    axes=_gathered_axes,
    dtype=lambda dtypes: dtypes[0],
    align=None,
    kernel=_gather,
    arguments=lambda node: {
        "axis": node.time_axis,
        "source": node.inputs[0].time_axis,
    },
    gradient=lambda node, g: [apply(SCATTER, g, node.inputs[1], node.inputs[0]), None],
    operands=("sequence", "index"),
    framewise=False,
    waits=True,
)


def _scattered_axes(axes: Sequence[tuple[Axis, ...] | None]) -> tuple[Axis, ...] | None:
    one_batch(axes)
    return axes[2]


SCATTER = define(
    "sequence_scatter",
    title="sequence.scatter",
    shape=lambda g, index, like: g,
    axes=_scattered_axes,
    dtype=lambda dtypes: dtypes[0],
    align=None,
    kernel=_scatter,
    arguments=lambda node: {
        "axis": node.inputs[0].time_axis,
        "source": node.time_axis,
    },
    gradient=lambda node, g: [apply(GATHER, g, node.inputs[1]), None, None],
    operands=("sequence", "index", "like"),
    framewise=False,
    waits=True,
)


def chosen_frames(x: Node, begin: int | None, end: int | None, step: int = 1) -> Node:
    """The frames `begin:end:step` of each sequence, as in Python's slices."""
    axis = Axis.new_unique_dynamic_axis("frames")
    axis.source = index = apply(STEPS, x, begin=begin, end=end, step=step, axis=axis)
    if index.axes is not None:  # else the source is set once the type is known
        index.time_axis.source = index
    return apply(GATHER, x, index)


def frames_where(condition: Node) -> Node:
    """The numbers of the frames where `condition` is not 0, on an axis named after it."""
    axis = Axis(f"where {condition.uid}")
    axis.source = apply(WHERE, condition, axis=axis)
    return axis.source


def _continuation(
    run: Run, x: Array, outer: Array, *, offset: int, axis: Axis, source: Axis, dtype: DTypeLike
) -> Array:
    layout, other = run.layouts[axis], run.layouts[source]
    step = layout.step_of_row
    if offset < 0:
        step = step - layout.length_of_row
    lengths = other.lengths[other.sorted_rows[layout.batch_row_of_row]]
    chosen = step - offset + lengths if offset > 0 else step - offset
    return run.engine.from_numpy(np.clip(chosen, 0, lengths - 1).astype(dtype))


def _continued_axes(
    axes: Sequence[tuple[Axis, ...] | None], offset: int
) -> tuple[Axis, ...] | None:
    one_batch(axes)
    return axes[0]


# For each frame whose delay is outside `x`: the number of the frame of `outer` to use instead
CONTINUATION = define(
    "sequence_continuation",
    title="the states before a sequence",
    shape=lambda x, outer, offset: (),
    axes=_continued_axes,
    align=None,
    kernel=_continuation,
    arguments=lambda node: {
        **node.attrs,
        "axis": node.inputs[0].time_axis,
        "source": node.inputs[1].time_axis,
        "dtype": node.dtype,
    },
    operands=("sequence", "outer"),
    framewise=False,
)
