"""Pooling of channels-last images and volumes.

The gradient of max pooling searches for the largest elements again: nothing is stored for a
gradient that may not be needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ...graph.node import Type
from ...ops.poolings import LARGE_WINDOW
from ...plan import Run
from ..base import Kernel, Maker
from ..strides import Shape, dense, empty_channels_last, is_dense
from .library import Extension

Array = np.ndarray

_FLOAT = np.dtype(np.float32)
_LARGEST, _PLACED, _MEAN, _SPREAD = range(4)  # as the library counts them
_LEAST_CHANNELS = 4  # of which loops are worth it


class Poolings:
    """Kernels of pooling; unsupported cases are left to the next providers.

    Args:
        library: the extension module.
        empty: `empty(shape, dtype)`, allocates memory.
    """

    def __init__(self, library: Extension, empty: Callable[..., Array]) -> None:
        self._library, self._empty = library, empty
        self.makers: dict[str, Maker] = {
            "pool_pick": partial(self._make, _LARGEST),
            "pool_place": partial(self._make, _PLACED),
            "pool_mean": partial(self._make, _MEAN),
            "pool_spread": partial(self._make, _SPREAD),
        }

    def _make(
        self, kind: int, rest: Kernel, operands: Sequence[Type], /, *, window: Shape,
        strides: Shape, padding: Sequence[tuple[int, int]], counts: Shape,
        include_pad: bool = False, shape: Shape = (),
    ) -> Kernel | None:  # fmt: skip
        axes = len(window)
        if axes > 3 or math.prod(window) > LARGE_WINDOW:
            return None
        low = tuple(low for low, _ in padding)
        windows = self._library.convolution(window, strides, (1,) * axes, low, None)

        def pool(run: Run, value: Array, *more: Array) -> Array:
            guide = more[0] if kind == _PLACED else None
            read = [value] if guide is None else [value, guide]
            suits = all(a.dtype == _FLOAT and a.ndim == axes + 2 and a.size for a in read)
            suits = suits and is_dense(read[-1])  # the result is in its memory order
            picks_another = kind == _LARGEST and more[0] is not value
            if not suits or picks_another or value.shape[1] < _LEAST_CHANNELS:
                return rest(run, value, *more)
            size = counts
            if kind in (_PLACED, _SPREAD):
                size = shape[-axes:] if guide is None else guide.shape[2:]
            whole = *value.shape[:2], *size
            target = empty_channels_last(self._empty, whole, np.float32)
            own = dense(run, self._empty, value)
            if self._library.pool(windows, kind, target, own, guide, include_pad):
                return rest(run, value, *more)
            return target

        return pool
