"""Runs the steps of a loop in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ..graph import Axis, GraphError, Layout
from ..graph.node import failed
from ..graph.types import Array
from .call import Call, values_of
from .program import Instruction, LoopProgram, Part, Place, Rule
from .run import Run

if TYPE_CHECKING:
    from ..engines.base import Engine

Values = list[Array]
Action = Callable[[Run, Values], object]


class Interpreter:
    """Runs the steps of a loop in Python.

    Args:
        axis: the time axis.
        step: 1, or -1 to run from the last step to the first.
    """

    def __init__(self, program: LoopProgram, axis: Axis, step: int) -> None:
        self.program, self.axis, self.step = program, axis, step
        places = list(enumerate(program.places))
        by_rule = {rule: [(v, p) for v, p in places if p.rule is rule] for rule in Rule}
        self._whole = [(v, p.source) for v, p in by_rule[Rule.WHOLE]]
        self._first_rows = [(v, p.source) for v, p in by_rule[Rule.FIRST_ROWS]]
        self._frames = [(v, p.source) for v, p in by_rule[Rule.FRAME]]
        self._rings = by_rule[Rule.RING]
        self._others = [*by_rule[Rule.BEFORE], *by_rule[Rule.AFTER]]
        fixed = {v for v, p in places if p.rule in (Rule.WHOLE, Rule.FIRST_ROWS)}
        self._fixed_parts: list[tuple[int, int, Part]] = []
        self._parts: list[tuple[int, int, Part]] = []  # of values that move from step to step
        for v, p in by_rule[Rule.PART]:
            is_fixed = p.source in fixed
            fixed.update([v] * is_fixed)
            (self._fixed_parts if is_fixed else self._parts).append((v, p.source, p.at))
        self._after = [p for _, p in by_rule[Rule.AFTER]]
        self._reach = max((s.back for s in program.starts), default=0)

    @cached_property
    def _actions(self) -> list[Action]:
        return [_action(i) for i in self.program.instructions]

    def run(self, run: Run, arrays: Sequence[Array], layout: Layout) -> None:
        """Run all steps.

        Args:
            arrays: the buffers' arrays.
        """
        counts, offsets, steps = layout.counts, layout.offsets, layout.steps
        values: Values = [None] * len(self.program.places)
        for v, source in self._whole:
            values[v] = arrays[source]
        at_ends = [(end.value, arrays[end.buffer]) for end in self.program.ends]
        grows = self.step < 0 and counts[:1] != counts[-1:]
        rings: list[tuple[int, list[Array], int]] = []
        rows = -1
        for turn in range(steps):
            t = turn if self.step > 0 else steps - 1 - turn
            if counts[t] != rows:
                rows = counts[t]
                rings = self._set_fixed(values, arrays, rows)
            block = slice(offsets[t], offsets[t] + rows)
            run.step = (self.axis, block)
            for v, source in self._frames:
                values[v] = arrays[source][block]
            for v, ring, back in rings:
                values[v] = ring[(turn - back) % len(ring)]
            for v, place in self._others:
                values[v] = self._other(place, arrays, layout, t, rows)
            for v, source, index in self._parts:
                values[v] = values[source][index]
            if turn < self._reach or grows:
                self._begin(run.engine, arrays, layout, turn, t, rows)
            for action in self._actions:
                action(run, values)
            if self._after:
                self._end(arrays, layout, t, rows)
            if at_ends:
                goes_on = counts[t + 1] if t + 1 < steps else 0
                if goes_on < rows:
                    for v, last in at_ends:
                        last[goes_on:rows] = values[v][goes_on:]
        run.step = None

    def _set_fixed(
        self, values: Values, arrays: Sequence[Array], rows: int
    ) -> list[tuple[int, list[Array], int]]:
        """Set the values that are the same in all steps with this number of rows. Returns those
        that rotate through several buffers."""
        for v, source in self._first_rows:
            values[v] = arrays[source][:rows]
        for v, source, index in self._fixed_parts:
            values[v] = values[source][index]
        return [
            (v, [a[:rows] for a in arrays[p.source : p.source + p.size]], p.start)
            for v, p in self._rings
        ]

    def _rows_at(self, layout: Layout, t: int) -> int:
        return layout.counts[t] if 0 <= t < layout.steps else 0

    def _other(
        self, place: Place, arrays: Sequence[Array], layout: Layout, t: int, rows: int
    ) -> Array:
        """A value of another step, or a spare array."""
        other = t + self.step if place.rule == Rule.AFTER else t - self.step * place.start
        if self._rows_at(layout, other) < rows:
            return arrays[place.spare][:rows]
        start = layout.offsets[other]
        return arrays[place.source][start : start + rows]

    def _begin(
        self, engine: Engine, arrays: Sequence[Array], layout: Layout, turn: int, t: int, rows: int
    ) -> None:
        """Give delays their initial states where sequences begin."""
        for place, back, initial in self.program.starts:
            other = t - self.step * back
            before = self._rows_at(layout, other)
            if before >= rows:
                continue
            target, first = arrays[place.source], 0
            if place.rule == Rule.RING:
                target = arrays[place.source + (turn - back) % place.size]
            elif place.rule == Rule.FRAME:
                first = layout.offsets[t]
            else:
                target = arrays[place.spare]
                if before:
                    start = layout.offsets[other]
                    target[:before] = arrays[place.source][start : start + before]
            engine.assign(target[first + before : first + rows], arrays[initial][before:rows])

    def _end(self, arrays: Sequence[Array], layout: Layout, t: int, rows: int) -> None:
        """Copy values for the next step from spare arrays."""
        after = self._rows_at(layout, t + self.step)
        if after < rows and after:
            start = layout.offsets[t + self.step]
            for place in self._after:
                arrays[place.source][start : start + after] = arrays[place.spare][:after]


def _action(instruction: Instruction) -> Action:
    calls, together = instruction.calls, instruction.together
    if not calls:
        return _copy(*instruction.operands, *instruction.results)
    if together is not None:
        arrays = values_of((*instruction.operands, *instruction.results))
        return lambda run, values: together(*arrays(values))
    return _kernel(calls[0], instruction.operands, instruction.results[0])


def _copy(source: int, target: int) -> Action:
    def copy(run: Run, values: Values) -> None:
        run.engine.assign(values[target], values[source])

    return copy


def _kernel(call: Call, operands: Sequence[int], result: int) -> Action:
    kernel, read, node = call.kernel, values_of(operands), call.node

    def into(run: Run, values: Values) -> None:
        try:
            kernel(run, *read(values), out=values[result])
        except GraphError as error:
            raise failed(node, error) from None

    def gives(run: Run, values: Values) -> None:
        try:
            values[result] = kernel(run, *read(values))
        except GraphError as error:
            raise failed(node, error) from None

    return into if call.takes_out else gives
