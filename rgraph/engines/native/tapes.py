"""Frames of a loop without Python between them: see `plan.tape`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...ops.fused import Program
from ..base import Kernel, Product
from .products import BoundProduct
from .programs import Compiled, Programs


class Compiler:
    """What goes through the frames of a loop; see `engines.base.Compiler`.

    Args:
        programs: the compiled library.
    """

    def __init__(self, programs: Programs) -> None:
        copy = programs.compiled(Program((("element_max", (0, 0)),), 1))
        assert copy is not None
        self.copy = copy
        self.programs, self.library = programs, programs.library

    def program(self, program: Program) -> Compiled | None:
        return self.programs.compiled(program)

    def product(self, kernel: Kernel) -> Product | None:
        return kernel if isinstance(kernel, BoundProduct) else None

    def frames(
        self, places: Sequence[Any], entries: Sequence[Any], delays: Sequence[tuple[Any, int]],
        lasts: Sequence[tuple[int, int]], arrays: int,
    ) -> Callable[..., bool] | None:  # fmt: skip
        longest = max((len(e.values) for e in entries), default=0)
        if len(places) > self.library.most_values or longest > self.library.most_arrays:
            return None
        calls = tuple(
            (e.what.program if isinstance(e.what, Compiled) else e.what.product, e.values)
            for e in entries
        )
        tape = self.library.tape(
            tuple(places), calls, tuple(delays), tuple(lasts), self.copy.program, arrays
        )
        return partial(self._go, tape)

    def _go(
        self, tape: Any, arrays: Sequence[Any], panels: Sequence[Any], starts: Any, step: int
    ) -> bool:
        return not self.library.go_through(tape, tuple(arrays), tuple(panels), starts, step)
