"""Metrics: how good a model is. They have no gradients. CNTK's `metrics` module."""

from __future__ import annotations

from typing import Any

from . import ops
from .ops.records import as_node, operation


@operation
def classification_error(
    output_vector: Any, target_vector: Any, axis: Any = -1, topN: int = 1
) -> Any:
    """1 where the largest score is not at the target's class, else 0.

    Args:
        output_vector: scores.
        target_vector: one-hot, of the same shape.
        axis: the static axis of the classes.

    Source: CNTK's `classification_error`.

    >>> C.classification_error([1, 2, 3], [0, 1, 0]).eval()
    array([1.], dtype=float32)
    """
    z, t = as_node(output_vector), as_node(target_vector)
    return ops.not_equal(ops.argmax(z, axis), ops.argmax(t, axis))
