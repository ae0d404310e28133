"""Sums whose rounding error does not grow with the number of elements."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..graph.types import Array, Library

MAX_SEQUENTIAL = 64  # the number of elements that are added one after the other


def total(xp: Library, x: Array, axis: tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum over axes, like the library's function.

    NumPy sums pairwise only along the innermost axis in memory. Along other axes it adds one
    element after the other, so that sums of a million float32 numbers lose four digits. Here such
    sums are made of partial sums, which is also faster. CuPy sums in trees by itself.
    """
    if xp is np and math.prod([x.shape[a] for a in axis]) > MAX_SEQUENTIAL:
        axis = tuple(a % x.ndim for a in axis)
        while _sequential_count(x, axis) > 2 * MAX_SEQUENTIAL:
            x = _partial_sums(x, axis)
    return xp.add.reduce(x, axis=axis, keepdims=keepdims)


def _outermost_first(x: np.ndarray, axes: Iterable[int]) -> list[int]:
    """The axes with more than one element, those with the largest strides in memory first."""
    some = [a for a in axes if x.shape[a] > 1]
    return sorted(some, key=lambda a: abs(x.strides[a]) or math.inf, reverse=True)


def _sequential_count(x: np.ndarray, axis: tuple[int, ...]) -> int:
    """The number of elements that NumPy would add one after the other."""
    inner, step = True, 0
    count = 1
    for a in reversed(_outermost_first(x, range(x.ndim))):
        inner = inner and a in axis and step in (0, x.strides[a])
        step = x.strides[a] * x.shape[a]
        if a in axis and not inner:
            count *= x.shape[a]
    return count


def _partial_sums(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """Replace the outermost axis to sum over by an axis of partial sums."""
    outermost = _outermost_first(x, axis)[0]
    size = x.shape[outermost]
    if size <= MAX_SEQUENTIAL:
        return np.add.reduce(x, axis=outermost, keepdims=True)
    before = (slice(None),) * outermost
    whole = size - size % MAX_SEQUENTIAL
    split = (*x.shape[:outermost], MAX_SEQUENTIAL, -1, *x.shape[outermost + 1 :])
    parts = np.add.reduce(x[(*before, slice(whole))].reshape(split), axis=outermost)
    rest = x[(*before, slice(whole, None))]
    return np.concatenate([parts, rest], axis=outermost) if whole < size else parts
