"""Verifies the graph that a pass made: errors in it would show much later, or never."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, order
from ..graph.inference import infer
from ..graph.node import Type, describe
from ..ops.records import TABLE


class BrokenPass(AssertionError):
    """A pass made an invalid graph: a bug in this library."""


def verify(name: str, before: Sequence[Type], outputs: Sequence[Node]) -> None:
    """Raise `BrokenPass` if an output has another type than before, or if a record's rules give
    another type than its node has; `GraphError` if a cycle has no delay.

    Args:
        name: the name of the pass.
        before: the types of the outputs before it.
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
