"""Ends and maxima of sequences, and moving frames to another time axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..graph import Axis, GraphError, Node, apply
from ..graph.types import Array
from .arithmetic import element_times
from .frames import needs_time
from .records import carried, define
from .repetition import spread

if TYPE_CHECKING:
    from ..graph.layout import Layout
    from ..plan import Run

Axes = tuple[Axis, ...]


def _ends(run: Run, x: Array, *, last: bool, axis: Axis) -> Array:
    layout = run.layouts[axis]
    return in_batch_order(run, x[_rows_of_ends(run, layout, last)], axis=axis)


def _rows_of_ends(run: Run, layout: Array, last: bool) -> Array:
    _refuse_empty(layout)
    if last and len(layout) and layout.lengths[-1] < layout.steps:
        return run.index(layout, "last_row")
    return slice(layout.rows - len(layout), None) if last else slice(0, len(layout))


def _at_ends(run: Run, x: Array, *, last: bool, axes: Axes) -> Array:
    layout = run.layouts[axes[1]]
    out = run.empty((layout.rows, *x.shape[1:]), x.dtype, x)
    out[...] = 0
    ordered = x if layout.sorted_as_batch else x[run.index(layout, "batch_rows")]
    out[_rows_of_ends(run, layout, last)] = ordered
    return out


def _refuse_empty(layout: Layout, lacks: str = "no first and no last frame") -> None:
    if len(layout) and layout.lengths[-1] == 0:
        raise GraphError(
            f"an empty sequence has {lacks}", hint="leave empty sequences out of the minibatch"
        )


def in_batch_order(run: Run, frames: Array, *, axis: Axis) -> Array:
    """One frame per sequence, reordered from longest first to the order of the minibatch."""
    layout = run.layouts[axis]
    _refuse_empty(layout)
    return frames if layout.sorted_as_batch else frames[run.index(layout, "sorted_rows")]


def _no_time(axes: Sequence[Axes | None], **_: object) -> Axes | None:
    needs_time(axes[0], "this")
    return None if axes[0] is None else axes[0][:1]


ENDS = define(
    "ends",
    title=lambda node: "sequence.last" if node.attrs["last"] else "sequence.first",
    shape=lambda s, last: s,
    axes=_no_time,
    align=None,
    kernel=_ends,
    arguments=lambda node: {"last": node.attrs["last"], "axis": node.inputs[0].time_axis},
    gradient=lambda node, g: [apply(AT_ENDS, g, last=node.attrs["last"], axes=node.inputs[0].axes)],
    is_first_frame=lambda node: not node.attrs["last"],
    of_windows=lambda node: "last" if node.attrs["last"] else "first",
    of_last_frames=lambda node: (
        partial(in_batch_order, axis=node.inputs[0].time_axis) if node.attrs["last"] else None
    ),
    framewise=False,
)
AT_ENDS = define(  # puts each value back at the frame it was taken from, zeros everywhere else
    "at_ends",
    title=lambda node: "gradient of sequence." + ("last" if node.attrs["last"] else "first"),
    shape=lambda s, **_: s,
    axes=lambda _, axes, last: axes,
    align=None,
    kernel=_at_ends,
    arguments=lambda node: {"last": node.attrs["last"], "axes": node.axes},
    gradient=lambda node, g: [apply(ENDS, g, last=node.attrs["last"])],
    framewise=False,
)


def _maximum(run: Run, x: Array, *, axis: Axis, of_none: bool) -> Array:
    layout = run.layouts[axis]
    if not of_none:
        _refuse_empty(layout, "no largest frame")
    best = run.xp.full((len(layout), *x.shape[1:]), -run.xp.inf, x.dtype)
    for start, count in zip(layout.offsets, layout.counts, strict=False):
        run.xp.maximum(best[:count], x[start : start + count], out=best[:count])
    return best if layout.sorted_as_batch else best[run.index(layout, "sorted_rows")]


def _largest_first(run: Run, x: Array, largest: Array, *, axis: Axis) -> Array:
    """For each element: 1 at the first frame of its sequence that has the maximum, else 0."""
    layout = run.layouts[axis]
    found = x == largest
    free = run.xp.ones((len(layout), *x.shape[1:]), bool)
    for start, count in zip(layout.offsets, layout.counts, strict=False):
        frames = found[start : start + count]
        frames &= free[:count]
        free[:count] ^= frames
    return found.astype(x.dtype)


LARGEST_FIRST = define(
    "sequence_largest_first",
    shape=lambda x, largest: x,
    kernel=_largest_first,
    arguments=lambda node: {"axis": node.time_axis},
    operands=("sequence", "largest"),
    framewise=False,
)


def _maximum_gradient(node: Node, g: Node) -> list[Node]:
    x = node.inputs[0]
    axes = x.axes or ()
    return [element_times(spread(g, axes), apply(LARGEST_FIRST, x, spread(node, axes)))]


MAXIMUM = define(
    "sequence_max",
    title="sequence.reduce_max",
    shape=lambda s, of_none: s,
    axes=_no_time,
    align=None,
    kernel=_maximum,
    arguments=lambda node: {
        "axis": node.inputs[0].time_axis,
        "of_none": node.attrs["of_none"],  # empty sequences give -infinity instead of an error
    },
    gradient=_maximum_gradient,
    framewise=False,
)


def _reconciled(
    run: Run, x: Array, like: Array, *, axis: Axis | None, source: Axis | None
) -> Array:
    """Return `x` unchanged: sequences of equal lengths are packed in the same order."""
    if axis != source and run.step is None:
        own, other = (run.layouts[a].given for a in (source, axis))
        if len(own) != len(other) or (own != other).any():
            raise GraphError(
                f"sequences of {own.tolist()} frames can't be moved to a time axis with sequences "
                f"of {other.tolist()} frames"
            )
    return x


def _time_axis(node: Node) -> Axis | None:
    return (node.axes or ())[1] if len(node.axes or ()) == 2 else None


def _on_axes_of(inputs: Sequence[Node], axes: Axes, /, **_: object) -> list[Node]:
    x, like = inputs
    if len(x.axes or ()) == 1:
        x = carried(x, like)
    return [x if len(x.axes or ()) == len(axes) else spread(x, axes), like]


RECONCILE = define(
    "reconcile_dynamic_axes",
    shape=lambda x, like: x,
    axes=lambda axes: axes[1],
    align=_on_axes_of,
    kernel=_reconciled,
    arguments=lambda node: {"axis": _time_axis(node), "source": _time_axis(node.inputs[0])},
    gradient=lambda node, g: [apply(RECONCILE, g, node.inputs[0]), None],
    operands=("operand", "like"),
    guess=True,
    on_one_frame=lambda node, operands, count: operands[0],
)
