"""Stacks of recurrent layers with all weights in one parameter, in cuDNN's layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import ops
from ..graph import INFERRED, GraphError
from ..graph.types import OperandLike
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.variables import Constant
from ..ops.records import as_node, hold
from ..ops.shaping import require_vector
from .sequence import Recurrence

_GATES = {"lstm": 4, "gru": 3, "rnnReLU": 1, "rnnTanh": 1}


def _sums(x: Any, w: Any, b: Any, gates: int) -> list[Any]:
    """The weighted sums of the gates, as a list."""
    total = ops.times_transpose(x, w) + b
    size = b.shape[0] // gates
    return [ops.slice(total, -1, i * size, (i + 1) * size) for i in range(gates)]


def _lstm(w: object, r: object, b: object, c: OperandLike) -> Callable[..., Any]:
    def step(h: OperandLike, cell: object, x: OperandLike) -> Any:
        pairs = zip(_sums(x, w, b, 4), _sums(h, r, c, 4), strict=True)
        i, f, new, o = (own + before for own, before in pairs)
        cell = ops.sigmoid(f) * cell + ops.sigmoid(i) * ops.tanh(new)
        return ops.sigmoid(o) * ops.tanh(cell), cell

    return step


def _gru(w: object, r: object, b: object, c: OperandLike) -> Callable[..., Any]:
    def step(h: OperandLike, x: OperandLike) -> Any:
        (reset, keep, new), (reset_h, keep_h, new_h) = _sums(x, w, b, 3), _sums(h, r, c, 3)
        keep = ops.sigmoid(keep + keep_h)
        new = ops.tanh(new + ops.sigmoid(reset + reset_h) * new_h)
        return (1 - keep) * new + keep * h

    return step


def _simple(activation: Callable[..., object]) -> Callable[..., Any]:
    def cell(w: object, r: object, b: object, c: OperandLike) -> Callable[..., Any]:
        return lambda h, x: activation(
            ops.times_transpose(x, w) + b + ops.times_transpose(h, r) + c
        )

    return cell


_CELLS = {"lstm": _lstm, "gru": _gru, "rnnReLU": _simple(ops.relu), "rnnTanh": _simple(ops.tanh)}


def optimized_rnnstack(
    operand: Any,
    weights: object,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool = False,
    recurrent_op: str = "lstm",
    name: str = "",
) -> Function:
    """A stack of recurrent layers with all weights in one parameter.

    Args:
        operand: a sequence of vectors.
        weights: a matrix with as many elements as there are weights; its number of rows may be
            `C.InferredDimension`. The order is cuDNN's: for each layer and direction the weights
            of the input and of the state, (gates * hidden_size, size) each; after those of all
            layers the two biases of each layer and direction. The gates of an LSTM are in the
            order input, forget, candidate, output; those of a GRU reset, update, candidate.
        hidden_size: the size of the state of each layer and direction.
        bidirectional: whether each layer also runs backwards; both results are concatenated.
        recurrent_op: "lstm", "gru", "rnnReLU" or "rnnTanh".

    CNTK needs a GPU and cuDNN for it; here it runs on every device.

    Raises:
        GraphError: `weights` has the wrong number of elements, or an option is invalid.

    Source: CNTK's `optimized_rnnstack`; the formulas are cuDNN's.

    >>> x = C.sequence.input_variable(3)
    >>> w = C.Parameter((C.InferredDimension, 4), init=C.glorot_uniform())
    >>> C.optimized_rnnstack(x, w, hidden_size=5, num_layers=2, bidirectional=True).shape
    (10,)
    """
    if recurrent_op not in _GATES:
        raise GraphError(f"recurrent_op must be one of {', '.join(_GATES)}, got {recurrent_op!r}")
    if hidden_size < 1 or num_layers < 1:
        raise GraphError(
            f"num_layers and hidden_size must be positive, got {num_layers} and {hidden_size}"
        )
    x = hold(require_vector(operand, "optimized_rnnstack"))
    directions, gates = 1 + bool(bidirectional), _GATES[recurrent_op]
    rows = gates * hidden_size
    sizes = [x.shape[0], *[hidden_size * directions] * (num_layers - 1)]
    total = sum(directions * rows * (n + hidden_size + 2) for n in sizes)
    take = _taken(weights, total)

    @BlockFunction("OptimizedRNNStack", name)
    def stack(x: OperandLike) -> Any:
        matrices = [
            [(take(rows, n), take(rows, hidden_size)) for _ in range(directions)] for n in sizes
        ]
        for layer in matrices:
            vectors = [(take(rows), take(rows)) for _ in layer]
            steps = [_CELLS[recurrent_op](*m, *v) for m, v in zip(layer, vectors, strict=True)]
            ways = [Recurrence(s, go_backwards=i == 1)(x) for i, s in enumerate(steps)]
            x = ops.splice(*ways) if bidirectional else ways[0]
        return x

    return stack(x)


def _taken(weights: Any, total: int) -> Callable[..., Any]:
    """A function that returns the next part of the weights in a given shape."""
    node = as_node(weights)
    shape = node.shape or ()
    width = shape[-1] if shape and shape[-1] > 0 else total
    if total % width or INFERRED not in shape and math.prod(shape) != total:
        raise GraphError(
            f"these layers have {total} weights in all, but weights has shape {shape}",
            hint="the shape (C.InferredDimension, n) infers the number of rows",
        )
    known = ops.element_times(hold(node), Constant(1, (total // width, width)))
    flat = ops.reshape(known, (total,))
    begin = 0

    def take(*shape: int) -> Any:
        nonlocal begin
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        begin += size
        return ops.reshape(ops.slice(flat, 0, begin - size, begin), shape)

    return take


def convert_optimized_rnnstack(cudnn_model: object) -> Any:
    """Returns the model unchanged: `optimized_rnnstack` runs on every device.

    >>> x = C.sequence.input_variable(3)
    >>> C.misc.convert_optimized_rnnstack(x) is x
    True
    """
    return cudnn_model


__all__ = ["convert_optimized_rnnstack", "optimized_rnnstack"]
