"""Checks a graph that a pass made: what is wrong in it would show much later, or never."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, order
from ..graph.inference import infer
from ..graph.node import Type, describe
from ..ops.records import TABLE


class BrokenPass(AssertionError):
    """A pass has made a graph that can't be right: a fault of this library."""


def verify(name: str, before: Sequence[Type], outputs: Sequence[Node]) -> None:
    """Raises `BrokenPass` where an output has another type than before, or where a record's rules
    give another type than its node has; `GraphError` where a cycle has no delay.

    Args:
        name: the pass.
        before: the outputs' types before it.
    """
    if [Type.of(o) for o in outputs] != list(before):
        raise BrokenPass(f"{name} changes what the outputs are")
    for node in order(outputs):
        _verify_node(name, node)


def _verify_node(name: str, node: Node) -> None:
    if node.op is None or TABLE.get(node.op.name) is not node.op:
        return  # an operation that passes make has no rules
    if not all(i.is_complete for i in node.inputs):
        return  # the user's graph is open: the plan says so
    found = infer(node, [Type.of(i) for i in node.inputs])
    if found != Type.of(node):
        raise BrokenPass(
            f"{name}: {node.title} on {', '.join(map(describe, node.inputs))} "
            f"is {describe(node, found)}, not {describe(node)}"
        )
