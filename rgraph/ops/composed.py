"""Operations composed of others: sums and means of operands, normalization of each sample."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import GraphError, Node
from ..graph.types import OperandLike
from .arithmetic import clip, element_divide, element_times, exp, log, minus, plus, sqrt, square
from .comparison import greater, stop_gradient
from .poolings import AVG_POOLING, pooling
from .records import as_node, operation
from .reductions import over_space, reduce_mean


@operation
def sum(*operands: OperandLike) -> Node:
    """The sum of operands, with broadcasting.

    >>> C.sum([1, 2], [3, 4], 5).eval()
    array([ 9., 11.], dtype=float32)
    """
    nodes = [as_node(o) for o in operands]
    return nodes[0] if len(nodes) == 1 else plus(*nodes)


@operation
def mean(*operands: OperandLike) -> Node:
    """The element-wise mean of operands, with broadcasting.

    >>> C.mean([1, 2], [3, 4]).eval()
    array([2., 3.], dtype=float32)
    """
    nodes = [as_node(o) for o in operands]
    total = nodes[0] if len(nodes) == 1 else plus(*nodes)
    return element_divide(total, float(len(nodes)))


@operation
def per_dim_mean_variance_normalize(
    operand: OperandLike, mean: OperandLike, inv_stddev: OperandLike
) -> Node:
    """(operand - mean) * inv_stddev, for each element.

    >>> C.per_dim_mean_variance_normalize([3, 1], [2, 2], [0.5, 0.5]).eval()
    array([ 0.5, -0.5], dtype=float32)
    """
    return element_times(minus(as_node(operand), as_node(mean)), as_node(inv_stddev))


@operation
def mean_variance_normalization(
    operand: OperandLike,
    epsilon: float = 0.00001,
    use_stats_across_channels: bool = False,
    do_variance_scaling: bool = True,
) -> Node:
    """(operand - mean) / (standard deviation + epsilon), with the statistics of each sample.

    Args:
        operand: shape (channels, height, width).
        use_stats_across_channels: whether all channels share a mean and standard deviation.
        do_variance_scaling: False only subtracts the mean.

    Source: CNTK's `mean_variance_normalization`.

    >>> C.mean_variance_normalization([[[0.0, 2], [4, 6]]], do_variance_scaling=False).eval()
    array([[[-3., -1.],
            [ 1.,  3.]]], dtype=float32)
    """
    if epsilon < 0:
        raise ValueError(f"epsilon must not be negative, got {epsilon}")
    x = as_node(operand)

    def average(value: Node) -> Node:
        return reduce_mean(value) if use_stats_across_channels else over_space(value, "reduce_mean")

    centered = minus(x, average(x))
    if not do_variance_scaling:
        return centered
    return element_divide(centered, plus(sqrt(average(square(centered))), epsilon))


@operation
def local_response_normalization(
    operand: OperandLike, depth_radius: int, bias: float, alpha: float, beta: float
) -> Node:
    """Divides by (bias + alpha * m) ** beta, with the mean square m over neighboring channels.

    Args:
        operand: shape (channels, height, width).
        depth_radius: the number of neighboring channels on each side; channels outside the range
            count as zeros.

    Source: Krizhevsky et al., 2012, section 3.3; CNTK's `local_response_normalization`.

    >>> C.local_response_normalization([[[3.0]], [[4.0]]], 1, 0, 3, 0.5).eval().ravel()
    array([0.6, 0.8], dtype=float32)
    """
    x = as_node(operand)
    if x.shape is not None and len(x.shape) != 3:
        raise GraphError(f"images must have shape (channels, height, width), got {x.shape}")
    window = (2 * int(depth_radius) + 1, 1, 1)
    near = pooling(
        square(x), AVG_POOLING, window, auto_padding=[True, False, False], include_pad=True
    )
    return element_divide(x, exp(element_times(log(plus(element_times(near, alpha), bias)), beta)))


@operation
def straight_through_impl(x: OperandLike) -> Node:
    """1 where `x` is positive, else -1; gradients pass unchanged where `x` is from -1 to 1.

    Source: Hubara et al., 2016; CNTK's `straight_through_impl`.

    >>> C.straight_through_impl([-3, 0, 2]).eval()
    array([-1., -1.,  1.], dtype=float32)
    """
    x = as_node(x)
    passed = clip(x, -1.0, 1.0)
    binary = minus(element_times(2.0, greater(x, 0.0)), 1.0)
    return plus(binary, minus(passed, stop_gradient(passed)))


@operation
def image_scaler(x: OperandLike, scalar: float, biases: Sequence[float]) -> Node:
    """Multiplies images by a number, and adds a number to each channel.

    Args:
        x: shape (channels, height, width).
        biases: one number per channel.

    Source: CNTK's `image_scaler`.

    >>> C.image_scaler([[[1.0, 2.0]]], 2, [0.5]).eval()
    array([[[2.5, 4.5]]], dtype=float32)
    """
    shifts = [[[float(b)]] for b in biases]
    return plus(element_times(as_node(x), float(scalar)), shifts)
