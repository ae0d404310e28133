"""Sums of images to one number per channel: what comes back to a bias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .threads import THREADS, Array, run

_LARGE = 1 << 17  # elements that are worth the threads
_PART = 1 << 12  # pixels that are summed one after the other: more would lose digits


def per_channel(x: Array, shape: tuple[int, ...], rank: int) -> Array | None:
    """Images (rows, *size, channels), one after the other in memory, if each channel of an image is
    to be summed to one number."""
    if rank < 2 or x.ndim != rank + 1 or shape != (x.shape[1], *(1,) * (rank - 1)):
        return None
    images = x.transpose(0, *range(2, x.ndim), 1)
    return images if images.flags.c_contiguous else None  # channels-last


def sum_to(reference: Any) -> Any:
    """The kernel of the record `sum_to`, whose own is `reference`."""

    def kernel(context: Any, x: Array, *, shape: tuple[int, ...], rank: int) -> Array:
        images = per_channel(x, shape, rank)
        if images is None or x.size < _LARGE:
            return reference(context, x, shape=shape, rank=rank)
        pixels = images.reshape(len(x), -1, shape[0])
        out = np.empty((len(x), shape[0]), x.dtype)
        parts = range(0, pixels.shape[1], _PART)
        ones = np.ones(_PART, x.dtype)

        def work(queue: Iterator[int]) -> None:
            for row in queue:
                sums = [ones[: len(p)] @ p for p in (pixels[row, i : i + _PART] for i in parts)]
                np.add.reduce(sums, axis=0, out=out[row])

        run(work, list(range(len(x))), len(x) >= THREADS)
        return out.reshape(len(x), *shape)

    return kernel
