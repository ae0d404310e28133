"""A cycle of the graph, run step by step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..graph import Axis, GraphError, Node
from ..graph.inference import check_loop
from ..ops.delays import delayed_block, initial_rows
from .call import Call, Env
from .run import Run
from .segments import Segment, Step, Uses, bring_together, is_light, units
from .tape import Tape, tape_of

if TYPE_CHECKING:
    from ..engines.base import Engine


class Loop:
    """The steps of a cycle: what it reads from outside, what it keeps, what it computes.

    It keeps all frames of what others read (`whole`), of what they read the last frames of those
    (`lasts`), and of all else what its delays reach.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        whole: set[Node],
        lasts: set[Node],
        engine: Engine,
        slot: Callable[[Node], int],
    ) -> None:
        self.nodes = nodes
        delays = [n for n in nodes if n.is_delay]
        self.axis, self.forward = _direction(nodes, delays)
        self.calls = bring_together([Call(n, engine, slot) for n in nodes if not n.is_delay])
        self.delays = [
            (
                slot(d),
                slot(d.inputs[0]),
                slot(d.inputs[1]),
                len(d.inputs[1].axes or ()),
                d.attrs["offset"],
                d.shape or (),
            )
            for d in delays
        ]
        inside = set(nodes)
        read = {i: None for n in nodes for i in (n.inputs[1:] if n.is_delay else n.inputs)}
        outer = [i for i in read if i not in inside]
        self.frames = [slot(i) for i in outer if len(i.axes or ()) == 2]
        self.whole = [(slot(n), n.shape or (), n.dtype) for n in nodes if n in whole]
        self.lasts = [(slot(n), n.shape or (), n.dtype) for n in nodes if n in lasts]
        reach: dict[int, int] = {}
        for _, source, *_, offset, _ in self.delays:
            reach[source] = max(reach.get(source, 0), abs(offset))
        self.reach = reach
        self.types = {slot(i): (i.shape or (), i.dtype) for i in outer}
        self.constants = {slot(i) for i in outer if not i.axes}
        kept = {i for i, *_ in self.whole}
        self.ahead = self._ahead(kept)
        uses = Uses(kept, self.ahead.keys(), {*reach, *(i for i, *_ in self.lasts)})
        self.parts = _parts(self.calls, uses, engine)
        self.result = {slot(n) for n in nodes}
        self.reads = {slot(i) for i in outer} | {slot(d.inputs[1]) for d in delays}
        self.dead: list[int] = []
        self.places: dict[int, int] = {}
        self.engine = engine

    @cached_property
    def tape(self) -> Tape | None:
        return tape_of(self, self.engine)

    def _ahead(self, kept: Collection[int]) -> dict[int, int]:
        """Results that are written where the next step has them as a delay's, which is kept."""
        made = {c.result for c in self.calls if c.into} - set(kept)
        return {
            source: result
            for result, source, _, _, offset, _ in self.delays
            if abs(offset) == 1 and result in kept and source in made
        }

    def take_places(self, lone: Sequence[int]) -> None:
        """Finds results that can be written where a value of the same form is that dies here.

        A step reads its own frames of such a value only, so it is enough that no call after the
        one that makes the result reads them.

        Args:
            lone: of the values that the steps read frames of, those in whose memory no other lies.
        """
        initial = {first for _, _, first, *_ in self.delays}
        free = [i for i in lone if i in self.dead and i not in initial]
        made: dict[int, tuple[int, Call]] = {}
        last: dict[int, int] = {}
        for number, unit in enumerate(u for part in self.parts for u in part.units):
            for call in unit:
                made[call.result] = number, call
                last.update(dict.fromkeys(call.operands, number))
        for result, *form in self.whole:
            number, call = made.get(result, (-1, None))
            for i in free:
                if call is None or last[i] > number or self.types[i] != tuple(form):
                    continue
                at = call.operands.index(i) if i in call.operands else None
                if call.writes_over(at):
                    self.places[result] = i
                    free.remove(i)
                    break

    def _room(self, run: Run, env: Env, rows: int) -> dict[int, Any]:
        """Arrays for what is kept of all frames."""
        room = {}
        for i, shape, dtype in self.whole:
            place = self.places.get(i)
            # A view: what kernels remember of the array that was there is not this one's.
            room[i] = run.empty((rows, *shape), dtype) if place is None else env[place][...]
        return room

    def __call__(self, run: Run, env: Env) -> None:
        layout = run.layouts[self.axis]
        going = _Going(self, run, env, self._room(run, env, layout.rows))
        if not going.by_tape():
            for t in range(layout.steps)[:: going.step]:
                going.frame(t)
        going.end()


class _Going:
    """A loop as it runs.

    Args:
        kept: arrays for what is kept of all frames.
    """

    def __init__(self, loop: Loop, run: Run, env: Env, kept: dict[int, Any]) -> None:
        self.loop, self.run, self.env, self.kept = loop, run, env, kept
        self.layout = layout = run.layouts[loop.axis]
        self.step = 1 if loop.forward else -1
        self.lasts = {i: run.empty((len(layout), *shape), dtype) for i, shape, dtype in loop.lasts}
        self.initial = [
            initial_rows(run, env[first], own, layout, shape)
            for _, _, first, own, _, shape in loop.delays
        ]
        self.frames = {i: env[i] for i in loop.frames}
        self.history: dict[int, deque[Any]] = {i: deque(maxlen=n) for i, n in loop.reach.items()}
        self.there: set[int] = set()  # delays whose values are in their places already

    def by_tape(self) -> bool:
        """Computes all frames without Python between them, if that can be; whether it could."""
        if self.loop.tape is None or not self.layout.steps:
            return False
        arrays = {
            "env": self.env, "kept": self.kept, "lasts": self.lasts, "initial": self.initial
        }  # fmt: skip
        return self.loop.tape(self.run, arrays, self.layout, self.step)

    def frame(self, t: int) -> None:
        loop, run, env, kept, history = self.loop, self.run, self.env, self.kept, self.history
        starts, counts = self.layout.offsets, self.layout.counts
        block, rows = slice(starts[t], starts[t + 1]), counts[t]
        run.step = (loop.axis, block)
        for i, value in self.frames.items():
            env[i] = value[block]
        for (result, source, _, _, offset, _), first in zip(loop.delays, self.initial, strict=True):
            earlier = partial(_earlier, history[source], t)
            env[result] = delayed_block(run, earlier, first, counts, t, offset)
        for result, *_ in loop.delays:
            if result in kept and result not in self.there:
                kept[result][block] = env[result]
        outs = {i: value[block] for i, value in kept.items()}
        self.there = set()
        after = t + self.step
        if self._alike(t, after):
            block = slice(starts[after], starts[after + 1])
            outs |= {i: kept[delay][block] for i, delay in loop.ahead.items()}
            self.there = set(loop.ahead.values())
        for part in loop.parts:
            part.on_rows(run, env, rows, outs)
        for i, past in history.items():
            past.append(env[i])
        goes_on = counts[t + 1] if t + 1 < len(counts) else 0
        for i, last in self.lasts.items():
            if goes_on < rows:
                last[goes_on:rows] = env[i][goes_on:]

    def _alike(self, t: int, other: int) -> bool:
        """Whether there is that other frame, with as many sequences."""
        counts = self.layout.counts
        return 0 <= other < len(counts) and counts[other] == counts[t]

    def end(self) -> None:
        self.run.step = None
        for i in self.loop.result:
            self.env[i] = self.kept.get(i, self.lasts.get(i))
        for i, value in self.frames.items():
            self.env[i] = value


class _Part:
    """Calls of a step that follow one another; light ones are done in one go."""

    def __init__(self, calls: Sequence[Call], uses: Uses, engine: Engine) -> None:
        self.light = is_light(calls[0])
        self.together = self.light and engine.compiler is not None
        self.units = list(units(calls, engine)) if self.light else [[c] for c in calls]
        self.calls = [c for unit in self.units for c in unit]
        self.row_bytes = max(c.row_bytes for c in calls)
        # Programs that go together are worth it at any size.
        self.small_bytes = math.inf if self.together else calls[0].small_bytes
        self._make = partial(Segment, calls, uses, engine)

    @cached_property
    def in_one_go(self) -> Step:
        return self._make()

    def on_rows(self, run: Run, env: Env, rows: int, outs: dict[int, Any]) -> None:
        """Args: `outs`: where results are to be written."""
        if self.light and self.row_bytes * rows <= self.small_bytes:
            self.in_one_go(run, env, outs, rows)
            return
        for call in self.calls:
            call.on_rows(run, env, rows, outs.get(call.result))


def _parts(calls: Sequence[Call], uses: Uses, engine: Engine) -> list[_Part]:
    """Args: `uses`: of what is read, that which is read after the step."""
    runs = groupby(enumerate(calls), lambda c: -1 if is_light(c[1]) else c[0])
    groups = [[call for _, call in run] for _, run in runs]
    users: dict[int, set[int]] = {}
    for number, group in enumerate(groups):
        for i in (i for c in group for i in c.operands):
            users.setdefault(i, set()).add(number)
    return [
        _Part(g, uses._replace(read={i for i in users if users[i] - {n}}.union(uses.read)), engine)
        for n, g in enumerate(groups)
    ]


def _earlier(history: Sequence[Any], t: int, step: int) -> Any:
    """A value as it was at another step of a loop that is at step t."""
    return history[-abs(t - step)]


def _direction(nodes: Sequence[Node], delays: Sequence[Node]) -> tuple[Axis, bool]:
    """The time axis of a loop and whether it runs forward.

    Raises `GraphError` if its delays look both ways, or if something in it needs all frames.
    """
    offsets = [d.attrs["offset"] for d in delays]
    if min(offsets) < 0 < max(offsets):
        lines = [f"  {d.title} at {d.origin}" for d in delays]
        raise GraphError(
            "a cycle looks both into the past and into the future, so no step can be first:\n"
            + "\n".join(lines),
            hint="use two recurrences, one per direction, and splice their outputs",
        )
    check_loop(nodes)
    return delays[0].time_axis, offsets[0] > 0
