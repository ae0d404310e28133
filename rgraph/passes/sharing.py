"""Common subexpressions: equal operations on the same operands become one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ..graph import Constant, Node, order
from .rewriting import substitute


def share(outputs: Sequence[Node]) -> list[Node]:
    """Keep the first of equal operations. Delays, which may close cycles, are left alone."""
    kept: dict[Hashable, Node] = {}
    instead: dict[Node, Node] = {}
    for node in order(outputs):
        key = _key(node, instead)
        if key is not None:
            first = kept.setdefault(key, node)
            if first is not node:
                instead[node] = first
    return substitute(outputs, instead)


def _key(node: Node, instead: dict[Node, Node]) -> Hashable | None:
    if isinstance(node, Constant):
        small = node.is_fixed and node.value.size <= 16
        return (node.value.tobytes(), node.shape, node.dtype) if small else None
    if node.op is None or node.op.random or node.op.new_axis or node.is_delay:
        return None
    operands = tuple(instead.get(i, i) for i in node.inputs)
    attrs = tuple(sorted((k, _frozen(v)) for k, v in node.attrs.items()))
    return (node.op.name, operands, attrs, node.axes)


def _frozen(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    return repr(value) if not isinstance(value, Hashable) else value
