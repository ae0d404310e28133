"""Folds constants: values that depend only on constants are computed once, with the plan.

Constants that users may set between runs are read in each run instead, here and in the other
passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engines.cpu import reference_run
from ..graph import Constant, Node, order
from .rewriting import substitute

_LARGE = 1 << 16  # elements: what is larger is cheaper to compute than to keep


def fold(outputs: Sequence[Node]) -> list[Node]:
    """Replace values computed from constants by constants."""
    instead: dict[Node, Node] = {}
    for node in order(outputs):
        operands: list[Any] = [instead.get(i, i) for i in node.inputs]
        if node.op is None or node.axes or node.op.random or not operands:
            continue
        fixed = all(isinstance(i, Constant) and i.is_fixed for i in operands)
        if not fixed or _size(node) > _LARGE:
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
