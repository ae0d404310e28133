"""Fuses pointwise operations that feed only one another, to be evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, order
from ..graph.node import same_type, twin
from ..ops.fused import FUSED, Program
from .rewriting import loops, readers_of, substitute


def fuse(outputs: Sequence[Node]) -> list[Node]:
    """Join each group of pointwise operations that feed only the last of the group."""
    nodes = order(outputs)
    loop, readers, ends = loops(outputs), readers_of(nodes), set(outputs)
    head: dict[Node, Node] = {}  # the last operation of each one's group
    for node in reversed(nodes):
        if node.op is None or not node.op.pointwise:
            continue
        heads = {head.get(r) for r in readers[node]}
        joined = heads.pop() if len(heads) == 1 and node not in ends else None
        fits = joined is not None and _fits(node, joined, loop)
        head[node] = joined if joined is not None and fits else node
    groups: dict[Node, list[Node]] = {}
    for node in nodes:
        if node in head:
            groups.setdefault(head[node], []).append(node)
    instead = {last: _as_one(members) for last, members in groups.items()}
    return substitute(outputs, instead)


def _fits(node: Node, last: Node, loop: dict[Node, int]) -> bool:
    """Whether `node` may be computed together with the last operation of a group.

    An operation before a loop may move into it: each frame is still computed once, and its result
        need
    not be kept for all frames.
    """
    same_loop = loop.get(node) in (None, loop.get(last)) if node.axes else False
    return same_type(node, last) and (same_loop or loop.get(node) == loop.get(last))


def _as_one(members: Sequence[Node]) -> Node:
    inside = set(members)
    inputs = list(dict.fromkeys(i for m in members for i in m.inputs if i not in inside))
    return twin(members[-1], FUSED, inputs, {"program": Program.of(members, inputs)})
