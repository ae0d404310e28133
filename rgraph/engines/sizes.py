"""The sizes that primitives are made for: few, whatever the minibatches are."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

_EXACT = 32  # sizes of a kind that get primitives of their own
_KINDS = 4096  # of which the latest are known
_SMALL = 8  # up to so many rows are a block of their own


class Sizes:
    """Which numbers of rows have occurred, for each kind of primitive.

    Making a primitive takes longer than many a use of it. The first few sizes, in most programs
    all, get primitives of their own; where ever new ones come, as in ragged minibatches, rows go
    through in blocks.
    """

    def __init__(self) -> None:
        self._seen: dict[Hashable, set[int]] = {}

    def blocks(self, kind: Hashable, rows: int) -> Iterable[slice]:
        if kind not in self._seen and len(self._seen) >= _KINDS:
            self._seen.pop(next(iter(self._seen)), None)
        seen = self._seen.setdefault(kind, set())
        if rows in seen or len(seen) < _EXACT:
            seen.add(rows)
            return (slice(0, rows),)
        return row_blocks(rows)


def row_blocks(rows: int) -> Iterator[slice]:
    """The rows in blocks whose sizes are few: 1 to 8, powers of two and their halves more."""
    start = 0
    while start < rows:
        size = left = rows - start
        if left > _SMALL:
            power = 1 << (left.bit_length() - 1)
            size = power + power // 2 if left >= power + power // 2 else power
        yield slice(start, start + size)
        start += size
