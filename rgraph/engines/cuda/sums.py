"""Sums over axes with a kept one inside of them in memory, as of a bias's gradient over pixels.

CuPy gives each block a few results, so that sums to a few channels run in a few blocks, one number
after the other. Here they are sums of strips, and of these again, until one is left.
"""

from __future__ import annotations

import math
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...graph.types import Array
from ...ops.sums import MAX_SEQUENTIAL
from ..strides import joined

if TYPE_CHECKING:
    from ...graph.node import Shape
    from .library import Module


_THREADS = 256
_FEWEST = 2  # results that lie beside one another; a single one is CuPy's
_LEAST = 16 * MAX_SEQUENTIAL  # numbers that are added: fewer are CuPy's

STRIPS = r"""
extern "C" __global__ void strips(long long size, long long rows, long long columns, long long each, const T* x, T* y) {
    long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i >= size) return;
    long long column = i % columns, strips = (rows + each - 1) / each, strip = i / columns % strips;
    long long first = strip * each, last = first + each < rows ? first + each : rows;
    const T* matrix = x + i / columns / strips * rows * columns + column;
    T sum = T(0);
    for (long long row = first; row < last; ++row) sum += matrix[row * columns];
    y[i] = sum;
}
"""  # noqa: E501
_TYPES = {"float32": "float", "float64": "double"}


def source(dtype: str) -> str:
    """The CUDA source of `strips` for float32 or float64."""
    return f"typedef {_TYPES[dtype]} T;\n" + STRIPS


class Matrices(NamedTuple):
    """An array as matrices, each of rows, over which it is summed, of numbers that lie beside one
    another."""

    matrices: int
    rows: int
    columns: int


def as_matrices(array: Array, axes: tuple[int, ...]) -> Matrices | None:
    """How an array that is summed over axes lies in memory; None if not as matrices."""
    where = [0 if i in axes else 1 for i in range(array.ndim)]
    own = [s // array.itemsize for s in array.strides]
    # As strides of a second array, so that only axes are joined of which both are kept or neither.
    sizes, (steps, kept) = joined(array.shape, (own, where))
    groups = [
        (k > 0, [n for _, n in group])
        for k, group in groupby(zip(kept, sizes, strict=True), itemgetter(0))
    ]
    if [k for k, _ in groups[-2:]] != [False, True] or len(groups) > 3:
        return None
    step = 1
    for size, own_step in zip(reversed(sizes), reversed(steps), strict=True):
        if own_step != step:
            return None
        step *= size
    rows, columns = (math.prod(group) for _, group in groups[-2:])
    return Matrices(step // (rows * columns), rows, columns)


class Sums:
    """CuPy's `add`, with sums over outer axes by strips.

    Args:
        cupy: the array library.
    """

    def __init__(self, cupy: Module) -> None:
        self.cupy = cupy
        self._kernels = {t: cupy.RawKernel(source(t), "strips") for t in _TYPES}

    def __call__(self, *arrays: Array, **options: object) -> Array:
        return self.cupy.add(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cupy.add, name)

    def reduce(self, array: Array, axis: int | Shape | None = 0, keepdims: bool = False) -> Array:
        """As `numpy.add.reduce`."""
        axes = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = tuple(a % array.ndim for a in axes)
        known = array.dtype.name in self._kernels and array.size
        at = as_matrices(array, axes) if known else None
        if at is None or at.columns < _FEWEST or at.rows < _LEAST:
            return self.cupy.add.reduce(array, axis=axis, keepdims=keepdims)
        order = sorted((i for i in range(array.ndim) if i not in axes),
                       key=lambda i: -array.strides[i])  # fmt: skip
        sums = self._down(array, *at).reshape([array.shape[i] for i in order])
        result = sums.transpose([order.index(i) for i in sorted(order)])
        if not keepdims:
            return result
        return result.reshape([1 if i in axes else n for i, n in enumerate(array.shape)])

    def _down(self, array: Array, count: int, rows: int, columns: int) -> Array:
        kernel = self._kernels[array.dtype.name]
        while rows > 1:
            strips = -(-rows // MAX_SEQUENTIAL)
            result = self.cupy.empty(count * strips * columns, array.dtype)
            numbers = map(np.int64, (result.size, rows, columns, MAX_SEQUENTIAL))
            kernel((-(-result.size // _THREADS),), (_THREADS,), (*numbers, array, result))
            array, rows = result, strips
        return array
