"""Reverse-mode differentiation, from graph to graph.

The gradient of a delay is a delay in the other direction, so back-propagation through time is one
more cycle. It is built by cutting the cycles at the delays: the adjoint that comes back through a
delay is a placeholder until it is known, and is then bound to the delay of the adjoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import Constant, GraphError, Node, Placeholder, bind, complete, order
from ..graph.errors import located, made_at
from ..graph.node import describe, resolve
from ..ops.arithmetic import element_divide, element_times, plus
from ..ops.filling import cast
from ..ops.repetition import spread


def gradients(output: Node, wrt: Sequence[Node], adjoint: Node | None = None) -> list[Node]:
    """The gradient of the sum of `output` with respect to each node of `wrt`.

    Args:
        output: any node; it may lie on a cycle.
        wrt: nodes of any kind.
        adjoint: weights of the elements of `output` in the sum, of its shape; ones by default.

    Returns:
        a node with the shape and axes of each node of `wrt`; zeros if `output` does not depend on
        it.
    """
    output, wrt = resolve(output), [resolve(w) for w in wrt]
    return pull_back({output: adjoint or filled(output, 1.0)}, wrt)


def is_sparse(output: Node, leaf: Node) -> bool:
    """Whether the gradient with respect to a leaf is zero except in the rows selected by sparse
    vectors, as that of an embedding with a sparse input.
    """
    uses = [(n, i) for n in order([output]) for i, x in enumerate(n.inputs) if x is leaf]
    return bool(uses) and all(n.op is not None and n.op.chosen_rows(n) == i for n, i in uses)


def pull_back(seeds: Mapping[Node, Node], wrt: Sequence[Node]) -> list[Node]:
    """Like `gradients`, for several outputs with their adjoints."""
    nodes = order(seeds)
    active = _dependents(nodes, wrt)
    parts: dict[Node, list[Node]] = {n: [] for n in active}
    for output, adjoint in seeds.items():
        if output in active:
            parts[output].append(adjoint)
    coming_back = {}
    for node in nodes:
        if node.is_delay and node in active and node.inputs[0] in active:
            source = node.inputs[0]
            coming_back[node] = back = Placeholder(source.shape, source.axes, source.dtype)
            parts[source].append(back)
    total: dict[Node, Node] = {}
    for node in reversed(nodes):
        if node not in active or not parts[node]:
            continue
        total[node] = g = _sum(parts[node])
        if node.op is None:
            continue
        for operand, part in zip(node.inputs, _parts(node, g), strict=False):
            if part is None:
                continue
            if node in coming_back and operand is node.inputs[0]:
                bind({coming_back.pop(node): part})
            elif operand in active:
                parts[operand].append(part)
    for back in coming_back.values():  # nothing comes back through these
        bind({back: filled(back, 0.0)})
    result = [total.get(w) or filled(w, 0.0) for w in wrt]
    complete(result)
    return list(map(resolve, result))


def _parts(node: Node, g: Node) -> Sequence[Node | None]:
    """What `node` contributes to the adjoint of each of its operands."""
    assert node.op is not None
    if node.op.gradient is None:
        return ()
    try:
        with made_at(node.origin):  # errors and profiles say what an adjoint is the adjoint of
            return node.op.gradient(node, g)
    except GraphError as error:
        raise located(error, f"the gradient of {node.title}", node.origin, []) from None


def _sum(parts: Sequence[Node]) -> Node:
    total = parts[0]
    for part in parts[1:]:
        total = plus(total, part)
    return total


def filled(like: Node, value: float) -> Node:
    """A constant with the shape and axes of `like`."""
    if like.shape is None or like.axes is None or like.dtype is None:
        raise GraphError(
            f"the gradient of {describe(like)} can't be formed: its shape is not known yet"
        )
    return spread(Constant(np.asarray(value, like.dtype), like.shape, like.dtype), like.axes)


def seed(root: Node, scale: Node | None) -> Node:
    """The adjoint of a node whose sum is differentiated, multiplied by `scale`."""
    ones = filled(root, 1.0)
    return ones if scale is None else element_times(ones, cast(scale, root.dtype))


def unscaled(gradients: Sequence[Node], scale: Node | None) -> list[Node]:
    """Gradients for seeds multiplied by `scale`, divided by it again."""
    if scale is None:
        return list(gradients)
    return [element_divide(g, cast(scale, g.dtype)) for g in gradients]


def _dependents(nodes: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes that depend on one of `wrt` through operations with a gradient."""
    readers: dict[Node, list[Node]] = {}
    for node in nodes:
        if node.op is not None and node.op.gradient is not None:
            for operand in node.inputs:
                readers.setdefault(operand, []).append(node)
    active = set(wrt)
    pending = list(wrt)
    while pending:
        for reader in readers.get(pending.pop(), ()):
            if reader not in active:
                active.add(reader)
                pending.append(reader)
    return active
