"""What is light in a step of a loop, written out as one Python function.

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

if TYPE_CHECKING:
    from ..engines.base import Compiled, Engine
    from .call import Call


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


def written_out(calls: Sequence[Call], uses: Uses, engine: Engine) -> Step:
    """`step(run, env, outs, rows)`, which does what the calls do; `outs` has the places."""
    return _Segment(calls, uses, engine).function()


class _Segment:
    def __init__(self, calls: Sequence[Call], uses: Uses, engine: Engine) -> None:
        self.calls, self.engine = calls, engine
        self.kept, ahead, self.read = uses
        self.ahead = {c.result for c in calls if c.result in ahead}
        self.names: dict[str, Any] = {}
        self.ready = set(self.kept)  # results that have their arrays before they are computed
        self.joins: set[int] = set()  # the splices whose operands all are

    def function(self) -> Step:
        made = [c.result for c in self.calls]
        outer = dict.fromkeys(i for c in self.calls for i in c.operands if i not in set(made))
        lines = ["def step(run, env, outs, rows):"]
        lines += [f"v{i} = env[{i}]" for i in outer]
        lines += [f"v{i} = outs[{i}]" for i in made if i in self.kept]
        lines += [f"v{i} = outs.get({i})" for i in self.ahead]
        lines += self._joined()
        for group in grouped(self.calls, self.engine.compiler is not None):
            together = group[0].program is not None
            lines += self._together(group) if together else self._single(group[0])
        lines += [f"env[{i}] = v{i}" for i in made if i in self.read]
        exec("\n    ".join(lines), self.names)
        return self.names["step"]

    def _empty(self, results: Sequence[int], like: Call) -> Iterator[str]:
        """Makes arrays for results of one shape, where there are none."""
        self.ready.update(results)
        self.names[f"type{like.result}"] = like.dtype
        shape = "".join(f"{n}, " for n in like.shape)
        new = [i for i in results if i not in self.ahead]
        if new and len(like.shape) < 3:  # images may be in another memory order, each
            targets = "".join(f"v{i}, " for i in new)
            yield f"{targets} = run.empty(({len(new)}, rows, {shape}), type{like.result})"
            results = [i for i in results if i in self.ahead]
        for i in results:
            missing = f"if v{i} is None: " if i in self.ahead else ""
            yield f"{missing}v{i} = run.empty((rows, {shape}), type{like.result})"

    def _joined(self) -> Iterator[str]:
        """Results are made where a splice puts them."""
        calls = {c.result: c for c in self.calls}
        for joined, parts in joins(self.calls, {*self.kept, *self.ahead}).items():
            if joined not in self.ready:
                yield from self._empty([joined], calls[joined])
            axis = calls[joined].joins_along or 0
            for operand, part in parts:
                where = ", ".join(["...", f"{part.start}:{part.stop}", *[":"] * (-axis - 1)])
                yield f"v{operand} = v{joined}[{where}]"
                self.ready.add(operand)
            self.joins.add(joined)

    def _together(self, group: Sequence[Call]) -> Iterator[str]:
        """Programs as one with several results; in NumPy, where that can't be or is refused."""
        inside = {c.result for c in group}
        beyond = {i for c in self.calls if c.result not in inside for i in c.operands}
        results = [
            i for i in (c.result for c in group) if i in beyond or i in self.read or i in self.kept
        ]
        runner, operands = as_one(group, results, self.engine)
        if runner is None:
            for call in group:
                yield from self._single(call)
            return
        new = [i for i in results if i not in self.ready]
        if new:
            yield from self._empty(new, group[0])
        name = f"together{group[0].result}"
        self.names[name] = runner
        made = ", ".join(f"v{i}" for i in results)
        yield f"if {name}({', '.join(f'v{i}' for i in operands)}, {made}):"
        self.ready -= inside  # each may take the place of what another still reads
        yield f"    targets = {made},"
        yield from (f"    v{i} = None" for i in self.ahead & inside)
        for call in group:
            yield from (f"    {line}" for line in self._single(call))
        yield f"    for target, value in zip(targets, ({made},)): target[...] = value"
        yield f"    {made}, = targets"

    def _single(self, call: Call) -> Iterator[str]:
        i = call.result
        if i in self.joins:
            return
        self.names[f"k{i}"] = call.kernel
        operands = ", ".join(f"v{o}" for o in call.operands)
        into = f", out=v{i}" if call.into and i in self.ready | self.ahead else ""
        there = "" if call.into or i not in self.kept else "[...]"
        yield f"v{i}{there} = k{i}(run, {operands}{into})"
