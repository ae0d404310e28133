"""Sums over rows and over the pixels of images: gradients of biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...graph.node import Type
from ..base import Kernel, Maker
from .programs import Programs

if TYPE_CHECKING:
    from ...plan import Run


Array = np.ndarray

_FLOAT = np.dtype(np.float32)


def per_channel(x: Array, shape: tuple[int, ...], rank: int) -> Array | None:
    """Images (rows, *size, channels), one after the other in memory, if each channel of an image is
    to be summed to one number."""
    if rank < 2 or x.ndim != rank + 1 or shape != (x.shape[1], *(1,) * (rank - 1)):
        return None
    images = x.transpose(0, *range(2, x.ndim), 1)
    return images if images.flags.c_contiguous else None  # channels-last


class Sums:
    """Kernels of sums; unsupported cases are left to the next providers.

    Args:
        programs: the extension module.
    """

    def __init__(self, programs: Programs) -> None:
        self._run = programs.library.sum_rows

        self.makers: dict[str, Maker] = {"sum_to": self._sum_to, "sum_rows": self._sum_rows}

    def _sum_to(
        self, rest: Kernel, operands: Sequence[Type], /, *, shape: tuple[int, ...], rank: int
    ) -> Kernel | None:
        if rank < 2:
            return None

        def kernel(run: Run, x: Array) -> Array:
            images = per_channel(x, shape, rank)
            total = None if images is None else self._sums(images, len(x), shape[0])
            return rest(run, x) if total is None else total.reshape(len(x), *shape)

        return kernel

    def _sum_rows(
        self, rest: Kernel, operands: Sequence[Type], /, *, axes: object, over: object
    ) -> Kernel | None:
        if axes or not over:
            return None

        def kernel(run: Run, x: Array) -> Array:
            total = self._sums(x, 1, x.size // max(len(x), 1))
            return rest(run, x) if total is None else total.reshape(x.shape[1:])

        return kernel

    def _sums(self, x: Array, groups: int, columns: int) -> Array | None:
        """Over all but the first axis' groups and the columns; None for what does not suit."""
        if x.dtype != _FLOAT or not x.size or not x.flags.c_contiguous:
            return None
        total = np.empty((groups, columns), _FLOAT)
        return None if self._run(total, x) else total
