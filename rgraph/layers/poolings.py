"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph.types import ShapeLike
from ..model.building import BlockFunction
from ..model.function import Function
from ..ops.shaping import as_shape


def _pooling(
    kind: str, type_: int, window: Any, strides: ShapeLike, pad: Any, name: str
) -> Function:
    @BlockFunction(kind, name)
    def pool(x: Any) -> Any:
        return ops.pooling(x, type_, as_shape(window), strides=strides, auto_padding=pad)

    return pool


@overridable("pad")
def MaxPooling(
    filter_shape: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    pad: bool | Sequence[bool] = False,
    name: str = "",
) -> Function:
    """The maximum over windows that slide along the last axes.

    Args:
        filter_shape: the size of the window.
        strides: its step, one number or one per axis.
        pad: whether windows may extend beyond the border; one flag or one per axis.

    Source: CNTK's `MaxPooling`.

    >>> C.layers.MaxPooling((2, 2), strides=2)(C.input_variable((3, 8, 8))).shape
    (3, 4, 4)
    """
    return _pooling("MaxPooling", ops.MAX_POOLING, filter_shape, strides, pad, name)


@overridable("pad")
def AveragePooling(
    filter_shape: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    pad: bool | Sequence[bool] = False,
    name: str = "",
) -> Function:
    """The mean of each window, without any padding; options as for `MaxPooling`.

    Source: CNTK's `AveragePooling`.

    >>> C.layers.AveragePooling((2, 2), strides=2)(C.input_variable((3, 8, 8))).shape
    (3, 4, 4)
    """
    return _pooling("AveragePooling", ops.AVG_POOLING, filter_shape, strides, pad, name)


def GlobalMaxPooling(name: str = "") -> Function:
    """The maximum of each channel: (channels, height, width) to (channels, 1, 1).

    Source: CNTK's `GlobalMaxPooling`.

    >>> C.layers.GlobalMaxPooling()(C.input_variable((3, 8, 8))).shape
    (3, 1, 1)
    """

    @BlockFunction("GlobalMaxPooling", name)
    def pool(x: Any) -> Any:
        return ops.reductions.over_space(x, "reduce_max")

    return pool


def GlobalAveragePooling(name: str = "") -> Function:
    """The mean of each channel: (channels, height, width) to (channels, 1, 1).

    Source: CNTK's `GlobalAveragePooling`.

    >>> C.layers.GlobalAveragePooling()(C.input_variable((3, 8, 8))).shape
    (3, 1, 1)
    """

    @BlockFunction("GlobalAveragePooling", name)
    def pool(x: Any) -> Any:
        return ops.reductions.over_space(x, "reduce_mean")

    return pool


def MaxUnpooling(
    filter_shape: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    pad: bool | Sequence[bool] = False,
    name: str = "",
) -> Function:
    """Puts each maximum back at its position before max pooling: `f(pooled, pooling input)`.

    Source: CNTK's `MaxUnpooling`.

    >>> x = C.input_variable((3, 8, 8))
    >>> pooled = C.layers.MaxPooling((2, 2), strides=2)(x)
    >>> C.layers.MaxUnpooling((2, 2), strides=2)(pooled, x).shape
    (3, 8, 8)
    """

    @BlockFunction("MaxUnpooling", name)
    def unpool(x: Any, y: Any) -> Any:
        return ops.unpooling(
            x, y, ops.MAX_UNPOOLING, as_shape(filter_shape), strides=strides, auto_padding=pad
        )

    return unpool
