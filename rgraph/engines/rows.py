"""Rows in blocks of few sizes: for libraries that specialize what they make to a size.

Ragged minibatches hardly ever repeat their numbers of rows; that must not mean ever new primitives.
"""

from __future__ import annotations

from collections.abc import Iterator

_EXACT = 8  # up to so many rows are a block of their own


def row_blocks(rows: int) -> Iterator[slice]:
    """The rows in blocks whose sizes are few: 1 to 8, and powers of two and their halves more."""
    start = 0
    while start < rows:
        left = rows - start
        size = left
        if left > _EXACT:
            power = 1 << (left.bit_length() - 1)
            size = power + power // 2 if left >= power + power // 2 else power
        yield slice(start, start + size)
        start += size
