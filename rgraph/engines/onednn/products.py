"""Matrix products through oneDNN: its threads are those of all else, where a BLAS has its own."""

from __future__ import annotations

from ctypes import c_void_p
from functools import lru_cache
from typing import Any

import numpy as np

from .library import DST, SRC, WEIGHTS, Library, OnednnError, PostOperations, Primitive, address
from .sizes import Sizes

Array = np.ndarray[Any, Any]
Strides = tuple[int, int]

_FEW = 1 << 18  # multiplications up to which NumPy's BLAS uses one thread, and is faster
_NONE = c_void_p(0)


class Products:
    """The product of two matrices of float32; NumPy's for all else.

    Args:
        library: oneDNN.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._rows, self._inner = Sizes(), Sizes()
        self._primitive = lru_cache(maxsize=1024)(self._make)

    def matmul(self, a: Array, b: Array) -> Array:
        float32 = a.dtype == b.dtype == np.float32
        if not float32 or not a.ndim == b.ndim == 2 or a.size * b.shape[1] <= _FEW:
            return np.matmul(a, b)
        try:
            return self._product(_regular(a), _regular(b))
        except OnednnError:
            return np.matmul(a, b)

    def _product(self, a: Array, b: Array) -> Array:
        out = np.empty((len(a), b.shape[1]), np.float32)
        steps = _steps(a), _steps(b)
        family = (a.shape[1], b.shape[1], *steps)
        # Either may be the number of rows, which hardly ever repeats in ragged minibatches: the
        # rows of a batch through a layer, or summed over in the gradient of its weights.
        for rows in self._rows.blocks(family, len(a)):
            for inner in self._inner.blocks((len(a), b.shape[1], *steps), a.shape[1]):
                left, right, result = a[rows, inner], b[inner], out[rows]
                sizes = (*left.shape, b.shape[1])
                primitive = self._primitive(sizes, *steps, inner.start > 0)
                primitive.run_at([address(left), address(right), address(result)])
        return out

    def _make(
        self, sizes: tuple[int, int, int], left: Strides, right: Strides, add: bool
    ) -> Primitive:
        """(rows, inner) times (inner, columns), added to what is there or not."""
        rows, inner, columns = sizes
        a = self.library.plain((rows, inner), left)
        b = self.library.plain((inner, columns), right)
        c = self.library.plain((rows, columns), (columns, 1))
        after = PostOperations(self.library)
        if add:
            after.sum()
        description = self.library.make(
            "dnnl_matmul_primitive_desc_create",
            self.library.engine, a, b, _NONE, c, after.attributes(),
        )  # fmt: skip
        return Primitive(self.library, description, [(SRC, a), (WEIGHTS, b), (DST, c)])


def _steps(a: Array) -> Strides:
    """Strides in elements; an axis of one element has that of a matrix in order."""
    rows, columns = a.strides[0] // 4, a.strides[1] // 4
    if a.shape[1] == 1:
        columns = 1
    if len(a) == 1:
        rows = max(rows, a.shape[1] * columns)
    return rows, columns


def _regular(a: Array) -> Array:
    """`a`, or a copy of it if its elements do not follow one another along rows or columns."""
    rows, columns = _steps(a)
    in_rows = columns == 1 and rows >= a.shape[1]
    in_columns = rows == 1 and columns >= len(a)
    return a if in_rows or in_columns else np.ascontiguousarray(a)
