"""Convolutional layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..default_options import overridable
from ..function import BlockFunction, Function
from ..graph import INFERRED
from ..initializer import initializer_with_rank
from ..ops.shaping import as_shape
from ..variables import Parameter
from .basic import GLOROT, Activate, activated, identity

_OPTIONS = ("activation", "init", "pad", "bias", "init_bias")  # that default_options changes


def _per_axis(value: Any, rank: int, what: str) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) == 1:
        values *= rank
    if len(values) != rank:
        raise ValueError(f"{what} {values}: give one value, or one for each of {rank} axes")
    return values


def _kernel_init(init: Any, shape: tuple[int, ...], rank: int, reduction_rank: int) -> Any:
    """`init` for kernels of this shape; an array may lack the axes that the user does not see."""
    if isinstance(init, (np.ndarray, list)):
        array = np.asarray(init)
        seen = tuple(n for n in shape[: len(shape) - rank] if n > 1) + shape[len(shape) - rank :]
        if reduction_rank == 0 and array.shape in (seen, shape[:1] + seen[-rank:]):
            return array.reshape(shape[0], 1, *shape[2:])
        return array
    return initializer_with_rank(init, filter_rank=rank, output_rank=-1)


@overridable(*_OPTIONS)
def Convolution(
    filter_shape: int | Sequence[int],
    num_filters: int | None = None,
    sequential: bool = False,
    activation: Activate = identity,
    init: Any = GLOROT,
    pad: bool | Sequence[bool] = False,
    strides: int | Sequence[int] = 1,
    sharing: bool = True,
    bias: bool = True,
    init_bias: Any = 0,
    reduction_rank: int = 1,
    transpose_weight: bool = False,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    max_temp_mem_size_in_samples: int = 0,
    op_name: str = "Convolution",
    name: str = "",
) -> Function:
    """A convolution (cross-correlation) of each image with learned filters.

    Args:
        filter_shape: the filters' size, one to three axes.
        num_filters: how many; None for one, whose output has no channel axis.
        sequential: whether the first axis of `filter_shape` is time; see
            `SequentialConvolution`.
        activation: a function of the sum, such as `C.relu`; None for none.
        init, init_bias: initial values of `W` and `b`.
        pad: whether zeros are put around so that with stride 1 the size stays; one flag or one
            per axis.
        strides, dilation: one number, or one per axis.
        bias: whether there is a `b`.
        reduction_rank: 0 if the input has no channel axis.
        groups: how many groups of channels are convolved separately.
        sharing, transpose_weight, max_temp_mem_size_in_samples: accepted for CNTK's sake.

    Its parameters are `W` of shape (num_filters, input channels / groups, *filter_shape) and `b`
    of shape (num_filters, 1, …).

    Source: CNTK's `Convolution`.

    >>> f = C.layers.Convolution((3, 3), 16, activation=C.relu, pad=True)
    >>> f(C.input_variable((3, 32, 32))).shape
    (16, 32, 32)
    >>> f.W.shape
    (16, 3, 3, 3)
    """
    if transpose_weight or not sharing:
        raise NotImplementedError("Convolution: weights can't be transposed or unshared")
    if reduction_rank not in (0, 1) or groups < 1:
        raise ValueError(
            f"Convolution: reduction_rank must be 0 or 1 and groups above 0, got {reduction_rank} "
            f"and {groups}"
        )
    size = as_shape(filter_shape)
    rank = len(size)
    shape = (num_filters or 1, INFERRED, *size)
    options = {
        "strides": _per_axis(strides, rank, "strides"),
        "auto_padding": _per_axis(pad, rank, "pad"),
        "dilation": _per_axis(dilation, rank, "dilation"),
    }
    W = Parameter(shape, init=_kernel_init(init, shape, rank, reduction_rank), name="W")
    b = Parameter((shape[0],) + (1,) * rank, init=init_bias, name="b") if bias else None

    @BlockFunction(op_name, name)
    def convolve(x: Any) -> Any:
        if reduction_rank == 0:
            x = ops.reshape(x, (1,), begin_axis=-rank, end_axis=-rank)
        r = ops.convolution(W, x, groups=groups, **options)
        if b is not None:
            r = r + b
        if num_filters is None:
            r = ops.reshape(r, (), begin_axis=-rank - 1, end_axis=-rank)
        return activated(activation, r)

    return convolve


_HIDDEN = {"sequential", "sharing", "transpose_weight", "max_temp_mem_size_in_samples", "op_name"}


def _of_rank(layer: Callable[..., Function], rank: int, doc: str) -> Callable[..., Function]:
    """`layer` for filters with `rank` axes: one number is enough to say a filter's shape."""
    whole = inspect.signature(layer)
    kept = [p for p in whole.parameters.values() if p.name not in _HIDDEN]
    signature = whole.replace(parameters=kept)

    def make(*args: Any, **kwargs: Any) -> Function:
        options = signature.bind(*args, **kwargs).arguments
        shape = as_shape(options.pop("filter_shape"))
        if len(shape) not in (1, rank):
            raise ValueError(f"{make.__name__}: filter_shape must have {rank} axes, got {shape}")
        return layer(shape if len(shape) == rank else shape * rank, **options)

    make.__name__ = make.__qualname__ = f"{layer.__name__}{rank}D"
    make.__doc__ = doc
    make.__module__ = __name__
    make.__signature__ = signature  # type: ignore[attr-defined]
    return overridable(*_OPTIONS)(make)


Convolution1D = _of_rank(
    Convolution,
    1,
    """`Convolution` along one axis.

    >>> C.layers.Convolution1D(3, 16)(C.input_variable((2, 10))).shape
    (16, 8)
    """,
)
Convolution2D = _of_rank(
    Convolution,
    2,
    """`Convolution` along two axes; a filter_shape of 3 stands for (3, 3).

    >>> C.layers.Convolution2D(3, 16)(C.input_variable((2, 10, 10))).shape
    (16, 8, 8)
    """,
)
Convolution3D = _of_rank(
    Convolution,
    3,
    """`Convolution` along three axes; a filter_shape of 3 stands for (3, 3, 3).

    >>> C.layers.Convolution3D(3, 16)(C.input_variable((2, 10, 10, 10))).shape
    (16, 8, 8, 8)
    """,
)
