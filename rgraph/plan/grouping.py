"""The order of a step's calls, and which of them are computed together.

Pointwise calls of one shape between two other calls are computed in one pass. The operands of a
splice are computed in their final place.
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


MOST_ARRAYS = 40  # in one pass
SMALL = 1 << 16  # bytes: any number of such arrays stays in the cache


def is_light(call: Call) -> bool:
    """Whether a call only does pointwise work or moves values."""
    return bool(call.program or call.part or call.joins_along is not None)


def bring_together(calls: Sequence[Call]) -> list[Call]:
    """The calls, reordered so that light ones follow one another as far as possible.

    Moves of values that no other call reads come last.
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
    """Programs of one shape, joined into one.

    Attributes:
        operands: the slots that it reads.
        results: the slots of the results that are needed.
    """

    program: Program
    operands: tuple[int, ...]
    results: tuple[int, ...]

    def writes_over(self, result: int, operand: int) -> bool:
        """Whether a result may overwrite a value of the same form that is not needed afterwards:
        no step after the one that computes the result may read it."""
        program = self.program
        if operand not in self.operands:
            return True
        number = self.operands.index(operand)
        made = program.results[self.results.index(result)] - program.arity
        return not any(number in reads for _, reads in program.steps[made + 1 :])

    def with_last(self, result: int) -> Joined:
        """The same, with one result written after all operands have been read."""
        steps, arity, results = self.program
        number = self.results.index(result)
        last = arity + len(steps)
        news = *results[:number], last, *results[number + 1 :]
        steps = *steps, ("stop_gradient", (results[number],))
        return self._replace(program=Program(steps, arity, news))


def grouped(calls: Sequence[Call], few_rows: bool) -> Iterator[list[Call]]:
    """The calls in order, in groups that can be one program.

    Between two calls that are not light, programs of one form are delayed and joined as long as
    nothing needs their results.

    Args:
        few_rows: whether to count values with rows by the size of one row.
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
    """Whether a call may join this group.

    That saves a call and, for shared operands and intermediate results, a pass through memory. But
    one pass through many large arrays is slower than several through few.
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
    """What programs must have in common to be joined; None if a call is no program of one type."""
    types = {i.dtype for i in call.node.inputs}
    if call.program is None or types != {call.dtype}:
        return None
    return call.axes, call.shape, call.dtype


def _arrays(call: Call) -> set[int]:
    """The operands of the same form as the result: those that are not broadcast."""
    operands = zip(call.operands, call.node.inputs, strict=True)
    return {i for i, n in operands if (n.axes or (), n.shape) == (call.axes, call.shape)}


def as_one(group: Sequence[Call], reads: Counter[int]) -> Joined | None:
    """Join programs of one form. None if that is impossible or no result is read.

    Args:
        reads: how often each value is read in total.
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
    """Splices whose operands can be computed in their final place, with each operand's part of the
    axis.

    Args:
        elsewhere: results that must be stored elsewhere.
    """
    # A convolution would first have to copy an operand with gaps.
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
