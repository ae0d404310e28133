"""CNTK's names and attributes of operations and layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import GraphError, Node
from ..operands import search
from ..ops.cntk_names import cntk_name

_SETTINGS = {
    "rate": "dropoutRate",
    "seed": "rngSeed",
}  # the attributes that can change, by CNTK's names


def op_name(nodes: Sequence[Node]) -> str:
    """See `Function.op_name`."""
    if len(nodes) != 1:
        return "Combine"
    (node,) = nodes
    if node.op is None:
        return node.kind
    if search.is_block(node):
        return node.attrs["block"]
    return cntk_name(node)


def attributes(node: Node) -> dict[str, Any]:
    """See `Function.attributes`."""
    found = dict(node.op.attributes(node)) if node.op is not None else {}
    for name, (holder, key) in _settings(node).items():
        assert holder.op is not None
        value = holder.attrs[key]
        value = holder.attrs.get(f"own_{key}") if value is None else value
        found |= {**holder.op.attributes(holder), name: value}
    return found


def set_attribute(node: Node, name: str, value: object) -> None:
    """See `Function.set_attribute`."""
    settings = _settings(node)
    if name not in settings:
        raise GraphError(f"attribute {name!r} can't be set, only {sorted(settings)}")
    holder, key = settings[name]
    holder.attrs[key] = value


def _settings(node: Node) -> dict[str, tuple[Node, str]]:
    """The nodes that have the attributes that can change: this one, or a random operand."""
    nodes = [n for n in (node, *node.inputs) if n.op and n.op.random]
    return {_SETTINGS[k]: (n, k) for n in nodes for k in n.attrs if k in _SETTINGS}


def inside(nodes: Sequence[Node], name: str, within_layer: bool) -> list[Node]:
    """The values with this name, as `f.name` finds them.

    Args:
        within_layer: whether `nodes` is a layer that was found by name, to search only inside it.
    """
    if within_layer and len(nodes) == 1 and search.is_block(nodes[0]):
        return search.named(name, nodes[0].inputs[:1], 1, nodes[0].inputs[1:])
    return search.named(name, nodes, 1)
