"""Convolutions of the NumPy engine: the product and its two gradients.

Everything is brought to one form: a correlation over three spatial axes with the channels last
(`volume` adds axes of length one), which `correlation` computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from ..strides import empty_channels_last
from .blocks import Triple
from .correlation import After, correlate, correlate_taps
from .threads import Array

__all__ = ["convolution", "convolution_data_gradient", "convolution_weight_gradient", "volume"]

Padding = Sequence[tuple[int, int]]
Empty = Callable[..., Array]


def convolution(
    x: Array,
    w: Array,
    *,
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int,
    out: Array | None = None,
    empty: Empty = np.empty,
    after: After | None = None,
) -> Array:
    """Cross-correlate images with kernels.

    Parameters
    ----------
    x : array of shape (rows, C, *spatial)
    w : array of shape (O, C // groups, *kernel)
    strides, dilation : one int per spatial axis
    padding : one (low, high) per spatial axis, of zeros
    groups : number of groups of channels
    out : array of the result's shape to be written, of any strides
    empty : allocates the result when `out` is not given
    after : called with each part of the result as soon as it is there: `after(part, box)`, a view
        (rows, D, H, W, O) of it and the slices of its first three axes; with one group only

    Returns
    -------
    array of shape (rows, O, *out_spatial), channels last in memory unless `out` says otherwise
    """
    spatial = tuple(
        (n + low + high - d * (k - 1) - 1) // s + 1
        for n, (low, high), d, k, s in zip(
            x.shape[2:], padding, dilation, w.shape[2:], strides, strict=True
        )
    )
    if out is None:
        out = empty_channels_last(empty, (x.shape[0], w.shape[0], *spatial), x.dtype)
    geometry = _triples(strides, padding, dilation)
    correlate(volume(x), volume(out), _taps(w, groups), *geometry, after)
    return out


def convolution_data_gradient(
    g: Array,
    w: Array,
    *,
    spatial: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int,
    out: Array | None = None,
    empty: Empty = np.empty,
    after: After | None = None,
) -> Array:
    """Gradient of `convolution` with respect to `x`: the transposed convolution.

    Parameters
    ----------
    g : array of shape (rows, O, *out_spatial), the gradient of the convolution's result
    w : array of shape (O, C // groups, *kernel)
    spatial : the spatial shape of `x`
    strides, padding, dilation, groups, out, empty : as in `convolution`
    after : as in `convolution`; with strides of one only

    Returns
    -------
    array of shape (rows, C, *spatial), channels last in memory unless `out` says otherwise
    """
    if out is None:
        out = empty_channels_last(empty, (g.shape[0], w.shape[1] * groups, *spatial), g.dtype)
    source, target = volume(g), volume(out)
    taps = _taps(w, groups).swapaxes(-1, -2)
    # Pixels of x whose index leaves the same remainder by the strides meet the same taps, so each
    # class of them is the correlation of g, at stride one, with those taps in reverse order.
    axes = zip(*_triples(strides, padding, dilation), taps.shape[:3], strict=True)
    for classes in product(*(_remainders(*axis) for axis in axes)):
        pixels, kernels, low, steps = zip(*classes, strict=True)
        part = target[(slice(None), *pixels)]
        if None in kernels:
            part[...] = 0
        else:
            correlate(source, part, taps[kernels], (1, 1, 1), low, steps, after)
    return out


def convolution_weight_gradient(
    x: Array,
    g: Array,
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int,
    out: Array | None = None,
    empty: Empty = np.empty,
) -> Array:
    """Gradient of `convolution` with respect to `w`.

    Parameters
    ----------
    x : array of shape (rows, C, *spatial)
    g : array of shape (rows, O, *out_spatial), the gradient of the convolution's result
    kernel : the spatial shape of `w`
    strides, padding, dilation, groups, out, empty : as in `convolution`

    Returns
    -------
    array of shape (O, C // groups, *kernel), channels last in memory unless `out` says otherwise
    """
    if out is None:
        out = empty_channels_last(empty, (g.shape[1], x.shape[1] // groups, *kernel), x.dtype)
    geometry = _triples(strides, padding, dilation)
    correlate_taps(volume(x), volume(g), _taps(out, groups), *geometry)
    return out


def _triples(
    strides: Sequence[int], padding: Padding, dilation: Sequence[int]
) -> tuple[Triple, Triple, Triple]:
    """Strides, low padding and dilation of three axes: all that matters, given the shapes."""
    one, zero = (1,) * (3 - len(strides)), (0,) * (3 - len(strides))
    low = (p[0] for p in padding)
    return (*one, *strides), (*zero, *low), (*one, *dilation)  # type: ignore[return-value]


def volume(a: Array) -> Array:
    """View (rows, C, *spatial) as (rows, D, H, W, C)."""
    a = a.transpose(0, *range(2, a.ndim), 1)
    return a[(slice(None), *(None,) * (5 - a.ndim))]


def _taps(w: Array, groups: int) -> Array:
    """View (O, C // groups, *kernel) as (kd, kh, kw, groups, C // groups, O // groups)."""
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    w = w.transpose(*range(3, w.ndim), 0, 2, 1)
    return w[(None,) * (6 - w.ndim)]


def _remainders(
    stride: int, low: int, dilation: int, taps: int
) -> list[tuple[slice, slice | None, int, int]]:
    """Classes of an axis of `x` by the remainder of the index by the stride.

    Each is the slice of its pixels, the slice of the taps that meet them in reverse order (None
    where there are none), and the low padding and the dilation of the correlation with `g`.
    """
    classes: list[tuple[slice, slice | None, int, int]] = []
    every = stride // math.gcd(stride, dilation)
    for r in range(stride):
        # Pixel r + stride * m meets output m + (r + low - dilation * k) / stride under tap k.
        ks = [k for k in range(taps) if (r + low - dilation * k) % stride == 0]
        if ks:
            stop = ks[0] - 1 if ks[0] else None
            nearest = (r + low - dilation * ks[-1]) // stride
            reverse = slice(ks[-1], stop, -every)
            step = dilation * every // stride
            classes.append((slice(r, None, stride), reverse, -nearest, step))
        else:
            classes.append((slice(r, None, stride), None, 0, 1))
    return classes
