"""Recurrent cells with convolutions in place of matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import INFERRED, GraphError
from ..graph.types import OperandLike, ShapeLike
from ..model.building import BlockFunction
from ..model.function import Function
from ..ops.shaping import as_size
from .basic import GLOROT, weight
from .convolutional import kernel_init

EPSILON = 1e-5  # added to the variance


class _Cell:
    """Common parts of the cells: convolutions that compute the channels of all gates."""

    def __init__(
        self,
        kind: str,
        filter_shape: ShapeLike,
        num_filters: Any,
        gates: int,
        init: object,
        init_bias: object,
        recurrent_dropout: float,
        layer_normalization: bool,
    ) -> None:
        self.kind, self.size = kind, as_size(filter_shape, "filter_shape")
        if len(self.size) not in (1, 2, 3):
            raise GraphError(f"{kind}: filter_shape must have one to three axes, got {self.size}")
        if any(n % 2 == 0 for n in self.size):
            raise GraphError(
                f"{kind}: filters of even size {self.size} would shift the state in each step",
                hint="use odd sizes",
            )
        if not 0 <= recurrent_dropout < 1:
            got = f"{recurrent_dropout!r:.60}"
            raise GraphError(f"{kind}: recurrent_dropout must be at least 0 and below 1, got {got}")
        (self.filters,) = as_size(num_filters, "num_filters")
        self.init, self.rate, self.normalized = init, recurrent_dropout, layer_normalization
        self.W = self.convolution("W", INFERRED, gates)
        self.b = self.of_channel("b", gates, init_bias)

    def convolution(self, name: str, inputs: int, gates: int) -> Callable[[Any], Any]:
        """A convolution, with its own kernels, to the channels of `gates` gates."""
        shape = gates * self.filters, inputs, *self.size
        kernel = weight(shape, init=kernel_init(self.init, shape, 1), name=name)
        padding = [False, *[True] * len(self.size)]
        normalize = self.normalization(name, gates)
        return lambda x: normalize(ops.convolution(kernel, x, auto_padding=padding))

    def normalization(self, of: str, gates: int = 1) -> Callable[[Any], Any]:
        """Layer normalization over channels and positions, with a scale for each channel."""
        if not self.normalized:
            return lambda x: x
        scale = self.of_channel(f"{of}_scale", gates, 1)

        def normalize(x: Any) -> Any:
            centered = x - ops.reduce_mean(x)
            variance = ops.reduce_mean(ops.square(centered))
            return centered / ops.sqrt(variance + EPSILON) * scale

        return normalize

    def of_channel(self, name: str, gates: int, init: object) -> Any:
        return weight((gates * self.filters, *[1] * len(self.size)), init=init, name=name)

    def of_state(self, name: str) -> Any:
        """A weight for each element of the state."""
        shape = self.filters, *[INFERRED] * len(self.size)
        return weight(shape, init=0.0, name=name)

    def gate(self, total: Any, i: int, count: int = 1) -> Any:
        return ops.slice(total, 0, i * self.filters, (i + count) * self.filters)

    def dropped(self, h: OperandLike, from_input: object) -> Any:
        """The state with recurrent dropout: the same elements are dropped at every frame."""
        if not self.rate:
            return h
        one = ops.ones_like(ops.sequence.first(self.gate(from_input, 0)))
        kept = ops.dropout(one, self.rate, name="recurrent_dropout")
        return h * ops.sequence.broadcast_as(kept, from_input)


@overridable("activation", "init", "init_bias")
def ConvolutionalLSTM(
    filter_shape: int | Sequence[int],
    num_filters: int,
    activation: Callable[[Any], object] = ops.tanh,
    use_peepholes: bool = False,
    init: object = GLOROT,
    init_bias: object = 0,
    name: str = "",
    *,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
) -> Function:
    """One step of a convolutional LSTM, `(h, c, x) -> (h, c)`, for `Recurrence`.

    Args:
        filter_shape: the size of the kernels, with one to three axes; all sizes must be odd.
        num_filters: the number F of channels of the states, which have the size of a frame.
        activation: the activation function of the candidate cells and of the output.
        use_peepholes: whether the gates also depend on the cells, with a weight per element.
        init, init_bias: the initial values of kernels and biases.
        recurrent_dropout: the probability that an element of h is dropped in training before the
            convolutions; the others are scaled up. The same elements are dropped at all frames of
            a sequence. The input must be a sequence.
        layer_normalization: whether to normalize the results of the convolutions, and the cells
            before the output, over all channels and positions of a frame.

    Parameters: `W` (4 F, input channels, *size), `H` (4 F, F, *size) and `b` (4 F, 1, …), with
    gates in the order input, candidate, forget, output; with peepholes `Ci`, `Cf`, `Co`
    (F, *frame), initially 0; with layer normalization the scales of channels `W_scale` and
    `H_scale` (4 F, 1, …), `c_scale` and the bias `c_bias` (F, 1, …).

    Source: Shi et al., 2015, "Convolutional LSTM network: a machine learning approach for
    precipitation nowcasting"; Gal and Ghahramani, 2016, "A theoretically grounded application of
    dropout in recurrent neural networks"; Ba, Kiros and Hinton, 2016, "Layer normalization".

    >>> x = C.sequence.input_variable((3, 24, 32))
    >>> C.layers.Recurrence(C.layers.ConvolutionalLSTM((3, 3), 16))(x).shape
    (16, 24, 32)
    """
    cell = _Cell(
        "ConvolutionalLSTM", filter_shape, num_filters, 4, init, init_bias,
        recurrent_dropout, layer_normalization,
    )  # fmt: skip
    H = cell.convolution("H", cell.filters, 4)
    peepholes = [cell.of_state(n) for n in ("Ci", "Cf", "Co")] if use_peepholes else []
    normalize_c = cell.normalization("c")
    c_bias = cell.of_channel("c_bias", 1, 0) if layer_normalization else 0

    def gate(total: OperandLike, i: int, peephole: int, c: OperandLike) -> Any:
        seen = cell.gate(total, i)
        return ops.sigmoid(seen + peepholes[peephole] * c if peepholes else seen)

    @BlockFunction("ConvolutionalLSTM", name)
    def conv_lstm(dh: OperandLike, dc: OperandLike, x: OperandLike) -> Any:
        from_input = cell.b + cell.W(x)
        total = from_input + H(cell.dropped(dh, from_input))
        c = gate(total, 2, 1, dc) * dc + gate(total, 0, 0, dc) * activation(cell.gate(total, 1))
        seen = normalize_c(c) + c_bias if layer_normalization else c
        return gate(total, 3, 2, c) * activation(seen), c

    return conv_lstm


@overridable("activation", "init", "init_bias")
def ConvolutionalGRU(
    filter_shape: int | Sequence[int],
    num_filters: int,
    activation: Callable[[Any], object] = ops.tanh,
    init: object = GLOROT,
    init_bias: object = 0,
    name: str = "",
    *,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
) -> Function:
    """One step of a convolutional GRU, `(h, x) -> h`; options as for `ConvolutionalLSTM`.

    Parameters: `W` (3 F, input channels, *size) and `b` (3 F, 1, …), with gates in the order
    update, reset, candidate; `H` (2 F, F, *size) and `H1` (F, F, *size); with layer normalization
    the scales of their output channels, `W_scale`, `H_scale` and `H1_scale`.

    Source: Ballas et al., 2016, "Delving deeper into convolutional networks for learning video
    representations".

    >>> x = C.sequence.input_variable((3, 24, 32))
    >>> C.layers.Recurrence(C.layers.ConvolutionalGRU((3, 3), 16))(x).shape
    (16, 24, 32)
    """
    cell = _Cell(
        "ConvolutionalGRU", filter_shape, num_filters, 3, init, init_bias,
        recurrent_dropout, layer_normalization,
    )  # fmt: skip
    H, H1 = cell.convolution("H", cell.filters, 2), cell.convolution("H1", cell.filters, 1)

    @BlockFunction("ConvolutionalGRU", name)
    def conv_gru(dh: OperandLike, x: OperandLike) -> Any:
        from_input = cell.b + cell.W(x)
        seen = cell.dropped(dh, from_input)
        gates = ops.sigmoid(cell.gate(from_input, 0, 2) + H(seen))
        update, reset = cell.gate(gates, 0), cell.gate(gates, 1)
        new = activation(cell.gate(from_input, 2) + H1(reset * seen))
        return update * dh + (1 - update) * new

    return conv_gru
