"""Convolutions through oneDNN: the product and its two gradients, channels-last.

A primitive is made for each shape and kept. So that ragged minibatches, whose numbers of rows
hardly ever repeat, do not mean ever new ones, rows go through in blocks of a few sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .library import (
    CONVOLUTION_DIRECT,
    DIFF_DST,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    FORWARD_TRAINING,
    QUERY_DIFF_WEIGHTS,
    QUERY_WEIGHTS,
    SRC,
    WEIGHTS,
    Library,
    Primitive,
    Reorder,
    _dims,
)

Shape = tuple[int, ...]
_EXACT_ROWS = 8  # up to so many rows have primitives of their own size


class Geometry(NamedTuple):
    """All that a primitive is specialized to, but for the rows."""

    operand: Shape  # (channels, *size)
    result: Shape  # (channels, *size)
    kernel: Shape
    strides: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int


def row_blocks(rows: int) -> Iterator[slice]:
    """The rows in blocks whose sizes are few: 1 to 8, and powers of two and their halves more."""
    start = 0
    while start < rows:
        left = rows - start
        size = left
        if left > _EXACT_ROWS:
            power = 1 << (left.bit_length() - 1)
            size = power + power // 2 if left >= power + power // 2 else power
        yield slice(start, start + size)
        start += size


def _channels_last(shape: Shape) -> Shape:
    """Strides, in elements, of (rows, channels, *size) with the channels innermost."""
    channels, *size = shape[1:]
    inner = [channels * math.prod(size[i + 1 :]) for i in range(len(size))]
    return (channels * math.prod(size), 1, *inner)


def _contiguous(shape: Shape) -> Shape:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def is_dense(array: np.ndarray) -> bool:
    """Whether `array`, (rows, channels, *size), is channels-last in memory and without gaps."""
    steps = (n * array.itemsize for n in _channels_last(array.shape))
    return all(n == 1 or a == b for n, a, b in zip(array.shape, array.strides, steps, strict=True))


def dense(array: np.ndarray, empty: Any) -> np.ndarray:
    """`array`, or a copy of it that is dense."""
    if is_dense(array):
        return array
    channels_last = np.moveaxis(
        empty((len(array), *array.shape[2:], array.shape[1]), array.dtype), -1, 1
    )
    channels_last[...] = array
    return channels_last


class _Weights(NamedTuple):
    """How kernels are seen: with groups they have an axis of their own."""

    shape: Shape
    plain: c_void_p

    @classmethod
    def of(cls, library: Library, at: Geometry) -> _Weights:
        groups, inputs, outputs = at.groups, at.operand[0], at.result[0]
        shape = (outputs // groups, inputs // groups, *at.kernel)
        shape = (groups, *shape) if groups > 1 else shape
        return cls(shape, library.plain(shape, _contiguous(shape)))


class Convolutions:
    """The primitives made so far.

    Args:
        library: oneDNN.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.forward = lru_cache(maxsize=512)(self._forward)
        self.data = lru_cache(maxsize=512)(self._data)
        self.weights = lru_cache(maxsize=512)(self._weights)

    def _describe(self, what: str, rows: int, at: Geometry, hint: Any, *arrays: Any) -> c_void_p:
        low, high = zip(*at.padding, strict=True)
        dilation = [d - 1 for d in at.dilation]  # the library counts the holes
        kind = (c_int(FORWARD_TRAINING),) if what == "forward" else ()
        return self.library.make(
            f"dnnl_convolution_{what}_primitive_desc_create",
            self.library.engine, *kind, c_int(CONVOLUTION_DIRECT), *arrays,
            _dims(at.strides), _dims(dilation), _dims(low), _dims(high), *hint, c_void_p(0),
        )  # fmt: skip

    def _arrays(self, rows: int, at: Geometry) -> tuple[c_void_p, c_void_p]:
        operand, result = (rows, *at.operand), (rows, *at.result)
        plain = self.library.plain
        return plain(operand, _channels_last(operand)), plain(result, _channels_last(result))

    def _forward_description(self, rows: int, at: Geometry) -> Any:
        operand, result = self._arrays(rows, at)
        kernels = _Weights.of(self.library, at)
        free = self.library.any_order(kernels.shape)
        none = c_void_p(0)
        description = self._describe("forward", rows, at, (), operand, free, none, result)
        return description, operand, result, kernels, free

    def _forward(self, rows: int, at: Geometry) -> tuple[Primitive, Reorder | None]:
        """The primitive (operand, kernels, result), and what puts kernels in its order."""
        description, operand, result, kernels, _ = self._forward_description(rows, at)
        own = self.library.queried(description, QUERY_WEIGHTS)
        primitive = Primitive(
            self.library, description, [(SRC, operand), (WEIGHTS, own), (DST, result)]
        )
        return primitive, self._reorder(kernels.plain, own)

    def _data(self, rows: int, at: Geometry) -> tuple[Primitive, Reorder | None]:
        """The primitive (result's gradient, kernels, operand's gradient), as `_forward`."""
        hint, operand, result, kernels, free = self._forward_description(rows, at)
        description = self._describe("backward_data", rows, at, (hint,), operand, free, result)
        own = self.library.queried(description, QUERY_WEIGHTS)
        arrays = [(DIFF_DST, result), (WEIGHTS, own), (DIFF_SRC, operand)]
        return Primitive(self.library, description, arrays), self._reorder(kernels.plain, own)

    def _weights(self, rows: int, at: Geometry) -> tuple[Primitive, Reorder | None, int]:
        """The primitive (operand, result's gradient, kernels' gradient), what puts that in plain
        order, and its size before."""
        hint, operand, result, kernels, free = self._forward_description(rows, at)
        none = c_void_p(0)
        description = self._describe(
            "backward_weights", rows, at, (hint,), operand, free, none, result
        )
        own = self.library.queried(description, QUERY_DIFF_WEIGHTS)
        arrays = [(SRC, operand), (DIFF_DST, result), (DIFF_WEIGHTS, own)]
        reorder = self._reorder(own, kernels.plain)
        return Primitive(self.library, description, arrays), reorder, self.library.size(own)

    def _reorder(self, source: c_void_p, target: c_void_p) -> Reorder | None:
        if self.library.same(source, target):
            return None
        return Reorder(self.library, source, target)
