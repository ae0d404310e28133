"""Graph traversal: order and loops. Cycles close at delays and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .errors import GraphError
from .node import Node, describe, resolve


def _before(node: Node) -> tuple[Node, ...]:
    """The nodes that `node` needs within a step; a delay needs its initial state."""
    return (node.inputs[1:] if node.is_delay else node.inputs) + _sources(node)


def _sources(node: Node) -> tuple[Node, ...]:
    """The nodes that determine the lengths of the sequences that `node` is computed on."""
    if node.op is None or not node.axes or node.axes[-1].source in (None, node):
        return ()
    return (node.axes[-1].source,)


def order(roots: Iterable[Node], enter: Callable[[Node], bool] = lambda n: True) -> list[Node]:
    """All nodes below `roots` that `enter` admits, operands first.

    The operand of a delay may come after it. Raises `GraphError` for a cycle without a delay.
    """
    done: dict[Node, None] = {}
    entered: set[Node] = set()
    pending = [resolve(r) for r in roots][::-1]
    while pending:
        root = pending.pop()
        if root in done or not enter(root):
            continue
        stack = [(root, iter(_before(root)))]
        entered.add(root)
        while stack:
            node, rest = stack[-1]
            for operand in rest:
                if operand in done or not enter(operand):
                    continue
                if operand in entered:
                    raise _no_delay([n for n, _ in stack], operand)
                entered.add(operand)
                stack.append((operand, iter(_before(operand))))
                break
            else:
                stack.pop()
                done[node] = None
                if node.is_delay:
                    pending.append(node.inputs[0])
    return list(done)


def updates(roots: Iterable[Node]) -> dict[Node, Node]:
    """The new values of stored nodes below `roots` in a training step: see `Op.updates`.

    Several updates of one node are applied one after the other, in graph order.
    """
    found: dict[Node, Node] = {}
    for node in order(roots):
        if node.op is not None and node.op.updates is not None:
            found.update(node.op.updates(node, found))
    return found


def _no_delay(path: list[Node], again: Node) -> GraphError:
    cycle = path[path.index(again) :]
    lines = [f"  {n.title} {describe(n)}, at {n.origin}" for n in cycle]
    return GraphError(
        "a cycle of operations has no delay in it, so each waits for the others:\n"
        + "\n".join(lines),
        hint="put sequence.past_value (or future_value) on what should be the step before's",
    )


def components(roots: Iterable[Node]) -> list[list[Node]]:
    """The strongly connected components below `roots`, operands first (Tarjan, 1972).

    A loop is a component of several nodes, or of one that feeds itself. The nodes of each
    component are in the order of `order`.
    """
    nodes = order(roots)
    position = {n: i for i, n in enumerate(nodes)}
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    open_stack: list[Node] = []
    is_open: set[Node] = set()
    result: list[list[Node]] = []

    def enter(node: Node) -> tuple[Node, list[Node]]:
        index[node] = low[node] = len(index)
        open_stack.append(node)
        is_open.add(node)
        extra = node.inputs[:1] if node.is_delay else ()
        return node, [*extra, *_before(node)]

    for root in nodes:
        if root in index:
            continue
        stack = [enter(root)]
        while stack:
            node, rest = stack[-1]
            if rest:
                operand = rest.pop()
                if operand not in index:
                    stack.append(enter(operand))
                elif operand in is_open:
                    low[node] = min(low[node], index[operand])
                continue
            stack.pop()
            if stack:
                parent = stack[-1][0]
                low[parent] = min(low[parent], low[node])
            if low[node] == index[node]:
                component = [open_stack.pop()]
                while component[-1] is not node:
                    component.append(open_stack.pop())
                is_open.difference_update(component)
                result.append(sorted(component, key=position.__getitem__))
    return result


def dependents(nodes: list[Node], replaced: Iterable[Node]) -> set[Node]:
    """The nodes that depend on a replaced node, through delays too."""
    touched = set(replaced)
    grew = True
    while grew:
        grew = False
        for node in nodes:
            if node not in touched and any(i in touched for i in node.inputs + _sources(node)):
                touched.add(node)
                grew = True
    return touched
