"""Which instructions of a loop's step may be done beside one another."""

from __future__ import annotations

from typing import NamedTuple

from .program import Instruction, LoopProgram, Rule


class Level(NamedTuple):
    """Instructions that don't depend on one another, by their numbers.

    Attributes:
        first: those that are done one after the other.
        beside: those that may be done beside these.
    """

    first: list[int]
    beside: list[int]


def levels(program: LoopProgram) -> list[Level]:
    """The instructions of a step, those of a level after all of the level before.

    One depends on an earlier one if one of them writes where the other reads or writes. Kernels
    that give memory of their own stay in order: nobody knows when that memory is free again.
    """
    same = program.shared | program.over
    memory = [frozenset(same.get(b, b) for b in own) for own in program.memory()]
    reads: list[frozenset[int]] = []
    writes: list[frozenset[int]] = []
    level_of: list[int] = []
    for instruction in program.instructions:
        read, written = (
            frozenset[int]().union(*(memory[v] for v in values))
            for values in (instruction.operands, instruction.results)
        )
        before = [
            level_of[n]
            for n in range(len(level_of))
            if written & (reads[n] | writes[n]) or read & writes[n]
        ]
        reads.append(read)
        writes.append(written)
        level_of.append(max(before, default=-1) + 1)
    found = [Level([], []) for _ in range(max(level_of, default=-1) + 1)]
    for number, (level, instruction) in enumerate(zip(level_of, program.instructions, strict=True)):
        own = found[level]
        aside = len(own.beside) < len(own.first) and _is_free(program, instruction)
        (own.beside if aside else own.first).append(number)
    return found


def _is_free(program: LoopProgram, instruction: Instruction) -> bool:
    """Whether an instruction works on buffers alone, and in the same way whenever it is done."""
    values = (*instruction.operands, *instruction.results)
    own_memory = any(program.places[v].rule == Rule.RESULT for v in values)
    ops = [call.node.op for call in instruction.calls]
    return not own_memory and all(op is not None and not op.draws and not op.waits for op in ops)
