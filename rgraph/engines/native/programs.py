"""Pointwise programs for the interpreter in C: any number of results, one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from ...graph.node import Type
from ..base import Kernel, Maker, Steps
from .library import load


class Compiled:
    """A program made ready.

    Attributes:
        program: the interpreter's form of it.
        run: `run(*arrays)`, the operands and the results, does it; returns whether it could not:
            nothing has been done then.
    """

    def __init__(self, library: Any, program: Any) -> None:
        self.program = program
        self.run = partial(library.run, program)

    def __call__(self, *arrays: Any) -> bool:
        return self.run(*arrays)


class Programs:
    """What the interpreter in C does for an engine.

    Args:
        library: the extension module; that of this processor, or `NativeError` is raised.
    """

    def __init__(self, library: Any = None) -> None:
        self.library = library or load()
        self.operations = {name: i for i, name in enumerate(self.library.operations)}
        self.whole = lru_cache(maxsize=1024)(self._of_program)
        self.makers: dict[str, Maker] = {"fused": self._fused}

    def _fused(self, rest: Kernel, operands: Sequence[Type], /, *, program: Any) -> Kernel | None:
        compiled = self.whole(program)
        if compiled is None:
            return None
        run_ = compiled.run

        def kernel(run: Any, *arrays: Any, out: Any = None) -> Any:
            if out is None or run_(*arrays, out):
                return rest(run, *arrays, out=out)
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
        if any(name not in self.operations for name, _ in steps):
            return None
        code, registers = self._allocated(steps, arity, results)
        arrays = arity + len(results)
        if arrays > self.library.most_arrays or arrays + registers > self.library.most_values:
            return None
        program = self.library.program(tuple(code), arity, len(results), registers)
        return Compiled(self.library, program)

    def _allocated(self, steps: Steps, arity: int, results: Sequence[int]) -> tuple[list[int], int]:
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
            code += [self.operations[name], place[arity + number], *(operands * 3)[:3]]
        return code, registers
