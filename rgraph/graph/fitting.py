"""Copies of a graph for the sizes of a run's data, where it leaves some free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .copying import copy
from .errors import GraphError
from .free import is_free
from .leaves import Input
from .node import Node
from .traverse import order


def follows_data(node: Node) -> bool:
    """Whether a shape is known only with a run's data: a free input's, an unpacked axis's."""
    return (
        node.op is None and node.kind == "Input" and is_free(node.shape) or "unpacked" in node.attrs
    )


def fit(
    roots: Iterable[Node], flexible: Iterable[Node], sizes: Mapping[Any, Any]
) -> dict[Node, Node]:
    """For each node below `roots` that depends on a flexible one: its copy of definite shape.

    Args:
        flexible: the nodes that follow the data.
        sizes: the shape of each input that is fed, and the number of samples along the batch, of
            frames in the longest sequence along each time axis.
    """
    inputs: dict[Node, Node] = {}
    attrs = {}
    for node in flexible:
        if not isinstance(node, Input):
            attrs[node] = {"unpacked": _sizes_along(node, sizes)}
        elif node in sizes:
            inputs[node] = fitted = Input(sizes[node], node.axes, node.dtype, node.name)
            fitted.origin = node.origin
    nodes = order(roots)
    copies = copy(nodes, inputs, attrs=attrs, same_random=True)
    return {old: new for old, new in zip(nodes, copies, strict=True) if old is not new}


def _sizes_along(node: Node, sizes: Mapping[Any, Any]) -> tuple[int, ...]:
    axes = node.inputs[0].axes or ()
    missing = [a for a in axes if a not in sizes]
    if missing:
        raise GraphError(
            f"the lengths along {missing[0]!r} follow from what is computed; they can't become a "
            "static axis, whose size must be known before"
        )
    return tuple(sizes[a] for a in axes)
