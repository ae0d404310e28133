"""How arrays lie in memory.

Convolutions are fastest on arrays (rows, channels, *size) that are channels-last: in memory the
channels of a pixel are neighbours.
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
    """All that matters of an array but its memory."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, array: np.ndarray) -> Form:
        return cls(array.shape, array.strides, array.dtype)

    @property
    def in_order(self) -> bool:
        """Whether its elements follow one another in memory, the last axis innermost."""
        step = self.dtype.itemsize
        for size, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if size > 1 and stride != step:
                return False
            step *= size
        return True

    def example(self) -> np.ndarray:
        """An array of this form; its elements are not to be read."""
        return np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, self.strides)


def address(array: np.ndarray) -> int:
    """Where the array's memory begins: `array.ctypes.data`, in a tenth of the time.

    It is the first field of the C structure that an array is (PyArrayObject, NumPy's C API). That
    is true of arrays only, not of NumPy's numbers.
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
    """An array (rows, channels, *size) to be written, with the channels innermost.

    Args:
        empty: `empty(shape, dtype)`, memory in plain order.
    """
    rows, channels, *size = shape
    memory = empty((rows, *size, channels), dtype)
    return memory.transpose(0, memory.ndim - 1, *range(1, memory.ndim - 1))


def is_dense(array: Array) -> bool:
    """Whether `array`, (rows, channels, *size), is channels-last in memory and without gaps."""
    return lies_densely(array.shape, array.strides, array.dtype.itemsize)


@lru_cache(maxsize=4096)
def lies_densely(shape: Shape, strides: Shape, itemsize: int = 4) -> bool:
    """`is_dense` of an array of this shape, with strides in bytes."""
    steps = (n * itemsize for n in channels_last(shape))
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, steps, strict=True))


def dense(run: Run, empty: Callable[..., Array], array: Array) -> Array:
    """`array`, or a copy of it that is dense; the last copy is kept for others of this step."""
    if lies_densely(array.shape, array.strides, array.dtype.itemsize):
        return array
    of, step, copy = run.memo.get("copied", (None, None, None))
    if of is not array or step is not run.step:
        copy = empty_channels_last(empty, array.shape, array.dtype)
        copy[...] = array
        run.memo["copied"] = array, run.step, copy
    return copy


def dense_room(out: Array | None, empty: Callable[..., Array], shape: Sequence[int]) -> Array:
    """`out` if it is dense, or an array that is, to be written; float32."""
    if out is not None and lies_densely(out.shape, out.strides):
        return out
    return empty_channels_last(empty, shape, np.float32)


def into(out: Array | None, result: Array) -> Array:
    """The result in `out`, if there is one: copied if it is another array."""
    if out is None or out is result:
        return result
    out[...] = result
    return out


def joined(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Sizes and strides with the axes in the first array's memory order, outermost first, and those
    that lie behind one another in every array joined.

    Args:
        shape: of all the arrays.
        strides: of each array, 0 along what is repeated.
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
