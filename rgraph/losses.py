"""Losses: what training makes small. CNTK's `losses` module."""

from __future__ import annotations

from typing import Any

from . import ops
from .ops.records import as_node, operation


@operation
def cross_entropy_with_softmax(output_vector: Any, target_vector: Any, axis: Any = -1) -> Any:
    """The cross entropy between a distribution and the softmax of scores along an axis.

    Args:
        output_vector: scores, of any shape.
        target_vector: the distribution, of the same shape: one-hot for a known class.
        axis: the static axis of the classes.

    Returns:
        one number for each place of the other axes; the axis itself stays, with size 1.

    Source: CNTK's `cross_entropy_with_softmax`.

    >>> C.cross_entropy_with_softmax([1.0, 1.0], [0.0, 1.0]).eval()
    array([0.6931472], dtype=float32)
    """
    z, t = as_node(output_vector), as_node(target_vector)
    total = ops.reduce_log_sum_exp(z, axis=axis)
    return ops.minus(total, ops.reduce_sum(ops.element_times(t, z), axis=axis))


@operation
def squared_error(output: Any, target: Any) -> Any:
    """The sum of the squares of the differences, over all static axes: one number per sample.

    Source: CNTK's `squared_error`.

    >>> C.squared_error([1, 2], [3, 5]).eval()
    array(13., dtype=float32)
    """
    return ops.reduce_sum(ops.square(ops.minus(as_node(output), as_node(target))))


@operation
def binary_cross_entropy(output: Any, target: Any) -> Any:
    """The cross entropy of probabilities, -t log(y) - (1 - t) log(1 - y), for each element.

    Source: CNTK's `binary_cross_entropy`.

    >>> C.binary_cross_entropy([0.5, 0.25], [1, 0]).eval()
    array([0.6931472 , 0.28768206], dtype=float32)
    """
    y, t = as_node(output), as_node(target)
    yes = ops.element_times(t, ops.log(y))
    no = ops.element_times(ops.minus(1.0, t), ops.log(ops.minus(1.0, y)))
    return ops.negate(ops.plus(yes, no))
