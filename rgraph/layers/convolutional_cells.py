"""Recurrent cells that convolve where ordinary ones multiply by matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import INFERRED, GraphError
from ..model.building import BlockFunction
from ..model.function import Function
from ..ops.shaping import as_size
from .basic import GLOROT, weight
from .convolutional import kernel_init


class _Cell:
    """What the cells share: kernels whose output channels are those of all gates."""

    def __init__(
        self, kind: str, filter_shape: Any, num_filters: Any, gates: int, init: Any, init_bias: Any
    ) -> None:
        self.kind, self.size = kind, as_size(filter_shape, "filter_shape")
        if len(self.size) not in (1, 2, 3):
            raise GraphError(f"{kind}: a filter has one to three axes, got {self.size}")
        if any(n % 2 == 0 for n in self.size):
            raise GraphError(
                f"{kind}: filters of even size {self.size} shift a state in each step",
                hint="use odd sizes",
            )
        (self.filters,) = as_size(num_filters, "num_filters")
        self.init = init
        self.W = self.kernel("W", INFERRED, gates)
        self.b = weight((gates * self.filters, *[1] * len(self.size)), init=init_bias, name="b")

    def kernel(self, name: str, inputs: int, gates: int) -> Any:
        shape = gates * self.filters, inputs, *self.size
        return weight(shape, init=kernel_init(self.init, shape, 1), name=name)

    def of_state(self, name: str) -> Any:
        """A weight for each element of a state."""
        shape = self.filters, *[INFERRED] * len(self.size)
        return weight(shape, init=0.0, name=name)

    def convolved(self, kernel: Any, x: Any) -> Any:
        return ops.convolution(kernel, x, auto_padding=[False, *[True] * len(self.size)])

    def gate(self, total: Any, i: int, count: int = 1) -> Any:
        return ops.slice(total, 0, i * self.filters, (i + count) * self.filters)


@overridable("activation", "init", "init_bias")
def ConvolutionalLSTM(
    filter_shape: int | Sequence[int],
    num_filters: int,
    activation: Callable[[Any], Any] = ops.tanh,
    use_peepholes: bool = False,
    init: Any = GLOROT,
    init_bias: Any = 0,
    name: str = "",
) -> Function:
    """One step of a convolutional LSTM, `(h, c, x) -> (h, c)`, for `Recurrence`.

    Args:
        filter_shape: the kernels' size, in one, two or three dimensions; odd.
        num_filters: the channels F of the states, which are as large as the frames.
        activation: of the new input and of the cells.
        use_peepholes: whether the gates see the cells, each element with a weight of its own.
        init, init_bias: initial values of kernels and biases.

    Its parameters: `W` (4 F, input channels, *size), `H` (4 F, F, *size) and `b` (4 F, 1, …), the
    gates in the order input, new value, forget, output; `Ci`, `Cf`, `Co` (F, *frame) with
    peepholes, which begin with 0.

    Source: Shi et al., 2015, "Convolutional LSTM network: a machine learning approach for
    precipitation nowcasting".

    >>> x = C.sequence.input_variable((3, 24, 32))
    >>> C.layers.Recurrence(C.layers.ConvolutionalLSTM((3, 3), 16))(x).shape
    (16, 24, 32)
    """
    cell = _Cell("ConvolutionalLSTM", filter_shape, num_filters, 4, init, init_bias)
    H = cell.kernel("H", cell.filters, 4)
    peepholes = [cell.of_state(n) for n in ("Ci", "Cf", "Co")] if use_peepholes else []

    def gate(total: Any, i: int, peephole: int, c: Any) -> Any:
        seen = cell.gate(total, i)
        return ops.sigmoid(seen + peepholes[peephole] * c if peepholes else seen)

    @BlockFunction("ConvolutionalLSTM", name)
    def conv_lstm(dh: Any, dc: Any, x: Any) -> Any:
        total = cell.b + cell.convolved(cell.W, x) + cell.convolved(H, dh)
        c = gate(total, 2, 1, dc) * dc + gate(total, 0, 0, dc) * activation(cell.gate(total, 1))
        return gate(total, 3, 2, c) * activation(c), c

    return conv_lstm


@overridable("activation", "init", "init_bias")
def ConvolutionalGRU(
    filter_shape: int | Sequence[int],
    num_filters: int,
    activation: Callable[[Any], Any] = ops.tanh,
    init: Any = GLOROT,
    init_bias: Any = 0,
    name: str = "",
) -> Function:
    """One step of a convolutional GRU, `(h, x) -> h`; options as `ConvolutionalLSTM`.

    Its parameters: `W` (3 F, input channels, *size) and `b` (3 F, 1, …), the gates in the order
    update, reset, new value; `H` (2 F, F, *size) and `H1` (F, F, *size).

    Source: Ballas et al., 2016, "Delving deeper into convolutional networks for learning video
    representations".

    >>> x = C.sequence.input_variable((3, 24, 32))
    >>> C.layers.Recurrence(C.layers.ConvolutionalGRU((3, 3), 16))(x).shape
    (16, 24, 32)
    """
    cell = _Cell("ConvolutionalGRU", filter_shape, num_filters, 3, init, init_bias)
    H, H1 = cell.kernel("H", cell.filters, 2), cell.kernel("H1", cell.filters, 1)

    @BlockFunction("ConvolutionalGRU", name)
    def conv_gru(dh: Any, x: Any) -> Any:
        total = cell.b + cell.convolved(cell.W, x)
        gates = ops.sigmoid(cell.gate(total, 0, 2) + cell.convolved(H, dh))
        update, reset = cell.gate(gates, 0), cell.gate(gates, 1)
        new = activation(cell.gate(total, 2) + cell.convolved(H1, reset * dh))
        return update * dh + (1 - update) * new

    return conv_gru
