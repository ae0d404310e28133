"""The program of a loop: what each step does, as instructions over numbered values.

Steps differ only in where their arrays begin and how many rows they have. Both follow from rules,
so the program is made once, with the plan, and can be run by Python (`interpreter`) or by a
provider that has its own form of every instruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import EllipsisType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .call import Call
from .grouping import Joined

if TYPE_CHECKING:
    from ..engines.base import Kernel


class Rule(IntEnum):
    """Where a value is in a step: see `engines/native/loop.h`."""

    WHOLE = 0  # a whole buffer
    FIRST_ROWS = 1  # the first rows of a buffer, as many as the step has
    FRAME = 2  # the step's rows of a buffer
    BEFORE = 3  # the rows of an earlier step, `start` steps back
    AFTER = 4  # the rows of the next step
    RING = 5  # the first rows of one of `size` rotating buffers, the one of `start` steps back
    PART = 6  # `size` elements from `start` on, along an axis of another value
    RESULT = 7  # the array that the instruction returns


Part = tuple[EllipsisType | slice, ...]  # of an array


class Place(NamedTuple):
    """Where a value is.

    Attributes:
        source: the number of a buffer (the first of a ring), or for a part that of a value.
        axis: counted from the last, as a negative number.
        spare: the buffer used if not all of the step's sequences have that other step.
    """

    rule: Rule
    source: int = 0
    axis: int = 0
    start: int = 0
    size: int = 0
    spare: int = 0

    @property
    def at(self) -> Part:
        """The index of a part, for NumPy."""
        inner = (slice(None),) * (-self.axis - 1)
        return (..., slice(self.start, self.start + self.size), *inner)


class Holds(Enum):
    """What a buffer holds."""

    OUTER = "a value computed before the loop"
    FRAMES = "all frames of a value of the loop"
    LAST = "the last frame of each sequence"
    INITIAL = "the initial state of each sequence"
    STEP = "a value of one step"


class Buffer(NamedTuple):
    """An array that a loop works on.

    Attributes:
        of: the slot of the value in the plan; for an initial state, the number of the delay.
        shape: the shape of a row.
    """

    holds: Holds
    of: int
    shape: tuple[int, ...] = ()
    dtype: np.dtype | None = None

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass
class Instruction:
    """One operation on values of a step.

    Attributes:
        calls: one call, or several pointwise programs of one shape; none for a copy.
        operands: the numbers of the values that it reads.
        results: the numbers of the values that it writes.
        joined: the pointwise programs joined into one.
        together: computes that: see `engines.base.Engine.program`.
    """

    calls: tuple[Call, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    joined: Joined | None = None
    together: Callable[..., object] | None = None

    def observe(self, around: Callable[..., Kernel]) -> None:
        """Replace each kernel by `around(kernel, *nodes)`."""
        if self.together is not None:
            self.together = around(self.together, *(c.node for c in self.calls))
            return
        for call in self.calls:
            call.kernel = around(call.kernel, call.node)


class Start(NamedTuple):
    """The initial state that a delay reads where a sequence begins."""

    place: Place
    back: int
    initial: int


class End(NamedTuple):
    """A value that is copied to its row of a buffer where a sequence ends."""

    value: int
    buffer: int


@dataclass
class LoopProgram:
    """All that a loop does.

    Attributes:
        buffers: the arrays that it works on.
        places: where each value is; parts come after the values they are parts of.
        instructions: the instructions of a step, in order.
        shared: for buffers that use another buffer's memory, the number of that buffer.
    """

    buffers: list[Buffer] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    shared: dict[int, int] = field(default_factory=dict)

    def memory(self) -> list[frozenset[int]]:
        """For each value, the buffers whose memory it may use.

        An array that a kernel returns may use its operands' memory.
        """
        found: dict[int, frozenset[int]] = {}
        made = {r: i.operands for i in self.instructions for r in i.results}

        def of(value: int) -> frozenset[int]:
            if value not in found:
                found[value] = at(self.places[value], value)
            return found[value]

        def at(place: Place, value: int) -> frozenset[int]:
            if place.rule == Rule.PART:
                return of(place.source)
            if place.rule == Rule.RESULT:
                return frozenset[int]().union(*map(of, made[value]))
            if place.rule in (Rule.BEFORE, Rule.AFTER):
                return frozenset((place.source, place.spare))
            return frozenset(range(place.source, place.source + max(place.size, 1)))

        return [of(v) for v in range(len(self.places))]

    def last_reads(self, memory: list[frozenset[int]]) -> dict[int, int]:
        """For each buffer, the number of the last instruction that reads it."""
        last = {
            b: number
            for number, instruction in enumerate(self.instructions)
            for v in instruction.operands
            for b in memory[v]
        }
        return last | {b: len(self.instructions) for end in self.ends for b in memory[end.value]}

    def first_writes(self, memory: list[frozenset[int]]) -> dict[int, int]:
        """For each buffer, the number of the first instruction that writes to it."""
        first: dict[int, int] = {}
        for number, instruction in enumerate(self.instructions):
            for v in instruction.results:
                if self.places[v].rule != Rule.RESULT:
                    for b in memory[v]:
                        first.setdefault(b, number)
        return first
