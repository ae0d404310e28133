"""Matrix products of NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...graph.node import Type
from ..base import Kernel
from .threads import Array, number, run

if TYPE_CHECKING:
    from ...ops.contractions import Recipe
    from ...plan import Run


_MUCH = 1 << 23  # multiplications that are worth several threads


def matmul(
    a: Array, b: Array, out: Array | None = None, empty: Callable[..., Array] = np.empty
) -> Array:
    """`numpy.matmul`, with large products divided among the threads that do all other work: the
    BLAS's own threads would keep spinning for a while afterwards and slow those down.

    Args:
        empty: `empty(shape, dtype)`, allocates the result of a large product.
    """
    if a.ndim != 2 or b.ndim != 2 or a.size * b.shape[1] < _MUCH:
        return np.matmul(a, b, out=out)
    rows, columns = len(a), b.shape[1]
    if out is None:
        out = empty((rows, columns), np.result_type(a, b))
    parts, by_rows = number(), rows >= columns

    def work(shares: Iterator[slice]) -> None:
        for share in shares:
            if by_rows:
                np.matmul(a[share], b, out=out[share])
            else:
                np.matmul(a, b[:, share], out=out[:, share])

    size = rows if by_rows else columns
    ends = [size * i // parts for i in range(parts + 1)]
    run(work, [slice(*span) for span in zip(ends, ends[1:], strict=False)], True)
    return out


class Product:
    """The kernel of a product of two matrices.

    Args:
        recipe: how the operands are factors.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._turned, (self._left, self._right) = recipe.turned, recipe.transposed

    @classmethod
    def make(cls, rest: Kernel, operands: Sequence[Type], /, recipe: Recipe) -> Product | None:
        return cls(recipe) if recipe.plain and recipe.fixed else None

    def __call__(self, run: Run, a: Array, b: Array, *, out: Array | None = None) -> Array:
        if self._turned:
            a, b = b, a
        if out is None:
            out = run.matmul(a.T if self._left else a, b.T if self._right else b)
        else:
            matmul(a.T if self._left else a, b.T if self._right else b, out=out)
        return out
