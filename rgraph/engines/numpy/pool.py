"""Memory that is used again: fresh pages of large arrays cost more than the work on them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .threads import lock

_SMALL = 1 << 15  # below this NumPy's own allocator is as good
_LINE = 64  # bytes: vector instructions are slower across two lines of the cache
_UNUSED = 2  # what sys.getrefcount says of a buffer that only the pool's entry holds


class _Entry:
    __slots__ = ("buffer", "start", "used_in")

    def __init__(self, size: int) -> None:
        self.buffer = np.empty(size + _LINE, np.uint8)
        self.start = -self.buffer.ctypes.data % _LINE
        self.used_in = 0


class Pool:
    """Hands out arrays; one is free again when nothing refers to it or to a view of it."""

    def __init__(self) -> None:
        self._entries: dict[int, list[_Entry]] = {}
        self._run = 0
        self._lock = lock()

    def take(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of undefined content."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALL:
            return np.empty(shape, dtype)
        with self._lock:
            entries = self._entries.setdefault(_rounded(size), [])
            for entry in entries:
                if sys.getrefcount(entry.buffer) == _UNUSED:
                    break
            else:
                entry = _Entry(_rounded(size))
                entries.append(entry)
            entry.used_in = self._run
            return np.ndarray(shape, dtype, entry.buffer, entry.start)

    def is_lone(self, values: Sequence[np.ndarray], index: int) -> bool:
        """Whether it is an array of the pool, and nothing else refers to it or to a view of it.

        What is repeated along an axis (`broadcast_to`) is not: it can't be written to.
        """
        if sys.getrefcount(values[index]) != _UNUSED or not values[index].flags.writeable:
            return False
        base = values[index].base
        with self._lock:
            for entry in self._entries.get(getattr(base, "size", 0) - _LINE, ()):
                if entry.buffer is base:  # of which the array and `base` know too
                    return sys.getrefcount(entry.buffer) == _UNUSED + 2
        return False

    def next_run(self) -> None:
        """Gives back what neither this run nor the one before used."""
        with self._lock:
            self._run += 1
            for size, entries in list(self._entries.items()):
                entries[:] = [
                    e
                    for e in entries
                    if self._run - e.used_in <= 2 or sys.getrefcount(e.buffer) > _UNUSED
                ]
                if not entries:
                    del self._entries[size]


def _rounded(size: int) -> int:
    """Sizes come in eighths of powers of two, so that ragged minibatches share buffers."""
    step = 1 << max(size.bit_length() - 4, 12)
    return -(-size // step) * step
