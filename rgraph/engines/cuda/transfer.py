"""Between the memories of CPU and GPU: from pinned memory, on a stream of its own.

So what a run reads is copied while the run before is still being computed.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...graph import Stored


class NotCapturable(Exception):
    """Something that a CUDA graph can't hold: the CPU would have to wait for the GPU."""


class Transfers:
    """Copies to and from one GPU.

    Args:
        cupy: the array library.
        stream: where what is copied is computed with.

    Attributes:
        capturing: whether a graph is being captured, which then keeps what is copied.
    """

    def __init__(self, cupy: Any, stream: Any) -> None:
        self.cupy, self.stream = cupy, stream
        self.copies = cupy.cuda.Stream(non_blocking=True)
        self.capturing = False
        self._pinned: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
        # What was copied, until the run that reads it is through: memory that is handed out again
        # on the stream of the copies must not be read any more on the other one.
        self._fresh: list[Any] = []
        self._read: deque[tuple[Any, list[Any]]] = deque()
        self._known: dict[int, tuple[Any, Any]] | None = None

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array in memory that the GPU can read while the CPU goes on."""
        dtype, count = np.dtype(dtype), math.prod(shape)
        if not count:
            return np.empty(shape, dtype)
        memory = self.cupy.cuda.alloc_pinned_memory(count * dtype.itemsize)
        array = np.frombuffer(memory, dtype, count).reshape(shape)
        self._pinned[id(array)] = array
        return array

    def to_gpu(self, array: np.ndarray) -> Any:
        """A copy of `array`, in the same order of memory, that the stream of work waits for."""
        if self._known is not None and id(array) in self._known:
            return self._known[id(array)][1]
        if not array.size:
            return self.cupy.empty(array.shape, array.dtype)
        order = _memory_order(array)
        source = array
        if self._pinned.get(id(array)) is not array:
            plain = array.transpose(order)
            source = self.pinned(plain.shape, array.dtype)
            np.copyto(source, plain)
        else:
            order = list(range(array.ndim))
        with self.copies:
            target = self.cupy.empty(source.shape, source.dtype)
            target.data.copy_from_host_async(source.ctypes.data, source.nbytes, self.copies)
            done = self.copies.record()
        if self.capturing:  # a graph does not wait for what is outside of it
            done.synchronize()
        else:
            self.stream.wait_event(done)
            self._fresh.append((target, source))
        result = _back_in_order(target, order)
        if self._known is not None:
            self._known[id(array)] = array, result
        return result

    def to_cpu(self, array: Any) -> np.ndarray:
        """A copy of `array`, in the same order of memory."""
        if self.capturing:
            raise NotCapturable("the CPU needs a value that is being computed")
        order = _memory_order(array)
        with self.stream:
            plain = self.cupy.ascontiguousarray(array.transpose(order))
            target = self.pinned(tuple(array.shape[i] for i in order), array.dtype)
            plain.data.copy_to_host_async(target.ctypes.data, target.nbytes, self.stream)
        self.stream.synchronize()
        # Pinned memory is scarce, and people keep what they get.
        return _back_in_order(np.array(target), order)

    def keep(self, array: Any) -> None:
        """Has something live until the run that is about to begin is through."""
        self._fresh.append(array)

    def mark(self) -> None:
        """What was copied since the last mark is read by what is on the stream now."""
        if self.capturing:
            return
        self._read.append((self.stream.record(), self._fresh))
        self._fresh = []
        while self._read and self._read[0][0].done:
            self._read.popleft()
        while len(self._read) > 2:  # runs that are under way
            self._read.popleft()[0].synchronize()

    @contextmanager
    def known(self, arrays: Mapping[int, tuple[Any, Any]]) -> Iterator[dict[int, tuple[Any, Any]]]:
        """For a run: arrays of the CPU, by id, that are on the GPU; what is copied joins them."""
        outer, self._known = self._known, dict(arrays)
        try:
            yield self._known
        finally:
            self._known = outer


class Place:
    """The place on the GPU of a parameter or another value that stays from run to run.

    It is the same in all runs, so captured graphs read it. The value itself is the CPU's: learners
    and people change it, in place too, so before a run it is compared with what was copied.
    Kernels of images and volumes lie there as cuDNN wants them, channels-last.
    """

    def __init__(self, transfers: Transfers, node: Stored) -> None:
        self.transfers, self.node = transfers, node
        self.array: Any = None  # on the GPU
        self._copied: np.ndarray | None = None  # as it was when it was copied
        self._staged: Any = None  # pinned, in the order of memory that it has on the GPU
        self._done: Any = None

    def refresh(self) -> None:
        """Copies the value if it has changed."""
        value = np.asarray(self.node.value, None, order="C")
        transfers, stream = self.transfers, self.transfers.stream
        order = list(range(value.ndim))
        if value.ndim > 3:
            order = [0, *order[2:], 1]
        if self._copied is None or self._copied.shape != value.shape:
            self._staged = transfers.pinned(tuple(value.shape[i] for i in order), value.dtype)
            self.array = transfers.cupy.empty(self._staged.shape, value.dtype)
            self.array = _back_in_order(self.array, order)
        elif _bytes(self._copied) == _bytes(value):
            return
        self._copied = value.copy()
        if self._done is not None:
            self._done.synchronize()
        np.copyto(self._staged, value.transpose(order))
        if value.size:
            address, size = self._staged.ctypes.data, self._staged.nbytes
            self.array.data.copy_from_host_async(address, size, stream)
            self._done = stream.record()


def _bytes(array: np.ndarray) -> memoryview:
    """Its memory, which is compared faster than its elements, NaN included."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _memory_order(array: Any) -> list[int]:
    return sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]))


def _back_in_order(array: Any, order: list[int]) -> Any:
    return array.transpose([order.index(i) for i in range(array.ndim)]) if array.ndim > 1 else array
