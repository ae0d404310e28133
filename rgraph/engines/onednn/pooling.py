"""Pooling through oneDNN, of arrays whose channels are innermost or outermost in memory.

The gradient of max pooling looks anew for what is largest: that takes less time than copying the
operand, and nothing is kept for a gradient that may never be asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...ops.poolings import LARGE_WINDOW
from ..sizes import Sizes
from ..strides import Shape, channels_last, empty_channels_last, is_dense
from .library import (
    DIFF_DST,
    DIFF_SRC,
    DST,
    FORWARD_INFERENCE,
    FORWARD_TRAINING,
    POOLING,
    QUERY_WORKSPACE,
    SRC,
    WORKSPACE,
    Library,
    OnednnError,
    Primitive,
    address,
    dims,
)

if TYPE_CHECKING:
    from ...plan import Run


Array = np.ndarray
Pads = tuple[tuple[int, int], ...]


class _Geometry(NamedTuple):
    """All that a primitive is specialized to, but for the rows."""

    kind: str
    last: bool  # whether the channels are innermost
    operand: Shape  # (channels, *size)
    result: Shape  # (channels, *size)
    window: Shape
    strides: Shape
    padding: Pads


class Poolings:
    """Kernels for float32.

    Args:
        library: oneDNN.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, library: Library, empty: Callable[..., Array]) -> None:
        self.library, self.empty = library, empty
        self.kernels: dict[str, Callable[..., Array | None]] = {
            "pool_pick": self.pick,
            "pool_place": self.place,
            "pool_mean": self.mean,
            "pool_spread": self.spread,
        }
        self._sizes = Sizes()
        self._geometry = lru_cache(maxsize=1024)(self._make_geometry)
        self._forward = lru_cache(maxsize=512)(self._make_forward)
        self._finding = lru_cache(maxsize=512)(self._make_finding)
        self._backward = lru_cache(maxsize=512)(self._make_backward)

    # These give None for what is left to others.

    def pick(self, run: Run, value: Array, guide: Array, **at: Any) -> Array | None:
        geometry = self._find("max", value, value.shape, **at) if value is guide else None
        # The library makes numbers of NaN.
        if geometry is None or np.isnan(np.add.reduce(value, axis=None)):
            return None
        return self._pooled(geometry, value, at["counts"])

    def mean(self, run: Run, x: Array, *, include_pad: bool, **at: Any) -> Array | None:
        if math.prod(at["window"]) > LARGE_WINDOW:  # the library adds one after the other
            return None
        geometry = self._find(_mean(include_pad), x, x.shape, **at)
        return geometry and self._pooled(geometry, x, at["counts"])

    def _pooled(self, geometry: _Geometry, x: Array, counts: Shape) -> Array:
        x = self._ordered(x, geometry.last)
        result = self._room((*x.shape[:2], *counts), geometry.last)
        here, there = address(x), address(result)
        for rows, operand, pooled in self._blocks(geometry, len(x)):
            self._forward(rows, geometry).run_at([here + operand, there + pooled])
        return result

    def place(self, run: Run, value: Array, guide: Array, **at: Any) -> Array | None:
        geometry = self._find("max", guide, guide.shape, **at)
        pooled_shape = (*guide.shape[:2], *at["counts"])
        if geometry is None or value.dtype != guide.dtype or value.shape != pooled_shape:
            return None
        value, guide = (self._ordered(a, geometry.last) for a in (value, guide))
        result = self._room(guide.shape, geometry.last)
        there, here, target = map(address, (value, guide, result))
        for rows, operand, pooled in self._blocks(geometry, len(guide)):
            finding, size = self._finding(rows, geometry)
            places = self.empty((size,), np.uint8)
            largest = self.empty((rows, *geometry.result), np.float32)  # not needed
            finding.run_at([here + operand, address(largest), address(places)])
            backward = self._backward(rows, geometry)
            backward.run_at([there + pooled, target + operand, address(places)])
        return result

    def spread(
        self, run: Run, g: Array, *, include_pad: bool, shape: Shape, **at: Any
    ) -> Array | None:
        size = len(at["window"])
        operand = g.shape[: g.ndim - size] + shape[len(shape) - size :]  # `g` may have no rows
        geometry = self._find(_mean(include_pad), g, operand, **at)
        if geometry is None:
            return None
        g = self._ordered(g, geometry.last)
        result = self._room(operand, geometry.last)
        there, target = address(g), address(result)
        for rows, start, pooled in self._blocks(geometry, len(g)):
            self._backward(rows, geometry).run_at([there + pooled, target + start])
        return result

    def _find(
        self, kind: str, array: Array, operand: Shape, window: Shape, counts: Shape, **moves: Any
    ) -> _Geometry | None:
        """How the library is to pool; None if that is left to the reference.

        Args:
            array: that which gives the memory order.
            operand: the shape of what is pooled.
        """
        if array.dtype != np.float32 or len(operand) != len(window) + 2 or not array.size:
            return None
        last = is_dense(array) or not array.flags.c_contiguous
        return self._geometry(kind, last, operand[1:], counts, window, **moves)

    def _make_geometry(
        self,
        kind: str,
        last: bool,
        operand: Shape,
        counts: Shape,
        window: Shape,
        strides: Shape,
        padding: Pads,
    ) -> _Geometry | None:
        sizes = zip(operand[1:], counts, window, strides, padding, strict=True)
        for n, m, k, s, (low, high) in sizes:
            # Windows that lie outside, or strides that skip elements at an edge, it does not know.
            if not (0 <= low < k and 0 <= high < k and (n + low + high - k) // s + 1 == m):
                return None
        channels, *size = operand
        if channels == 1:  # it is slow where its vectors have one element
            return None
        if len(window) == 1:  # it is fast on images
            size, counts, window, strides = [1, *size], (1, *counts), (1, *window), (1, *strides)
            padding = ((0, 0), *padding)
        made = _Geometry(
            kind, last, (channels, *size), (channels, *counts), window, strides, padding
        )
        try:
            slow = ("ref", "simple")
            both = (self._describe_forward(1, made), self._describe_backward(1, made))
            fast = not any(self.library.implementation(d).startswith(slow) for d in both)
        except OnednnError:
            return None
        return made if fast else None

    def _blocks(self, at: _Geometry, rows: int) -> Iterator[tuple[int, int, int]]:
        """The rows in blocks: how many, and where they begin in the operand and in the result."""
        operand, pooled = 4 * math.prod(at.operand), 4 * math.prod(at.result)
        for block in self._sizes.blocks(at, rows):
            yield block.stop - block.start, block.start * operand, block.start * pooled

    def _arrays(self, rows: int, at: _Geometry) -> tuple[c_void_p, c_void_p]:
        """Descriptions of the operand and of the result."""
        shapes = (rows, *at.operand), (rows, *at.result)
        if not at.last:
            return self.library.dense(shapes[0]), self.library.dense(shapes[1])
        operand, result = (self.library.plain(s, channels_last(s)) for s in shapes)
        return operand, result

    def _describe(
        self, what: str, at: _Geometry, *more: object, hint: Sequence[c_void_p] = ()
    ) -> c_void_p:
        low, high = zip(*at.padding, strict=True)
        whole = [0] * len(at.window)  # no holes in the window
        return self.library.make(
            f"dnnl_pooling_{what}_primitive_desc_create", self.library.engine, *more,
            dims(at.strides), dims(at.window), dims(whole), dims(low), dims(high), *hint,
            self.library.attributes,
        )  # fmt: skip

    def _describe_forward(self, rows: int, at: _Geometry, aim: int = FORWARD_TRAINING) -> c_void_p:
        kind = c_int(POOLING[at.kind])
        return self._describe("forward", at, c_int(aim), kind, *self._arrays(rows, at))

    def _describe_backward(self, rows: int, at: _Geometry) -> c_void_p:
        kind, hint = c_int(POOLING[at.kind]), self._describe_forward(rows, at)
        return self._describe("backward", at, kind, *self._arrays(rows, at), hint=(hint,))

    def _make_forward(self, rows: int, at: _Geometry) -> Primitive:
        """(operand, result)."""
        operand, result = self._arrays(rows, at)
        description = self._describe_forward(rows, at, FORWARD_INFERENCE)
        return Primitive(self.library, description, [(SRC, operand), (DST, result)])

    def _make_finding(self, rows: int, at: _Geometry) -> tuple[Primitive, int]:
        """(operand, result, places of what is largest), and the bytes of the last."""
        operand, result = self._arrays(rows, at)
        description = self._describe_forward(rows, at)
        places = self.library.queried(description, QUERY_WORKSPACE)
        arrays = [(SRC, operand), (DST, result), (WORKSPACE, places)]
        return Primitive(self.library, description, arrays), self.library.size(places)

    def _make_backward(self, rows: int, at: _Geometry) -> Primitive:
        """(the result's gradient, the operand's), and for maxima their places."""
        operand, result = self._arrays(rows, at)
        description = self._describe_backward(rows, at)
        arrays = [(DIFF_DST, result), (DIFF_SRC, operand)]
        if at.kind == "max":
            arrays.append((WORKSPACE, self.library.queried(description, QUERY_WORKSPACE)))
        return Primitive(self.library, description, arrays)

    def _room(self, shape: Shape, last: bool) -> Array:
        if last:
            return empty_channels_last(self.empty, shape, np.float32)
        return self.empty(shape, np.float32)

    def _ordered(self, array: Array, last: bool) -> Array:
        """`array`, or a copy of it, in this memory order."""
        if is_dense(array) if last else array.flags.c_contiguous:
            return array
        copy = self._room(array.shape, last)
        copy[...] = array
        return copy


def _mean(include_pad: bool) -> str:
    return "mean, padding included" if include_pad else "mean"
