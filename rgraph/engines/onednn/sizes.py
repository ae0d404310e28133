"""The sizes that primitives are made for: few, whatever the minibatches are."""

from __future__ import annotations

from collections.abc import Iterator

_EXACT = 8  # up to so many rows have primitives of their own size


def row_blocks(rows: int, most: int | None = None) -> Iterator[slice]:
    """The rows in blocks whose sizes are few: 1 to 8, powers of two and their halves more.

    Args:
        most: the size of the largest block, which may be any.
    """
    start = 0
    while start < rows:
        size = left = rows - start
        if most is not None and left >= most:
            size = most
        elif left > _EXACT:
            power = 1 << (left.bit_length() - 1)
            size = power + power // 2 if left >= power + power // 2 else power
        yield slice(start, start + size)
        start += size
