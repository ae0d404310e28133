"""Frames of a loop without Python between them: see `plan.tape`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .programs import Compiled, Programs


class Tapes:
    """What goes through tapes.

    Args:
        programs: the compiled library.
    """

    def __init__(self, programs: Programs) -> None:
        copy = programs.compiled([("element_max", (0, 0))], 1, [1])
        assert copy is not None
        self.copy = copy
        self.library = programs.library

    def tape(
        self, places: Sequence[Any], entries: Sequence[Any], delays: Sequence[tuple[Any, int]],
        lasts: Sequence[tuple[int, int]], arrays: int,
    ) -> Callable[..., bool] | None:  # fmt: skip
        """`go(arrays, panels, starts, step)`, which says whether it could.

        Args:
            places: `plan.tape.Place` of each value.
            entries: `plan.tape.Entry` of each call.
            delays: the place of each delay, and the number of the array of its initial states.
            lasts: values whose last rows are kept, and the numbers of their arrays.
            arrays: how many there are.
        """
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
