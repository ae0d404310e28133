"""Loops that run in C, without Python between the steps: see `plan.program`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...graph import Layout
from ...graph.types import Array
from ...ops.fused import Program
from ...plan.program import Instruction, LoopProgram, Place, Rule
from .convolutions import BoundConvolution
from .products import BoundProduct
from .programs import Programs

if TYPE_CHECKING:
    from ...plan import Run


class _Line(NamedTuple):
    """An instruction in C.

    Attributes:
        what: the extension's object for it.
        prepared: `prepared(run, array, rows)` returns a constant factor in the form that the
            extension needs, or None if that is impossible. `of` is the number of its buffer.
    """

    what: object
    values: tuple[int, ...]
    prepared: Callable[..., np.ndarray | None] | None = None
    of: int = 0


class Compiler:
    """Runs loops in C; see `engines.base.Compiler`.

    Args:
        programs: the extension module and its programs.
    """

    def __init__(self, programs: Programs) -> None:
        copy = programs.compiled(Program((("element_max", (0, 0)),), 1))
        assert copy is not None
        self._copy = copy.program
        self._programs, self._library = programs, programs.library

    def loop(self, program: LoopProgram) -> Callable[..., bool] | None:
        if any(b.dtype not in (None, np.float32) for b in program.buffers):
            return None
        places = list(program.places)
        lines: list[_Line] = []
        for instruction in program.instructions:
            found = self._lines(instruction, places)
            if found is None:
                return None
            lines += found
        if any(p.rule == Rule.RESULT for p in places):
            return None
        longest = max((len(line.values) for line in lines), default=0)
        if len(places) > self._library.most_loop_values or longest > self._library.most_arrays:
            return None
        loop = self._library.loop(
            tuple(map(tuple, places)),
            tuple((line.what, line.values) for line in lines),
            tuple((tuple(place), back, initial) for place, back, initial in program.starts),
            tuple(map(tuple, program.ends)),
            self._copy,
            len(program.buffers),
        )
        return partial(self._go, loop, [line for line in lines if line.prepared is not None])

    def _lines(self, instruction: Instruction, places: list[Place]) -> list[_Line] | None:
        """An instruction in C; None if it is not supported."""
        values = (*instruction.operands, *instruction.results)
        if not instruction.calls:
            return [_Line(self._copy, values)]
        if instruction.joined is not None:
            compiled = self._programs.compiled(instruction.joined.program)
            return None if compiled is None else [_Line(compiled.program, values)]
        (call,) = instruction.calls
        if call.joins_along is not None:
            start, lines = 0, []
            for operand, node in zip(instruction.operands, call.node.inputs, strict=True):
                size = (node.shape or ())[call.joins_along]
                part = Place(Rule.PART, instruction.results[0], call.joins_along, start, size)
                places.append(part)
                lines.append(_Line(self._copy, (operand, len(places) - 1)))
                start += size
            return lines
        kernel = call.kernel
        if not isinstance(kernel, BoundProduct | BoundConvolution):
            return None
        fixed = places[instruction.operands[kernel.right]]
        if fixed.rule != Rule.WHOLE or not kernel.rows_apart:
            return None
        first, second, *more = instruction.operands
        result = instruction.results[0]
        again = (*more, result) if "program" in call.node.attrs else ()
        shape = call.node.inputs[1 - kernel.right].shape
        prepared = partial(kernel.prepared, shape=shape)
        return [_Line(kernel.form, (first, second, result, *again), prepared, fixed.source)]

    def _go(
        self, loop: object, lines: Sequence[_Line], run: Run, arrays: Sequence[Array],
        layout: Layout, step: int,
    ) -> bool:  # fmt: skip
        rows = layout.counts[0]
        prepared = tuple([line.prepared(run, arrays[line.of], rows) for line in lines])
        if any(p is None for p in prepared):
            return False
        return not self._library.go_through(loop, tuple(arrays), prepared, layout.starts, step)
