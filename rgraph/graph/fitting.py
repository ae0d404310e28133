"""Copies of a graph for the sizes of a run's data, if it leaves some free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .copying import copy
from .errors import GraphError
from .free import FREE, is_free
from .leaves import Input
from .node import Node
from .traverse import order

# The shape of each input that is fed, and how many samples or frames there are along each axis
Sizes = Mapping[Any, Any]


def follows_data(node: Node) -> bool:
    """Whether its shape, or the size of its axes, depends on the data of a run: a free input, an
    unpacked axis, a batch axis of its own.
    """
    if node.op is None:
        return node.kind == "Input" and is_free(node.shape)
    made = "rows" in node.attrs and is_free(node.inputs[0].shape)
    return made or "unpacked" in node.attrs


def fit(roots: Iterable[Node], flexible: Iterable[Node], sizes: Sizes) -> dict[Node, Node]:
    """For each node below `roots` that depends on a flexible one, its copy with a definite shape.

    Args:
        flexible: the nodes whose sizes depend on the data.
        sizes: the shape of each fed input, the number of samples along the batch axis, and the
            number of frames of the longest sequence along each time axis.
    """
    inputs: dict[Node, Node] = {}
    attrs: dict[Node, dict[str, object]] = {}
    for node in flexible:
        if "rows" in node.attrs:  # how many is known now; which axis that is stays as it was
            attrs[node] = {"rows": (node.axes or ())[0].rows}
        elif not isinstance(node, Input):
            attrs[node] = {"unpacked": _size_along(node, sizes)}
        elif node in sizes:
            inputs[node] = fitted = Input(sizes[node], node.axes, node.dtype, node.name)
            fitted.origin = node.origin
    nodes = order(roots)
    copies = copy(nodes, inputs, attrs=attrs, same_random=True)
    return {old: new for old, new in zip(nodes, copies, strict=True) if old is not new}


def _size_along(node: Node, sizes: Sizes) -> tuple[int]:
    *_, axis = node.inputs[0].axes or ()
    if axis.is_made:  # it knows its size by itself
        return (FREE,)
    if axis not in sizes:
        raise GraphError(
            f"the lengths along {axis!r} follow from what is computed; they can't become a "
            "static axis, whose size must be known before"
        )
    return (sizes[axis],)
