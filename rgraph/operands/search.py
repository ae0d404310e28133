"""Walks through graphs in terms of layers, which count as one operation unless entered."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from .. import graph
from ..graph import Node, Placeholder, Stored
from ..graph.node import resolve
from ..ops.records import hold

EVERYWHERE = -1  # as a depth


def is_block(node: Node) -> bool:
    """Whether it is the output of a layer."""
    return "block" in node.attrs


def layer(node: Node) -> object:
    """What the outputs of one application of a layer have in common, and no others."""
    return (node.attrs["block"], node.attrs.get("layer"), node.name, *node.inputs[1:])


def operands(node: Node) -> list[Node]:
    """What an operation reads; for a layer its parameters, then its arguments."""
    if not is_block(node):
        return list(node.inputs)
    body, *arguments = node.inputs
    below = graph.order([body], enter=lambda n: n not in arguments)
    own = [n for n in below if n.op is None and not isinstance(n, Placeholder)]
    return [*own, *arguments]


def stored(roots: Iterable[Node]) -> list[Node]:
    """The leaves that hold values below `roots`, in the order of CNTK's `parameters`: those of a
    product's right operand come first, and a layer's own before those of its arguments."""
    pending: list[tuple[Node, list[Node]]] = [(r, list[Node]()) for r in roots][::-1]
    seen, found, ends = set[Node](), list[Node](), Counter[Node]()
    while pending:
        node, begun = pending.pop()
        node = resolve(node)
        ends.subtract(begun)
        if node in seen or ends[node] > 0:
            continue
        seen.add(node)
        if isinstance(node, Stored):
            found.append(node)
        if is_block(node):
            body, *arguments = map(resolve, node.inputs)
            ends.update(arguments)
            later = [(n, [] if i else arguments) for i, n in enumerate(arguments)]
            pending += [*reversed(later), (body, [])]
        else:
            right_first = node.op is not None and node.op.right_first
            pending += [(n, []) for n in (node.inputs if right_first else reversed(node.inputs))]
    return found


def single(node: Node) -> Any:
    """What people hold for a node that was searched for: a leaf, or one operation or layer."""
    return hold(node).root_function if node.op else hold(node)


def walk(roots: Iterable[Node], depth: int = 0, ends: Iterable[Node] = ()) -> Iterator[Node]:
    """The nodes below `roots`, each once, from there towards the inputs.

    Args:
        depth: into how many layers to look on the way from a root; -1 for all. What is inside of
            layers comes last.
        ends: nodes to stop before.

    Source: CNTK's `depth_first_search`.
    """
    pending = deque((r, sys.maxsize if depth == EVERYWHERE else depth) for r in roots)
    seen = set(ends)
    while pending:
        node, left = pending.popleft()
        node = resolve(node)
        if node in seen:
            continue
        seen.add(node)
        yield node
        if is_block(node) and left > 0:
            body, *arguments = node.inputs
            pending.extend((n, left - 1) for n in (*arguments, body))
        else:
            pending.extendleft((n, left) for n in reversed(operands(node)))


def named(
    name: str, roots: Iterable[Node], depth: int = 0, ends: Iterable[Node] = ()
) -> list[Node]:
    """The nodes of this name; inside of layers beyond `depth` only if there are none before."""
    for reach in dict.fromkeys((depth, EVERYWHERE)):
        found: dict[object, Node] = {}
        for node in walk(roots, reach, ends):
            if node.name == name:
                found.setdefault(layer(node) if is_block(node) else node, node)
        if found:
            return list(found.values())
    return []
