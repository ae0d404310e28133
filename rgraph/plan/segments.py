"""What is light in a step of a loop, done in one go.

On a few thousand elements a NumPy function takes a microsecond or two, and so does all that stands
around it when calls are made one by one. An engine that has programs with several results does all
that is pointwise between two other calls in one pass.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..ops.fused import Program
from .call import Call, values_of

if TYPE_CHECKING:
    from ..engines.base import Compiled, Engine


class Uses(NamedTuple):
    """What becomes of the results of a step's calls.

    Attributes:
        kept: those of all frames are; each has a place to be written to.
        ahead: they may have a place too, where the next step reads them.
        read: others read them.
    """

    kept: Collection[int]
    ahead: Collection[int]
    read: Collection[int]


Step = Callable[[Any, list[Any], dict[int, Any], int], None]


def is_light(call: Call) -> bool:
    """Whether a call may be part of a segment."""
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

    Programs of one shape wait for one another while nothing needs them, to go `together` if that
    is asked for. What none of the calls reads can wait to the end.
    """
    read = {i for c in calls for i in c.operands}
    late = [c for c in calls if c.program is None and c.result not in read]
    waiting: list[list[Call]] = []
    for call in calls:
        if call in late:
            continue
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
        elif call.program is not None:
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


def units(calls: Sequence[Call], engine: Engine) -> Iterator[Sequence[Call]]:
    """The calls as they are made: those that are one program together, all others one by one."""
    for group in grouped(calls, engine.compiler is not None):
        together = group[0].program is not None and as_one(group, [c.result for c in group], engine)
        yield from [group] if together and together[0] else [[call] for call in group]


def joins(calls: Sequence[Call], elsewhere: Collection[int]) -> dict[int, list[tuple[int, slice]]]:
    """Splices whose operands can be made where it puts them: each with its part of the axis.

    Args:
        elsewhere: results that have their own places.
    """
    programs = {c.result: c for c in calls if c.program is not None}
    placed: set[int] = set()
    found: dict[int, list[tuple[int, slice]]] = {}
    for joined in calls:
        axis = joined.joins_along
        if axis is None:
            continue
        sources = [programs.get(i) for i in joined.operands]
        if len(set(joined.operands)) < len(sources) or any(
            c is None or c.result in placed or c.result in elsewhere
            or len(c.shape) != len(joined.shape) or c.axes != joined.axes
            for c in sources
        ):  # fmt: skip
            continue
        ends = np.cumsum([c.shape[axis] for c in sources]).tolist()
        parts = [slice(*ab) for ab in zip([0, *ends], ends, strict=False)]
        found[joined.result] = list(zip(joined.operands, parts, strict=True))
        placed.update(joined.operands)
    return found


Instruction = Callable[[Any, list[Any], int], None]  # instruction(run, env, rows)


class Segment:
    """Light calls that follow one another, as what is done with the values of a step.

    `segment(run, env, outs, rows)`: `outs` has places for results.
    """

    def __init__(self, calls: Sequence[Call], uses: Uses, engine: Engine) -> None:
        self._calls, self._engine = calls, engine
        kept, ahead, self._read = uses
        made = [c.result for c in calls]
        self._kept = [i for i in made if i in kept]
        self._ahead = [i for i in made if i in ahead]
        self._own = [i for i in made if i not in self._read]  # which nobody else reads
        self._ready = set(kept)  # results that have their arrays before they are computed
        self._instructions: list[Instruction] = []
        joined = self._join()
        for group in grouped(calls, engine.compiler is not None):
            if group[0].program is not None:
                self._compute_together(group)
            elif group[0].result not in joined:
                self._compute(group[0])

    def __call__(self, run: Any, env: list[Any], outs: dict[int, Any], rows: int) -> None:
        for i in self._kept:
            env[i] = outs[i]
        for i in self._ahead:
            env[i] = outs.get(i)
        for instruction in self._instructions:
            instruction(run, env, rows)
        for i in self._own:
            env[i] = None

    def _make_room(self, results: Sequence[int], like: Call) -> None:
        """Makes arrays for results of one shape, where there are none."""
        self._ready.update(results)
        shape, dtype = like.shape, like.dtype
        new = [i for i in results if i not in self._ahead]
        missing = [i for i in results if i in self._ahead]
        count = len(new)
        in_one = count > 0 and len(shape) < 3  # images may be in another memory order, each

        def room(run: Any, env: list[Any], rows: int) -> None:
            if in_one:
                arrays = run.empty((count, rows, *shape), dtype)
                for n, i in enumerate(new):
                    env[i] = arrays[n]
            else:
                for i in new:
                    env[i] = run.empty((rows, *shape), dtype)
            for i in missing:
                if env[i] is None:
                    env[i] = run.empty((rows, *shape), dtype)

        self._instructions.append(room)

    def _join(self) -> set[int]:
        """Has results made where a splice puts them; the splices."""
        calls = {c.result: c for c in self._calls}
        found = joins(self._calls, {*self._kept, *self._ahead})
        for joined, parts in found.items():
            if joined not in self._ready:
                self._make_room([joined], calls[joined])
            whole = (slice(None),) * (-(calls[joined].joins_along or 0) - 1)
            places = [(operand, (..., part, *whole)) for operand, part in parts]

            def divide(
                run: Any, env: list[Any], rows: int, joined: int = joined, places: Any = places
            ) -> None:
                for operand, where in places:
                    env[operand] = env[joined][where]

            self._instructions.append(divide)
            self._ready.update(operand for operand, _ in parts)
        return set(found)

    def _compute_together(self, group: Sequence[Call]) -> None:
        """Programs as one with several results; one by one where that can't be or is refused."""
        inside = {c.result for c in group}
        beyond = {i for c in self._calls if c.result not in inside for i in c.operands}
        wanted = {*beyond, *self._read, *self._kept}
        results = [c.result for c in group if c.result in wanted]
        runner, operands = as_one(group, results, self._engine)
        if runner is None:
            for call in group:
                self._compute(call)
            return
        new = [i for i in results if i not in self._ready]
        if new:
            self._make_room(new, group[0])

        read, made = values_of(operands), values_of(results)

        def compute(run: Any, env: list[Any], rows: int) -> None:
            targets = made(env)
            if not runner(*read(env), *targets):
                return
            for call in group:  # without room: that may be the place of what another still reads
                env[call.result] = call.kernel(run, *call.values(env))
            for i, target in zip(results, targets, strict=True):
                target[...] = env[i]
                env[i] = target

        self._instructions.append(compute)

    def _compute(self, call: Call) -> None:
        result, kernel, values = call.result, call.kernel, call.values
        if call.into and result in {*self._ready, *self._ahead}:

            def compute(run: Any, env: list[Any], rows: int) -> None:
                env[result] = kernel(run, *values(env), out=env[result])

        elif not call.into and result in self._kept:

            def compute(run: Any, env: list[Any], rows: int) -> None:
                env[result][...] = kernel(run, *values(env))

        else:

            def compute(run: Any, env: list[Any], rows: int) -> None:
                env[result] = kernel(run, *values(env))

        self._instructions.append(compute)
