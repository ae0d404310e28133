"""Runs a graph in windows of frames, forward and backward, with memory for one window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from ..engines.base import Engine
from ..graph import Axis, GraphError, Input, Layout, Node, order
from ..graph.types import Array
from ..ops.arithmetic import plus
from ..passes import autodiff
from ..passes.windows import divide, time_axis_of
from ..plan import Plan
from ..plan.memory import peak_bytes
from .carrying import Carry
from .windowed_run import WindowedRun
from .windows import Window, of_frames, of_rows, windows_of

MakePlan = Callable[[Sequence[Node]], Plan]


class WindowedPlan:
    """Computes what `Plan` computes, one window of frames after the other.

    All windows run forward once, keeping only the state of the delays at the window borders. For
    gradients they run again in reverse order: each is computed anew, then differentiated. Sums over
    frames and the first and last frames are accumulated on the way; operations on these run once.
    If all frames fit into one window, an ordinary `Plan` is used.

    Args:
        values: the nodes to compute.
        seeds: the nodes to differentiate, with their adjoints.
        wrt: the nodes with respect to which to differentiate.
        more: nodes to compute that are returned after the gradients.
        window: the length of a window.
        make: makes a plan for a graph.
        scale: a factor of the seeds; gradients are divided by it.

    Raises `GraphError` for a graph that can't be run in windows, naming the operation that prevents
    it.
    """

    lends, alone = True, frozenset[int]()  # some of its plans may
    hindrance = ""

    def __init__(
        self,
        values: Sequence[Node],
        seeds: Mapping[Node, Node],
        wrt: Sequence[Node],
        more: Sequence[Node],
        window: Window,
        engine: Engine,
        make: MakePlan,
        scale: Node | None = None,
    ) -> None:
        self.engine, self.window, self.scale, self.make = engine, window, scale, make
        self.request = list(values), dict(seeds), list(wrt), list(more)
        self.wrt = self.request[2]
        asked = [*values, *more]
        below = [*asked, *seeds]
        self.axis = time_axis_of(below)
        self.division = d = divide(below, self.axis)
        self.parts = list(d.parts.values())
        self.starts = [s.initial for s in d.states]
        self.before = make([*d.given, *self.starts])

        ends = [s.after for s in d.states]
        self.along = [v in d.inside for v in asked]
        framed = [d.inside[v] for v in asked if v in d.inside]
        self.forward = make([*ends, *(p.of_window for p in self.parts), *framed])

        inside_seeds = {d.inside[r]: g for r, g in seeds.items() if r in d.inside}
        outside_seeds = {r: g for r, g in seeds.items() if r not in d.inside}
        rest = d.outside([*(v for v in asked if v not in d.inside), *outside_seeds])
        count = len(asked) - len(framed)
        own = dict(zip(rest[count:], outside_seeds.values(), strict=True))
        back = autodiff.pull_back(own, [p.whole for p in self.parts]) if own else []
        self.outside = make([*rest[:count], *back])

        self.backward: Plan | None = None
        self.after: Plan | None = None
        if seeds:
            self._plan_back(inside_seeds, outside_seeds, ends)
        if window.memory:
            for plan in self.plans:
                plan.hindrance = "its memory has a limit, and a graph keeps memory of its own"
        fed = {n for n in order([*below, *seeds.values()]) if isinstance(n, Input)}
        read = dict.fromkeys(i for p in self.plans for i in p.inputs)
        self.inputs = [n for n in read if n in fed]

    def _plan_back(
        self,
        inside_seeds: Mapping[Node, Node],
        outside_seeds: Mapping[Node, Node],
        ends: Sequence[Node],
    ) -> None:
        d, make = self.division, self.make
        self.end_seeds = [_like(e) for e in ends]
        self.part_seeds = [_like(p.of_window) for p in self.parts]
        seeds: dict[Node, Node] = {
            **inside_seeds,
            **dict(zip(ends, self.end_seeds, strict=True)),
            **dict(zip((p.of_window for p in self.parts), self.part_seeds, strict=True)),
        }
        reached = set(order(seeds))
        self.inner = [w for w in self.wrt if d.inside.get(w, w) in reached]
        inside_wrt = [d.inside.get(w, w) for w in self.inner]
        given = list(d.given.values())
        before = [s.before for s in d.states]
        back = autodiff.pull_back(seeds, [*inside_wrt, *given, *before])
        n = len(inside_wrt)
        self.backward = make([*autodiff.unscaled(back[:n], self.scale), *back[n:]])

        self.given_seeds = [_like(n) for n in (*d.given, *self.starts)]
        sources = [*d.given, *self.starts, *outside_seeds]
        copies = d.outside([*sources, *self.wrt])
        all_seeds: list[Node] = [*self.given_seeds, *outside_seeds.values()]
        outer: dict[Node, Node] = {}
        for node, seed in zip(copies[: len(sources)], all_seeds, strict=True):
            outer[node] = plus(outer[node], seed) if node in outer else seed
        reached = set(order(outer))
        copy_of = dict(zip(self.wrt, copies[len(sources) :], strict=True))
        self.outer = [w for w in self.wrt if copy_of[w] in reached]
        back = autodiff.pull_back(outer, [copy_of[w] for w in self.outer])
        self.after = make(autodiff.unscaled(back, self.scale))

    @property
    def plans(self) -> list[Plan]:
        made = (self.before, self.forward, self.outside, self.backward, self.after)
        return [p for p in made if p is not None]

    @property
    def axes(self) -> set[Axis]:
        return {a for p in self.plans for a in p.axes}

    @property
    def sizes(self) -> dict[Axis, int]:
        return {a: n for p in self.plans for a, n in p.sizes.items()}

    def kept(self) -> list[Array]:
        """The arrays that persist between runs."""
        return [a for p in self.plans for a in p.kept()]

    def run(
        self,
        feed: Mapping[Input, Array],
        layouts: dict[Axis, Layout],
        batch: int,
        training: bool = False,
        seed: int = 0,
        turn: int = 0,
        carry: Carry | None = None,
        in_order: bool = False,
    ) -> list[Array]:
        """The values' arrays, then the gradients', in packed rows; see `Plan.run`.

        Args:
            carry: which sequences continue those of the previous run; receives the state after this
                one.
            in_order: whether to return values of frames (`along`) in the minibatch's order, one
                sequence after the other.
        """
        layout = layouts[self.axis]
        begins = self.begins(layout)
        if len(begins) < 2 and carry is None:
            found = self.whole.run(feed, layouts, batch, training, seed, turn)
            return self._in_order(found, layout) if in_order else found
        windows, how = windows_of(layout, begins), (training, seed, turn)
        run = WindowedRun(self, windows, feed, layouts, batch, how, carry, in_order)
        return run.results()

    def _in_order(self, rows: Sequence[Array], layout: Layout) -> list[Array]:
        return [
            a[layout.rows_in_order] if along else a
            for a, along in zip(rows, self.along, strict=True)
        ]

    @cached_property
    def whole(self) -> Plan:
        """The plan for all frames at once."""
        values, seeds, wrt, more = self.request
        gradients = autodiff.unscaled(autodiff.pull_back(seeds, wrt), self.scale)
        return self.make([*values, *gradients, *more])

    def border_total(self, begins: Sequence[int], layout: Layout) -> int:
        """The bytes kept at all window borders."""
        return sum(layout.counts[b] for b in begins) * self.border_bytes

    def bytes(self, layout: Layout, begins: Sequence[int]) -> int:
        """The memory that a run in these windows takes, without inputs and results."""
        if len(begins) < 2:
            return peak_bytes(self.whole, layout.rows, len(layout))
        largest = max(windows_of(layout, begins), key=lambda w: w.layout.rows)
        borders = self.border_total(begins, layout)
        # The memory of the way forward is still there on the way back.
        plans = [p for p in (self.forward, self.backward) if p is not None]
        return borders + sum(peak_bytes(p, largest.layout.rows, largest.alive) for p in plans)

    @cached_property
    def border_bytes(self) -> int:
        """The bytes kept for one sequence at a window border."""
        befores = [s.before for s in self.division.states]
        return sum(math.prod(n.shape or ()) * np.dtype(n.dtype).itemsize for n in befores)

    def begins(self, layout: Layout) -> list[int]:
        """The first steps of the windows: of the requested number of frames, or as few windows as
        the memory limit allows.

        Raises `GraphError` if the limit is too low.
        """
        if not self.window.memory and not self.window.frames:
            return [0] if layout.steps else []
        if self.window.frames:
            return of_frames(layout, self.window.frames)
        limit, best = self.window.memory, (0, list[int]())
        for rows in sorted({-(-layout.rows // n) for n in range(1, layout.steps + 1)})[::-1]:
            begins = of_rows(layout, rows)
            needed = self.bytes(layout, begins)
            if needed <= limit:
                return begins
            best = min(best, (needed, begins)) if best[1] else (needed, begins)
        if not best[1]:  # there are no frames
            return []
        raise GraphError(
            f"{limit / 1e6:.4g} MB are too few for this minibatch: {len(best[1])} windows take the "
            f"least, {best[0] / 1e6:.4g} MB",
            hint="give memory_limit more, or feed fewer sequences at once",
        )


def _like(node: Node) -> Input:
    """An input for the adjoint of a node."""
    return Input(node.shape, node.axes, node.dtype, "adjoint", where=node.origin)
