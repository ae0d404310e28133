"""A graph becomes a flat list of calls, with a loop for each cycle.

Made once for a graph; nothing here depends on how many rows a minibatch has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..graph import (
    Axis,
    Constant,
    GraphError,
    Input,
    Layout,
    Node,
    Placeholder,
    Stored,
    components,
)
from ..graph.node import describe
from ..graph.types import Array
from .call import Call, Env
from .group import Group
from .grouping import as_one, grouped
from .lifetimes import Step, mark_dead
from .loop import Loop
from .run import Run

if TYPE_CHECKING:
    from ..engines.base import Engine

__all__ = ["Call", "Loop", "Plan", "Run"]


class Plan:
    """The calls that compute `outputs` from inputs and parameters, on an engine.

    Attributes:
        lends: whether a result may share memory with a parameter or a constant.
        alone: the numbers of the results that share memory with nothing else.
        hindrance: why runs can't be captured as one GPU graph; "" if they can.

    Raises `GraphError` for a graph that can't run: a placeholder is not bound, or a shape can't be
    inferred.
    """

    hindrance = ""

    def __init__(self, outputs: Sequence[Node], engine: Engine) -> None:
        self.engine = engine
        self.outputs = list(outputs)
        self.slots: dict[Node, int] = {}
        groups = components(outputs)
        _check([n for group in groups for n in group])
        self.inputs = [n for g in groups for n in g if isinstance(n, Input)]
        nodes = [n for g in groups for n in g]
        self.constants = [n for n in nodes if isinstance(n, Constant) and n.is_fixed]
        self.parameters = [  # what is read anew in each run
            n for n in nodes if isinstance(n, Stored) or isinstance(n, Constant) and not n.is_fixed
        ]
        self.axes = {a for g in groups for n in g for a in (n.axes or ()) if a.source is None}
        self.sequence_axes = [a for a in self.axes if a.is_sequence_axis]
        self.sizes = {  # of the batch axes of their own
            a: a.size for g in groups for n in g for a in (n.axes or ())[:1] if a.size is not None
        }
        self.steps = self._schedule(groups)
        self.results = [self._slot(n) for n in outputs]
        memory = mark_dead(self.steps, self.results)
        stay = {self._slot(n) for n in (*self.parameters, *self.constants)}
        self.alone = memory.alone(self.results)
        self.lends = any(stay & memory.may_be(i) for i in self.results)
        self._fed = [(self._slot(n), n) for n in self.inputs]
        self._read = [(self._slot(p), p) for p in self.parameters]
        self.stored = [(self._slot(c), engine.from_numpy(c.value)) for c in self.constants]

    def _slot(self, node: Node) -> int:
        return self.slots.setdefault(node, len(self.slots))

    def _schedule(self, groups: Sequence[Sequence[Node]]) -> list[Step]:
        loops = [g for g in groups if len(g) > 1 or g[0] in _fed(g[0])]
        home = {n: id(g) for g in loops for n in g}
        whole = {n for n in self.outputs if n in home}
        lasts: set[Node] = set()
        for group in groups:
            for n in group:
                outer = {i for i in n.inputs if i in home and home[i] != home.get(n)}
                (lasts if _takes_lasts(n) else whole).update(outer)
        lasts -= whole
        steps: list[Call | Loop] = []
        for group in groups:
            if group[0] in home:
                steps.append(Loop(group, whole, lasts, self.engine, self._slot))
            elif group[0].op:
                call = Call(group[0], self.engine, self._slot)
                if call.node.inputs and call.node.inputs[0] in lasts:
                    call.kernel = group[0].op.of_last_frames(group[0]) or call.kernel
                steps.append(call)
        return self._joined(steps)

    def _joined(self, steps: Sequence[Call | Loop]) -> list[Step]:
        """The steps, with pointwise calls of one form between two other calls joined into one."""
        reads = Counter([*(i for s in steps for i in s.reads), *map(self._slot, self.outputs)])
        found: list[Step] = []
        calls: list[Call] = []
        for step in steps:
            if isinstance(step, Call):
                calls.append(step)
            else:
                found += [*self._in_groups(calls, reads), step]
                calls = []
        return [*found, *self._in_groups(calls, reads)]

    def _in_groups(self, calls: Sequence[Call], reads: Counter[int]) -> Iterator[Step]:
        for group in grouped(calls, few_rows=False):
            joined = as_one(group, reads) if len(group) > 1 else None
            compute = joined and self.engine.program(joined.program, group[0].dtype)
            if joined and compute:
                yield Group(group, joined, compute)
            else:
                yield from group

    def run(
        self,
        feed: Mapping[Input, Array],
        layouts: dict[Axis, Layout],
        batch: int,
        training: bool = False,
        seed: int = 0,
        turn: int = 0,
        first_row: int = 0,
        places: Mapping[int, Array] | None = None,
        is_part: bool = False,
        ready: Callable[[int, Array], None] | None = None,
    ) -> list[Array]:
        """Compute the outputs' arrays, in packed rows.

        Args:
            feed: an array in packed rows for each input.
            layouts: the layout of each time axis of the inputs.
            batch: the number of samples.
            seed: for random operations without a seed of their own.
            turn: for random operations with a seed of their own: the number of this run.
            first_row: how many rows precede these, if this is a window of frames.
            places: arrays for some outputs, by number; results of loops are written there.
            is_part: whether this is part of a run whose end the caller signals.
            ready: called with an output's number and array as soon as that output is computed.
        """
        for axis in self.sequence_axes:
            if axis not in layouts:
                raise GraphError(
                    f"the lengths of the sequences along {axis.name} are unknown",
                    hint="feed an input that has this time axis",
                )
        run = Run(self.engine, layouts, batch, training, seed, turn, first_row)
        if places:
            run.places = {self.results[n]: array for n, array in places.items()}
        env: Env = [None] * len(self.slots)
        for slot, node in self._fed:
            env[slot] = feed[node]
        for slot, array in self.stored:
            env[slot] = array
        for slot, p in self._read:
            env[slot] = self.value_of(p)
        with np.errstate(all="ignore"):  # infinities and NaN are values; a warning names no line
            for step in self.steps:
                step(run, env)
                if ready is not None:
                    for n in self._completed[step]:
                        ready(n, env[self.results[n]])
                for i in step.dead:
                    env[i] = None
        if not is_part:
            self.engine.finish()
        return [env[i] for i in self.results]

    @cached_property
    def _completed(self) -> dict[Step, list[int]]:
        """For each step, the numbers of the outputs that it computes."""
        return {
            step: [n for n, slot in enumerate(self.results) if slot in step.made]
            for step in self.steps
        }

    def kept(self) -> list[Array]:
        """The arrays that persist between runs: parameters and constants."""
        return [*map(self.value_of, self.parameters), *(array for _, array in self.stored)]

    def value_of(self, node: Stored | Constant) -> Array:
        """The array of a parameter, running statistic or constant, in the engine's memory."""
        return self.engine.from_numpy(node.value)


def _takes_lasts(node: Node) -> bool:
    return node.op is not None and node.op.of_last_frames(node) is not None


def _fed(node: Node) -> tuple[Node, ...]:
    return node.inputs[:1] if node.is_delay else ()


def _check(nodes: Sequence[Node]) -> None:
    for node in nodes:
        if isinstance(node, Placeholder):
            raise GraphError(
                f"placeholder {describe(node)} has no value\n  made at {node.origin}",
                hint="call the function with an input, or use replace_placeholders",
            )
    for node in nodes:
        if not node.is_complete:
            raise GraphError(
                f"the shape of {node.title} can't be inferred: it "
                f"depends on itself\n  made at {node.origin}",
                hint="give the recurrence an initial_state with its shape",
            )
