"""Free dimensions: sizes of an input that each run may choose anew.

A shape with a free dimension is worked out by trying: each shape rule runs twice with two
sizes in the free dimensions' place, and what differs between the results is free again. So no rule
knows of free dimensions. Before a graph runs, `specialize` gives it the sizes that it is fed with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import GraphError

if TYPE_CHECKING:
    from .node import Node

Shape = tuple[int, ...]

FREE = -3
_TRIALS = (60_480, 110_880)  # with many divisors, so that groups and reshapes work out


def is_free(shape: Shape | None) -> bool:
    return shape is not None and FREE in shape


def tried(rule: Callable[..., Any], shapes: Sequence[Shape | None], unknown: int) -> Any:
    """What `rule(*shapes)`, a shape or several, is for free dimensions; None if that can't be said.

    Args:
        unknown: what stands in the result for a dimension that depends on the free ones.
    """
    results = []
    for size in _TRIALS:
        filled = [None if s is None else tuple(size if n == FREE else n for n in s) for s in shapes]
        try:
            results.append(rule(*filled))
        except GraphError:
            return None
    first, second = results
    return _merged(first, second, unknown)


def _merged(a: Any, b: Any, unknown: int) -> Any:
    if a is None or b is None:
        return None
    if isinstance(a, list):
        return [_merged(x, y, unknown) for x, y in zip(a, b, strict=True)]
    return tuple(x if x == y else unknown for x, y in zip(a, b, strict=True))


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
    from .node import Input
    from .traverse import copy, order

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
