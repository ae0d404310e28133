"""Forward passes of long sequences go in windows of frames by themselves where that saves memory.

A loop reads one frame after the other, but what it reads is computed before it begins, for all
frames, and takes several times the memory of the result. Window by window that is as fast: what is
computed for one is read while it is in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from ..graph import Axis, GraphError, Layout, Node
from ..passes.windows import time_axis_of
from ..plan import Plan
from ..plan.memory import bytes_of, peak_bytes
from .windowed import MakePlan, WindowedPlan
from .windows import Window, of_rows

CACHE = 1 << 20  # bytes that one core has for itself
LEAST_FRAMES = 4  # of a window: kernels are slower on few rows
MANY = 1 << 12  # frames, of which one takes a share of the memory that all take


class ForwardPlan(WindowedPlan):
    """A plan without gradients, in windows that work in a quarter of the memory of the values that
    are asked for, or in a cache's.

    Args:
        whole: the plan for all frames at once.
    """

    def __init__(self, whole: Plan, values: Sequence[Node], make: MakePlan) -> None:
        super().__init__(values, {}, (), (), Window(), whole.engine, make)
        self.whole = whole
        asked = [v for v, along in zip(values, self.along, strict=True) if along]
        self.asked_bytes = sum(bytes_of(v, 1, 1) for v in asked)
        self.frame_bytes = max(peak_bytes(self.forward, MANY, 1) // MANY - self.asked_bytes, 1)

    def begins(self, layout: Layout) -> list[int]:
        room = max(layout.rows * self.asked_bytes // 4, CACHE)
        return of_rows(layout, max(room // self.frame_bytes, LEAST_FRAMES * layout.counts[0]))


class Forward:
    """Chooses how a graph without gradients is run: whole or in windows.

    Args:
        whole: the plan for all frames.
        values: what it computes.
        make: makes a plan of a graph.
    """

    def __init__(self, whole: Plan, values: Sequence[Node], make: MakePlan) -> None:
        self.whole, self.values, self.make = whole, values, make
        self.axis = time_axis_of(values)
        self.frame_bytes = peak_bytes(whole, MANY, 1) // MANY

    def plan(self, layouts: Mapping[Axis, Layout]) -> Plan | WindowedPlan:
        """The plan for a minibatch whose sequences lie so."""
        layout = layouts.get(self.axis)
        if layout is None or layout.rows * self.frame_bytes < 2 * CACHE or not layout.lengths[-1]:
            return self.whole
        return self.windowed or self.whole

    @cached_property
    def windowed(self) -> ForwardPlan | None:
        """None where the graph can't be run in windows, or where these save nothing."""
        try:
            plan = ForwardPlan(self.whole, self.values, self.make)
        except GraphError:
            return None
        is_less = 2 * (self.frame_bytes - plan.asked_bytes) > plan.asked_bytes
        return plan if is_less and set(plan.inputs) <= set(self.whole.inputs) else None


def forward_of(whole: Plan, values: Sequence[Node], make: MakePlan) -> Forward | None:
    """How to run a graph without gradients; None where it is always run whole."""
    nodes = list(whole.slots)
    if whole.engine.is_gpu or any(n.op is not None and n.op.random for n in nodes):
        return None
    if not any(len(n.axes or ()) == 2 for n in nodes):
        return None
    try:
        return Forward(whole, values, make)
    except GraphError:  # no sequence is fed
        return None
