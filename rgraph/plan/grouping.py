"""The order of a step's calls, and what of them is done together.

All that is pointwise and of one shape between two other calls is done in one pass. What is joined
in a splice is computed where the splice puts it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..ops.fused import Program
from .call import Call

if TYPE_CHECKING:
    from ..graph.axis import Axis
    from ..graph.node import Shape


MOST_ARRAYS = 40  # that are gone through at once
SMALL = 1 << 16  # bytes of an array, of which any number stays in the cache


def is_light(call: Call) -> bool:
    """Whether a call is no more than pointwise work, or moving values."""
    return bool(call.program or call.part or call.joins_along is not None)


def bring_together(calls: Sequence[Call]) -> list[Call]:
    """The calls in an order in which light ones follow one another as long as they can.

    What moves values that none of the calls reads is last.
    """
    made = {c.result for c in calls}
    read = {i for c in calls for i in c.operands}
    waits = [len(made.intersection(c.operands)) for c in calls]
    readers: dict[int, list[int]] = {}
    for number, call in enumerate(calls):
        for operand in made.intersection(call.operands):
            readers.setdefault(operand, []).append(number)
    late = [is_light(c) and c.program is None and c.result not in read for c in calls]
    urgency = [2 if last else int(not is_light(c)) for c, last in zip(calls, late, strict=True)]
    ready = [(urgency[n], n) for n, missing in enumerate(waits) if not missing]
    heapq.heapify(ready)
    ordered: list[Call] = []
    while ready:
        _, number = heapq.heappop(ready)
        ordered.append(calls[number])
        for reader in readers.get(calls[number].result, ()):
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, (urgency[reader], reader))
    return ordered


class Joined(NamedTuple):
    """Programs of one shape as one.

    Attributes:
        operands: the slots of what it reads.
        results: those of what is wanted of it.
    """

    program: Program
    operands: tuple[int, ...]
    results: tuple[int, ...]

    def writes_over(self, result: int, operand: int) -> bool:
        """Whether a result may be written where a value of the same form is that dies here: then
        no step reads that after the one that makes the result."""
        program = self.program
        if operand not in self.operands:
            return True
        number = self.operands.index(operand)
        made = program.results[self.results.index(result)] - program.arity
        return not any(number in reads for _, reads in program.steps[made + 1 :])

    def with_last(self, result: int) -> Joined:
        """The same, with a result that is written when all has been read."""
        steps, arity, results = self.program
        number = self.results.index(result)
        last = arity + len(steps)
        news = *results[:number], last, *results[number + 1 :]
        steps = *steps, ("stop_gradient", (results[number],))
        return self._replace(program=Program(steps, arity, news))


def grouped(calls: Sequence[Call], few_rows: bool) -> Iterator[list[Call]]:
    """The calls in the order in which they are made, those together that can be one program.

    Between two calls that are not light, programs of one form wait for one another while nothing
    needs them.

    Args:
        few_rows: whether values with rows are as small as one of their rows.
    """
    waiting: list[list[Call]] = []
    for call in calls:
        if not is_light(call):
            yield from waiting
            waiting = []
        own = next((g for g in waiting if _fits(call, g, few_rows)), None)
        for group in list(waiting):
            if group is not own and any(c.result in call.operands for c in group):
                waiting.remove(group)
                yield group
        if own is not None:
            own.append(call)
        elif call.program is not None and is_light(call):
            waiting.append([call])
        else:
            yield [call]
    yield from waiting


def _fits(call: Call, group: Sequence[Call], few_rows: bool) -> bool:
    """Whether a call may be made together with these.

    That saves a call, and for what both read or one makes for the other a way through memory. But
    a pass through many large arrays is slower than one after the other through few.
    """
    if _form(call) is None or _form(call) != _form(group[0]):
        return False
    if len({i for c in (*group, call) for i in (*c.operands, c.result)}) > MOST_ARRAYS:
        return False
    is_small = call.row_bytes <= SMALL and (few_rows or not call.axes)
    return is_small or not _arrays(call).isdisjoint(
        i for c in group for i in (*_arrays(c), c.result)
    )


def _form(call: Call) -> tuple[tuple[Axis, ...], Shape, np.dtype] | None:
    """What programs have in common that can be one; None for what is no program of one type."""
    types = {i.dtype for i in call.node.inputs}
    if call.program is None or types != {call.dtype}:
        return None
    return call.axes, call.shape, call.dtype


def _arrays(call: Call) -> set[int]:
    """The operands of its result's form: those that are not repeated."""
    operands = zip(call.operands, call.node.inputs, strict=True)
    return {i for i, n in operands if (n.axes or (), n.shape) == (call.axes, call.shape)}


def as_one(group: Sequence[Call], reads: Counter[int]) -> Joined | None:
    """Programs of one form as one; None where they can't be, or nobody reads anything of them.

    Args:
        reads: how often each value is read, by whomever.
    """
    inside = Counter(i for c in group for i in c.operands)
    results = tuple([c.result for c in group if reads[c.result] > inside[c.result]])
    if not results or _form(group[0]) is None:
        return None
    made = {c.result for c in group}
    operands = tuple([i for i in inside if i not in made])
    number = {i: n for n, i in enumerate(operands)}
    steps: list[tuple[str, tuple[int, ...]]] = []
    for call in group:
        start = len(operands) + len(steps) - len(call.operands)
        for name, own in call.program.steps:
            outer = call.operands
            read = [number[outer[i]] if i < len(outer) else start + i for i in own]
            steps.append((name, tuple(read)))
        number[call.result] = len(operands) + len(steps) - 1
    program = Program(tuple(steps), len(operands), tuple([number[i] for i in results]))
    return Joined(program, operands, results)


def joins(calls: Sequence[Call], elsewhere: Collection[int]) -> dict[int, dict[int, slice]]:
    """Splices whose operands can be made where it puts them: each with its part of the axis.

    Args:
        elsewhere: results that have their own places.
    """
    # a convolution would first copy what has gaps
    whole = {i for c in calls if not is_light(c) and len(c.shape) > 2 for i in c.operands}
    programs = {
        c.result: c for c in calls if c.program is not None and c.result not in {*whole, *elsewhere}
    }
    placed: set[int] = set()
    found: dict[int, dict[int, slice]] = {}
    for joined in calls:
        axis = joined.joins_along
        if axis is None:
            continue
        sources = [programs.get(i) for i in joined.operands]
        if len(set(joined.operands)) < len(sources) or any(
            c is None
            or c.result in placed
            or len(c.shape) != len(joined.shape)
            or c.axes != joined.axes
            for c in sources
        ):
            continue
        ends = np.cumsum([c.shape[axis] for c in sources]).tolist()
        parts = [slice(*ab) for ab in zip([0, *ends], ends, strict=False)]
        found[joined.result] = dict(zip(joined.operands, parts, strict=True))
        placed.update(joined.operands)
    return found
