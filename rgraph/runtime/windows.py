"""Windows of frames, into which the sequences of a minibatch are divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..graph import GraphError, Layout
from ..graph import whole as whole_number
from ..graph.layout import layout_of


class WindowOfFrames(NamedTuple):
    """A range of steps of all sequences.

    Attributes:
        first, end: the range of steps.
        rows: the rows of its frames.
        alive: the number of sequences, longest first, that have frames in it.
        go_on: the number of sequences that have frames after it.
        layout: the layout of its frames.
    """

    first: int
    end: int
    rows: slice
    alive: int
    go_on: int
    layout: Layout


def of_frames(layout: Layout, frames: int) -> list[int]:
    """The first steps of windows of this many frames of each sequence."""
    return list(range(0, layout.steps, frames))


def of_rows(layout: Layout, rows: int) -> list[int]:
    """The first steps of windows of at most this many rows, or of one step: windows of similar
    size."""
    found, step = [], 0
    while step < layout.steps:
        found.append(step)
        end = int(np.searchsorted(layout.starts, layout.offsets[step] + rows, "right")) - 1
        step = max(end, step + 1)
    return found


def windows_of(layout: Layout, begins: Sequence[int]) -> list[WindowOfFrames]:
    """The windows of a minibatch that begin at these steps."""
    found = []
    for first, end in zip(begins, [*begins[1:], layout.steps], strict=True):
        alive = layout.counts[first]
        go_on = layout.counts[end] if end < layout.steps else 0
        own = np.minimum(layout.lengths[:alive], end) - first
        rows = slice(layout.offsets[first], layout.offsets[end])
        cut = layout_of(tuple(own.tolist()))
        found.append(WindowOfFrames(first, end, rows, alive, go_on, cut))
    return found


class Window(NamedTuple):
    """How much of each sequence to compute at once.

    Attributes:
        frames: the number of frames; 0: as many as memory allows.
        memory: the limit for intermediate results, in bytes.
    """

    frames: int = 0
    memory: int = 0


def window_of(frames: int | None, memory: int | None) -> Window | None:
    """The window for a number of frames or a memory limit; None if neither is given. Raises
    `GraphError` if they are not positive whole numbers, or if both are given.
    """
    if frames is not None and memory is not None:
        raise GraphError("window and memory_limit were both given", hint="give one of them")
    for name, value in (("window", frames), ("memory_limit", memory)):
        if value is not None and (whole_number(value, name) < 1 or isinstance(value, bool)):
            what = "frames" if name == "window" else "bytes"
            raise GraphError(f"{name} is a number of {what}, at least 1, got {value!r:.60}")
    return Window(frames or 0, memory or 0) if frames or memory else None
