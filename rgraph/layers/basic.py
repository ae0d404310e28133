"""Layers that act on each sample or frame as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..default_options import (
    default_dtype,
    default_override_or,
    get_default_override,
    is_default_override,
    overridable,
)
from ..graph import INFERRED
from ..graph.types import OperandLike, ShapeLike
from ..initializer import glorot_uniform, initializer_with_rank
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.variables import Constant, Parameter
from ..ops.shaping import as_size

Activate = Callable[[Any], Any] | None
GLOROT = glorot_uniform()


@Function
def identity(keep: OperandLike) -> Any:
    """Returns its argument; as an activation, none.

    >>> C.layers.identity(C.constant([1, 2])).eval()
    array([1., 2.], dtype=float32)
    """
    return keep


def weight(shape: ShapeLike, init: object, name: str) -> Parameter:
    """A parameter of the default dtype, even if `init` is an array of another type."""
    return Parameter(shape, init, default_dtype(), name=name)


def activated(activation: Activate, x: OperandLike) -> Any:
    return x if activation is None else activation(x)


@overridable("activation", "init", "bias", "init_bias")
def Dense(
    shape: ShapeLike,
    activation: Activate = identity,
    init: Any = GLOROT,
    input_rank: int | None = None,
    map_rank: int | None = None,
    bias: bool = True,
    init_bias: Any = 0,
    name: str = "",
) -> Function:
    """A fully connected layer: activation(x @ W + b).

    Args:
        shape: the shape of the output.
        activation: the activation function, such as `C.relu`; None for none.
        init, init_bias: the initial values of `W` and `b`.
        input_rank: the number of last axes of the input to sum over; by default all.
        map_rank: the number of first axes of the input to keep; an alternative to `input_rank`.
        bias: whether to add a bias `b`.

    Parameters: `W` of shape (*summed axes, *shape) and `b` of shape `shape`.

    Source: CNTK's `Dense`.

    >>> f = C.layers.Dense(5, activation=C.relu)
    >>> f(C.input_variable((64, 16, 16))).shape
    (5,)
    >>> f.W.shape
    (64, 16, 16, 5)
    """
    if input_rank is not None and map_rank is not None:
        raise ValueError("Dense: give input_rank or map_rank, not both")
    out = as_size(shape, "Dense")
    fixed_rank = input_rank is not None
    to_map = -1 if fixed_rank else map_rank or 0
    W = weight(
        (INFERRED,) * (input_rank if input_rank is not None else 1) + out,
        init=initializer_with_rank(init, output_rank=len(out)),
        name="W",
    )
    b = weight(out, init=init_bias, name="b") if bias else None

    @BlockFunction("Dense", name)
    def dense(x: Any) -> Any:
        r = ops.times(x, W, output_rank=len(out), infer_input_rank_to_map=to_map)
        return activated(activation, r if b is None else r + b)

    return dense


def Embedding(
    shape: ShapeLike | None = None,
    init: object = default_override_or(GLOROT),
    weights: object = None,
    name: str = "",
) -> Function:
    """A lookup table with a learned row for each category; the input is a one-hot vector.

    Args:
        shape: the shape of a row.
        init: the initial values of the table.
        weights: a constant table of shape (categories, *row), instead of `shape` and `init`.

    Parameter (or constant): `E` of shape (categories, *row).

    Source: CNTK's `Embedding`.

    >>> f = C.layers.Embedding(weights=[[1, 2], [3, 4]])
    >>> f(C.constant([0, 1])).eval()
    array([3., 4.], dtype=float32)
    """
    if weights is None:
        if shape is None:
            raise ValueError("Embedding: either shape or weights must be given")
        init = get_default_override(Embedding, init=init)
        size = as_size(shape, "Embedding", least=0)  # CNTK allows empty rows
        E: Any = weight((INFERRED, *size), init=init, name="E")
    elif shape is not None or not is_default_override(init):
        raise ValueError("Embedding: weights can't be combined with shape or init")
    else:
        E = Constant(np.asarray(weights), name="E")

    @BlockFunction("Embedding", name)
    def embed(x: OperandLike) -> Any:
        return ops.times(x, E, output_rank=len(E.shape) - 1)

    return embed


def Dropout(
    dropout_rate: float | None = None,
    keep_prob: float | None = None,
    seed: int | None = None,
    name: str = "",
) -> Function:
    """In training, sets random elements to 0 and scales up the others; otherwise the identity.

    Args:
        dropout_rate: the probability that an element is dropped.
        keep_prob: the probability that it is kept; an alternative to `dropout_rate`.

    Source: Srivastava et al., 2014; CNTK's `Dropout`.

    >>> C.layers.Dropout(0.5)(C.constant([1, 2])).eval()
    array([1., 2.], dtype=float32)
    """
    if (dropout_rate is None) == (keep_prob is None):
        raise ValueError("Dropout: either dropout_rate or keep_prob must be given")
    if keep_prob is not None and not 0 < keep_prob <= 1:
        raise ValueError(f"Dropout: keep_prob must be above 0 and at most 1, got {keep_prob}")
    rate: Any = 1 - keep_prob if keep_prob is not None else dropout_rate

    @BlockFunction("Dropout", name)
    def dropout(x: Any) -> Any:
        return ops.dropout(x, dropout_rate=rate, seed=seed)

    return dropout


@overridable("activation")
def Activation(activation: Activate = identity, name: str = "") -> Function:
    """An activation function as a layer, optionally with a name.

    >>> C.layers.Activation(C.relu)(C.constant([-1, 2])).eval()
    array([0., 2.], dtype=float32)
    """

    @BlockFunction("Activation", name)
    def activate(x: OperandLike) -> Any:
        return activated(activation, x)

    return activate


def Label(name: str) -> Function:
    """A layer that names its input, for `find_by_name`.

    >>> model = C.layers.Dense(4) >> C.layers.Label("hidden") >> C.layers.Dense(2)
    >>> model(C.input_variable(3)).find_by_name("hidden").shape
    (4,)
    """

    @Function
    def label(x: OperandLike) -> Any:
        return ops.alias(x, name=name)

    return label
