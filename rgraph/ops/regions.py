"""Pooling of regions of interest: finding the largest element of each bin, and selecting it.

ROI_LARGEST  for each region, channel and bin, the index of its largest element
ROI_TAKE     the elements with these indices;  ROI_PUT is its adjoint
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph import GraphError, Node, apply
from ..graph.node import Shape
from ..graph.types import Array, OperandLike
from .poolings import MAX_POOLING
from .records import as_node, define, operation
from .shaping import as_size, joined
from .windows import per_axis

if TYPE_CHECKING:
    from ..plan import Run


def _bins(start: int, size: float, count: int, most: int) -> list[tuple[int, int]]:
    """(start, stop) of each bin along one axis, clipped to the `most` elements of the image."""
    low = [int(i * size // count) + start for i in range(count)]
    high = [int(-(-(i + 1) * size // count)) + start for i in range(count)]
    return [(min(max(a, 0), most), min(max(b, 0), most)) for a, b in zip(low, high, strict=True)]


def _largest(run: Run, x: Array, rois: Array, *, out: Shape, scale: float, single: bool) -> Array:
    xp = run.xp
    x, rois = x if x.ndim == 4 else x[None], rois if rois.ndim == 3 else rois[None]
    count = max(len(x), len(rois))
    height, width = x.shape[2:]
    numbers = xp.arange(height * width).reshape(height, width)
    result = xp.full((count, rois.shape[1], x.shape[1], *out), -1, x.dtype)
    corners = run.engine.to_numpy(rois) * scale
    if not np.isfinite(corners).all():
        raise GraphError("roipooling: a region has a corner that is NaN or infinite")
    corners = np.trunc(corners + np.copysign(0.5, corners)).astype(int)
    for n in range(count):
        image = x[n % len(x)]
        for r, corner in enumerate(corners[n % len(rois)]):
            left, top, right, bottom = map(int, corner)
            rows = _bins(top, max(bottom - top + 1, 1), out[0], height)
            columns = _bins(left, max(right - left + 1, 1), out[1], width)
            for i, (a, b) in enumerate(rows):
                for j, (c, d) in enumerate(columns):
                    if b > a and d > c:
                        at = image[:, a:b, c:d].reshape(len(image), -1).argmax(axis=1)
                        result[n, r, :, i, j] = numbers[a:b, c:d].reshape(-1)[at]
    return result[0] if single else result


def _region_shape(x: Shape, rois: Shape, *, out: Shape, **_: object) -> Shape:
    if len(x) != 3 or len(rois) != 2 or rois[1] != 4:
        raise GraphError(
            f"roipooling needs images (channels, height, width) and regions (regions, 4), got "
            f"shapes {x} and {rois}"
        )
    return (rois[0], x[0], *out)


def _take(run: Run, x: Array, index: Array, *, single: bool) -> Array:
    xp = run.xp
    x, index = x if x.ndim == 4 else x[None], index if index.ndim == 5 else index[None]
    flat = joined(x, 2)[:, None]
    at = joined(xp.rint(index), 3).astype(int)
    found = xp.take_along_axis(flat, xp.maximum(at, 0), 3) * (at >= 0)
    found = found.astype(x.dtype).reshape(len(found), *index.shape[1:])
    return found[0] if single else found


def _put(run: Run, g: Array, index: Array, *, shape: Shape, rows: bool) -> Array:
    xp = run.xp
    g, index = g if g.ndim == 5 else g[None], index if index.ndim == 5 else index[None]
    whole = xp.zeros((len(g) if rows else 1, shape[0], shape[1] * shape[2]), g.dtype)
    at = xp.rint(index).astype(int)
    samples = (xp.arange(len(g)) if rows else xp.zeros(len(g), int)).reshape(-1, 1, 1, 1, 1)
    channels = xp.arange(shape[0]).reshape(-1, 1, 1)
    xp.add.at(whole, (samples, channels, xp.maximum(at, 0)), g * (at >= 0))
    whole = whole.reshape(len(whole), *shape)
    return whole if rows else whole[0]


def _example(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    index = rng.integers(0, 12, (2, 2, 2, 2, 1)).astype(float)
    return rng.normal(size=(2, 2, 3, 4)), index


ROI_LARGEST = define(
    "roi_largest",
    title="roipooling",
    shape=_region_shape,
    kernel=_largest,
    arguments=lambda node: {**node.attrs, "single": not node.axes},
    operands=("operand", "rois"),
    waits=True,
)
ROI_TAKE = define(
    "roi_take",
    title="roipooling",
    shape=lambda x, index: index,
    kernel=_take,
    arguments=lambda node: {"single": not node.axes},
    gradient=lambda node, g: [
        apply(
            ROI_PUT,
            g,
            node.inputs[1],
            shape=node.inputs[0].shape,
            axes=node.inputs[0].axes,
        ),
        None,
    ],
    operands=("operand", "index"),
    waits=True,
    cases=(lambda rng: (list(_example(rng)), {}),),
)
ROI_PUT = define(
    "roi_put",
    title="gradient of roipooling",
    shape=lambda g, index, shape, axes: shape,
    axes=lambda operands, shape, axes: axes,
    align=None,
    kernel=_put,
    arguments=lambda node: {"shape": node.shape, "rows": bool(node.axes)},
    gradient=lambda node, g: [apply(ROI_TAKE, g, node.inputs[1]), None],
    operands=("adjoint", "index"),
    waits=True,
)


@operation
def roipooling(
    operand: OperandLike,
    rois: OperandLike,
    pooling_type: int,
    roi_output_shape: int | tuple[int, int],
    spatial_scale: float,
) -> Node:
    """The largest elements in each bin of regions of images; all regions have equally many bins.

    Args:
        operand: images, shape (channels, height, width).
        rois: shape (regions, 4), the corners (left, top, right, bottom) of each region, in pixels
            of the original image; they are rounded to pixels of `operand`. They get no gradient.
        pooling_type: `C.MAX_POOLING`.
        roi_output_shape: (height, width), the number of bins; one number for both.
        spatial_scale: the size of `operand` relative to the original image.

    Returns:
        shape (regions, channels, height, width). Empty bins give 0, and so do all bins of a region
        outside the image.

    Source: Girshick, 2015 (Fast R-CNN); CNTK's `roipooling`.

    >>> image = np.arange(16).reshape(1, 4, 4)
    >>> C.roipooling(image, [[0, 0, 3, 1]], C.MAX_POOLING, (1, 2), 1.0).eval()
    array([[[[5., 7.]]]], dtype=float32)
    """
    if pooling_type != MAX_POOLING:
        raise ValueError("roipooling takes the largest element; pooling_type must be MAX_POOLING")
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale must be above 0, got {spatial_scale}")
    x: Node = as_node(operand)
    bins = per_axis(as_size(roi_output_shape, "roi_output_shape"), 2, "roi_output_shape")
    index = apply(ROI_LARGEST, x, as_node(rois), out=bins, scale=float(spatial_scale))
    return apply(ROI_TAKE, x, index)
