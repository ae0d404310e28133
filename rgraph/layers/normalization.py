"""Layers that normalize."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..default_options import overridable
from ..function import BlockFunction, Function
from ..graph import INFERRED
from ..variables import Parameter


@overridable("epsilon")
def LayerNormalization(
    initial_scale: Any = 1, initial_bias: Any = 0, epsilon: float = 0.00001, name: str = ""
) -> Function:
    """(x - mean) / (standard deviation + epsilon) * scale + bias, over each sample's elements.

    Its parameters are `scale` and `bias`, of the length of the input's last axis.

    Source: Ba, Kiros and Hinton, 2016; CNTK's `LayerNormalization`.

    >>> f = C.layers.LayerNormalization(initial_scale=2, initial_bias=1)
    >>> f(C.constant([4, 0, 0, 4])).eval().round(3)
    array([ 3., -1., -1.,  3.], dtype=float32)
    """
    scale = Parameter(INFERRED, init=initial_scale, name="scale")
    bias = Parameter(INFERRED, init=initial_bias, name="bias")

    @BlockFunction("LayerNormalization", name)
    def normalize(x: Any) -> Any:
        centered = x - ops.reduce_mean(x)
        deviation = ops.sqrt(ops.reduce_mean(ops.square(centered))) + epsilon
        return centered / deviation * scale + bias

    return normalize
