"""The delay: the operation along time that closes loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import INFERRED, Axis, GraphError, Node, apply, one_batch, whole
from ..graph.node import Shape, failed
from ..graph.types import Array, DTypeLike, OperandLike
from .arithmetic import element_times, plus
from .batching import check_count
from .comparison import less
from .frames import CONTINUATION, GATHER, needs_time
from .pointwise import broadcast, shrink
from .records import TABLE, as_node, define, operation

if TYPE_CHECKING:
    from ..plan import Run

Axes = tuple[Axis, ...]


def _delay_shape(x: Shape | None, initial: Shape | None, *, offset: int) -> Shape | None:
    if x is None:
        return initial if initial and INFERRED not in initial else None
    try:
        fits = not initial or broadcast(x, initial) == x
    except GraphError:
        fits = False
    if not fits:
        raise GraphError(
            f"an initial state of shape {initial} does not match a state of shape {x}".replace(
                str(INFERRED), "inferred"
            ),
            hint=f"give it shape {x}, or a number",
        )
    return x


def _initial_filled_in(x: Shape, initial: Shape, *, offset: int) -> list[Shape]:
    own = x[len(x) - len(initial) :]
    if len(own) == len(initial):
        initial = tuple(o if n == INFERRED else n for n, o in zip(initial, own, strict=True))
    return [x, initial]


def _delay_axes(axes: Sequence[Axes | None], *, offset: int) -> Axes | None:
    needs_time(axes[0], "a delay")
    one_batch(axes)
    if axes[1] is not None and len(axes[1]) == 2 and abs(offset) > 1:
        raise GraphError(
            f"the initial state of a delay by {abs(offset)} steps can't be a sequence, only one "
            "value per sequence",
            hint="take one frame of it with sequence.first or sequence.last",
        )
    return axes[0]


def _frame_before(inputs: Sequence[Node], axes: Axes, /, *, offset: int) -> list[Node]:
    """If the initial state is a sequence, take its frame next to the delayed sequence."""
    x, initial = inputs
    if len(initial.axes or ()) == 2:
        initial = apply(TABLE["ends"], initial, last=offset > 0)
    if (
        initial.axes and initial.axes[0] != axes[0]
    ):  # not `carried`, since x may depend on the delay
        initial = apply(TABLE["carry_rows"], initial, axes=axes)
    return [x, initial]


def initial_rows(run: Run, initial: Array, own: int, layout: Array, shape: Shape) -> Array:
    """The initial state of each sequence, longest first: shape (sequences, *shape)."""
    if own:
        check_count(len(initial), len(layout))
    if own and not layout.sorted_as_batch:
        initial = initial[run.index(layout, "batch_rows")]
    lead = (len(layout),)
    if own:
        rank = initial.ndim - 1
        initial = initial.reshape(lead + (1,) * (len(shape) - rank) + initial.shape[1:])
    return run.xp.broadcast_to(initial, lead + shape)


def delayed_block(
    run: Run, past: Array, initial: Array, counts: Array, t: int, offset: int
) -> Array:
    """The delayed frames at step t, which are the frames of step t - offset.

    Args:
        past: a function that returns the frames of another step.
        initial: the result of `initial_rows`.
        counts: the number of sequences that are still going at each step.
    """
    alive, source = counts[t], t - offset
    if not 0 <= source < len(counts):
        return initial[:alive]
    block = past(source)
    if len(block) >= alive:
        return block[:alive]
    return run.xp.concatenate([block, initial[len(block) : alive]])


def _delay(
    run: Run,
    x: Array,
    initial: Array,
    *,
    offset: int,
    axis: Axis,
    own: int,
    out: Array | None = None,
) -> Array:
    layout = run.layouts[axis]
    first = initial_rows(run, initial, own, layout, x.shape[1:])
    out = run.empty(x.shape, x.dtype) if out is None else out
    starts = layout.offsets
    for t in range(layout.steps):
        out[starts[t] : starts[t + 1]] = delayed_block(
            run, lambda s: x[starts[s] : starts[s + 1]], first, layout.counts, t, offset
        )
    return out


def _delay_gradient(node: Node, g: Node) -> list[Node | None]:
    initial, offset = node.inputs[1], node.attrs["offset"]
    outside = element_times(g, apply(OUTSIDE, g, offset=offset))
    return [delayed(g, 0.0, -offset), shrink(outside, initial)]


DELAY = define(
    "delay",
    delay=True,
    title=lambda node: "past_value" if node.attrs["offset"] > 0 else "future_value",
    shape=_delay_shape,
    infer=_initial_filled_in,
    axes=_delay_axes,
    align=_frame_before,
    kernel=_delay,
    arguments=lambda node: {
        "offset": node.attrs["offset"],
        "axis": node.time_axis,
        "own": len(node.inputs[1].axes or ()),
    },
    gradient=_delay_gradient,
    operands=("operand", "initial state"),
    guess=True,
    into=True,
)


def delayed(x: Node, initial: OperandLike, offset: int) -> Node:
    """`x` of `offset` steps ago (ahead, if negative); `initial` outside the sequence."""
    return apply(DELAY, x, as_node(initial), offset=offset)


def _outside(run: Run, like: Array, *, offset: int, axis: Axis, dtype: np.dtype) -> Array:
    layout = run.layouts[axis]
    step = run.index(layout, "step_of_row")[run.block(axis)]
    if offset > 0:
        return (step < offset).astype(dtype)
    lengths = run.index(layout, "length_of_row")[run.block(axis)]
    return (step >= lengths + offset).astype(dtype)


def _sequence_axes(axes: Sequence[Axes | None], **_: object) -> Axes | None:
    needs_time(axes[0], "this")
    return axes[0]


def is_early(passed: Node, frames: int, dtype: DTypeLike) -> Node:
    """1 while fewer than `frames` frames have passed, then 0."""
    early = less(passed, float(frames))
    return early if early.dtype == dtype else apply(TABLE["cast"], early, dtype=dtype)


def _outside_at(node: Node, operands: Sequence[Node], passed: Node) -> Node:
    offset = node.attrs["offset"]
    if offset < 0:
        raise failed(
            node,
            GraphError(
                "it depends on the number of frames that are still to come",
                hint="the last frame is not known while frames are streamed",
            ),
        )
    return is_early(passed, offset, node.dtype)


def _outside_in_window(node: Node, passed: Node, left: Node) -> Node:
    offset = node.attrs["offset"]
    return is_early(passed if offset > 0 else left, abs(offset), node.dtype)


OUTSIDE = define(  # 1 on the frames whose delay lies outside the sequence
    "outside",
    title="gradient of an initial state",
    shape=lambda s, offset: (),
    axes=_sequence_axes,
    kernel=_outside,
    arguments=lambda node: {
        "offset": node.attrs["offset"],
        "axis": node.time_axis,
        "dtype": node.dtype,
    },
    guess=True,
    on_one_frame=_outside_at,
    in_window=_outside_in_window,
)


@operation
def past_value(
    x: OperandLike, initial_state: OperandLike | None = None, time_step: int = 1
) -> Node:
    """Delays a sequence: the value of `x` `time_step` frames ago.

    Args:
        x: a sequence.
        initial_state: the value before the first frame: a number, an array, a parameter, or a
            value per sequence; 0 by default. If it is a sequence, with any time axis, its last
            frames precede the first frame of `x`; a single frame is repeated.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.past_value(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([[0.],
           [1.],
           [2.]], dtype=float32)
    """
    return delay(as_node(x), initial_state, _steps_away(time_step))


@operation
def future_value(
    x: OperandLike, initial_state: OperandLike | None = None, time_step: int = 1
) -> Node:
    """Looks ahead: the value of `x` in `time_step` frames; otherwise like `past_value`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.future_value(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([[2.],
           [3.],
           [0.]], dtype=float32)
    """
    return delay(as_node(x), initial_state, -_steps_away(time_step))


def _steps_away(time_step: int) -> int:
    steps = whole(time_step, "time_step")
    if steps < 0:
        raise GraphError(
            f"time_step must not be negative, got {steps}",
            hint="use past_value to look back, future_value to look ahead, sequence.delay for "
            "either",
        )
    return steps


@operation
def delay(x: OperandLike, initial_state: OperandLike | None = None, time_step: int = 1) -> Node:
    """Same as `past_value`, or as `future_value` if `time_step` is negative.

    Args:
        x: a sequence.
        initial_state: as for `past_value`; of a sequence, a negative `time_step` uses the first
            frames.

    Source: CNTK's `sequence.delay`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.delay(x, 9, -2).eval({x: np.array([[1], [2], [3]])})[0]
    array([[3.],
           [9.],
           [9.]], dtype=float32)
    """
    node, offset = as_node(x), whole(time_step, "time_step")
    initial = as_node(0.0 if initial_state is None else initial_state)
    if not offset:
        return apply(TABLE["alias"], node)
    if len(initial.axes or ()) < 2 or abs(offset) == 1:
        return delayed(node, initial, offset)
    continued = apply(GATHER, initial, apply(CONTINUATION, node, initial, offset=offset))
    outside = apply(OUTSIDE, node, offset=offset)
    return plus(delayed(node, 0.0, offset), element_times(outside, continued))
