"""Sums whose rounding does not grow with how many numbers there are."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..graph.types import Array, Library

IN_A_ROW = 64  # numbers that are added one after the other


def total(xp: Library, x: Array, axis: tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum over axes, as the library's function.

    NumPy adds pairs, and pairs of these, but only along what is innermost in memory; all else it
    adds one after the other, by which a million float32 lose four digits. Such sums are made of
    sums of parts here, and so are faster too. CuPy adds in trees.
    """
    if xp is np and math.prod([x.shape[a] for a in axis]) > IN_A_ROW:
        axis = tuple(a % x.ndim for a in axis)
        while _in_a_row(x, axis) > 2 * IN_A_ROW:
            x = _of_parts(x, axis)
    return xp.add.reduce(x, axis=axis, keepdims=keepdims)


def _outermost_first(x: np.ndarray, axes: Iterable[int]) -> list[int]:
    """Those of some axes along which there is something to add, by their steps in memory."""
    some = [a for a in axes if x.shape[a] > 1]
    return sorted(some, key=lambda a: abs(x.strides[a]) or math.inf, reverse=True)


def _in_a_row(x: np.ndarray, axis: tuple[int, ...]) -> int:
    """How many numbers NumPy would add one after the other."""
    inner, step = True, 0
    count = 1
    for a in reversed(_outermost_first(x, range(x.ndim))):
        inner = inner and a in axis and step in (0, x.strides[a])
        step = x.strides[a] * x.shape[a]
        if a in axis and not inner:
            count *= x.shape[a]
    return count


def _of_parts(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """Sums of parts of the outermost axis that is summed over, in the place of that."""
    outermost = _outermost_first(x, axis)[0]
    size = x.shape[outermost]
    if size <= IN_A_ROW:
        return np.add.reduce(x, axis=outermost, keepdims=True)
    before = (slice(None),) * outermost
    whole = size - size % IN_A_ROW
    split = (*x.shape[:outermost], IN_A_ROW, -1, *x.shape[outermost + 1 :])
    parts = np.add.reduce(x[(*before, slice(whole))].reshape(split), axis=outermost)
    rest = x[(*before, slice(whole, None))]
    return np.concatenate([parts, rest], axis=outermost) if whole < size else parts
