"""Step functions for recurrences (LSTM, GRU, RNNStep), stabilizers, forward declarations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import INFERRED, GraphError, Placeholder
from ..graph.types import OperandLike, ShapeLike
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.tracing import nodes_of
from ..operands.variables import Parameter, Variable
from ..ops.records import hold
from ..ops.shaping import as_size, require_vector
from .basic import GLOROT, identity, weight


@overridable("enable_self_stabilization")
def Stabilizer(
    steepness: float = 4, enable_self_stabilization: bool = True, name: str = ""
) -> Function:
    """Multiplies its input by a learned positive scalar, initially 1.

    The scalar is softplus(steepness * alpha) / steepness, with the parameter `alpha`.

    Args:
        enable_self_stabilization: False makes the layer the identity.

    Source: Ghahremani and Droppo, 2016, "Self-stabilized deep neural network"; CNTK's `Stabilizer`.

    >>> C.layers.Stabilizer()(C.constant([1, 2])).eval()
    array([1., 2.], dtype=float32)
    """
    if not enable_self_stabilization:
        return identity
    if not steepness > 0:
        raise GraphError(f"Stabilizer: steepness must be positive, got {steepness!r:.60}")
    alpha = weight((), init=math.log(math.expm1(steepness)) / steepness, name="alpha")

    @BlockFunction("Stabilizer", name)
    def stabilize(x: Any) -> Any:
        return ops.softplus(alpha * steepness) / steepness * x

    return stabilize


class _Cell:
    """The parameters of the three cells, and the sums that go into their gates.

    Parameters have the names, shapes and order of CNTK: the weights of the gates are concatenated
    along the last axis.
    """

    def __init__(
        self,
        kind: str,
        shape: ShapeLike,
        cell_shape: Any,
        gates: int,
        state_gates: int,
        init: object,
        init_bias: object,
        stabilized: bool,
        map_rank: int,
    ) -> None:
        self.kind, self.map_rank = kind, map_rank
        out = as_size(shape, kind)
        cell = out if cell_shape is None else as_size(cell_shape, kind)
        if len(out) != 1 or len(cell) != 1:
            raise GraphError(
                f"{kind}: the state must be a vector, got shape {out if len(out) != 1 else cell}",
                hint="for images use ConvolutionalLSTM or ConvolutionalGRU",
            )
        self.out, self.size, self.init = out, cell[0], init
        self.b = weight(gates * self.size, init=init_bias, name="b")
        self.W = weight((INFERRED, gates * self.size), init=init, name="W")
        self.H = weight((*out, state_gates * self.size), init=init, name="H")
        self.project_to = out if cell_shape is not None else None
        self.stabilized = stabilized

    def finish(self) -> None:
        """Makes the parameters that come last."""
        self.P = None
        if self.project_to is not None:
            self.P = weight((self.size, *self.project_to), init=self.init, name="P")
        names = ("dh_stabilizer", "dc_stabilizer", "c_stabilizer", "P_stabilizer")
        self.stable_h, self.stable_c, self.stable_new_c, self.stable_out = (
            Stabilizer(enable_self_stabilization=self.stabilized, name=n) for n in names
        )

    def parameter(self, name: str, *lead: int) -> Parameter:
        return weight((*lead, self.size), init=self.init, name=name)

    def input(self, x: Any) -> Any:
        return self.b + ops.times(hold(require_vector(x, self.kind, self.map_rank)), self.W)

    def gate(self, total: Any, i: int) -> Any:
        return ops.slice(total, -1, i * self.size, (i + 1) * self.size)

    def output(self, h: Any) -> Any:
        return h if self.P is None else ops.times(self.stable_out(h), self.P)

    def layer(self, step: Callable[..., object], name: str) -> Function:
        return BlockFunction(self.kind, name)(step)


@overridable("activation", "use_peepholes", "init", "init_bias", "enable_self_stabilization")
def LSTM(
    shape: ShapeLike,
    cell_shape: int | Sequence[int] | None = None,
    activation: Callable[[Any], object] = ops.tanh,
    use_peepholes: bool = False,
    init: object = GLOROT,
    init_bias: object = 0,
    enable_self_stabilization: bool = False,
    name: str = "",
    *,
    map_rank: int = 0,
) -> Function:
    """One step of a long short-term memory, `(h, c, x) -> (h, c)`, for `Recurrence`.

    Args:
        shape: the number n of outputs.
        cell_shape: the number m of cells, whose output is projected to n; by default n.
        activation: the activation function of the candidate cells and of the output.
        use_peepholes: whether the gates also depend on the cells.
        init, init_bias: the initial values of weights and biases.
        enable_self_stabilization: whether states pass through a `Stabilizer`.
        map_rank: the number of leading axes of the input to map over: each vector along the last
            axis has its own state. With the default of 0 an input must be a vector. (CNTK accepts
            images, and maps over all but the last axis.)

    Parameters: `b` (4 m,), `W` (inputs, 4 m), `H` (n, 4 m), with gates in the order input,
    candidate, forget, output; `Ci`, `Cf`, `Co` (m,) with peepholes; `P` (m, n) with `cell_shape`.

    Raises:
        GraphError: `shape` or `cell_shape` is not that of a vector.

    Source: Hochreiter and Schmidhuber, 1997; Gers et al., 2000; CNTK's `LSTM`.

    >>> x = C.sequence.input_variable(3)
    >>> C.layers.Recurrence(C.layers.LSTM(5))(x).shape
    (5,)
    """
    cell = _Cell(
        "LSTM", shape, cell_shape, 4, 4, init, init_bias, enable_self_stabilization, map_rank
    )
    peepholes = [cell.parameter(n) for n in ("Ci", "Cf", "Co")] if use_peepholes else []
    cell.finish()

    def gate(total: OperandLike, i: int, peephole: int, c: Any) -> Any:
        seen = cell.gate(total, i)
        return ops.sigmoid(seen + peepholes[peephole] * c if peepholes else seen)

    def lstm(dh: OperandLike, dc: OperandLike, x: OperandLike) -> Any:
        total = cell.input(x) + ops.times(cell.stable_h(dh), cell.H)
        stable_c = cell.stable_c(dc)
        new = gate(total, 0, 0, stable_c) * activation(cell.gate(total, 1))
        c = gate(total, 2, 1, stable_c) * dc + new
        h = gate(total, 3, 2, cell.stable_new_c(c)) * activation(c)
        return cell.output(h), c

    return cell.layer(lstm, name)


@overridable("activation", "init", "init_bias", "enable_self_stabilization")
def GRU(
    shape: ShapeLike,
    cell_shape: int | Sequence[int] | None = None,
    activation: Callable[[Any], object] = ops.tanh,
    init: object = GLOROT,
    init_bias: object = 0,
    enable_self_stabilization: bool = False,
    name: str = "",
    *,
    map_rank: int = 0,
    reset_after: bool = False,
) -> Function:
    """One step of a gated recurrent unit, `(h, x) -> h`, for `Recurrence`; options as for `LSTM`.

    Args:
        reset_after: whether the reset gate is applied to the product of the state with `H1`, as in
            PyTorch, Keras and cuDNN, rather than to the state. That product then has a bias `b1`
            (n,).

    Parameters: `b` (3 n,), `W` (inputs, 3 n), `H` (n, 2 n), `H1` (n, n), with gates in the order
    update, reset, candidate.

    Source: Cho et al., 2014; CNTK's `GRU`.

    >>> x = C.sequence.input_variable(3)
    >>> C.layers.Recurrence(C.layers.GRU(5))(x).shape
    (5,)
    """
    cell = _Cell(
        "GRU", shape, cell_shape, 3, 2, init, init_bias, enable_self_stabilization, map_rank
    )
    H1 = cell.parameter("H1", *cell.out)
    b1 = weight(cell.size, init=init_bias, name="b1") if reset_after else None
    cell.finish()

    def gru(dh: OperandLike, x: OperandLike) -> Any:
        stable_h = cell.stable_h(dh)
        from_x, from_h = cell.input(x), ops.times(stable_h, cell.H)
        update = ops.sigmoid(cell.gate(from_x, 0) + cell.gate(from_h, 0))
        reset = ops.sigmoid(cell.gate(from_x, 1) + cell.gate(from_h, 1))
        if b1 is None:
            remembered = ops.times(stable_h * reset, H1)
        else:
            remembered = reset * (ops.times(stable_h, H1) + b1)
        new = activation(cell.gate(from_x, 2) + remembered)
        return cell.output((1 - update) * new + update * stable_h)

    return cell.layer(gru, name)


@overridable("activation", "init", "init_bias", "enable_self_stabilization")
def RNNStep(
    shape: ShapeLike,
    cell_shape: int | Sequence[int] | None = None,
    activation: Callable[[Any], object] = ops.sigmoid,
    init: object = GLOROT,
    init_bias: object = 0,
    enable_self_stabilization: bool = False,
    name: str = "",
    *,
    map_rank: int = 0,
) -> Function:
    """One step of a simple recurrent network, activation(x @ W + h @ H + b); options as for `LSTM`.

    Source: Elman, 1990; CNTK's `RNNStep`.

    >>> x = C.sequence.input_variable(3)
    >>> C.layers.Recurrence(C.layers.RNNStep(5))(x).shape
    (5,)
    """
    cell = _Cell(
        "RNNStep", shape, cell_shape, 1, 1, init, init_bias, enable_self_stabilization, map_rank
    )
    cell.finish()

    def step(dh: OperandLike, x: OperandLike) -> Any:
        h = activation(cell.input(x) + ops.times(cell.stable_h(dh), cell.H))
        return cell.output(h)

    return cell.layer(step, name)


RNNUnit = RNNStep  # CNTK's former name


class ForwardDeclaration(Variable):
    """A variable that is used before it is defined, to write a recurrence by hand.

    It is a placeholder; `resolve_to` binds it to a value that depends on it through a delay.

    Source: CNTK's `ForwardDeclaration`.

    >>> x = C.sequence.input_variable(1)
    >>> total = C.layers.ForwardDeclaration("total")
    >>> result = C.sequence.past_value(total) + x
    >>> total.resolve_to(result)
    >>> result.eval({x: np.array([[1], [2], [3]])})[0]
    array([[1.],
           [3.],
           [6.]], dtype=float32)
    """

    def __init__(self, name: str = "forward_declaration") -> None:
        super().__init__(Placeholder(name=name))
        self._node.handle = self

    def resolve_to(self, value: object) -> None:
        """Binds the placeholder, wherever it is used, to a variable or function."""
        Function(nodes_of(value)).replace_placeholders({self: value})
