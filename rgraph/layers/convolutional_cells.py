"""Recurrent cells that convolve where ordinary ones multiply by matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import INFERRED, GraphError
from ..graph.types import ShapeLike
from ..model.building import BlockFunction
from ..model.function import Function
from ..ops.shaping import as_size
from .basic import GLOROT, weight
from .convolutional import kernel_init

EPSILON = 1e-5  # added to a variance


class _Cell:
    """What the cells share: convolutions whose output channels are those of all gates."""

    def __init__(
        self,
        kind: str,
        filter_shape: ShapeLike,
        num_filters: Any,
        gates: int,
        init: Any,
        init_bias: Any,
        recurrent_dropout: float,
        layer_normalization: bool,
    ) -> None:
        self.kind, self.size = kind, as_size(filter_shape, "filter_shape")
        if len(self.size) not in (1, 2, 3):
            raise GraphError(f"{kind}: a filter has one to three axes, got {self.size}")
        if any(n % 2 == 0 for n in self.size):
            raise GraphError(
                f"{kind}: filters of even size {self.size} shift a state in each step",
                hint="use odd sizes",
            )
        if not 0 <= recurrent_dropout < 1:
            got = f"{recurrent_dropout!r:.60}"
            raise GraphError(f"{kind}: recurrent_dropout is at least 0 and below 1, got {got}")
        (self.filters,) = as_size(num_filters, "num_filters")
        self.init, self.rate, self.normalized = init, recurrent_dropout, layer_normalization
        self.W = self.convolution("W", INFERRED, gates)
        self.b = self.of_channel("b", gates, init_bias)

    def convolution(self, name: str, inputs: int, gates: int) -> Callable[[Any], Any]:
        """A convolution with kernels of its own to the channels of some gates."""
        shape = gates * self.filters, inputs, *self.size
        kernel = weight(shape, init=kernel_init(self.init, shape, 1), name=name)
        padding = [False, *[True] * len(self.size)]
        normalize = self.normalization(name, gates)
        return lambda x: normalize(ops.convolution(kernel, x, auto_padding=padding))

    def normalization(self, of: str, gates: int = 1) -> Callable[[Any], Any]:
        """Over all channels and positions of a frame, with a scale for each channel."""
        if not self.normalized:
            return lambda x: x
        scale = self.of_channel(f"{of}_scale", gates, 1)

        def normalize(x: Any) -> Any:
            centered = x - ops.reduce_mean(x)
            variance = ops.reduce_mean(ops.square(centered))
            return centered / ops.sqrt(variance + EPSILON) * scale

        return normalize

    def of_channel(self, name: str, gates: int, init: Any) -> Any:
        return weight((gates * self.filters, *[1] * len(self.size)), init=init, name=name)

    def of_state(self, name: str) -> Any:
        """A weight for each element of a state."""
        shape = self.filters, *[INFERRED] * len(self.size)
        return weight(shape, init=0.0, name=name)

    def gate(self, total: Any, i: int, count: int = 1) -> Any:
        return ops.slice(total, 0, i * self.filters, (i + count) * self.filters)

    def dropped(self, h: Any, from_input: Any) -> Any:
        """A state as the convolutions see it: the same part of it is dropped at every frame."""
        if not self.rate:
            return h
        one = ops.ones_like(ops.sequence.first(self.gate(from_input, 0)))
        kept = ops.dropout(one, self.rate, name="recurrent_dropout")
        return h * ops.sequence.broadcast_as(kept, from_input)


@overridable("activation", "init", "init_bias")
def ConvolutionalLSTM(
    filter_shape: int | Sequence[int],
    num_filters: int,
    activation: Callable[[Any], Any] = ops.tanh,
    use_peepholes: bool = False,
    init: Any = GLOROT,
    init_bias: Any = 0,
    name: str = "",
    *,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
) -> Function:
    """One step of a convolutional LSTM, `(h, c, x) -> (h, c)`, for `Recurrence`.

    Args:
        filter_shape: the kernels' size, in one, two or three dimensions; odd.
        num_filters: the channels F of the states, which are as large as the frames.
        activation: of the new input and of the cells.
        use_peepholes: whether the gates see the cells, each element with a weight of its own.
        init, init_bias: initial values of kernels and biases.
        recurrent_dropout: in training, the part of h that the convolutions see as 0, the rest
            scaled up: drawn for each sequence, and the same at all its frames. It needs a
            sequence for its input.
        layer_normalization: whether what each convolution gives, and the cells on their way to h,
            is normalized over all channels and positions of the frame.

    Its parameters: `W` (4 F, input channels, *size), `H` (4 F, F, *size) and `b` (4 F, 1, …), the
    gates in the order input, new value, forget, output; `Ci`, `Cf`, `Co` (F, *frame) with
    peepholes, which begin with 0; with layer normalization a scale for each channel, `W_scale` and
    `H_scale` (4 F, 1, …), `c_scale` and, added to it, `c_bias` (F, 1, …).

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

    def gate(total: Any, i: int, peephole: int, c: Any) -> Any:
        seen = cell.gate(total, i)
        return ops.sigmoid(seen + peepholes[peephole] * c if peepholes else seen)

    @BlockFunction("ConvolutionalLSTM", name)
    def conv_lstm(dh: Any, dc: Any, x: Any) -> Any:
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
    activation: Callable[[Any], Any] = ops.tanh,
    init: Any = GLOROT,
    init_bias: Any = 0,
    name: str = "",
    *,
    recurrent_dropout: float = 0.0,
    layer_normalization: bool = False,
) -> Function:
    """One step of a convolutional GRU, `(h, x) -> h`; options as `ConvolutionalLSTM`.

    Its parameters: `W` (3 F, input channels, *size) and `b` (3 F, 1, …), the gates in the order
    update, reset, new value; `H` (2 F, F, *size) and `H1` (F, F, *size); with layer normalization
    a scale for each channel that these give, `W_scale`, `H_scale` and `H1_scale`.

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
    def conv_gru(dh: Any, x: Any) -> Any:
        from_input = cell.b + cell.W(x)
        seen = cell.dropped(dh, from_input)
        gates = ops.sigmoid(cell.gate(from_input, 0, 2) + H(seen))
        update, reset = cell.gate(gates, 0), cell.gate(gates, 1)
        new = activation(cell.gate(from_input, 2) + H1(reset * seen))
        return update * dh + (1 - update) * new

    return conv_gru
