"""Windows of frames: how the sequences of a minibatch are cut into them."""

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
        first, end: the steps.
        rows: the rows of its frames.
        alive: how many sequences, longest first, have frames in it.
        go_on: how many have frames after it.
        layout: of its frames.
    """

    first: int
    end: int
    rows: slice
    alive: int
    go_on: int
    layout: Layout


def of_frames(layout: Layout, frames: int) -> list[int]:
    """The steps at which windows of so many frames of each sequence begin."""
    return list(range(0, layout.steps, frames))


def of_rows(layout: Layout, rows: int) -> list[int]:
    """Those of windows of so many rows at most, or of one step: all take about as much memory."""
    found, step = [], 0
    while step < layout.steps:
        found.append(step)
        end = int(np.searchsorted(layout.starts, layout.offsets[step] + rows, "right")) - 1
        step = max(end, step + 1)
    return found


def windows_of(layout: Layout, begins: Sequence[int]) -> list[WindowOfFrames]:
    """The sequences of a minibatch cut into windows that begin at these steps."""
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
    """How much of its sequences a run computes at once.

    Attributes:
        frames: so many frames of each; 0: as many as memory allows.
        memory: bytes that results on the way may take.
    """

    frames: int = 0
    memory: int = 0


def window_of(frames: int | None, memory: int | None) -> Window | None:
    """What people ask for: frames, or bytes, or neither. Raises `GraphError` for what is neither
    a whole number nor more than 0."""
    if frames is not None and memory is not None:
        raise GraphError("window and memory_limit were both given", hint="give one of them")
    for name, value in (("window", frames), ("memory_limit", memory)):
        if value is not None and (whole_number(value, name) < 1 or isinstance(value, bool)):
            what = "frames" if name == "window" else "bytes"
            raise GraphError(f"{name} is a number of {what}, at least 1, got {value!r:.60}")
    return Window(frames or 0, memory or 0) if frames or memory else None
