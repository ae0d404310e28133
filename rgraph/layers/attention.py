"""The attention model of Bahdanau et al."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import Axis
from ..graph.types import OperandLike
from ..model.building import BlockFunction
from ..model.function import Function
from .basic import GLOROT, Dense, Label
from .blocks import Stabilizer
from .sequence import PastValueWindow


@overridable("init", "go_backwards", "enable_self_stabilization")
def AttentionModel(
    attention_dim: int,
    attention_span: int | None = None,
    attention_axis: int | Axis | None = None,
    init: Any = GLOROT,
    go_backwards: bool = False,
    enable_self_stabilization: bool = True,
    name: str = "",
) -> Function:
    """Additive attention: for each decoder state a weighted mean of the encoder's states.

    Args:
        attention_dim: the size of the vectors that the scores are computed from.
        attention_span: the number of last encoder states to attend to; by default all.
        attention_axis: the static axis, -2 or lower, along which these states are stacked;
            required with `attention_span`. The result keeps this axis and those after it, with
            size 1.
        go_backwards: whether to attend to the first encoder states instead.
        init: the initial values of the three projections.
        enable_self_stabilization: whether the inputs of the projections pass through a
            `Stabilizer`.

    Returns:
        a function `f(encoder states, decoder state)` of a sequence of vectors and a vector (per
        sample, or per frame of another sequence). Its result has the shape (n,) of an encoder
        state, or (1, …, n) with an `attention_axis`. The weights are named `attention_weights`.

    Source: Bahdanau et al., 2015; CNTK's `AttentionModel`.

    >>> encoded = C.sequence.input_variable(5, sequence_axis=C.Axis("encoder"))
    >>> decoded = C.sequence.input_variable(4, sequence_axis=C.Axis("decoder"))
    >>> C.layers.AttentionModel(8)(encoded, decoded).shape
    (5,)
    """
    if (attention_span is None) != (attention_axis is None):
        raise ValueError("AttentionModel: give attention_span and attention_axis, or neither")
    if attention_span is not None and attention_span <= 0:
        raise ValueError(f"AttentionModel: attention_span must be positive, got {attention_span}")
    if isinstance(attention_axis, Axis):
        attention_axis = attention_axis.static_axis_index()

    def stabilizer() -> Function:
        return Stabilizer(enable_self_stabilization=enable_self_stabilization)

    def projection(size: int) -> Function:
        return stabilizer() >> Dense(size, None, init, input_rank=1, bias=False)

    of_encoder, of_decoder = projection(attention_dim), projection(attention_dim)
    score, last = projection(1), stabilizer()

    def states(encoder: Any) -> tuple[Any, Any]:
        """The encoder's states along a new first axis, and a mask of those that exist."""
        if attention_span is None:
            values, valid = ops.sequence.unpack(encoder, 0).outputs
            return values, ops.reshape(valid, (1,), begin_axis=1, end_axis=1)
        window = PastValueWindow(attention_span, -2, go_backwards=go_backwards)
        values, valid = window(encoder).outputs
        ones = (1,) * (-2 - attention_axis)
        return tuple(ops.reshape(v, ones, begin_axis=1, end_axis=1) for v in (values, valid))

    @BlockFunction("AttentionModel", name)
    def attend(encoder: OperandLike, decoder: OperandLike) -> Any:
        values, valid = states(encoder)
        # Values per sequence are broadcast to each of the decoder's frames.
        fit = score(ops.tanh(of_decoder(decoder) + of_encoder(values)))
        weights = ops.softmax(ops.element_select(valid, fit, -1e30), axis=0)
        weights = Label("attention_weights")(weights)
        return last(ops.reduce_sum(weights * values, axis=0, keepdims=attention_axis is not None))

    return attend
