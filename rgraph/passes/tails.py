"""Attaches chains of pointwise operations to the convolution or product before them."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, order
from ..graph.node import same_type, twin
from ..ops.fused import TAILED, Program
from .rewriting import loops, readers_of, substitute


def hang(outputs: Sequence[Node]) -> list[Node]:
    """Join each convolution or product with the pointwise operations that only it leads to."""
    nodes = order(outputs)
    loop, readers, ends = loops(outputs), readers_of(nodes), set(outputs)
    taken: set[Node] = set()
    instead: dict[Node, Node] = {}
    # Of two whose chains meet the later goes on: then the other's result is there.
    for head in reversed(nodes):
        if head.op is None or not head.op.takes_tail:
            continue
        chain = [head]
        while chain[-1] not in ends and len(readers[chain[-1]]) == 1:
            (after,) = readers[chain[-1]]
            if after in taken or not _goes_on(head, after, loop):
                break
            chain.append(after)
        if len(chain) > 1:
            taken.update(chain)
            instead[chain[-1]] = _as_one(chain)
    return substitute(outputs, instead)


def _goes_on(head: Node, after: Node, loop: dict[Node, int]) -> bool:
    pointwise = after.op is not None and after.op.pointwise
    return pointwise and same_type(head, after) and loop.get(head) == loop.get(after)


def _as_one(chain: Sequence[Node]) -> Node:
    head, *members = chain
    assert head.op is not None and head.op.work is not None
    inside = set(chain)
    others = list(dict.fromkeys(i for m in members for i in m.inputs if i not in inside))
    program = Program.of(members, [head, *others])
    attrs = {
        "head": head.op,
        "arguments": dict(head.op.arguments(head)),
        "program": program,
        "title": f"{head.title} {program.titles}",
        "work": head.op.work(head) + program.work(head),
    }
    return twin(chain[-1], TAILED, [*head.inputs, *others], attrs)
