"""Matrix products through cuBLAS, by a small binding of its own.

CuPy refuses to call cuBLAS while a stream is being captured, so its `matmul` can't be part of a
CUDA graph. Here the handle has its workspace from the start, and a call allocates nothing but its
result.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from ctypes import c_int, c_longlong, c_size_t, c_void_p
from typing import TYPE_CHECKING, NamedTuple

from ...graph.types import Array

if TYPE_CHECKING:
    from .library import Module, Stream


WORKSPACE = 32 << 20  # bytes; what cuBLAS recommends for sm_90

# cublasOperation_t, cudaDataType_t, cublasComputeType_t, cublasGemmAlgo_t
_PLAIN, _TRANSPOSED = 0, 1
_TYPES = {
    "float16": (2, 68, ctypes.c_float),  # sums are of float32
    "float32": (0, 68, ctypes.c_float),
    "float64": (1, 70, ctypes.c_double),
}
_DEFAULT = -1


class Matrices(NamedTuple):
    """A stack of matrices as cuBLAS is told of it, column-major.

    Attributes:
        operation: whether it is to be seen transposed.
        leading: the elements from one column to the next.
        stride: the elements from one matrix to the next.
    """

    operation: int
    leading: int
    stride: int


def seen(shape: tuple[int, ...], strides: tuple[int, ...]) -> Matrices | None:
    """How cuBLAS reads matrices whose rows are to be its columns; None if it can't.

    Args:
        shape: (matrices, rows, columns).
        strides: of these, in elements.
    """
    (_, rows, columns), (step, row, column) = shape, strides
    if (column == 1 or columns == 1) and (rows == 1 or row >= columns):
        return Matrices(_PLAIN, max(row if rows > 1 else 0, columns, 1), step)
    if (row == 1 or rows == 1) and (columns == 1 or column >= rows):
        return Matrices(_TRANSPOSED, max(column if columns > 1 else 0, rows, 1), step)
    return None


def _strides(array: Array) -> tuple[int, ...]:
    return tuple(s // array.itemsize for s in array.strides)


class CublasError(RuntimeError):
    """cuBLAS refused a call."""


class Blas:
    """cuBLAS on one stream.

    Args:
        cupy: the array library; it has the library loaded.
        stream: where products are computed.
    """

    def __init__(self, cupy: Module, stream: Stream) -> None:
        self.cupy = cupy
        cupy.cuda.device.get_cublas_handle()  # loads the library
        major = cupy.cuda.runtime.runtimeGetVersion() // 1000
        self._library = _open(major)
        self._handle = c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._call("cublasSetStream_v2", self._handle, c_void_p(stream.ptr))
        # After the stream, since setting that takes the workspace away.
        self._workspace = cupy.cuda.alloc(WORKSPACE)
        self._call(
            "cublasSetWorkspace_v2",
            self._handle, c_void_p(self._workspace.ptr), c_size_t(WORKSPACE),
        )  # fmt: skip

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise CublasError(f"{function} failed with status {status}")

    def matmul(self, a: Array, b: Array) -> Array:
        """As `numpy.matmul` for stacks of matrices, (…, m, k) and (…, k, n)."""
        cupy = self.cupy
        known = _TYPES.get(a.dtype.name)
        if known is None or a.dtype != b.dtype or min(a.ndim, b.ndim) < 2:
            return cupy.matmul(a, b)
        head = a.shape[:-2]
        if b.shape[:-2] != head:
            head = cupy.broadcast_shapes(head, b.shape[:-2])
            a = cupy.broadcast_to(a, head + a.shape[-2:])
            b = cupy.broadcast_to(b, head + b.shape[-2:])
        (m, k), n = a.shape[-2:], b.shape[-1]
        result = cupy.empty((*head, m, n), a.dtype)
        if not result.size:
            return result
        if not k:
            result.fill(0)
            return result
        count = math.prod(head)
        a, b = a.reshape(count, m, k), b.reshape(count, k, n)
        of_a, of_b = seen(a.shape, _strides(a)), seen(b.shape, _strides(b))
        if of_a is None:
            a = cupy.ascontiguousarray(a)
            of_a = Matrices(_PLAIN, k, m * k)
        if of_b is None:
            b = cupy.ascontiguousarray(b)
            of_b = Matrices(_PLAIN, n, k * n)
        kind, compute, number = known
        # Rows are columns to cuBLAS: it computes the transposed product.
        self._call(
            "cublasGemmStridedBatchedEx",
            self._handle, c_int(of_b.operation), c_int(of_a.operation),
            c_int(n), c_int(m), c_int(k), ctypes.byref(number(1)),
            c_void_p(b.data.ptr), c_int(kind), c_int(of_b.leading), c_longlong(of_b.stride),
            c_void_p(a.data.ptr), c_int(kind), c_int(of_a.leading), c_longlong(of_a.stride),
            ctypes.byref(number(0)),
            c_void_p(result.data.ptr), c_int(kind), c_int(n), c_longlong(m * n),
            c_int(count), c_int(compute), c_int(_DEFAULT),
        )  # fmt: skip
        return result

    def tensordot(self, a: Array, b: Array, axes: tuple[Sequence[int], Sequence[int]]) -> Array:
        """As `numpy.tensordot`, summed over `axes` of the one and of the other."""
        inner, other = list(axes[0]), list(axes[1])
        rows = [i for i in range(a.ndim) if i not in inner]
        columns = [i for i in range(b.ndim) if i not in other]
        shape = [a.shape[i] for i in rows], [b.shape[i] for i in columns]
        size = math.prod(a.shape[i] for i in inner)
        left = a.transpose(rows + inner).reshape(math.prod(shape[0]), size)
        right = b.transpose(other + columns).reshape(size, math.prod(shape[1]))
        return self.matmul(left, right).reshape(*shape[0], *shape[1])


def _open(major: int) -> ctypes.CDLL:
    """The library that CuPy has loaded; its name is enough to find it again."""
    names = [f"libcublas.so.{major}", f"cublas64_{major}.dll"]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CublasError(f"none of {names} could be opened")
