"""Tools for passes: a private copy of a graph, questions about it, and substitution of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..graph import Axis, Node, components, order
from ..graph.node import resolve, twin


def private(outputs: Sequence[Node]) -> list[Node]:
    """A copy of the graph; its leaves are shared."""
    nodes = order(outputs)
    made: dict[Node, Node] = {}
    axes: dict[int, Axis] = {}  # those whose lengths a copied node decides, by identity
    for node in nodes:
        made[node] = new = node if node.op is None else twin(node)
        if node.op is not None and node.op.new_axis:
            axes[id(node.time_axis)] = Axis(node.time_axis.name, source=new)
        if node.op is not None and node.axes:
            new.axes = tuple(axes.get(id(a), a) for a in node.axes)
    for node in nodes:
        if node.op is not None:
            made[node].inputs = [made[i] for i in node.inputs]
    return [made[resolve(o)] for o in outputs]


def loops(outputs: Sequence[Node]) -> dict[Node, int]:
    """For each node in a loop, the number of that loop."""
    return {n: i for i, c in enumerate(components(outputs)) if len(c) > 1 for n in c}


def readers_of(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    """The operations that read each of `nodes`, once for each time they read it."""
    found: dict[Node, list[Node]] = {n: [] for n in nodes}
    for node in nodes:
        for operand in node.inputs:
            found[operand].append(node)
    return found


def substitute(outputs: Sequence[Node], instead: Mapping[Node, Node]) -> list[Node]:
    """Substitute nodes everywhere below `outputs`."""

    def final(node: Node) -> Node:
        while node in instead:
            node = instead[node]
        return node

    for node in order([*outputs, *instead.values()]):
        if node.op is not None and any(i in instead for i in node.inputs):
            node.inputs = [final(i) for i in node.inputs]
    return [final(o) for o in outputs]
