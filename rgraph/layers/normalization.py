"""Batch normalization and layer normalization."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import INFERRED
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.variables import State
from .basic import weight


@overridable(
    "map_rank",
    "normalization_time_constant",
    "epsilon",
    "use_cntk_engine",
    "disable_regularization",
)
def BatchNormalization(
    map_rank: int | None = None,
    init_scale: Any = 1,
    normalization_time_constant: float = 5000,
    blend_time_constant: float = 0,
    epsilon: float = 0.00001,
    use_cntk_engine: bool = False,
    disable_regularization: bool = False,
    name: str = "",
) -> Function:
    """Batch normalization: by minibatch statistics in training, otherwise by running statistics.

    Args:
        map_rank: 1 for images, with a mean and variance per channel; None for one per element.
        init_scale: the initial value of `scale`.
        normalization_time_constant: the time constant of the running statistics, in samples.
        epsilon: added to the variance.
        blend_time_constant, use_cntk_engine, disable_regularization: as for
            `batch_normalization`.

    Parameters: `scale` and `bias`. Running statistics: `aggregate_mean`, `aggregate_variance` and
    `aggregate_count`, the number of samples in them. All but the count have one number per channel
    or element.

    Source: Ioffe and Szegedy, 2015; CNTK's `BatchNormalization`.

    >>> f = C.layers.BatchNormalization(map_rank=1)
    >>> f(C.input_variable((3, 48, 64))).shape
    (3, 48, 64)
    >>> f.scale.shape
    (3,)
    """
    if map_rank not in (None, 1):
        raise NotImplementedError(f"BatchNormalization: map_rank must be 1 or None, got {map_rank}")
    scale = weight(INFERRED, init=init_scale, name="scale")
    bias = weight(INFERRED, init=0, name="bias")
    mean = State(INFERRED, name="aggregate_mean")
    variance = State(INFERRED, name="aggregate_variance")
    count = State((), name="aggregate_count")

    @BlockFunction("BatchNormalization", name)
    def normalize(x: Any) -> Any:
        return ops.batch_normalization(
            x,
            scale,
            bias,
            mean,
            variance,
            map_rank == 1,
            normalization_time_constant,
            blend_time_constant,
            epsilon,
            not use_cntk_engine,
            disable_regularization,
            running_count=count,
        )

    return normalize


@overridable("epsilon")
def LayerNormalization(
    initial_scale: Any = 1, initial_bias: Any = 0, epsilon: float = 0.00001, name: str = ""
) -> Function:
    """(x - mean) / (standard deviation + epsilon) * scale + bias, over all elements of a sample.

    Parameters: `scale` and `bias`, of the size of the input's last axis.

    Source: Ba, Kiros and Hinton, 2016; CNTK's `LayerNormalization`.

    >>> f = C.layers.LayerNormalization(initial_scale=2, initial_bias=1)
    >>> f(C.constant([4, 0, 0, 4])).eval().round(3)
    array([ 3., -1., -1.,  3.], dtype=float32)
    """
    scale = weight(INFERRED, init=initial_scale, name="scale")
    bias = weight(INFERRED, init=initial_bias, name="bias")

    @BlockFunction("LayerNormalization", name)
    def normalize(x: Any) -> Any:
        centered = x - ops.reduce_mean(x)
        deviation = ops.sqrt(ops.reduce_mean(ops.square(centered))) + epsilon
        return centered / deviation * scale + bias

    return normalize
