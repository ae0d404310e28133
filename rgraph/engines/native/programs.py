"""Pointwise programs for the compiled interpreter: any number of results, one pass over memory."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from ctypes import POINTER, byref, c_int
from functools import lru_cache
from typing import Any

from .. import Kernel, Prepared
from ..numpy import pointwise as reference
from .library import OPERATIONS, load

MOST_ARRAYS, MOST_VALUES = 40, 64  # as in interpreter.c

Steps = Sequence[tuple[str, tuple[int, ...]]]  # as in `passes.fusion.Program`


class _Program(ctypes.Structure):
    _fields_ = [
        ("code", POINTER(c_int)),
        *((name, c_int) for name in ("steps", "operands", "results", "registers")),
    ]


class Compiled:
    """A program made ready.

    Attributes:
        program: the interpreter's form of it; `here` is where that is.
        arrays: how many it reads and writes.
        packed: `packed(*ids)`, the arrays as the library wants them, by their `id`.
    """

    def __init__(self, programs: Programs, program: _Program, arrays: int) -> None:
        self._programs = programs
        self.program, self.arrays = program, arrays
        self.here = byref(program)
        self.packed = struct.Struct(f"{arrays}P").pack

    def __call__(self, *arrays: Any) -> bool:
        """Does it; returns whether it could not, and nothing has been done.

        Args:
            arrays: the operands and the results.
        """
        return bool(self._programs.run(self.here, self.packed(*map(id, arrays)), False))


class Programs:
    """What the compiled interpreter does for an engine.

    Raises `NativeError` where it can't be had.
    """

    def __init__(self) -> None:
        self.library = load()
        self.run = self.library.run
        self.whole = lru_cache(maxsize=1024)(self._of_program)
        self.kernel = Prepared(self._bound)  # of `fused`

    def _bound(self, program: Any) -> Kernel:
        compiled = self.whole(program)

        def kernel(run: Any, *arrays: Any, out: Any = None) -> Any:
            if compiled is None or out is None or compiled(*arrays, out):
                return reference.evaluate(run, *arrays, program=program, out=out)
            return out

        return kernel

    def _of_program(self, program: Any) -> Compiled | None:
        return self.compiled(program.steps, program.arity, [program.arity + len(program.steps) - 1])

    def compiled(self, steps: Steps, arity: int, results: Sequence[int]) -> Compiled | None:
        """A program of float32 made ready; None if the interpreter lacks one of its operations.

        Args:
            steps: the operations; operands are numbered before the steps.
            results: the numbers of those whose values are wanted.
        """
        if any(name not in OPERATIONS for name, _ in steps):
            return None
        code, registers = _allocated(steps, arity, results)
        arrays = arity + len(results)
        if arrays > MOST_ARRAYS or arrays + registers > MOST_VALUES:
            return None
        program = _Program((c_int * len(code))(*code), len(steps), arity, len(results), registers)
        return Compiled(self, program, arrays)


def _allocated(steps: Steps, arity: int, results: Sequence[int]) -> tuple[list[int], int]:
    """The interpreter's code, and how many registers it needs besides the arrays."""
    last = {i: number for number, (_, reads) in enumerate(steps) for i in reads}
    place = {i: i for i in range(arity)} | {r: arity + n for n, r in enumerate(results)}
    first = arity + len(results)
    free: list[int] = []
    registers = 0
    code: list[int] = []
    for number, (name, reads) in enumerate(steps):
        operands = [place[i] for i in reads]
        free += {place[i] for i in reads if last[i] == number and place[i] >= first}
        if arity + number not in place:
            if not free:
                free.append(first + registers)
                registers += 1
            place[arity + number] = free.pop()
        code += [OPERATIONS[name], place[arity + number], *(operands * 3)[:3]]
    return code, registers
