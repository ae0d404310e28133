"""Memory order of arrays.

Convolutions are fastest on channels-last arrays (rows, channels, *size): the channels of a pixel
are adjacent in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from ctypes import c_void_p
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..graph.types import Array, DTypeLike

if TYPE_CHECKING:
    from ..plan import Run


Shape = tuple[int, ...]


class Form(NamedTuple):
    """Everything about an array except its memory."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, array: np.ndarray) -> Form:
        return cls(array.shape, array.strides, array.dtype)

    @property
    def in_order(self) -> bool:
        """Whether it is C-contiguous."""
        step = self.dtype.itemsize
        for size, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if size > 1 and stride != step:
                return False
            step *= size
        return True

    def example(self) -> np.ndarray:
        """An array of this form; its elements must not be read."""
        return np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, self.strides)


def address(array: np.ndarray) -> int:
    """The address of the array's memory: `array.ctypes.data`, in a tenth of the time.

    It is the first field of the C structure of an array (PyArrayObject in NumPy's C API). NumPy
    scalars have another structure.
    """
    return c_void_p.from_address(id(array) + object.__basicsize__).value or 0


def channels_last(shape: Sequence[int]) -> Shape:
    """Strides, in elements, of (rows, channels, *size) with the channels innermost."""
    _, channels, *size = shape
    inner = [channels * math.prod(size[i + 1 :]) for i in range(len(size))]
    return (channels * math.prod(size), 1, *inner)


def empty_channels_last(
    empty: Callable[..., Array], shape: Sequence[int], dtype: DTypeLike
) -> Array:
    """An uninitialized array (rows, channels, *size) in channels-last order.

    Args:
        empty: `empty(shape, dtype)`, allocates memory in C order.
    """
    rows, channels, *size = shape
    memory = empty((rows, *size, channels), dtype)
    return memory.transpose(0, memory.ndim - 1, *range(1, memory.ndim - 1))


def is_dense(array: Array) -> bool:
    """Whether `array`, (rows, channels, *size), is channels-last without gaps."""
    return lies_densely(array.shape, array.strides, array.dtype.itemsize)


@lru_cache(maxsize=4096)
def lies_densely(shape: Shape, strides: Shape, itemsize: int = 4) -> bool:
    """`is_dense` for an array of this shape, with strides in bytes."""
    steps = (n * itemsize for n in channels_last(shape))
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, steps, strict=True))


def dense(run: Run, empty: Callable[..., Array], array: Array) -> Array:
    """`array`, or a dense copy; the last copy is cached for other calls of this step."""
    if lies_densely(array.shape, array.strides, array.dtype.itemsize):
        return array
    of, step, copy = run.memo.get("copied", (None, None, None))
    if of is not array or step is not run.step:
        copy = empty_channels_last(empty, array.shape, array.dtype)
        copy[...] = array
        run.memo["copied"] = array, run.step, copy
    return copy


def dense_room(out: Array | None, empty: Callable[..., Array], shape: Sequence[int]) -> Array:
    """`out` if it is dense, or a new dense float32 array."""
    if out is not None and lies_densely(out.shape, out.strides):
        return out
    return empty_channels_last(empty, shape, np.float32)


def into(out: Array | None, result: Array) -> Array:
    """The result in `out`, if given: copied if it is another array."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


def joined(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Sizes and strides with the axes in the memory order of the first array, outermost first,
    merging axes that are contiguous in every array.

    Args:
        shape: the common shape.
        strides: the strides of each array, 0 for broadcast axes.
    """
    order = sorted(
        (i for i in range(len(shape)) if shape[i] != 1), key=lambda i: -abs(strides[0][i])
    )
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in order:
        size, own = shape[axis], [s[axis] for s in strides]
        if sizes and all(s[-1] == step * size for s, step in zip(steps, own, strict=True)):
            sizes[-1] *= size
            for s, step in zip(steps, own, strict=True):
                s[-1] = step
        else:
            sizes.append(size)
            for s, step in zip(steps, own, strict=True):
                s.append(step)
    return (sizes, steps) if sizes else ([1], [[0] for _ in strides])
