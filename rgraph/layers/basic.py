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
from ..graph.types import ShapeLike
from ..initializer import glorot_uniform, initializer_with_rank
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.variables import Constant, Parameter
from ..ops.shaping import as_size

Activate = Callable[[Any], Any] | None
GLOROT = glorot_uniform()


@Function
def identity(keep: Any) -> Any:
    """What it is given: stands for no activation.

    >>> C.layers.identity(C.constant([1, 2])).eval()
    array([1., 2.], dtype=float32)
    """
    return keep


def weight(shape: ShapeLike, init: Any, name: str) -> Parameter:
    """A parameter of the default dtype, whatever the type of an array that it starts with."""
    return Parameter(shape, init, default_dtype(), name=name)


def activated(activation: Activate, x: Any) -> Any:
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
    """A fully connected layer, activation(x @ W + b).

    Args:
        shape: the output's shape.
        activation: a function of the sum, such as `C.relu`; None for none.
        init, init_bias: initial values of `W` and `b`.
        input_rank: how many last axes of the input are summed over; by default all.
        map_rank: how many first axes of the input stay as they are, instead of `input_rank`.
        bias: whether there is a `b`.

    Its parameters are `W` of shape (*summed axes, *shape) and `b` of shape `shape`.

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
    init: Any = default_override_or(GLOROT),
    weights: Any = None,
    name: str = "",
) -> Function:
    """A table with one learned row for each category; the input is one-hot.

    Args:
        shape: the shape of a row.
        init: the table's initial values.
        weights: a fixed table instead of both, shape (categories, *row).

    Its parameter (or constant) is `E` of shape (categories, *row).

    Source: CNTK's `Embedding`.

    >>> f = C.layers.Embedding(weights=[[1, 2], [3, 4]])
    >>> f(C.constant([0, 1])).eval()
    array([3., 4.], dtype=float32)
    """
    if weights is None:
        if shape is None:
            raise ValueError("Embedding: give the shape of a row, or weights")
        init = get_default_override(Embedding, init=init)
        size = as_size(shape, "Embedding", least=0)  # CNTK allows rows of nothing
        E: Any = weight((INFERRED, *size), init=init, name="E")
    elif shape is not None or not is_default_override(init):
        raise ValueError("Embedding: weights say it all, give neither shape nor init with them")
    else:
        E = Constant(np.asarray(weights), name="E")

    @BlockFunction("Embedding", name)
    def embed(x: Any) -> Any:
        return ops.times(x, E, output_rank=len(E.shape) - 1)

    return embed


def Dropout(
    dropout_rate: float | None = None,
    keep_prob: float | None = None,
    seed: int | None = None,
    name: str = "",
) -> Function:
    """Sets a random part of the elements to 0, and scales up the others, in training only.

    Args:
        dropout_rate: the probability of an element to be dropped; or
        keep_prob: the probability to be kept.

    Source: Srivastava et al., 2014; CNTK's `Dropout`.

    >>> C.layers.Dropout(0.5)(C.constant([1, 2])).eval()
    array([1., 2.], dtype=float32)
    """
    if (dropout_rate is None) == (keep_prob is None):
        raise ValueError("Dropout: give either dropout_rate or keep_prob")
    if keep_prob is not None and not 0 < keep_prob <= 1:
        raise ValueError(f"Dropout: keep_prob must be above 0 and at most 1, got {keep_prob}")
    rate: Any = 1 - keep_prob if keep_prob is not None else dropout_rate

    @BlockFunction("Dropout", name)
    def dropout(x: Any) -> Any:
        return ops.dropout(x, dropout_rate=rate, seed=seed)

    return dropout


@overridable("activation")
def Activation(activation: Activate = identity, name: str = "") -> Function:
    """An activation as a layer of its own, which may be named.

    >>> C.layers.Activation(C.relu)(C.constant([-1, 2])).eval()
    array([0., 2.], dtype=float32)
    """

    @BlockFunction("Activation", name)
    def activate(x: Any) -> Any:
        return activated(activation, x)

    return activate


def Label(name: str) -> Function:
    """Names the value that passes through, for `find_by_name`.

    >>> model = C.layers.Dense(4) >> C.layers.Label("hidden") >> C.layers.Dense(2)
    >>> model(C.input_variable(3)).find_by_name("hidden").shape
    (4,)
    """

    @Function
    def label(x: Any) -> Any:
        return ops.alias(x, name=name)

    return label
