"""Pointwise programs for the interpreter in C: any number of results, in one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from ...graph.node import Type
from ...graph.types import Array
from ...ops.fused import Program
from ..base import Kernel, Maker
from .library import Extension, load

if TYPE_CHECKING:
    from ...plan import Run


class Compiled:
    """A compiled program.

    Attributes:
        program: the extension's object for it.
        run: `run(*arrays)` computes the results, the last arrays, from the operands, the first. It
            returns whether it refused; then nothing has been done.
    """

    def __init__(self, library: Extension, program: Program) -> None:
        self.program = program
        self.run = partial(library.run, program)


class Programs:
    """Compiles pointwise programs.

    Args:
        library: the extension module; by default that of this processor, or `NativeError` is
            raised.
    """

    def __init__(self, library: Extension = None) -> None:
        self.library = library or load()
        self.operations = {name: i for i, name in enumerate(self.library.operations)}
        self.compiled = lru_cache(maxsize=1024)(self._compile)
        self.makers: dict[str, Maker] = {"fused": self._fused}

    def _fused(
        self, rest: Kernel, operands: Sequence[Type], /, *, program: Program
    ) -> Kernel | None:
        compiled = self.compiled(program)
        if compiled is None:
            return None
        run_ = compiled.run

        def kernel(run: Run, *arrays: Array, out: Array | None = None) -> Array:
            if out is None or run_(*arrays, out):
                return rest(run, *arrays, out=out)
            return out

        return kernel

    def _compile(self, program: Program) -> Compiled | None:
        """Compile a program for float32; None if the interpreter lacks one of its operations."""
        if not self.operations.keys() >= {*program.names}:
            return None
        lines, registers = program.allocated()
        results = len(program.results)
        arrays = program.arity + results
        if arrays > self.library.most_arrays or arrays + registers > self.library.most_values:
            return None
        code: list[int] = []
        for name, reads, target in lines:
            code += [self.operations[name], target, *(reads * 3)[:3]]
        made = self.library.program(tuple(code), program.arity, results, registers)
        return Compiled(self.library, made)
