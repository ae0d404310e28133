"""How arrays lie in memory.

Convolutions are fastest on arrays (rows, channels, *size) that are channels-last: in memory the
channels of a pixel are neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]


def channels_last(shape: Sequence[int]) -> Shape:
    """Strides, in elements, of (rows, channels, *size) with the channels innermost."""
    _, channels, *size = shape
    inner = [channels * math.prod(size[i + 1 :]) for i in range(len(size))]
    return (channels * math.prod(size), 1, *inner)


def empty_channels_last(empty: Callable[..., Any], shape: Sequence[int], dtype: Any) -> Any:
    """An array (rows, channels, *size) to be written, with the channels innermost.

    Args:
        empty: `empty(shape, dtype)`, memory in plain order.
    """
    rows, channels, *size = shape
    memory = empty((rows, *size, channels), dtype)
    return memory.transpose(0, memory.ndim - 1, *range(1, memory.ndim - 1))


def is_dense(array: Any) -> bool:
    """Whether `array`, (rows, channels, *size), is channels-last in memory and without gaps."""
    return lies_densely(array.shape, array.strides, array.dtype.itemsize)


def lies_densely(shape: Shape, strides: Shape, itemsize: int = 4) -> bool:
    """`is_dense` of an array of this shape, with strides in bytes."""
    steps = (n * itemsize for n in channels_last(shape))
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, steps, strict=True))


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
