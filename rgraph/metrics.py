"""Metrics, which have no gradients. CNTK's `metrics` module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import ops
from .graph import Node, apply
from .graph.types import OperandLike
from .ops import scoring
from .ops.records import as_node, operation
from .ops.repetition import sum_rows
from .ops.softmax import hardmax_along


@operation
def classification_error(
    output_vector: OperandLike, target_vector: OperandLike, axis: Any = -1, topN: int = 1
) -> Node:
    """The classification error: 1 if the class with the largest score is wrong, else 0.

    Args:
        output_vector: scores.
        target_vector: one-hot, of the same shape. (For a distribution the error is 1 minus the
            probability of the class with the largest score.)
        axis: the static axis of the classes.
        topN: the number of largest scores that count as correct.

    Returns:
        0 or 1 for each position, with `axis` reduced to size 1. With an `axis` other than -1: the
        mean over positions, of shape (). With `topN`: the number of errors in the minibatch.

    Source: CNTK's `classification_error`.

    >>> C.classification_error([1, 2, 3], [0, 1, 0]).eval()
    array([1.], dtype=float32)
    """
    z, t = as_node(output_vector), as_node(target_vector)
    if topN < 1:
        raise ValueError(f"topN must be at least 1, got {topN}")
    if topN > 1:
        own = ops.reduce_sum(ops.element_times(t, z), axis=axis)
        above = ops.reduce_sum(ops.greater(z, own), axis=axis)
        return sum_rows(ops.reduce_sum(ops.greater_equal(above, float(topN))), ())
    if axis == -1:
        hit = ops.element_times(t, hardmax_along(z, (-1,)))
        return ops.minus(1.0, ops.reduce_sum(hit, axis=axis))
    same = ops.equal(ops.argmax(z, axis), ops.argmax(t, axis))
    return ops.minus(1.0, ops.reduce_mean(same))


@operation
def edit_distance_error(
    input_a: OperandLike,
    input_b: OperandLike,
    subPen: float = 1,
    delPen: float = 1,
    insPen: float = 1,
    squashInputs: bool = False,
    tokensToIgnore: Sequence[int] = (),
) -> Node:
    """The edit distance between sequences of labels, as a single number for the minibatch.

    The label of a frame is the index of its largest element.

    Args:
        input_a: scores per frame.
        input_b: the true sequences, one-hot; they may have other lengths.
        subPen, delPen, insPen: the costs of a substitution, deletion and insertion.
        squashInputs: whether to merge equal adjacent labels.
        tokensToIgnore: labels to leave out (after merging).

    Returns:
        the number of edits per label of `input_b`, times the number of frames of `input_a`, so
        that a trainer's mean per frame is the error rate.

    Source: CNTK's `edit_distance_error`.

    >>> a, b = C.sequence.input_variable(2), C.sequence.input_variable(2)
    >>> C.edit_distance_error(a, b).eval({a: np.eye(2), b: np.eye(2)[[0, 0]]})
    array(1., dtype=float32)
    """
    return apply(
        scoring.EDIT_DISTANCE,
        as_node(input_a),
        as_node(input_b),
        penalties=(float(subPen), float(delPen), float(insPen)),
        squash=bool(squashInputs),
        ignore=tuple(tokensToIgnore),
    )


@operation
def ndcg_at_1(output: OperandLike, gain: OperandLike, group: OperandLike) -> Node:
    """NDCG at 1: the gain of each group's best-scored sample, relative to the group's best gain.

    Args:
        output, gain, group: as for `lambda_rank`.

    Returns:
        the mean over groups, times 100 times the number of samples: a single number.

    Source: CNTK's `ndcg_at_1`.

    >>> s, n, g = (C.input_variable(1) for _ in range(3))
    >>> C.ndcg_at_1(s, n, g).eval({s: [[1], [2]], n: [[4], [1]], g: [[1], [1]]})
    array(50., dtype=float32)
    """
    return apply(scoring.NDCG, as_node(output), as_node(gain), as_node(group))


__all__: Sequence[str] = ["classification_error", "edit_distance_error", "ndcg_at_1"]
