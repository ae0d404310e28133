"""Resizes images as OpenCV's `resize` does; images of bytes are identical to the last bit.

There is no smoothing before an image is made smaller. Bytes are interpolated in fixed-point
arithmetic, as in OpenCV: weights have `BITS` bits, and the sum over rows is truncated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Image = np.ndarray
BITS = 11
KERNELS = ("nearest", "linear", "cubic", "lanczos")


def resized(image: Image, width: int, height: int, kernel: str) -> Image:
    """Resizes an image (height, width, channels); `kernel` is one of `KERNELS`."""
    if image.shape[:2] == (height, width):
        return image
    if kernel == "nearest":
        rows, columns = (
            np.minimum(np.arange(new) * (old / new), old - 1).astype(int)
            for old, new in zip(image.shape, (height, width), strict=False)
        )
        return image[rows[:, None], columns]
    if kernel == "linear" and image.shape[:2] == (2 * height, 2 * width):
        return _halved(image)
    rows, columns = _taps(image.shape[0], height, kernel), _taps(image.shape[1], width, kernel)
    if image.dtype != np.uint8:
        return _mixed(_mixed(image.astype(np.float32), *columns, axis=1), *rows, axis=0)
    across = _mixed(image.astype(np.int32), columns[0], _fixed(columns[1]), axis=1)
    if kernel == "linear":
        (first, second), weights = rows[0].T, _fixed(rows[1])[:, :, None, None]
        across >>= 4
        upper, lower = across[first] * weights[:, 0], across[second] * weights[:, 1]
        return (((upper >> 16) + (lower >> 16) + 2) >> 2).astype(np.uint8)
    pixels = _mixed(across.astype(float), rows[0], _fixed(rows[1]), axis=0) / (1 << 2 * BITS)
    pixels = np.rint(pixels) if kernel == "cubic" else np.floor(pixels + 0.5)  # as OpenCV does
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _halved(image: Image) -> Image:
    """The means of squares of 2 x 2 pixels."""
    wide = image.astype(np.float32)
    rows = wide[::2] + wide[1::2]
    means = (rows[:, ::2] + rows[:, 1::2]) / 4
    return np.floor(means + 0.5).astype(np.uint8) if image.dtype == np.uint8 else means


def _mixed(image: Image, places: np.ndarray, weights: np.ndarray, axis: int) -> Image:
    """Weighted sums of pixels along an axis."""
    shape = (-1, 1) if axis else (-1, 1, 1)
    mixed: Image = np.zeros((), image.dtype)
    for place, weight in zip(places.T, weights.T, strict=True):
        mixed = mixed + image.take(place, axis) * weight.reshape(shape)
    return mixed


def _fixed(weights: np.ndarray) -> np.ndarray:
    return np.rint(weights * (1 << BITS)).astype(np.int32)


@lru_cache(maxsize=256)
def _taps(old: int, new: int, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    """For each new pixel of a row the old pixels used and their weights: both (new, taps)."""
    centers = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(centers).astype(int)
    weight, reach = _KERNELS[kernel]
    taps = np.arange(1 - reach, reach + 1)
    values = weight((centers - first).astype(np.float32)[:, None] - taps)
    values = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return np.clip(first[:, None] + taps, 0, old - 1), values


def _linear(x: np.ndarray) -> np.ndarray:
    return 1 - np.abs(x)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with OpenCV's parameter, -0.75."""
    a, x = -0.75, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x <= 1, near, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a)


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.sinc(x) * np.sinc(x / 4)


_KERNELS = {"linear": (_linear, 1), "cubic": (_cubic, 2), "lanczos": (_lanczos, 4)}
