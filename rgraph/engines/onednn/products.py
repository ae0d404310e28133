"""Matrix products through oneDNN: its threads are those of all else, where a BLAS has its own."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_void_p
from functools import lru_cache
from typing import Any

import numpy as np

from .. import tailed
from ..sizes import Sizes
from .library import (
    DST,
    SRC,
    WEIGHTS,
    Library,
    OnednnError,
    Primitive,
    address,
)
from .primitives import WHOLE, Shape, Tail, post_operations, tail_of

Array = np.ndarray[Any, Any]
Strides = tuple[int, int]

_FEW = 1 << 18  # multiplications up to which NumPy's BLAS uses one thread, and is faster
_NONE = c_void_p(0)


class Products:
    """Products of matrices of float32, with what is pointwise after them.

    Args:
        library: oneDNN.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._rows, self._inner = Sizes(), Sizes()
        self._primitive = lru_cache(maxsize=1024)(self._make)
        self._chain = lru_cache(maxsize=1024)(_chain)

    def matmul(self, a: Array, b: Array) -> Array:
        """NumPy's function of that name, to which goes what the library can't do."""
        if _is_large(a, b):
            try:
                return self._product(_regular(a), _regular(b))
            except OnednnError:
                pass
        return np.matmul(a, b)

    def tailed(
        self, run: Any, a: Array, b: Array, *more: Array, head: Any, arguments: Any, program: Any,
        out: Any = None,
    ) -> Array:  # fmt: skip
        """A product that does its tail itself; where the library can't, one after the other."""
        recipe = arguments["recipe"]
        left, right = (b, a) if recipe.turned else (a, b)
        if recipe.plain and _is_large(left, right):
            more = tuple(map(np.asarray, more))  # a reduction may have made a number
            forms = ((m.shape, m.flags.c_contiguous, m.dtype) for m in more)
            chain, reads = self._chain(program, (len(left), right.shape[1]), *forms)
            if chain is not None and (out is None or out.flags.c_contiguous):
                try:
                    return self._product(_regular(left), _regular(right), chain, reads, more, out)
                except OnednnError:
                    pass
        own = {"head": head, "arguments": arguments, "program": program}
        return tailed(run, a, b, *more, **own, out=out)

    def _product(
        self,
        a: Array,
        b: Array,
        chain: Tail = (),
        reads: Sequence[int] = (),
        more: Sequence[Array] = (),
        out: Array | None = None,
    ) -> Array:
        if out is None:
            out = np.empty((len(a), b.shape[1]), np.float32)
        steps = _steps(a), _steps(b)
        # Either may be the number of rows, which hardly ever repeats in ragged minibatches: the
        # rows of a batch through a layer, or summed over in the gradient of its weights.
        inner_blocks: Any = (slice(0, a.shape[1]),)
        if not chain:
            inner_blocks = self._inner.blocks((len(a), b.shape[1], *steps), a.shape[1])
        for inner in inner_blocks:
            for rows in self._rows.blocks((a.shape[1], b.shape[1], *steps, chain), len(a)):
                left, right, result = a[rows, inner], b[inner], out[rows]
                others = (more[i] for i in reads)
                others = (m[rows] if m.shape == out.shape else m for m in others)
                sizes = (*left.shape, b.shape[1])
                primitive = self._primitive(sizes, *steps, inner.start > 0, chain)
                primitive.run_at(list(map(address, (left, right, result, *others))))
        return out

    def _make(
        self, sizes: tuple[int, int, int], left: Strides, right: Strides, add: bool, chain: Tail
    ) -> Primitive:
        """(rows, inner) times (inner, columns), added to what is there or not, and its tail."""
        rows, inner, columns = sizes
        a = self.library.plain((rows, inner), left)
        b = self.library.plain((inner, columns), right)
        c = self.library.dense((rows, columns))
        after = post_operations(self.library, chain, (rows, columns), self.library.dense)
        if add:
            after.sum()
        description = self.library.make(
            "dnnl_matmul_primitive_desc_create",
            self.library.engine, a, b, _NONE, c, after.attributes(),
        )  # fmt: skip
        arrays = [(SRC, a), (WEIGHTS, b), (DST, c), *after.arguments]
        return Primitive(self.library, description, arrays)


def _is_large(a: Array, b: Array) -> bool:
    """Whether it is a product that the library does faster."""
    float32 = a.dtype == b.dtype == np.float32
    return float32 and a.ndim == b.ndim == 2 and a.size * b.shape[1] > _FEW


def _chain(
    program: Any, result: Shape, *more: tuple[Shape, bool, np.dtype]
) -> tuple[Tail | None, list[int]]:
    shapes = [_shape_in_tail(shape, dense, result) for shape, dense, _ in more]
    if None in shapes or any(dtype != np.float32 for *_, dtype in more):
        return None, []
    return tail_of(program, shapes)


def _shape_in_tail(own: Shape, dense: bool, result: Shape) -> Shape | None:
    """The shape of an operand of a tail, as the library is told; None if it can't take that."""
    if not dense or len(own) > 2:
        return None
    shape = (1,) * (2 - len(own)) + own
    if shape == result:
        return WHOLE
    return shape if shape[0] == 1 and shape[1] in (1, result[1]) else None


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
