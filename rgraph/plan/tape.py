"""A loop that an engine goes through by itself.

A frame's calls differ from those of the frame before only in where their arrays are and how many
rows these have. Both follow from rules, so an engine that has a list of such values and calls needs
no Python between the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..graph import Layout
from .call import Call
from .run import Run
from .segments import as_one, joins

if TYPE_CHECKING:
    from ..engines.base import Compiler, Engine
    from .loop import Loop


_FLOAT = np.dtype(np.float32)


class Rule(IntEnum):
    """Where a value is: see `engines/native/tape.c`."""

    WHOLE, FIRST_ROWS, FRAME, BEFORE, AFTER, TURN, OTHER_TURN, PART = range(8)


class Place(NamedTuple):
    rule: Rule
    source: int  # an array's number, or of a part the value's
    axis: int = 0
    start: int = 0
    size: int = 0
    spare: int = 0


class Entry(NamedTuple):
    """A call: a program with its values, or a product with its own and the result's twice."""

    what: Any
    values: tuple[int, ...]
    right: int | None = None  # the slot of a product's right factor


class _Unfit(Exception):
    """There is something that can't be on a tape."""


def tape_of(loop: Loop, engine: Engine) -> Tape | None:
    """The tape of a loop's frames, if the engine has such and all that a frame does fits."""
    if engine.compiler is None:
        return None
    try:
        return Tape(loop, engine, engine.compiler)
    except _Unfit:
        return None


class Tape:
    """All frames of a loop, as an engine goes through them."""

    def __init__(self, loop: Loop, engine: Engine, compiler: Compiler) -> None:
        self.loop, self.engine, self.compiler = loop, engine, compiler
        self.kept = {i for i, *_ in loop.whole}
        self.calls = {c.result: c for c in loop.calls}
        self.delays = {result: source for result, source, *_ in loop.delays}
        if any(abs(d[4]) != 1 or d[1] in self.delays for d in loop.delays):
            raise _Unfit  # more than the frame before is read
        initial = {(source, first) for _, source, first, *_ in loop.delays}
        sources = [source for source, _ in initial if source not in self.kept]
        if len(set(sources)) < len(sources):
            raise _Unfit  # an initial state is written where its source is to be
        # what has an array of its own, for other frames or for what comes after the loop
        self.own = {*self.kept, *loop.ahead, *self.delays.values()}
        self.parts = self._parts()
        self.joined = {joined for joined, *_ in self.parts.values()}
        self.arrays: list[tuple[str, Any]] = []  # whence, and which
        self.places: list[Place] = []
        self._array: dict[tuple[str, Any], int] = {}
        self._value: dict[int, int] = {}
        entries = [e for p in loop.parts for u in p.units for e in self._entries(u)]
        there = set(loop.ahead.values())
        copies = [self._kept_delay(d) for d in self.delays if d in self.kept - there]
        lasts = [(self._of(i), self._from("lasts", i)) for i, *_ in loop.lasts]
        delays = [
            (self._delay(delay), self._from("initial", n)) for n, delay in enumerate(self.delays)
        ]
        self.entries = [*copies, *entries]
        self.go = compiler.frames(self.places, self.entries, delays, lasts, len(self.arrays))
        if self.go is None:
            raise _Unfit

    def _parts(self) -> dict[int, tuple[int, int, slice]]:
        """What is made where a splice puts it: the splice, its axis, and which part of that."""
        near = {j for p in self.loop.parts for j in joins(p.calls, self.own)}
        parts = {}
        for joined, operands in joins(self.loop.calls, self.own).items():
            if joined in self.loop.places and joined not in near:
                continue  # others may still read what is in that place
            axis = self.calls[joined].joins_along or 0
            parts.update({operand: (joined, axis, part) for operand, part in operands})
        return parts

    def _entries(self, unit: Sequence[Call]) -> list[Entry]:
        call = unit[0]
        if call.program is not None:
            return [self._program(unit)]
        product = self.compiler.product(call.kernel)
        if product is not None:
            operands = [self._of(i) for i in call.operands]
            result = self._of(call.result)
            again = [*operands[2:], result] if "program" in call.node.attrs else []
            right = call.operands[product.right]
            if self.places[self._of(right)].rule != Rule.WHOLE or product.left_transposed:
                raise _Unfit  # each row must be by itself
            return [Entry(product, (*operands[:2], result, *again), right)]
        if call.joins_along is not None:
            return [] if call.result in self.joined else self._copied(call)
        if call.part is not None:
            own = call.result in self.own
            return [self._copy_of(self._add(self._slice(call)), self._of(call.result))] * own
        raise _Unfit

    def _copied(self, splice: Call) -> list[Entry]:
        """What brings a splice's operands to their parts of it."""
        axis, start, entries = splice.joins_along or 0, 0, []
        for operand, node in zip(splice.operands, splice.node.inputs, strict=True):
            size = (node.shape or ())[axis]
            part = Place(Rule.PART, self._of(splice.result), axis, start, size)
            entries.append(self._copy_of(self._of(operand), self._add(part)))
            start += size
        return entries

    def _copy_of(self, value: int, place: int) -> Entry:
        return Entry(self.compiler.copy, (value, place))

    def _program(self, unit: Sequence[Call]) -> Entry:
        inside = {c.result for c in unit}
        read = {i for c in self.loop.calls if c.result not in inside for i in c.operands}
        wanted = read | self.own | {i for i, *_ in self.loop.lasts}
        results = [c.result for c in unit if c.result in wanted]
        runner, operands = as_one(unit, results, self.engine)
        if runner is None or not results:
            raise _Unfit
        return Entry(runner, tuple(self._of(i) for i in (*operands, *results)))

    def _of(self, slot: int) -> int:
        """The number of a value."""
        if slot not in self._value:
            self._value[slot] = self._add(self._place(slot))
        return self._value[slot]

    def _add(self, place: Place) -> int:
        self.places.append(place)
        return len(self.places) - 1

    def _place(self, slot: int) -> Place:
        if slot in self.delays:
            place = self._delay(slot)
            if place.rule == Rule.TURN:
                return place._replace(rule=Rule.OTHER_TURN)
            return place if place.rule == Rule.BEFORE else Place(Rule.FRAME, place.source)
        if slot in self.kept:
            return Place(Rule.FRAME, self._from("kept", slot))
        if slot in self.delays.values():
            return self._delay(next(d for d, source in self.delays.items() if source == slot))
        if slot in self.parts:
            joined, axis, part = self.parts[slot]
            return Place(Rule.PART, self._of(joined), axis, part.start, part.stop - part.start)
        call = self.calls.get(slot)
        if call is None:
            return self._outer(slot)
        if call.part is not None:
            return self._slice(call)
        return Place(Rule.FIRST_ROWS, self._new(slot))

    def _delay(self, delay: int) -> Place:
        """Where its source is to be found."""
        source = self.delays[delay]
        if source in self.kept:
            return Place(Rule.BEFORE, self._from("kept", source), spare=self._new(delay))
        ahead = self.loop.ahead.get(source)
        if ahead is not None:
            return Place(Rule.AFTER, self._from("kept", ahead), spare=self._new(source))
        first = self._new(source)
        self._new(source, "other")
        return Place(Rule.TURN, first)

    def _kept_delay(self, delay: int) -> Entry:
        """What copies a delay's frames to where all are kept."""
        place = Place(Rule.FRAME, self._from("kept", delay))
        return self._copy_of(self._of(delay), self._add(place))

    def _outer(self, slot: int) -> Place:
        if slot in self.loop.frames:
            return Place(Rule.FRAME, self._from("env", slot))
        if slot not in self.loop.constants:
            raise _Unfit
        return Place(Rule.WHOLE, self._from("env", slot))

    def _slice(self, call: Call) -> Place:
        axis, start, size = call.part
        return Place(Rule.PART, self._of(call.operands[0]), axis, start, size)

    def _new(self, slot: int, which: str = "") -> int:
        """An array with as many rows as a frame can have, for values like that one."""
        shape = self.calls[self.delays.get(slot, slot)].shape
        return self._from("new", (slot, which, shape))

    def _from(self, whence: str, what: Any) -> int:
        if (whence, what) not in self._array:
            self._array[whence, what] = len(self.arrays)
            self.arrays.append((whence, what))
        return self._array[whence, what]

    def __call__(self, run: Run, given: dict[str, Any], layout: Layout, step: int) -> bool:
        """Does the frames, if it can; whether it could.

        Args:
            given: the arrays of the run and the loop, by whence they are.
            step: 1, or -1 from the last frame to the first.
        """
        rows = layout.counts[0]
        arrays = [
            run.empty((rows, *what[-1]), _FLOAT) if whence == "new" else given[whence][what]
            for whence, what in self.arrays
        ]
        panels = [
            e.what.panels(run, given["env"][e.right]) for e in self.entries if e.right is not None
        ]
        known = all(p is not None for p in panels)
        return known and self.go(arrays, panels, layout.starts, step)
