"""Convolutional layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..default_options import bound_to, overridable
from ..graph import INFERRED
from ..graph.types import OperandLike, ShapeLike
from ..initializer import initializer_with_rank
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.variables import Parameter
from ..ops.shaping import as_shape, as_size
from .basic import GLOROT, Activate, activated, identity, weight

_OPTIONS = (
    "activation",
    "init",
    "pad",
    "bias",
    "init_bias",
)  # options that default_options can change


def _per_axis(value: Any, rank: int, what: str) -> tuple[Any, ...]:
    values = tuple(value) if np.ndim(value) else (value,)
    if len(values) == 1:
        values *= rank
    if len(values) != rank:
        raise ValueError(f"{what} must be one value, or one for each of {rank} axes, got {values}")
    return values


def kernel_init(init: object, shape: tuple[int, ...], reduction_rank: int) -> Any:
    """`init` for kernels; an array may omit the axes that the input doesn't have."""
    if isinstance(init, (np.ndarray, list)):
        return init if reduction_rank else np.reshape(init, shape)
    return initializer_with_rank(init, filter_rank=len(shape) - 2, output_rank=-1)


def _bias(init: object, count: int, rank: int) -> Parameter:
    shape = (count,) + (1,) * rank
    init = np.reshape(init, shape) if isinstance(init, (np.ndarray, list)) else init
    return weight(shape, init=init, name="b")


class _Geometry:
    """The arguments that the convolutional layers share: size, strides, padding and so on."""

    def __init__(
        self,
        filter_shape: ShapeLike,
        pad: object,
        strides: ShapeLike,
        dilation: object,
        groups: int = 1,
        reduction_rank: int = 1,
        sequential: bool = False,
    ) -> None:
        if reduction_rank not in (0, 1):
            raise ValueError(f"reduction_rank must be 0 or 1, got {reduction_rank}")
        self.size = as_size(filter_shape, "filter_shape")
        self.rank = len(self.size)
        self.pad = _per_axis(pad, self.rank, "pad")
        self.strides = as_size(_per_axis(strides, self.rank, "strides"), "strides")
        self.dilation = as_size(_per_axis(dilation, self.rank, "dilation"), "dilation")
        (self.groups,) = as_size(groups, "groups")
        self.reduction_rank, self.sequential = reduction_rank, sequential

    def with_channels(self, x: Any) -> Any:
        return x if self.reduction_rank else ops.reshape(x, (1,), begin_axis=0, end_axis=0)

    def convolve(self, W: OperandLike, x: OperandLike) -> Any:
        """The convolution, along time too if the layer is sequential."""
        return ops.convolution(
            W,
            self.with_channels(x),
            strides=self.strides,
            auto_padding=self.pad,
            sequential=self.sequential,
            dilation=self.dilation,
            groups=self.groups,
        )


def _refuse(sharing: bool, transpose_weight: bool) -> None:
    if transpose_weight or not sharing:
        raise NotImplementedError(
            "Convolution: transpose_weight=True and sharing=False are not supported"
        )


def _layer(
    given: _Geometry,
    num_filters: int | None,
    activation: Activate,
    init: object,
    bias: bool,
    init_bias: object,
    bias_rank: int,
    op_name: str,
    name: str,
) -> Function:
    count = 1 if num_filters is None else as_size(num_filters, "num_filters")[0]
    init = kernel_init(init, (count, 1, *given.size), given.reduction_rank)
    channels = INFERRED if given.reduction_rank else 1
    W = weight((count, channels, *given.size), init=init, name="W")
    b = _bias(init_bias, count, bias_rank) if bias else None
    outer = given.rank - given.sequential

    @BlockFunction(op_name, name)
    def convolve(x: OperandLike) -> Any:
        r = given.convolve(W, x)
        if b is not None:
            r = r + (b if bias_rank == outer else ops.reshape(b, (count,) + (1,) * outer))
        if num_filters is None:
            r = ops.reshape(r, (), begin_axis=0, end_axis=1)
        return activated(activation, r)

    return convolve


@overridable(*_OPTIONS)
def Convolution(
    filter_shape: int | Sequence[int],
    num_filters: int | None = None,
    sequential: bool = False,
    activation: Activate = identity,
    init: object = GLOROT,
    pad: bool | Sequence[bool] = False,
    strides: int | Sequence[int] = 1,
    sharing: bool = True,
    bias: bool = True,
    init_bias: object = 0,
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
        filter_shape: the size of the filters, with one to three axes.
        num_filters: the number of filters; None for one filter and no channel axis in the output.
        sequential: whether the first axis of `filter_shape` is time, see `SequentialConvolution`.
        activation: the activation function, such as `C.relu`; None for none.
        init, init_bias: the initial values of `W` and `b`.
        pad: whether to pad with zeros so that a stride of 1 keeps the size; one flag, or one per
            axis.
        strides, dilation: one number, or one per axis.
        bias: whether to add a bias `b`.
        reduction_rank: 0 if the input has no channel axis.
        groups: the number of groups of channels that are convolved separately.
        sharing, transpose_weight, max_temp_mem_size_in_samples: accepted for compatibility with
            CNTK; only the default values are supported.

    Parameters: `W` of shape (num_filters, input channels / groups, *filter_shape) and `b` of shape
    (num_filters, 1, …).

    The layer maps (channels, *size) to (num_filters, *new size).

    Source: CNTK's `Convolution`.

    >>> f = C.layers.Convolution((3, 3), 16, activation=C.relu, pad=True)
    >>> f(C.input_variable((3, 32, 32))).shape
    (16, 32, 32)
    >>> f.W.shape
    (16, 3, 3, 3)
    """
    given = _Geometry(filter_shape, pad, strides, dilation, groups, reduction_rank, sequential)
    _refuse(sharing, transpose_weight)
    return _layer(given, num_filters, activation, init, bias, init_bias, given.rank, op_name, name)


@overridable(*_OPTIONS)
def SequentialConvolution(
    filter_shape: int | Sequence[int],
    num_filters: int | None = None,
    activation: Activate = identity,
    init: object = GLOROT,
    pad: bool | Sequence[bool] = False,
    strides: int | Sequence[int] = 1,
    sharing: bool = True,
    bias: bool = True,
    init_bias: object = 0,
    reduction_rank: int = 1,
    transpose_weight: bool = False,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    max_temp_mem_size_in_samples: int = 0,
    op_name: str = "Convolution",
    name: str = "",
) -> Function:
    """A convolution along time and static axes: the first axis of `filter_shape` is time.

    Without padding in time, or with a stride in time, sequences get shorter, and the result has a
    new time axis. Arguments as for `Convolution`.

    Parameters: `W` of shape (num_filters, input channels, *filter_shape) and `b` of shape
    (num_filters, 1, …), with a 1 for each static axis.

    Source: CNTK's `SequentialConvolution`.

    >>> f = C.layers.SequentialConvolution((5, 3, 3), 16)
    >>> f(C.sequence.input_variable((3, 32, 32))).shape
    (16, 30, 30)
    """
    given = _Geometry(filter_shape, pad, strides, dilation, groups, reduction_rank, True)
    _refuse(sharing, transpose_weight)
    rank = given.rank - 1
    return _layer(given, num_filters, activation, init, bias, init_bias, rank, op_name, name)


@overridable(*_OPTIONS)
def ConvolutionTranspose(
    filter_shape: int | Sequence[int],
    num_filters: int,
    activation: Activate = identity,
    init: object = GLOROT,
    pad: bool | Sequence[bool] = False,
    strides: int | Sequence[int] = 1,
    sharing: bool = True,
    bias: bool = True,
    init_bias: object = 0,
    output_shape: int | Sequence[int] | None = None,
    reduction_rank: int = 1,
    dilation: int | Sequence[int] = 1,
    max_temp_mem_size_in_samples: int = 0,
    name: str = "",
) -> Function:
    """A transposed convolution: enlarges by as much as `Convolution` with these arguments shrinks.

    Args:
        output_shape: the size of the output without channels, if a stride leaves a choice; by
            default the smallest.
        others: as for `Convolution`.

    Parameters: `W` of shape (input channels, num_filters, *filter_shape) and `b` of shape
    (num_filters, 1, …).

    Source: CNTK's `ConvolutionTranspose`.

    >>> f = C.layers.ConvolutionTranspose((3, 4), 128)
    >>> f(C.input_variable((3, 48, 64))).shape
    (128, 50, 67)
    """
    given = _Geometry(filter_shape, pad, strides, dilation, reduction_rank=reduction_rank)
    _refuse(sharing, False)
    shape = (INFERRED, *as_size(num_filters, "num_filters"), *given.size)
    init = initializer_with_rank(init, filter_rank=given.rank, output_rank=-1)
    W = weight(shape, init=init, name="W")
    b = _bias(init_bias, num_filters, given.rank) if bias else None
    wanted = None if output_shape is None else _per_axis(output_shape, given.rank, "output_shape")

    @BlockFunction("ConvolutionTranspose", name)
    def convolve_transposed(x: OperandLike) -> Any:
        r = ops.convolution_transpose(
            W,
            given.with_channels(x),
            strides=given.strides,
            auto_padding=given.pad,
            output_shape=wanted,
            dilation=given.dilation,
        )
        return activated(activation, r if b is None else r + b)

    return convolve_transposed


_HIDDEN = {"sequential", "sharing", "transpose_weight", "max_temp_mem_size_in_samples", "op_name"}


def _of_rank(layer: Callable[..., Function], rank: int, doc: str) -> Callable[..., Function]:
    """`layer` for filters with `rank` axes, where a number stands for equal sizes."""
    whole = inspect.signature(layer)
    kept = [p for p in whole.parameters.values() if p.name not in _HIDDEN]
    signature = whole.replace(parameters=kept)

    def make(*args: object, **kwargs: object) -> Function:
        options = bound_to(make.__name__, signature, args, kwargs).arguments
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
ConvolutionTranspose1D = _of_rank(
    ConvolutionTranspose,
    1,
    """`ConvolutionTranspose` along one axis.

    >>> C.layers.ConvolutionTranspose1D(3, 16)(C.input_variable((2, 10))).shape
    (16, 12)
    """,
)
ConvolutionTranspose2D = _of_rank(
    ConvolutionTranspose,
    2,
    """`ConvolutionTranspose` along two axes; a filter_shape of 3 stands for (3, 3).

    >>> C.layers.ConvolutionTranspose2D(3, 16)(C.input_variable((2, 10, 10))).shape
    (16, 12, 12)
    """,
)
ConvolutionTranspose3D = _of_rank(
    ConvolutionTranspose,
    3,
    """`ConvolutionTranspose` along three axes; a filter_shape of 3 stands for (3, 3, 3).

    >>> C.layers.ConvolutionTranspose3D(3, 16)(C.input_variable((2, 5, 5, 5))).shape
    (16, 7, 7, 7)
    """,
)
