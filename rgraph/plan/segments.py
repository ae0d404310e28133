"""What is small in a step of a loop, written out as one Python function.

On a few thousand elements a NumPy function takes a microsecond or two, and so does all that stands
around it when calls are made one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .call import Call

_LIGHT = {"fused", "slice", "splice"}

Step = Callable[[Any, list[Any], dict[int, Any], slice, int], None]


def is_light(call: Call) -> bool:
    """Whether a call may be part of a segment."""
    return call.node.op is not None and call.node.op.name in _LIGHT and call.few > 0


def bring_together(calls: Sequence[Call]) -> list[Call]:
    """The calls in an order in which light ones follow one another as long as they can."""
    waiting = list(calls)
    pending = {c.result for c in waiting}
    ordered: list[Call] = []
    while waiting:
        ready = [c for c in waiting if not pending.intersection(c.operands)]
        chosen = [c for c in ready if is_light(c)] or ready[:1]
        ordered += chosen
        pending -= {c.result for c in chosen}
        waiting = [c for c in waiting if c not in chosen]
    return ordered


def written_out(calls: Sequence[Call], kept: set[int], xp: Any) -> Step:
    """`step(run, env, whole, block, rows)`, which does what the calls do.

    Args:
        kept: results that are written to their places among those of all frames.
    """
    names: dict[str, Any] = {}
    lines = ["def step(run, env, whole, block, rows):"]
    joins: set[int] = set()  # whose operands are made in their places
    ready = set(kept)
    for i in dict.fromkeys(i for c in calls for i in c.operands):
        if all(c.result != i for c in calls):
            lines.append(f"v{i} = env[{i}]")
    lines += [f"v{c.result} = whole[{c.result}][block]" for c in calls if c.result in kept]
    for i, joined, part in _joined(calls, kept):
        if joined.result not in ready:
            names[f"type{joined.result}"] = joined.dtype
            shape = "".join(f", {n}" for n in joined.shape)
            lines.append(f"v{joined.result} = run.empty((rows{shape}), type{joined.result})")
            ready.add(joined.result)
        lines.append(f"v{i} = v{joined.result}[{part}]")
        ready.add(i)
        joins.add(joined.result)
    for number, call in enumerate(calls):
        name = call.node.op.name if call.node.op else ""
        if name == "fused":
            lines += _program(call, number, call.result in ready, names, xp)
        elif call.result in joins:
            pass
        else:
            names[f"k{number}"] = call.kernel
            operands = ", ".join(f"v{i}" for i in call.operands)
            into = f", out=v{call.result}" if call.into and call.result in ready else ""
            there = "" if call.into or call.result not in kept else "[...]"
            lines.append(f"v{call.result}{there} = k{number}(run, {operands}{into})")
        lines.append(f"env[{call.result}] = v{call.result}")
    exec("\n    ".join(lines), names)
    return names["step"]


def _joined(calls: Sequence[Call], kept: set[int]) -> Iterator[tuple[int, Call, str]]:
    """Results that are made where a splice puts them: which, into what, and where."""
    placed: set[int] = set()
    programs = {c.result: c for c in calls if c.node.op and c.node.op.name == "fused"}
    for joined in calls:
        if joined.node.op is None or joined.node.op.name != "splice":
            continue
        at = joined.node.op.arguments(joined.node)
        axis, new = at["axis"], at["new"]
        sources = [programs.get(i) for i in joined.operands]
        rank = len(joined.shape)
        whole = not new and len(set(joined.operands)) == len(sources)
        if not whole or any(
            c is None
            or c.result in kept
            or c.result in placed
            or len(c.shape) != rank
            or c.axes != joined.axes
            for c in sources
        ):
            continue
        start = 0
        for call in sources:
            assert call is not None
            stop = start + call.shape[axis]
            placed.add(call.result)
            yield call.result, joined, ", ".join(["...", f"{start}:{stop}", *[":"] * (-axis - 1)])
            start = stop


def _program(call: Call, number: int, ready: bool, names: dict[str, Any], xp: Any) -> list[str]:
    program = call.node.attrs["program"]
    names.update({f"f{number}_{i}": f for i, f in enumerate(program.functions(xp))})

    def name(kind: str, i: int) -> str:
        if kind == "a":
            return f"v{call.operands[i]}"
        if kind == "r" and i == 0:
            return f"v{call.result}"
        return f"{kind}{number}_{i}"

    return list(program.source(name, {0} if ready else ()))
