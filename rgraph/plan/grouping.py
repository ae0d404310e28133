"""The order of a step's calls, and what of them is done together.

An engine with a compiler does all that is pointwise and of one shape between two other calls in one
pass. What is joined in a splice is computed where the splice puts it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..ops.fused import Program
from .call import Call

if TYPE_CHECKING:
    from ..engines.base import Compiled, Engine


def is_light(call: Call) -> bool:
    """Whether a call is no more than pointwise work, or moving values."""
    cheap = call.program or call.part or call.joins_along is not None
    return bool(cheap) and call.small_bytes > 0


def bring_together(calls: Sequence[Call]) -> list[Call]:
    """The calls in an order in which light ones follow one another as long as they can."""
    made = {c.result for c in calls}
    waits = [len(made.intersection(c.operands)) for c in calls]
    readers: dict[int, list[int]] = {}
    for number, call in enumerate(calls):
        for operand in made.intersection(call.operands):
            readers.setdefault(operand, []).append(number)
    ready = [(not is_light(calls[n]), n) for n, missing in enumerate(waits) if not missing]
    heapq.heapify(ready)
    ordered: list[Call] = []
    while ready:
        _, number = heapq.heappop(ready)
        ordered.append(calls[number])
        for reader in readers.get(calls[number].result, ()):
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, (not is_light(calls[reader]), reader))
    return ordered


def grouped(calls: Sequence[Call], together: bool) -> Iterator[list[Call]]:
    """The calls in the order in which they are made.

    Between two calls that are not light, programs of one shape wait for one another while nothing
    needs them, to go `together` if that is asked for. What moves values that none of the calls
    reads can wait to the end.
    """
    read = {i for c in calls for i in c.operands}
    late = [c for c in calls if is_light(c) and c.program is None and c.result not in read]
    waiting: list[list[Call]] = []
    for call in calls:
        if call in late:
            continue
        if not is_light(call):
            yield from waiting
            waiting = []
        own = None
        if together and call.program is not None:
            alike = (g for g in waiting if (g[0].axes, g[0].shape) == (call.axes, call.shape))
            own = next(alike, None)
        for group in list(waiting):
            if group is not own and any(c.result in call.operands for c in group):
                waiting.remove(group)
                yield group
        if own is not None:
            own.append(call)
        elif together and is_light(call) and call.program is not None:
            waiting.append([call])
        else:
            yield [call]
    yield from waiting
    yield from ([call] for call in late)


def as_one(
    group: Sequence[Call], results: Sequence[int], engine: Engine
) -> tuple[Compiled | None, list[int]]:
    """Programs of one shape as one with these results: what does it, and what that reads.

    None if the engine has no such.
    """
    inside = {c.result for c in group}
    operands = list(dict.fromkeys(i for c in group for i in c.operands if i not in inside))
    types = {n.dtype for c in group for n in (c.node, *c.node.inputs)}
    if engine.compiler is None or types != {np.dtype(np.float32)} or not group[0].axes:
        return None, operands
    number = {i: n for n, i in enumerate(operands)}
    steps: list[tuple[str, tuple[int, ...]]] = []
    for call in group:
        start = len(operands) + len(steps) - len(call.operands)
        for name, reads in call.program.steps:
            outer = call.operands
            own = [number[outer[i]] if i < len(outer) else start + i for i in reads]
            steps.append((name, tuple(own)))
        number[call.result] = len(operands) + len(steps) - 1
    program = Program(tuple(steps), len(operands), tuple(number[i] for i in results))
    return engine.compiler.program(program), operands


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
