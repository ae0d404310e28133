"""Loss functions. CNTK's `losses` module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import graph, ops
from .graph import GraphError, Node, apply
from .graph.types import OperandLike
from .initializer import glorot_normal
from .operands.variables import Parameter, constant
from .ops import sampling, scoring
from .ops.activations import logit_of
from .ops.records import as_node, operation
from .ops.reductions import normal_axis, row_count
from .ops.repetition import sum_rows
from .ops.softmax import CROSS_ENTROPY

_SMALL = 1e-6  # added to probabilities before taking logarithms


@operation
def cross_entropy_with_softmax(
    output_vector: OperandLike, target_vector: OperandLike, axis: Any = -1
) -> Node:
    """The cross entropy between a distribution and the softmax of scores along an axis.

    Args:
        output_vector: scores (logits), of any shape.
        target_vector: the distribution, of the same shape: one-hot for a known class.
        axis: the static axis of the classes.

    Returns:
        log(sum(exp(z))) - sum(t z) for scores z and target t, with the axis reduced to size 1. A
        score may be -infinity where t is 0.

    Source: CNTK's `cross_entropy_with_softmax`.

    >>> C.cross_entropy_with_softmax([1, 1], [0, 1]).eval()
    array([0.6931472], dtype=float32)
    """
    z, t = as_node(output_vector), as_node(target_vector)
    return apply(CROSS_ENTROPY, z, t, axis=normal_axis(axis))


@operation
def squared_error(output: OperandLike, target: OperandLike) -> Node:
    """The sum of the squares of the differences: one number per sample or frame, of shape ().

    Source: CNTK's `squared_error`.

    >>> C.squared_error([1, 2], [3, 5]).eval()
    array(13., dtype=float32)
    """
    return ops.reduce_sum(ops.square(ops.minus(as_node(output), as_node(target))))


def _log_loss(y: Node, t: Node) -> Node:
    z = logit_of(y)
    if z is None:
        yes, no = ops.log(ops.plus(y, _SMALL)), ops.log(ops.minus(1.0 + _SMALL, y))
    else:
        yes, no = ops.negate(ops.softplus(ops.negate(z))), ops.negate(ops.softplus(z))
    both = ops.plus(ops.element_times(t, yes), ops.element_times(ops.minus(1.0, t), no))
    return ops.negate(both)


@operation
def binary_cross_entropy(output: OperandLike, target: OperandLike) -> Node:
    """The cross entropy of probabilities, -t log(y) - (1 - t) log(1 - y), for each element.

    Args:
        output: probabilities, of any shape. If it is the result of `sigmoid`, the loss is computed
            from the operand of `sigmoid`, and is exact even when saturated (CNTK's is at most
            13.8, and its gradient vanishes). To other probabilities 1e-6 is added, so that 0 and 1
            are allowed.
        target: 0 or 1, or probabilities, of the same shape.

    Source: CNTK's `binary_cross_entropy`.

    >>> y, t = C.input_variable(1), C.input_variable(1)
    >>> C.binary_cross_entropy(y, t).eval({y: [[0.5], [0.25]], t: [[1], [0]]}).round(4)
    array([[0.6931],
           [0.2877]], dtype=float32)
    """
    return _log_loss(as_node(output), as_node(target))


@operation
def weighted_binary_cross_entropy(
    output: OperandLike, target: OperandLike, weight: OperandLike
) -> Node:
    """`binary_cross_entropy`, weighted and summed over the minibatch: a single number.

    Args:
        weight: the weight of each element, normalized to a mean of 1 over the minibatch.

    Source: CNTK's `weighted_binary_cross_entropy`.

    >>> y, t, w = (C.input_variable(1) for _ in range(3))
    >>> loss = C.weighted_binary_cross_entropy(y, t, w)
    >>> round(float(loss.eval({y: [[0.5], [0.25]], t: [[1], [0]], w: [[3], [1]]})), 4)
    1.1836
    """
    w = as_node(weight)
    parts = ops.element_times(_log_loss(as_node(output), as_node(target)), w)
    total, weights = (sum_rows(ops.reduce_sum(v), ()) for v in (parts, w))
    return ops.element_divide(ops.element_times(total, row_count(w)), weights)


def _unit(x: Node) -> Node:
    """A vector divided by its norm; a zero vector stays zero and gets a zero gradient."""
    largest = ops.stop_gradient(
        ops.reduce_max(ops.abs(x))
    )  # its squares could overflow or underflow
    scaled = ops.element_divide(x, largest)
    return ops.element_divide(scaled, ops.reduce_l2(scaled))


@operation
def cosine_distance(x: OperandLike, y: OperandLike) -> Node:
    """The cosine of the angle between two vectors: one number per sample or frame, of shape ().

    Vectors of any shape; 0 if one of them is zero, which then gets a zero gradient.

    Source: CNTK's `cosine_distance`.

    >>> C.cosine_distance([3, 4], [1, 0]).eval()
    array(0.6, dtype=float32)
    """
    return ops.reduce_sum(ops.element_times(_unit(as_node(x)), _unit(as_node(y))))


@operation
def cosine_distance_with_negative_samples(
    x: OperandLike, y: OperandLike, shift: int, num_negative_samples: int
) -> Node:
    """`cosine_distance` of each x to its y, and to the y of other samples of the minibatch.

    Args:
        x, y: vectors, one per sample (or per frame).
        shift: the distance in samples to the first of the other samples; the next ones follow it.
        num_negative_samples: the number of other samples.

    Returns:
        cosines, of shape (1 + num_negative_samples,): first the one with its own y.

    Source: CNTK's `cosine_distance_with_negative_samples`.

    >>> x, y = C.input_variable(2), C.input_variable(2)
    >>> f = C.cosine_distance_with_negative_samples(x, y, 1, 1)
    >>> f.eval({x: [[1, 0], [0, 1]], y: [[1, 0], [0, 2]]})
    array([[1., 0.],
           [1., 0.]], dtype=float32)
    """
    if shift < 1 or num_negative_samples < 1:
        raise ValueError("shift and num_negative_samples must be at least 1")
    x, y = as_node(x), as_node(y)
    others = [scoring.roll_rows(y, shift + i) for i in range(num_negative_samples)]
    cosines = [ops.reshape(cosine_distance(x, other), (1,)) for other in (y, *others)]
    return ops.splice(*cosines)


@operation
def lambda_rank(output: OperandLike, gain: OperandLike, group: OperandLike) -> Node:
    """LambdaRank: a loss for ranking the samples of each group by gain; a single number.

    The value is (1 - NDCG) * 100 * the number of samples, with the mean over groups of the
    normalized discounted cumulative gain. Its gradient is replaced by that of LambdaRank.

    Args:
        output: the score of each sample, of shape (1,).
        gain: the gain of each sample, of shape (1,).
        group: the number of its group, of shape (1,), for example of the documents of a query. The
            samples of a group must be adjacent.

    Source: Burges, 2010; CNTK's `lambda_rank`.

    >>> s, n, g = (C.input_variable(1) for _ in range(3))
    >>> loss = C.lambda_rank(s, n, g)
    >>> round(float(loss.eval({s: [[1], [2]], n: [[7], [1]], g: [[1], [1]]})), 3)
    58.038
    """
    return apply(scoring.LAMBDA_RANK, as_node(output), as_node(gain), as_node(group))


@operation
def fmeasure(output: OperandLike, target: OperandLike, beta: float = 1) -> Node:
    """1 minus the F-measure, for binary masks or for classes.

    F = (1 + beta²) P R / (beta² P + R), with precision P = sum(y t) / sum(y) and recall
    R = sum(y t) / sum(t), that is (1 + beta²) sum(y t) / (beta² sum(t) + sum(y)).

    Args:
        output, target: of the same shape. For (classes, height, width) there is a result for each
            class, of shape (classes, 1, 1); otherwise one for all elements, of shape ().
        beta: the weight of recall relative to precision.

    Source: CNTK's `fmeasure`.

    >>> round(float(C.fmeasure([1, 1, 1, 1], [1, 0, 1, 0]).eval()), 4)
    0.3333
    """
    y, t = as_node(output), as_node(target)
    hits, found, wanted = map(scoring.class_sum, (ops.element_times(y, t), y, t))
    both = ops.plus(ops.element_times(float(beta**2), wanted), found)
    return ops.minus(1.0, ops.element_divide(ops.element_times(1.0 + beta**2, hits), both))


@operation
def nce_loss(
    weights: OperandLike,
    biases: OperandLike,
    inputs: OperandLike,
    labels: OperandLike,
    noise_distribution: OperandLike,
    num_samples: int = 32,
    allow_duplicates: bool = True,
    seed: int | None = None,
) -> Node:
    """Noise contrastive estimation: trains a softmax over many classes by distinguishing the true
    class from `num_samples` random classes, the same ones for all samples.

    The logits are `times_transpose(inputs, weights) + reshape(biases, -1)`; use these, with a
    softmax, after training.

    Args:
        weights: a parameter of shape (classes, inputs).
        biases: a parameter of shape (classes, 1).
        inputs: a vector per sample.
        labels: one-hot vectors of shape (classes,).
        noise_distribution: an array of the probabilities of the random classes, all positive; they
            need not sum to 1.
        num_samples, allow_duplicates, seed: as for `random_sample`.

    Returns:
        one number per sample, of shape ().

    Source: Gutmann and Hyvärinen, 2010; Dyer, 2014; CNTK's `nce_loss`.

    >>> x, t = C.input_variable(3), C.input_variable(100)
    >>> W, b = C.Parameter((100, 3), init=C.glorot_uniform()), C.Parameter((100, 1))
    >>> C.nce_loss(W, b, x, t, np.ones(100)).shape
    ()
    """
    w, b, x, t = (as_node(v) for v in (weights, biases, inputs, labels))
    noise = np.asarray(getattr(as_node(noise_distribution), "value", None), float)
    if noise.ndim != 1 or not (noise > 0).all():
        raise GraphError("the noise distribution must be a constant vector of positive numbers")
    ops.times(w, x, output_rank=0)  # gives the weights' inferred dimension its size
    q = noise / noise.sum()
    log_prior = np.log(num_samples * q)
    entropy = float(np.sum(num_samples * q * log_prior))
    inverse = num_samples * q / sampling.inclusion(q, num_samples, allow_duplicates)
    fixed = [graph.Constant(v, None, w.dtype) for v in (q, log_prior, inverse)]
    sampling.seeds(seed)  # as in CNTK, the frequencies have one too
    drawn = sampling.random_sample(fixed[0], num_samples, allow_duplicates, seed)
    prior, factor = (ops.times(drawn, v, output_rank=0) for v in fixed[1:])
    some = ops.times_transpose(x, ops.times(drawn, w))
    scores = ops.plus(some, ops.reshape(ops.times(drawn, b), (-1,)))
    false = ops.reduce_sum(ops.element_times(factor, ops.log_add_exp(scores, prior)))
    own = ops.plus(
        ops.reduce_sum(ops.element_times(x, ops.times(t, w))), ops.reduce_sum(ops.times(t, b))
    )
    own_prior = ops.reduce_sum(ops.element_times(t, fixed[1]))
    true = ops.softplus(ops.minus(own_prior, own))
    return ops.plus(true, ops.minus(false, entropy))


def hierarchical_softmax_layer(
    input_var: Any, label_index: Any, label_dim: int, label_classes: int | None = None
) -> tuple[Any, Any, list[Any]]:
    """A hierarchical softmax: over groups of labels, then over the labels of a group.

    Args:
        input_var: a vector per sample, of known size.
        label_index: the number of the true label, of shape (1,).
        label_dim: the number of labels.
        label_classes: the number of groups; by default the square root of `label_dim`.

    Returns:
        the probability of the true label, of shape (1, 1); the probabilities of the groups; and a
        list with the probabilities of the labels of each group.

    Source: Morin and Bengio, 2005; CNTK's `hierarchical_softmax_layer`.

    >>> x, label = C.input_variable(2), C.input_variable(1)
    >>> p, groups, labels = C.hierarchical_softmax_layer(x, label, label_dim=9)
    >>> groups.shape, [g.shape for g in labels]
    ((3,), [(3,), (3,), (3,)])
    """
    size_in = input_var.shape[0]
    count = label_classes or math.ceil(math.sqrt(label_dim))
    size = math.ceil(label_dim / count)
    init = glorot_normal()
    w1 = Parameter((size_in, count), init, name="hsoftmax_w1")
    b1 = Parameter(count, init, name="hsoftmax_b1")
    w2 = Parameter((count, size_in, size), init, name="hsoftmax_w2s")
    b2 = Parameter((count, size), init, name="hsoftmax_b2s")
    groups = ops.softmax(b1 + ops.times(input_var, w1))

    def within(one_hot: Any) -> Any:
        weight = ops.reshape(ops.times(one_hot, w2, output_rank=2), (size_in, size))
        bias = ops.reshape(ops.times(one_hot, b2), (size,))
        return ops.softmax(bias + ops.times(input_var, weight))

    group = ops.floor((label_index + 0.5) / size)
    place = ops.round(label_index - group * size)
    group_one_hot = ops.reshape(ops.one_hot(group, count), (count,))
    place_one_hot = ops.reshape(ops.one_hot(place, size), (size,))
    of_group = ops.reduce_sum(groups * group_one_hot)
    of_place = ops.reduce_sum(within(group_one_hot) * place_one_hot)
    probability = ops.reshape(of_group * of_place, (1, 1))
    each = np.eye(count, dtype=np.float32)
    all_of_them = [within(constant(each[i])) * groups[i] for i in range(count)]
    return probability, groups, all_of_them


__all__: Sequence[str] = [
    "binary_cross_entropy",
    "cosine_distance",
    "cosine_distance_with_negative_samples",
    "cross_entropy_with_softmax",
    "fmeasure",
    "hierarchical_softmax_layer",
    "lambda_rank",
    "nce_loss",
    "squared_error",
    "weighted_binary_cross_entropy",
]
