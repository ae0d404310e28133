"""One run of a graph in windows of frames, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Input, Layout, Node
from ..graph.types import Array
from ..plan import Plan
from .carrying import Carry, Held
from .windows import WindowOfFrames

if TYPE_CHECKING:
    from .windowed import WindowedPlan


class WindowedRun:
    """One run of a `WindowedPlan`. Values of sequences are sorted by length, longest first."""

    def __init__(
        self,
        plan: WindowedPlan,
        windows: Sequence[WindowOfFrames],
        feed: Mapping[Input, Array],
        layouts: dict[Axis, Layout],
        batch: int,
        how: tuple[bool, int, int],
        carry: Carry | None = None,
        in_order: bool = False,
    ) -> None:
        self.plan, self.feed, self.layouts = plan, dict(feed), layouts
        self.batch, self.how, self.windows = batch, how, windows
        self.engine = plan.engine
        self.layout = layouts[plan.axis]
        self.carry = carry
        # Where frames go if they are wanted in the minibatch's order, one sequence after the other
        self.places = self.layout.places_in_order if in_order else None
        # Of each sequence the frames that it had before this run, the longest first
        self.passed = np.zeros(len(self.layout), np.intp)

    def results(self) -> list[Array]:
        plan = self.plan
        borders, parts, framed = self._go_forward(self._starts())
        wholes = {
            p.whole: self._as_batch(p.whole, a) for p, a in zip(plan.parts, parts, strict=True)
        }
        rest = self._once(plan.outside, wholes)
        count = len(plan.along) - len(framed)
        values, adjoints = iter(rest[:count]), rest[count:]
        frames = iter(framed)
        results = [next(frames if along else values) for along in plan.along]
        gradients = self._go_back(borders, wholes, adjoints) if plan.backward else []
        self.engine.finish()
        first = len(plan.request[0])
        return [*results[:first], *gradients, *results[first:]]

    def _starts(self) -> list[Array]:
        """The state of the delays before the first window. Sets `given`."""
        plan, d = self.plan, self.plan.division
        found = self._once(plan.before, {})
        given = [self._sorted(n, a) for n, a in zip(d.given, found, strict=False)]
        starts = zip(plan.starts, found[len(given) :], strict=True)
        self.given = dict(zip(d.given.values(), given, strict=True))
        held = [self._sorted(n, a) for n, a in starts]
        if self.carry is not None:
            self._take_up(self.carry, held)
        return held

    def _take_up(self, carry: Carry, starts: Sequence[Array]) -> None:
        """Replace the initial states of sequences that continue others."""
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
        """Keep the state of the delays at the ends of sequences."""
        place = self.layout.order.argsort()
        states = [a[self.engine.from_numpy(place)] for a in ends]
        carry.after = Held(states, (self.passed + self.layout.lengths)[place])

    def _once(self, plan: Plan, more: Mapping[Input, Array]) -> list[Array]:
        """Values that are computed outside of windows."""
        if not plan.outputs:
            return []
        feed = {**self.feed, **more}
        given = {n: feed[n] for n in plan.inputs}
        # Results may be memory that the next run writes again.
        found = plan.run(given, dict(self.layouts), self.batch, *self.how, is_part=True)
        return list(map(self._copy, found))

    def _in_window(
        self,
        plan: Plan,
        window: WindowOfFrames,
        held: Sequence[Array],
        more: Mapping[Input, Array],
        places: Mapping[int, Array] | None = None,
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
        more_of_it = {"first_row": window.rows.start, "places": places, "is_part": True}
        return plan.run(given, layouts, window.alive, *self.how, **more_of_it)

    def _count(self, window: WindowOfFrames, ahead: bool) -> Array:
        """How many frames of its sequence precede each frame of a window, or follow it."""
        step = self.layout.step_of_row[window.rows]
        if ahead and self.carry is not None:
            raise GraphError("sequence.is_last is not known of sequences that go on")
        if ahead:
            count = self.layout.length_of_row[window.rows] - 1 - step
        else:
            count = step + self.passed[self.layout.sequence_of_row[window.rows]]
        return self.engine.from_numpy(count.astype(np.float32))

    def _go_forward(self, held: list[Array]) -> tuple[list[list[Array]], list[Array], list[Array]]:
        """Run all windows forward. Returns the states at their borders, the values accumulated over
        all frames, and the values of frames.

        Args:
            held: the state of the delays before the first window.
        """
        plan, states = self.plan, len(held)
        count = states + len(plan.parts)
        framed = [self._empty(n, self.layout.rows) for n in plan.forward.outputs[count:]]
        parts = [self._zeros(p.whole, len(self.layout)) for p in plan.parts]
        borders: list[list[Array]] = []
        ends = [self._copy(a) for a in held] if self.carry is not None else []
        for window in self.windows:
            held = [a[: window.alive] for a in held]
            if plan.backward:
                borders.append(held)
            is_last = window is self.windows[-1] and self.carry is None
            if is_last and not plan.parts and not framed:
                break
            own: dict[int, Array] = {}
            if self.places is None:
                own = {count + n: whole[window.rows] for n, whole in enumerate(framed)}
            found = self._in_window(plan.forward, window, held, {}, own)
            if self.carry is not None:
                for end, a in zip(ends, found, strict=False):
                    end[window.go_on : window.alive] = a[window.go_on :]
            held = [self._kept(n, found[n][: window.go_on]) for n in range(states)]
            for part, whole, a in zip(plan.parts, parts, found[states:], strict=False):
                _join(part.joined, bool(part.whole.axes), whole, a, window)
            for n, whole in enumerate(framed, count):
                if self.places is not None:
                    whole[self.places[window.rows]] = found[n]
                elif found[n] is not own[n]:
                    own[n][...] = found[n]
            del found  # its memory is the next window's
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
            held = [self._copy(a) for a in found[n + m :]]
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

    def _empty(self, node: Node, rows: int) -> Array:
        lead = (rows,) if node.axes else ()
        return self.engine.empty((*lead, *(node.shape or ())), node.dtype)

    def _zeros(self, node: Node, rows: int) -> Array:
        zeros = self._empty(node, rows)
        zeros[...] = 0
        return zeros

    def _copy(self, array: Array) -> Array:
        """A copy in the memory order that kernels need."""
        copy = self.engine.empty(array.shape, array.dtype)
        self.engine.assign(copy, array)
        return copy

    def _kept(self, number: int, array: Array) -> Array:
        """A result of the forward plan, copied if the next window may overwrite it."""
        is_own = number in self.plan.forward.alone and not self.engine.is_gpu
        return array if is_own else self._copy(array)

    def _sorted(self, node: Node, array: Array) -> Array:
        """A value of each sequence, reordered from the minibatch's order to longest first."""
        if len(node.axes or ()) != 1 or self.layout.sorted_as_batch:
            return array
        return array[self.engine.from_numpy(self.layout.batch_rows)]

    def _as_batch(self, node: Node, array: Array) -> Array:
        """The reverse of `_sorted`."""
        if len(node.axes or ()) != 1 or self.layout.sorted_as_batch:
            return array
        return array[self.engine.from_numpy(self.layout.sorted_rows)]


def _join(how: str, has_rows: bool, whole: Array, part: Array, window: WindowOfFrames) -> None:
    """Add a window's part to a value accumulated over all frames."""
    if not has_rows:
        whole += part
    elif how == "sum":
        whole[: window.alive] += part
    elif how == "last":
        whole[window.go_on : window.alive] = part[window.go_on :]
    elif window.first == 0:
        whole[: window.alive] = part


def _share(how: str, has_rows: bool, adjoint: Array, window: WindowOfFrames) -> Array:
    """A window's share of the adjoint of a value accumulated over all frames."""
    if not has_rows:
        return adjoint
    own = adjoint[: window.alive]
    if how == "sum" or how == "first" and window.first == 0:
        return own
    own = own.copy()
    own[: window.go_on if how == "last" else None] = 0
    return own
