"""What an operation does not change need not be computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Constant, Node, order
from .rewriting import substitute

# Operations that only meant something while the graph was built
_IDENTITIES = {"alias", "require_vector", "reconcile_dynamic_axes", "stop_gradient"}

# For each operation: the number that, as left or right operand, leaves the other as it is
_NEUTRAL: dict[str, tuple[float | None, float | None]] = {
    "plus": (0, 0),
    "minus": (None, 0),
    "element_times": (1, 1),
    "element_divide": (None, 1),
}


def filling(node: Node) -> float | None:
    """The number that a constant consists of, if it is one number throughout."""
    if not isinstance(node, Constant):
        return None
    value = node.value
    if value.size == 1 or not any(value.strides):
        return float(value.flat[0])
    return None


def simplify(outputs: Sequence[Node]) -> list[Node]:
    """Takes out identities, and lets pointwise operations do the repeating of constants."""
    outputs = substitute(
        outputs,
        {n: n.inputs[0] for n in order(outputs) if n.op and n.op.name in _IDENTITIES},
    )
    nodes = order(outputs)
    for node in nodes:
        if node.op is not None and node.op.pointwise:
            node.inputs = _unrepeated(node)
    return substitute(outputs, {n: kept for n in nodes if (kept := _unchanged(n)) is not None})


def _unrepeated(node: Node) -> list[Node]:
    """The operands, without what only repeats them along rows and axes that others have."""
    inputs = list(node.inputs)
    for i, operand in enumerate(inputs):
        if operand.op is None or operand.op.name != "spread":
            continue
        source = operand.inputs[0]
        others = inputs[:i] + inputs[i + 1 :]
        if not source.axes and any(o.axes == node.axes for o in others):
            inputs[i] = source
    for i, operand in enumerate(inputs):
        number = filling(operand)
        others = inputs[:i] + inputs[i + 1 :]
        if number is not None and operand.shape and any(o.shape == node.shape for o in others):
            inputs[i] = Constant(np.asarray(number, operand.dtype), (), operand.dtype)
    return inputs


def _unchanged(node: Node) -> Node | None:
    """The operand that the operation gives back as it is."""
    neutral = _NEUTRAL.get(node.op.name if node.op else "")
    if neutral is None or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    for number, constant, other in ((neutral[0], left, right), (neutral[1], right, left)):
        same = other.shape == node.shape and other.axes == node.axes
        if number is not None and filling(constant) == number and same:
            return other
    return None


