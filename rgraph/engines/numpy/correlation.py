"""Correlations over three spatial axes with the channels last, by matrix products.

They are computed in blocks of output lines that fit the cache. The part of the input that a block
needs is copied with its padding, that is copied again into *columns*, and a few matrix products
finish the work: the matrix of all patches never exists. There are two layouts of columns:

folded
    A column holds the ``kd * kh`` pixels above one another that the kernel sees at one position of
    the last axis, so the patch of an output is ``kw`` *consecutive* columns, and the input is
    copied ``kd * kh`` times instead of ``kd * kh * kw`` times. Patches overlap, but every n-th of
    a line (n >= kw) are the rows of a plain reshape: n products, one per *phase*, do them all.
full
    A column holds a whole patch: for short lines, for strides and dilations of the last axis, and
    (without any copy) for kernels of a single tap.

Blocks are shared among a few threads, in which NumPy releases the interpreter's lock; the BLAS is
held to one thread meanwhile, since its own threads would not help with the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .blocks import LEAST_ROWS, SMALL_PRODUCT, Block, Plan, Triple, cut
from .threads import Array, number, run, scratch

# The kernel's size, the strides, the zeros before, the dilation, and the bytes of a number.
Key = tuple[Triple, Triple, Triple, Triple, int]
After = Callable[[Array, tuple[slice, ...]], None]

NARROW = 16  # channels


def correlate(
    x: Array,
    y: Array,
    taps: Array,
    strides: Triple,
    low: Triple,
    dilation: Triple,
    after: After | None = None,
) -> None:
    """Write to `y` (rows, D, H, W, O) the correlation of `x` (rows, D, H, W, C) with the taps.

    These are (kd, kh, kw, groups, C // groups, O // groups).
    """
    if y.size:
        key = (taps.shape[:3], strides, low, dilation, x.itemsize)
        if taps.shape[3] == 1:
            _correlate_group(x, y, taps[..., 0, :, :], key, after)
            return
        _by_groups(x, y, taps, key, _correlate_group, _correlate_elementwise)


def correlate_taps(
    x: Array, y: Array, taps: Array, strides: Triple, low: Triple, dilation: Triple
) -> None:
    """Write to `taps` the sums over outputs of patches of `x` times `y`."""
    taps[...] = 0
    if y.size:
        key = (taps.shape[:3], strides, low, dilation, x.itemsize)
        _by_groups(x, y, taps, key, _correlate_taps_group, _correlate_taps_elementwise)


def _by_groups(
    x: Array,
    y: Array,
    taps: Array,
    key: Key,
    one: Callable[..., None],
    elementwise: Callable[..., None],
) -> None:
    """Do each group by itself, or many small ones together."""
    groups, inputs, outputs = taps.shape[3:]
    if groups > 1 and inputs * outputs <= groups:
        elementwise(x, y, taps, key)
        return
    for group in range(groups):
        channels = slice(group * inputs, (group + 1) * inputs)
        results = slice(group * outputs, (group + 1) * outputs)
        one(x[..., channels], y[..., results], taps[..., group, :, :], key)


def _correlate_group(x: Array, out: Array, w: Array, key: Key, after: After | None = None) -> None:
    """`correlate` for one group."""
    plan = cut(x.shape, out.shape, *key, "product", number())
    outputs = w.shape[-1]
    matrix = _matrix(w, plan)
    multiply = _multiply_lines if plan.folded > 1 else _multiply_chunks
    # The BLAS writes any array of dense pixels; chunks must moreover be consecutive.
    dense = out.strides[-1] == out.itemsize and out.strides[-2] >= outputs * out.itemsize

    def work(blocks: Iterator[Block]) -> None:
        for block in blocks:
            columns = _columns(x, plan, block)
            part = out[block.box]
            if dense and (plan.folded > 1 or part.flags.c_contiguous):
                multiply(columns, matrix, part, plan, block)
            else:
                result = scratch("result", part.shape, out.dtype)
                multiply(columns, matrix, result, plan, block)
                part[...] = result
            if after is not None:
                after(part, block.box)

    run(work, plan.blocks, plan.parallel)


def _matrix(w: Array, plan: Plan) -> Array:
    """Taps as a matrix (length of a patch, O)."""
    if plan.folded > 1:
        w = w.transpose(2, 0, 1, 3, 4)
    outputs = w.shape[-1]
    if w.size * LEAST_ROWS > SMALL_PRODUCT and w.strides[-2] < w.strides[-1]:
        # Cheaper to arrange, and as good a factor of a product that is not small.
        return w.transpose(4, 0, 1, 2, 3).reshape(outputs, -1).T
    matrix = scratch("matrix", w.shape, w.dtype)
    matrix[...] = w
    return matrix.reshape(-1, outputs)


def _multiply_lines(columns: Array, matrix: Array, out: Array, plan: Plan, block: Block) -> None:
    """Products of the folded layout: one per line and phase."""
    length = out.shape[3]
    for phase in range(plan.phases):
        number = -(-(length - phase) // plan.phases)
        rows = columns[:, :, :, phase : phase + number * plan.phases]
        patches = rows.reshape(*out.shape[:3], number, -1)[..., : len(matrix)]
        np.matmul(patches, matrix, out=out[:, :, :, phase :: plan.phases])


def _multiply_chunks(columns: Array, matrix: Array, out: Array, plan: Plan, block: Block) -> None:
    """Products of the full layout."""
    patches = columns.reshape(-1, block.chunk, len(matrix))
    np.matmul(patches, matrix, out=out.reshape(-1, block.chunk, matrix.shape[1]))


def _correlate_taps_group(x: Array, g: Array, out: Array, key: Key) -> None:
    """`correlate_taps` for one group."""
    plan = cut(x.shape, g.shape, *key, "taps", number())
    kd, kh, kw, inputs, outputs = out.shape
    length = g.shape[3]

    def work(blocks: Iterator[Block]) -> Array:
        total = np.zeros((kd * kh * kw * inputs, outputs), x.dtype)
        term = scratch("term", total.shape, x.dtype)
        for block in blocks:
            columns = _columns(x, plan, block)
            part = g[block.box]
            if plan.folded > 1 or not part.flags.c_contiguous:
                values = scratch("result", (*part.shape[:3], plan.width, outputs), x.dtype)
                values[..., :length, :] = part
                values[..., length:, :] = 0  # the patches that straddle two lines
            else:
                values = part
            flat = values.reshape(-1, outputs)
            for phase, patches in enumerate(_phases(columns, plan.phases)):
                rows = flat[phase :: plan.phases][: len(patches)]
                total += np.matmul(patches.T, rows, out=term)
        return total

    total = sum(run(work, plan.blocks, plan.parallel, fixed=True))
    if plan.folded > 1:
        total = total.reshape(kw, kd, kh, inputs, outputs).transpose(1, 2, 0, 3, 4)
    out[...] = total.reshape(out.shape)


def _windows(x: Array, block: Block) -> Array:
    """Patches of a block as a view (rows, D, H, W, *taps, C) of a zero-padded copy."""
    padded = scratch("padded", block.padded, x.dtype)
    inner = padded[block.inner]
    if inner.shape != padded.shape:
        padded.fill(0)
    inner[...] = x[block.part]
    return np.ndarray(block.windows, x.dtype, padded, 0, block.steps)


def _columns(x: Array, plan: Plan, block: Block) -> Array:
    """Columns of a block, as (rows, D, H, width, length of one)."""
    if plan.direct:
        return x[block.box]
    windows = _windows(x, block)
    columns = scratch("columns", windows.shape, x.dtype)
    channels = x.shape[-1]
    if 1 < channels <= NARROW:
        # Pixels of a few numbers are copied faster as one opaque thing each.
        pixel = np.dtype((np.void, channels * x.itemsize))
        columns.view(pixel)[...] = windows.view(pixel)
    else:
        columns[...] = windows
    return columns.reshape(*windows.shape[:4], -1)


def _phases(columns: Array, phases: int) -> Iterator[Array]:
    """Rows of `phases` consecutive columns that start at 0, 1, ... modulo `phases`."""
    length = columns.shape[-1]
    flat = columns.reshape(-1)
    for phase in range(phases):
        rows = (flat.size // length - phase) // phases
        start = phase * length
        yield flat[start : start + rows * phases * length].reshape(rows, phases * length)


def _correlate_elementwise(x: Array, out: Array, w: Array, key: Key) -> None:
    """`correlate` for many small groups, such as depthwise: multiply and add, tap by tap."""
    plan = cut(x.shape, out.shape, *key, "elementwise", number())
    groups, inputs, outputs = w.shape[3:]
    target = out.reshape(*out.shape[:4], groups, outputs)
    # Factors of a whole line, since loops over the few channels of a pixel would be too short.
    lines = np.repeat(w.transpose(0, 1, 2, 4, 5, 3)[..., None, :], out.shape[3], axis=-2)

    def work(blocks: Iterator[Block]) -> None:
        for block in blocks:
            part = target[block.box]
            part[...] = 0
            windows = _windows(x, block)
            windows = windows.reshape(*windows.shape[:-1], groups, inputs)
            term = scratch("term", part.shape[:5], x.dtype)
            for *tap, i, o in np.ndindex(*w.shape[:3], inputs, outputs):
                pixels = windows[(..., *tap, slice(None), i)]
                part[..., o] += np.multiply(pixels, lines[(*tap, i, o)], out=term)

    run(work, plan.blocks, plan.parallel)


def _correlate_taps_elementwise(x: Array, g: Array, out: Array, key: Key) -> None:
    """`correlate_taps` for many small groups."""
    plan = cut(x.shape, g.shape, *key, "elementwise", number())
    groups, inputs, outputs = out.shape[3:]
    g = g.reshape(*g.shape[:4], groups, outputs)

    def work(blocks: Iterator[Block]) -> Array:
        total = np.zeros(out.shape, x.dtype)
        for block in blocks:
            part = g[block.box]
            windows = _windows(x, block)
            windows = windows.reshape(*windows.shape[:-1], groups, inputs)
            for *tap, i, o in np.ndindex(*out.shape[:3], inputs, outputs):
                pixels = windows[(..., *tap, slice(None), i)]
                total[(*tap, slice(None), i, o)] += np.einsum(
                    "abcdg,abcdg->g", pixels, part[..., o]
                )
        return total

    out[...] = sum(run(work, plan.blocks, plan.parallel, fixed=True))
