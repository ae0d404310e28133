"""Pooling in pieces of a few rows, which stay in the cache from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...ops.records import TABLE
from .threads import Array, number, run

if TYPE_CHECKING:
    from ...plan import Run


PIECE = 1 << 20  # bytes of the larger operand of a piece


def kernels() -> dict[str, Callable[..., Array]]:
    """The records' own kernels, run on pieces by all threads."""
    names = ("pool_pick", "pool_place", "pool_mean", "pool_spread")
    return {name: _by_rows(TABLE[name].kernel) for name in names}


def _by_rows(kernel: Callable[..., Array]) -> Callable[..., Array]:
    def call(context: Run, *arrays: Array, **at: Any) -> Array:
        rows, large = len(arrays[0]), max(a.nbytes for a in arrays)
        step = max(1, PIECE * rows // large) if large else rows
        alike = all(a.ndim == arrays[0].ndim and len(a) == rows for a in arrays)
        if step >= rows or not alike or arrays[0].ndim <= len(at["window"]):
            return kernel(context, *arrays, **at)

        def part(piece: slice) -> list[Array]:
            views = {id(a): a[piece] for a in arrays}  # one view of one array
            return [views[id(a)] for a in arrays]

        first = kernel(context, *part(slice(0, step)), **at)
        result = context.empty((rows, *first.shape[1:]), first.dtype, first)
        result[:step] = first

        def work(pieces: Iterator[slice]) -> None:
            for piece in pieces:
                kernel(context, *part(piece), out=result[piece], **at)

        pieces = [slice(i, min(i + step, rows)) for i in range(step, rows, step)]
        run(work, pieces, len(pieces) >= number())
        return result

    return call
