"""Runs a graph in windows of frames, forward and back, in memory for one window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..engines.base import Engine
from ..graph import Axis, GraphError, Input, Layout, Node, order
from ..ops.arithmetic import plus
from ..passes import autodiff
from ..passes.windows import divide, time_axis_of
from ..plan import Plan
from ..plan.memory import peak_bytes
from .carrying import Carry, Held
from .windows import Window, WindowOfFrames, of_frames, of_rows, windows_of

Array = Any  # NumPy's, or CuPy's on a GPU
MakePlan = Callable[[Sequence[Node]], Plan]


class WindowedPlan:
    """What `Plan` computes, a window of frames after the other.

    The frames go through twice: forward, where only what delays hold at the borders of windows
    is kept; and for gradients back through the windows in reverse, each computed anew. Sums of
    frames, and the last and first frames, come together on the way; what is computed from these
    is computed once. Where all frames fit into one window it is a `Plan`.

    Args:
        values: what to compute.
        seeds: the nodes to differentiate, each with its adjoint.
        wrt: what with respect to.
        more: what to compute that is given after the gradients.
        window: how long a window is.
        make: makes a plan of a graph.

    Raises `GraphError` for a graph that can't be run so; what hinders is named.
    """

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
    ) -> None:
        self.engine, self.window, self.make = engine, window, make
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
        self.backward = make(autodiff.pull_back(seeds, [*inside_wrt, *given, *before]))

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
        self.after = make(autodiff.pull_back(outer, [copy_of[w] for w in self.outer]))

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

    def kept(self) -> list[Any]:
        """The arrays that stay from run to run."""
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
    ) -> list[Array]:
        """The values' arrays, then the gradients', in rows; see `Plan.run`.

        Args:
            carry: which sequences go on from the run before; takes what this one leaves.
        """
        layout = layouts[self.axis]
        begins = self.begins(layout)
        if len(begins) < 2 and carry is None:
            return self.whole.run(feed, layouts, batch, training, seed, turn)
        windows = windows_of(layout, begins)
        return _Run(self, windows, feed, layouts, batch, (training, seed, turn), carry).results()

    @cached_property
    def whole(self) -> Plan:
        """The plan for all frames at once."""
        values, seeds, wrt, more = self.request
        return self.make([*values, *autodiff.pull_back(seeds, wrt), *more])

    def border_total(self, begins: Sequence[int], layout: Layout) -> int:
        """What is kept at all borders of windows."""
        return sum(layout.counts[b] for b in begins) * self.border_bytes

    def bytes(self, layout: Layout, begins: Sequence[int]) -> int:
        """The memory that a run in these windows takes, but for inputs and results."""
        if len(begins) < 2:
            return peak_bytes(self.whole, layout.rows, len(layout))
        largest = max(windows_of(layout, begins), key=lambda w: w.layout.rows)
        borders = self.border_total(begins, layout)
        # The memory of the way forward is still there on the way back.
        plans = [p for p in (self.forward, self.backward) if p is not None]
        return borders + sum(peak_bytes(p, largest.layout.rows, largest.alive) for p in plans)

    @cached_property
    def border_bytes(self) -> int:
        """What is kept of a sequence at a border of windows."""
        befores = [s.before for s in self.division.states]
        return sum(math.prod(n.shape or ()) * np.dtype(n.dtype).itemsize for n in befores)

    def begins(self, layout: Layout) -> list[int]:
        """The steps at which windows begin: as many frames as asked for, or as few windows as keep
        within the limit of memory.

        Raises `GraphError` where none do.
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


class _Run:
    """One run of a `WindowedPlan`. Values of sequences are in the order of their lengths."""

    def __init__(
        self,
        plan: WindowedPlan,
        windows: Sequence[WindowOfFrames],
        feed: Mapping[Input, Array],
        layouts: dict[Axis, Layout],
        batch: int,
        how: tuple[bool, int, int],
        carry: Carry | None = None,
    ) -> None:
        self.plan, self.feed, self.layouts = plan, dict(feed), layouts
        self.batch, self.how, self.windows = batch, how, windows
        self.engine = plan.engine
        self.xp = self.engine.xp
        self.layout = layouts[plan.axis]
        self.carry = carry
        # Of each sequence the frames that it had before this run, the longest first
        self.passed = np.zeros(len(self.layout), np.intp)

    def results(self) -> list[Array]:
        plan, d = self.plan, self.plan.division
        found = self._once(plan.before, {})
        count = len(d.given)
        given = [self._sorted(n, a) for n, a in zip(d.given, found, strict=False)]
        starts = [self._sorted(n, a) for n, a in zip(plan.starts, found[count:], strict=True)]
        self.given = dict(zip(d.given.values(), given, strict=True))
        if self.carry is not None:
            self._take_up(self.carry, starts)
        borders, parts, framed = self._go_forward(starts)
        wholes = {
            p.whole: self._as_batch(p.whole, a) for p, a in zip(plan.parts, parts, strict=True)
        }
        rest = self._once(plan.outside, wholes)
        count = len(plan.along) - len(framed)
        values, adjoints = iter(rest[:count]), rest[count:]
        frames = iter(framed)
        results = [next(frames if along else values) for along in plan.along]
        gradients = self._go_back(borders, wholes, adjoints) if plan.backward else []
        first = len(plan.request[0])
        return [*results[:first], *gradients, *results[first:]]

    def _take_up(self, carry: Carry, starts: Sequence[Array]) -> None:
        """Puts what delays held of sequences that go on in the place of their initial states."""
        if len(carry.sources) != len(self.layout):
            raise GraphError(
                f"{len(carry.sources)} sequences start or go on, there are {len(self.layout)}"
            )
        carry.check()
        if carry.before is None or not carry.goes_on.any():
            return
        forms = [a.shape[1:] for a in carry.before.states]
        if forms != [a.shape[1:] for a in starts]:
            raise GraphError(
                f"the minibatch before was another function's: it left states of shapes {forms}"
            )
        if any(p.joined == "first" for p in self.plan.parts):
            raise GraphError("sequence.first of a sequence that goes on has come before")
        for row, number in enumerate(self.layout.order):
            source = carry.sources[number]
            if source is not None:
                self.passed[row] = carry.before.passed[source]
                for start, held in zip(starts, carry.before.states, strict=True):
                    start[row] = self.engine.from_numpy(held[source])

    def _leave(self, carry: Carry, ends: Sequence[Array]) -> None:
        """Keeps what delays hold at the ends of sequences, for those that go on."""
        place = self.layout.order.argsort()
        states = [a[self.engine.from_numpy(place)] for a in ends]
        carry.after = Held(states, (self.passed + self.layout.lengths)[place])

    def _once(self, plan: Plan, more: Mapping[Input, Array]) -> list[Array]:
        """What is computed outside of windows."""
        if not plan.outputs:
            return []
        feed = {**self.feed, **more}
        given = {n: feed[n] for n in plan.inputs}
        # Results may be memory that the next run writes again.
        return [a.copy() for a in plan.run(given, dict(self.layouts), self.batch, *self.how)]

    def _in_window(
        self, plan: Plan, window: WindowOfFrames, held: Sequence[Array], more: Mapping[Input, Array]
    ) -> list[Array]:
        d = self.plan.division
        states = (s.before for s in d.states)
        feed: dict[Input, Array] = {**more, **dict(zip(states, held, strict=True))}
        for node, array in self.given.items():
            feed[node] = array[: window.alive] if node.axes else array
        for node in plan.inputs:
            if node is d.passed or node is d.left:
                feed[node] = self._count(window, ahead=node is d.left)
            elif node not in feed:
                array = self.feed[node]
                feed[node] = array[window.rows] if len(node.axes or ()) == 2 else array
        given = {n: feed[n] for n in plan.inputs}
        layouts = {self.plan.axis: window.layout}
        return plan.run(given, layouts, window.alive, *self.how, first_row=window.rows.start)

    def _count(self, window: WindowOfFrames, ahead: bool) -> Array:
        """How many frames come before each frame of a window, or after it."""
        step = self.layout.step_of_row[window.rows]
        if ahead and self.carry is not None:
            raise GraphError("sequence.is_last is not known of sequences that go on")
        if ahead:
            count = self.layout.length_of_row[window.rows] - 1 - step
        else:
            count = step + self.passed[self.layout.sequence_of_row[window.rows]]
        return self.engine.from_numpy(count.astype(np.float32))

    def _go_forward(
        self, starts: Sequence[Array]
    ) -> tuple[list[list[Array]], list[Array], list[Array]]:
        """What delays hold at the borders, the parts of all frames, and values with frames."""
        plan, d = self.plan, self.plan.division
        nodes = plan.forward.outputs[len(starts) + len(plan.parts) :]
        framed = [self._zeros(n, self.layout.rows, empty=True) for n in nodes]
        parts = [self._zeros(p.whole, len(self.layout)) for p in plan.parts]
        borders, held, ends = [], list(starts), list(starts)
        if self.carry is not None:
            ends = [a.copy() for a in starts]
        for window in self.windows:
            held = [a[: window.alive] for a in held]
            borders.append(held)
            is_last = window is self.windows[-1] and self.carry is None
            if is_last and not plan.parts and not framed:
                break
            found = self._in_window(plan.forward, window, held, {})
            if self.carry is not None:
                for end, a in zip(ends, found, strict=False):
                    end[window.go_on : window.alive] = a[window.go_on :]
            held = [a[: window.go_on].copy() for a in found[: len(d.states)]]
            found = found[len(d.states) :]
            for part, whole, a in zip(plan.parts, parts, found, strict=False):
                _join(part.joined, bool(part.whole.axes), whole, a, window)
            for whole, a in zip(framed, found[len(plan.parts) :], strict=True):
                whole[window.rows] = a
        if self.carry is not None:
            self._leave(self.carry, ends)
        return borders, parts, framed

    def _go_back(
        self,
        borders: Sequence[Sequence[Array]],
        wholes: Mapping[Input, Array],
        adjoints: Sequence[Array],
    ) -> list[Array]:
        plan, d = self.plan, self.plan.division
        outside = adjoints or [None] * len(plan.parts)
        back = [
            self._zeros(p.whole, len(self.layout)) if a is None else self._sorted(p.whole, a)
            for p, a in zip(plan.parts, outside, strict=True)
        ]
        n, m = len(plan.inner), len(d.given)
        total = {w: self._gradient(w) for w in plan.wrt}
        given = [self._zeros(i, len(self.layout)) for i in d.given.values()]
        held = [self._zeros(s.before, 0) for s in d.states]
        for window, states in zip(reversed(self.windows), reversed(borders), strict=True):
            more: dict[Input, Array] = {}
            for node, state, a in zip(plan.end_seeds, d.states, held, strict=True):
                more[node] = self._zeros(state.before, window.alive)
                more[node][: len(a)] = a
            for node, part, a in zip(plan.part_seeds, plan.parts, back, strict=True):
                more[node] = _share(part.joined, bool(part.whole.axes), a, window)
            found = self._in_window(plan.backward, window, states, more)
            for w, a in zip(plan.inner, found, strict=False):
                self._add(total[w], a, w, window)
            for i, whole, a in zip(d.given.values(), given, found[n:], strict=False):
                self._add(whole, a, i, window)
            held = [a.copy() for a in found[n + m :]]
        first = [self._zeros(s.before, len(self.layout)) for s in d.states]
        for whole, a in zip(first, held, strict=True):
            whole[: len(a)] = a
            if self.carry is not None:  # the minibatch before is not gone back into
                whole[self.carry.goes_on[self.layout.order]] = 0
        sources = [*d.given.values(), *(s.before for s in d.states)]
        seeds = {
            seed: self._as_batch(i, a)
            for seed, i, a in zip(plan.given_seeds, sources, [*given, *first], strict=True)
        }
        rest = self._once(plan.after, {**wholes, **seeds})
        for w in plan.wrt:
            if not self._along(w):
                total[w] = self._as_batch(w, total[w])
        for w, a in zip(plan.outer, rest, strict=True):
            total[w] += a
        return [total[w] for w in plan.wrt]

    def _along(self, node: Node) -> bool:
        return len(node.axes or ()) == 2 and node.time_axis == self.plan.axis

    def _gradient(self, node: Node) -> Array:
        own = self.layouts[node.time_axis] if len(node.axes or ()) == 2 else None
        return self._zeros(node, len(self.layout) if own is None else own.rows)

    def _add(self, whole: Array, a: Array, node: Node, window: WindowOfFrames) -> None:
        if self._along(node):
            whole[window.rows] = a
        elif node.axes:
            whole[: window.alive] += a
        else:
            whole += a

    def _zeros(self, node: Node, rows: int, empty: bool = False) -> Array:
        lead = (rows,) if node.axes else ()
        make = self.xp.empty if empty else self.xp.zeros
        return make((*lead, *(node.shape or ())), node.dtype)

    def _sorted(self, node: Node, array: Array) -> Array:
        """A value of each sequence, from the minibatch's order to the longest first."""
        if len(node.axes or ()) != 1 or self.layout.sorted_as_batch:
            return array
        return array[self.engine.from_numpy(self.layout.batch_rows)]

    def _as_batch(self, node: Node, array: Array) -> Array:
        """The other way round."""
        if len(node.axes or ()) != 1 or self.layout.sorted_as_batch:
            return array
        return array[self.engine.from_numpy(self.layout.sorted_rows)]


def _join(how: str, has_rows: bool, whole: Array, part: Array, window: WindowOfFrames) -> None:
    """Takes a window's part into what is computed from all frames."""
    if not has_rows:
        whole += part
    elif how == "sum":
        whole[: window.alive] += part
    elif how == "last":
        whole[window.go_on : window.alive] = part[window.go_on :]
    elif window.first == 0:
        whole[: window.alive] = part


def _share(how: str, has_rows: bool, adjoint: Array, window: WindowOfFrames) -> Array:
    """What of the adjoint of a whole goes to a window's part."""
    if not has_rows:
        return adjoint
    own = adjoint[: window.alive]
    if how == "sum" or how == "first" and window.first == 0:
        return own
    own = own.copy()
    own[: window.go_on if how == "last" else None] = 0
    return own
