"""A memory pool: fresh pages for large arrays cost more time than the work on them."""

from __future__ import annotations

import math
import weakref
from collections import deque
from ctypes import c_char
from typing import Any

import numpy as np

from ...graph.types import DTypeLike

_SMALL = 1 << 15  # below this NumPy's own allocator is as good
_SIZES = 8  # from one to twice that
_LINE = 64  # bytes: vector instructions are slower across two lines of the cache


class _Buffer:
    __slots__ = ("memory", "size", "start", "used_in")

    def __init__(self, size: int) -> None:
        # NumPy's memory has large pages. But views of an array keep that alive which it is a view
        # of: what is handed out must be a view of something that is no array of NumPy's.
        own = np.empty(size + _LINE, np.uint8)
        self.start, self.size = -own.ctypes.data % _LINE, size
        self.memory: Any = (c_char * len(own)).from_buffer(own.data)
        self.used_in = 0


class _Loan(weakref.ref[np.ndarray]):
    """An array that uses the memory of a buffer."""

    __slots__ = ("buffer", "pool")
    buffer: _Buffer
    pool: Pool


class Pool:
    """Allocates arrays; their memory is reused once they and all views of them are gone.

    That may happen in any thread at any time, so there is no lock.
    """

    def __init__(self) -> None:
        self._free: dict[int, deque[_Buffer]] = {}
        self._loans: dict[int, _Loan] = {}  # by their identities
        self._run = 0

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An uninitialized array."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALL:
            return np.empty(shape, dtype)
        size = _rounded(size)
        buffer = self._free_buffer(size) or _Buffer(size)
        buffer.used_in = self._run
        array = np.ndarray(shape, dtype, buffer.memory, buffer.start)
        loan = _Loan(array, _give_back)
        loan.buffer, loan.pool = buffer, self
        self._loans[id(loan)] = loan
        return array

    def _free_buffer(self, size: int) -> _Buffer | None:
        """The smallest free buffer of at least that size, and at most twice that.

        If there is none, the largest free buffer between half that size and that size is dropped: a
            new one
        replaces it from now on.
        """
        larger = smaller = size
        for _ in range(_SIZES + 1):
            if buffer := _popped(self._free.get(larger)):
                return buffer
            larger = _rounded(larger + 1)
        for _ in range(_SIZES):
            smaller = _next_smaller(smaller)
            if _popped(self._free.get(smaller)):
                break
        return None

    def next_run(self) -> None:
        """Drop buffers that neither this run nor the previous one used."""
        self._run += 1
        for free in list(self._free.values()):
            for _ in range(len(free)):
                try:
                    buffer = free.popleft()
                except IndexError:  # another thread has it
                    break
                if self._run - buffer.used_in <= 2:
                    free.append(buffer)


def _popped(buffers: deque[_Buffer] | None) -> _Buffer | None:
    try:
        return buffers.pop() if buffers else None
    except IndexError:  # another thread has taken it
        return None


def _give_back(loan: _Loan) -> None:
    pool, buffer = loan.pool, loan.buffer
    del pool._loans[id(loan)]
    pool._free.setdefault(buffer.size, deque()).append(buffer)


def _rounded(size: int) -> int:
    """Sizes are rounded to eighths of powers of two, so that ragged minibatches share buffers."""
    step = _step(size)
    return -(-size // step) * step


def _next_smaller(size: int) -> int:
    """The next smaller rounded size."""
    return size - _step(size - 1)


def _step(size: int) -> int:
    return 1 << max(size.bit_length() - 4, 12)
