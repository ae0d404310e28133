"""What depends on constants alone is computed once, when the plan is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Constant, Node, order
from .rewriting import substitute

_LARGE = 1 << 16  # elements: what is larger is cheaper to compute than to keep


def fold(outputs: Sequence[Node]) -> list[Node]:
    """Puts constants in the place of what is computed from constants."""
    from ..device import reference_run

    instead: dict[Node, Node] = {}
    for node in order(outputs):
        operands: list[Any] = [instead.get(i, i) for i in node.inputs]
        if node.op is None or node.axes or node.op.random or not operands:
            continue
        if not all(isinstance(i, Constant) for i in operands) or _size(node) > _LARGE:
            continue
        run = reference_run()
        arguments = node.op.arguments(node)
        with np.errstate(all="ignore"):
            value = node.op.kernel(run, *(i.value for i in operands), **arguments)
        instead[node] = Constant(value, None, node.dtype, node.name, where=node.origin)
    return substitute(outputs, instead)


def _size(node: Node) -> int:
    size = 1
    for n in node.shape or ():
        size *= n
    return size
