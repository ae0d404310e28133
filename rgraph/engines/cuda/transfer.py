"""Between the memories of CPU and GPU: from pinned memory, what is large on a stream of its own.

So what a run reads is copied while the run before is still being computed.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...graph.types import Array, DTypeLike

if TYPE_CHECKING:
    from ...graph.leaves import Constant, Stored
    from . import CudaEngine
    from .library import Event, Module, Stream


SMALL = 1 << 18  # bytes: fewer are copied sooner than another stream is waited for
_APART = 256  # bytes that each array in a piece of memory begins at a multiple of


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

    def __init__(self, cupy: Module, stream: Stream) -> None:
        self.cupy, self.stream = cupy, stream
        self.copies = cupy.cuda.Stream(non_blocking=True)
        self.capturing = False
        self._pinned: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
        # What was copied, until the run that reads it is through: memory that is handed out again
        # on the stream of the copies must not be read any more on the other one.
        self._fresh: list[object] = []
        self._read: deque[tuple[Event, list[object]]] = deque()
        self._known: dict[int, tuple[np.ndarray, Array]] | None = None

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An array in memory that the GPU can read while the CPU goes on."""
        dtype, count = np.dtype(dtype), math.prod(shape)
        if not count:
            return np.empty(shape, dtype)
        memory = self.cupy.cuda.alloc_pinned_memory(count * dtype.itemsize)
        array = np.frombuffer(memory, dtype, count).reshape(shape)
        self._pinned[id(array)] = array
        return array

    def to_gpu(self, array: np.ndarray) -> Array:
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
        small = source.nbytes <= SMALL and not self.capturing
        stream = self.stream if small else self.copies
        with stream:
            target = self.cupy.empty(source.shape, source.dtype)
            target.data.copy_from_host_async(source.ctypes.data, source.nbytes, stream)
        if small:
            self._fresh.append(source)
        elif self.capturing:  # a graph does not wait for what is outside of it
            stream.record().synchronize()
        else:
            self.stream.wait_event(stream.record())
            self._fresh.append((target, source))
        result = _back_in_order(target, order)
        if self._known is not None:
            self._known[id(array)] = array, result
        return result

    def to_cpu(self, array: Array) -> np.ndarray:
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

    def number_later(self, array: Array) -> Callable[[], Any]:
        """What waits until a single number is copied, and gives it."""
        target = self.pinned((1,), array.dtype)
        array.data.copy_to_host_async(target.ctypes.data, target.nbytes, self.stream)
        done = self.stream.record()

        def number() -> Any:
            done.synchronize()
            return target[0]

        return number

    def keep(self, array: object) -> None:
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
    def known(self) -> Iterator[dict[int, tuple[np.ndarray, Array]]]:
        """For a run: what it copies is copied once; the arrays, by the id of the CPU's."""
        outer, self._known = self._known, {}
        try:
            yield self._known
        finally:
            self._known = outer


class _Part(NamedTuple):
    """Where an array is in a piece of memory, and how it lies there."""

    bytes: slice
    dtype: np.dtype
    shape: tuple[int, ...]  # outermost in memory first
    order: list[int]

    def of(self, memory: Array) -> Array:
        return _back_in_order(memory[self.bytes].view(self.dtype).reshape(self.shape), self.order)


class Together:
    """Arrays that lie in one piece of the GPU's memory and are copied there at once.

    Args:
        transfers: to and from the GPU.
        like: arrays of the CPU's, of the same shapes, types and orders of memory.

    Attributes:
        arrays: those on the GPU.
    """

    def __init__(self, transfers: Transfers, like: Sequence[np.ndarray]) -> None:
        self.transfers, self.size = transfers, 0
        self._parts: list[_Part] = []
        for a in like:
            order, start = _memory_order(a), self.size
            shape = tuple(a.shape[i] for i in order)
            self._parts.append(_Part(slice(start, start + a.nbytes), a.dtype, shape, order))
            self.size += -(-a.nbytes // _APART) * _APART
        self._memory = transfers.cupy.empty(self.size, np.uint8)
        self.arrays = [p.of(self._memory) for p in self._parts]
        # Two, so that one can be written while the other is still being copied
        self._staged: deque[tuple[np.ndarray, list[np.ndarray], Event]] = deque()

    def write(self, arrays: Sequence[np.ndarray]) -> None:
        """Copies arrays of the CPU's, which may be written again at once."""
        stream = self.transfers.stream
        if len(self._staged) < 2:
            staged = self.transfers.pinned((self.size,), np.uint8)
            parts = [p.of(staged) for p in self._parts]
        else:
            staged, parts, copied = self._staged.popleft()
            copied.synchronize()
        for part, array in zip(parts, arrays, strict=True):
            np.copyto(part, array)
        self._memory.data.copy_from_host_async(staged.ctypes.data, self.size, stream)
        self._staged.append((staged, parts, stream.record()))


class Place:
    """The place on the GPU of a parameter or another value that stays from run to run.

    It is the same in all runs, so captured graphs read it. Learners change the value here; people
    and other engines change the CPU's, which is copied before the next run.
    Kernels of images and volumes lie there as cuDNN wants them, channels-last.
    """

    def __init__(self, engine: CudaEngine, node: Stored | Constant) -> None:
        self.engine = engine
        self.node: Any = node  # of which one that learns is changed here
        self.array: Array = None  # on the GPU
        self._edition = -1  # of the node's value, the one that is here
        self._staged: np.ndarray | None = None  # pinned, in the order of memory of the GPU's
        self._done: Event = None

    def refresh(self) -> None:
        """Copies the value if it has changed."""
        node, transfers = self.node, self.engine.transfers
        if self._edition == node.edition:
            return
        value = node.value
        order = self._room(value.shape, value.dtype)
        if self._staged is None:
            self._staged = transfers.pinned(tuple(value.shape[i] for i in order), value.dtype)
        if self._done is not None:
            self._done.synchronize()
        np.copyto(self._staged, value.transpose(order))
        if value.size:
            address, size = self._staged.ctypes.data, self._staged.nbytes
            self.array.data.copy_from_host_async(address, size, transfers.stream)
            self._done = transfers.stream.record()
        self._edition = node.edition

    def _room(self, shape: tuple[int, ...], dtype: DTypeLike) -> list[int]:
        """Sees to it that there is an array; its axes as they lie in memory, outermost first."""
        order = list(range(len(shape)))
        if len(shape) > 3:
            order = [0, *order[2:], 1]
        if self.array is None:
            memory = self.engine.cupy.empty(tuple(shape[i] for i in order), dtype)
            self.array = _back_in_order(memory, order)
        return order

    def write(self, array: Array) -> None:
        """Sets the value to that of an array on the GPU."""
        guard: Any = self.engine.guard if self.array is not None else None
        self._room(self.node.shape or (), self.node.dtype)
        if guard is None:
            assign(self.array, array)
        else:
            guard.write(self.engine.pointwise, self.array, array)
        self.changed()

    def changed(self) -> None:
        """Notes that the array here was changed: the newest value is here."""
        self.node.changed(self._fetch)
        self._edition = self.node.edition

    def _fetch(self) -> np.ndarray:
        return np.array(self.engine.to_numpy(self.array), order="C")


def _memory_order(array: Array) -> list[int]:
    return sorted(range(array.ndim), key=lambda i: -abs(array.strides[i]))


def in_memory_order(array: Array) -> Array:
    """The array with its axes as they lie in memory, outermost first."""
    return array.transpose(_memory_order(array)) if array.ndim > 1 else array


def assign(target: Array, source: Array) -> None:
    """Sets an array to another, or to what is repeated to its shape.

    Both are gone through as `target` lies in memory. CuPy goes through in C's order, in which
    neighbours of images that are channels-last lie far apart.
    """
    if target.ndim > 1 and source.ndim == target.ndim:
        order = _memory_order(target)
        target, source = target.transpose(order), source.transpose(order)
    target[...] = source


def copied(array: Array, rows: Array | None = None) -> Array:
    """A copy in the same order of memory: of all, or of rows by their numbers."""
    order = _memory_order(array)
    if rows is not None and order[:1] != [0]:
        return array[rows]
    plain = in_memory_order(array)
    return _back_in_order(plain.copy() if rows is None else plain[rows], order)


def _back_in_order(array: Array, order: list[int]) -> Array:
    return array.transpose([order.index(i) for i in range(array.ndim)]) if array.ndim > 1 else array
