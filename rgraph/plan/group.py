"""Several pointwise programs as one step of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .call import Call, Env, values_of
from .grouping import Joined
from .run import Run

if TYPE_CHECKING:
    from ..engines.base import Compute, Kernel


class Group:
    """Pointwise calls of one form, computed in one pass with several results.

    Args:
        compute: computes them, given the operands' arrays followed by the results'.
    """

    def __init__(self, calls: Sequence[Call], joined: Joined, compute: Compute) -> None:
        self.calls, self.compute, self.results = list(calls), compute, joined.results
        self.nodes = tuple([c.node for c in calls])
        self.reads, self.made = {*joined.operands}, {*joined.results}
        self.values = values_of(joined.operands)
        self.dead: list[int] = []
        self.places: dict[int, int] = {}

    def __call__(self, run: Run, env: Env) -> None:
        operands, form = self.values(env), self.calls[0]
        arrays = [form.room(run, operands, True) for _ in self.results]
        self.compute(*operands, *arrays)
        for result, array in zip(self.results, arrays, strict=True):
            env[result] = array

    def observe(self, around: Callable[..., Kernel], separate: bool) -> None:
        """Replace the kernel by `around(kernel, *nodes)`."""
        self.compute = around(self.compute, *self.nodes)

    def apart(self) -> list[Call]:
        """The calls, to be run one by one."""
        self.calls[-1].dead = self.dead
        return self.calls
