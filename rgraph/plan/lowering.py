"""Lowers a cycle of the graph to the program of a loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .call import Call
from .grouping import as_one, grouped, joins
from .program import Buffer, End, Holds, Instruction, LoopProgram, Place, Rule, Start

if TYPE_CHECKING:
    from ..engines.base import Engine

Form = tuple[tuple[int, ...], np.dtype]  # the shape and type of a row


class Delay(NamedTuple):
    """A delay in a loop.

    Attributes:
        result, source, initial: the slots of its value, of the delayed value, and of the initial
            state.
        back: the number of steps.
        axes: the number of dynamic axes of the initial state.
    """

    result: int
    source: int
    initial: int
    back: int
    axes: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Lowering:
    """Builds the program of a loop.

    Args:
        calls: the calls of a step, in order.
        frames: the slots of outside values that are read frame by frame.
        whole, lasts: the forms of the values of which all frames, or the last frame of each
            sequence, are kept; by slot.
        separate: whether each operation must be called by itself, for an observer.
    """

    def __init__(
        self, calls: Sequence[Call], delays: Sequence[Delay], frames: Sequence[int],
        whole: dict[int, Form], lasts: dict[int, Form], engine: Engine, separate: bool = False,
    ) -> None:  # fmt: skip
        self._order, self._delays, self._engine, self._separate = calls, delays, engine, separate
        self._frames, self._whole = set(frames), whole
        self._calls = {c.result: c for c in calls}
        self._delay_of = {d.result: d for d in delays}
        self._own = {*whole, *lasts, *(d.source for d in delays)}  # read outside of this step
        self._reads = Counter([*self._own, *(i for c in calls for i in c.operands)])
        self._buffer_of: dict[tuple[object, ...], int] = {}
        self._value_of: dict[int, int] = {}
        self.program = LoopProgram()
        self._early = self._delays_written_early()
        self._rings = self._make_rings()
        self._joined = {} if separate else joins(calls, self._own)
        self._parts = {
            operand: (joined, part)
            for joined, parts in self._joined.items()
            for operand, part in parts.items()
        }
        self._instructions()
        for number, d in enumerate(delays):
            initial = self._buffer(Holds.INITIAL, number, d.shape, d.dtype)
            self.program.starts.append(Start(self._place_of_delay(d), d.back, initial))
        for slot, form in lasts.items():
            end = End(self._value(slot), self._buffer(Holds.LAST, slot, *form))
            self.program.ends.append(end)
        self._share_memory()

    # Delays

    def _delays_written_early(self) -> dict[int, Delay]:
        """Results that are written directly to where the next step reads them as a delay."""
        return {
            d.source: d
            for d in self._delays
            if d.back == 1 and d.result in self._whole and d.source not in self._whole
            and d.source in self._calls and self._calls[d.source].takes_out
        }  # fmt: skip

    def _make_rings(self) -> dict[tuple[int, int], Place]:
        """Rotating buffers for values that delays read from earlier steps, by the slots of the
        source and of the initial state."""
        back: dict[tuple[int, int], int] = {}
        forms: dict[tuple[int, int], Form] = {}
        for d in self._delays:
            if d.source not in self._whole and self._early.get(d.source) is not d:
                key = d.source, d.initial
                back[key] = max(back.get(key, 0), d.back)
                forms[key] = d.shape, d.dtype
        rings = {}
        for key, most in back.items():
            first, *_ = [
                self._buffer(Holds.STEP, key[0], *forms[key], key[1], n) for n in range(most + 1)
            ]
            rings[key] = Place(Rule.RING, first, size=most + 1)
        return rings

    def _place_of_delay(self, d: Delay) -> Place:
        if d.source in self._whole:
            frames = self._all_frames(d.source)
            spare = self._buffer(Holds.STEP, d.result, d.shape, d.dtype)
            return Place(Rule.BEFORE, frames, start=d.back, spare=spare)
        if self._early.get(d.source) is d:
            return Place(Rule.FRAME, self._all_frames(d.result))
        return self._rings[d.source, d.initial]._replace(start=d.back)

    # Buffers and places

    def _buffer(
        self,
        holds: Holds,
        of: int,
        shape: tuple[int, ...] = (),
        dtype: np.dtype | None = None,
        *more: int,
    ) -> int:
        """The number of a buffer; `more` distinguishes several buffers of one value."""
        key = holds, of, shape, dtype, more
        if key not in self._buffer_of:
            self._buffer_of[key] = len(self.program.buffers)
            self.program.buffers.append(Buffer(holds, of, shape, dtype))
        return self._buffer_of[key]

    def _all_frames(self, slot: int) -> int:
        return self._buffer(Holds.FRAMES, slot, *self._whole[slot])

    def _add(self, place: Place) -> int:
        self.program.places.append(place)
        return len(self.program.places) - 1

    def _value(self, slot: int) -> int:
        """The number of a value."""
        if slot not in self._value_of:
            place = self._place(slot)
            self._value_of[slot] = self._add(place)
        return self._value_of[slot]

    def _place(self, slot: int) -> Place:
        if slot in self._delay_of:
            return self._place_of_delay(self._delay_of[slot])
        call = self._calls.get(slot)
        if call is None:
            rule = Rule.FRAME if slot in self._frames else Rule.WHOLE
            return Place(rule, self._buffer(Holds.OUTER, slot))
        if call.part is not None and not self._separate:
            source = self._value(call.operands[0])
            if self.program.places[source].rule != Rule.RESULT:
                return Place(Rule.PART, source, *call.part)
        if not call.takes_out:
            return Place(Rule.RESULT)
        own = self._own_place(slot)
        if own is not None:
            return own
        if slot in self._parts:
            joined, part = self._parts[slot]
            axis = self._calls[joined].joins_along or 0
            return Place(Rule.PART, self._value(joined), axis, part.start, part.stop - part.start)
        return Place(Rule.FIRST_ROWS, self._buffer(Holds.STEP, slot, call.shape, call.dtype))

    def _own_place(self, slot: int) -> Place | None:
        """Where a result must be for other steps, or for operations after the loop."""
        if slot in self._whole:
            return Place(Rule.FRAME, self._all_frames(slot))
        if slot in self._early:
            d = self._early[slot]
            spare = self._buffer(Holds.STEP, slot, d.shape, d.dtype)
            return Place(Rule.AFTER, self._all_frames(d.result), spare=spare)
        return next((ring for (source, _), ring in self._rings.items() if source == slot), None)

    # Instructions

    def _instructions(self) -> None:
        for slot in sorted(self._whole.keys() & self._delay_of.keys()):
            self._copy_to(slot, self._own_place(slot))
        groups = ([c] for c in self._order) if self._separate else grouped(self._order, True)
        for group in groups:
            if self._separate or not self._compute_together(group):
                for call in group:
                    self._compute(call)
        for (source, _), ring in self._rings.items():
            if source not in self._whole:
                self._copy_to(source, ring)

    def _copy_to(self, slot: int, place: Place | None) -> None:
        value = self._value(slot)
        if place is not None and place != self.program.places[value]:
            self.program.instructions.append(Instruction((), (value,), (self._add(place),)))

    def _compute_together(self, group: Sequence[Call]) -> bool:
        """Join programs into one with several results. Returns whether that is possible."""
        joined = as_one(group, self._reads)
        together = joined and self._engine.program(joined.program, group[0].dtype)
        if joined is None or together is None:
            return False
        reads, writes = (tuple(map(self._value, s)) for s in (joined.operands, joined.results))
        self.program.instructions.append(Instruction(tuple(group), reads, writes, joined, together))
        return True

    def _compute(self, call: Call) -> None:
        value = self._value(call.result)
        is_part = self.program.places[value].rule == Rule.PART and call.part is not None
        if not is_part and call.result not in self._joined:
            reads = tuple(map(self._value, call.operands))
            self.program.instructions.append(Instruction((call,), reads, (value,)))
        if call.result in self._whole:
            self._copy_to(call.result, self._own_place(call.result))

    # Lifetimes

    def _share_memory(self) -> None:
        """Put values of the same form whose lifetimes don't overlap into one buffer."""
        program = self.program
        memory = program.memory()
        first, last = program.first_writes(memory), program.last_reads(memory)
        fixed = {  # not rewritten in each step, or read by another step
            b
            for place, buffers in zip(program.places, memory, strict=True)
            if place.rule not in (Rule.FIRST_ROWS, Rule.PART, Rule.RESULT)
            for b in buffers
        }
        needed: dict[int, int] = {}  # until which instruction
        for b in sorted(first.keys() - fixed, key=lambda b: first[b]):
            alike = (
                other
                for other, until in needed.items()
                if until < first[b] and program.buffers[other][2:] == program.buffers[b][2:]
            )
            whose = next(alike, b)
            needed[whose] = max(last.get(b, 0), first[b])
            if whose != b:
                program.shared[b] = whose
