"""Forward passes of long sequences are computed in windows of frames where that saves memory.

The operands of a loop that don't depend on its state are computed beforehand for all frames, and
take several times the memory of the result. Computing them window by window is as fast: they are
read while they are in the processor's cache.
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
    """A plan without gradients that runs in windows. Its intermediate results take a quarter of the
    memory of the requested values, or fit in the cache.

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
        few = min(layout.rows * self.frame_bytes // 5, 2 * CACHE)  # windows: each has a cost
        room = max(layout.rows * self.asked_bytes // 4, CACHE, few)
        return of_rows(layout, max(room // self.frame_bytes, LEAST_FRAMES * layout.counts[0]))


class Forward:
    """Chooses how to run a graph without gradients: whole or in windows.

    Args:
        whole: the plan for all frames.
        values: the nodes that it computes.
        make: makes a plan for a graph.
    """

    def __init__(self, whole: Plan, values: Sequence[Node], make: MakePlan) -> None:
        self.whole, self.values, self.make = whole, values, make
        self.axis = time_axis_of(values)
        self.frame_bytes = peak_bytes(whole, MANY, 1) // MANY

    def plan(self, layouts: Mapping[Axis, Layout]) -> Plan | WindowedPlan:
        """The plan for a minibatch with these layouts."""
        layout = layouts.get(self.axis)
        if layout is None or layout.rows * self.frame_bytes < 2 * CACHE or not layout.lengths[-1]:
            return self.whole
        return self.windowed or self.whole

    @cached_property
    def windowed(self) -> ForwardPlan | None:
        """The plan in windows; None if the graph can't be run so, or if it would save nothing."""
        try:
            plan = ForwardPlan(self.whole, self.values, self.make)
        except GraphError:
            return None
        is_less = 2 * (self.frame_bytes - plan.asked_bytes) > plan.asked_bytes
        return plan if is_less and set(plan.inputs) <= set(self.whole.inputs) else None


def forward_of(whole: Plan, values: Sequence[Node], make: MakePlan) -> Forward | None:
    """How to run a graph without gradients; None if it is always run whole."""
    nodes = list(whole.slots)
    if whole.engine.is_gpu or any(n.op is not None and n.op.random for n in nodes):
        return None
    if not any(len(n.axes or ()) == 2 for n in nodes):
        return None
    try:
        return Forward(whole, values, make)
    except GraphError:  # no sequence is fed
        return None
