"""How a correlation is cut into blocks that fit the cache: see `correlation`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

Triple = tuple[int, int, int]
Shape = tuple[int, ...]

BLOCK_BYTES = 1 << 20  # of columns and results of a block: half of a second-level cache
BLOCK_ROWS = 256  # outputs of a block at least: with fewer, preparing the weights would dominate
PARALLEL_FLOPS = 1e7  # correlations below this are not worth waking another thread
SMALL_PRODUCT = 750_000  # multiplications that OpenBLAS does fastest, without packing the factors
LEAST_ROWS = 16  # of a small product
FOLDED_LINES = 4  # length of lines to be folded, in kernels


class Block(NamedTuple):
    """A box of output lines, and the part of the input that it needs."""

    box: tuple[slice, slice, slice]  # of (rows, D, H) of the output
    part: tuple[slice, ...]  # of the input
    inner: tuple[slice, ...]  # where that lies in its zero-padded copy
    padded: Shape  # shape of the copy
    windows: Shape  # (rows, D, H, W, *taps, C) of the patches, as a view of the copy
    steps: Shape  # strides of that view
    chunk: int  # outputs per product, where lines do not matter


class Plan(NamedTuple):
    """The blocks of one correlation, and the layout of their columns."""

    folded: int  # columns per patch; one in the full layout
    direct: bool  # whether the input itself serves as columns
    phases: int  # products per block: only every so many-th patch is a row of the same product
    width: int  # columns per line
    blocks: list[Block]
    parallel: bool


@lru_cache(maxsize=256)
def cut(
    source: Shape,
    target: Shape,
    kernel: Triple,
    strides: Triple,
    low: Triple,
    dilation: Triple,
    itemsize: int,
    use: str,
    threads: int,
) -> Plan:
    """Plan a correlation of (rows, D, H, W, C) to (rows, D, H, W, O).

    `use` is "product", "taps" or "elementwise", for what will be done with the columns;
    `threads` is among how many blocks are shared.
    """
    rows, *lines, length, outputs = target
    work = math.prod(kernel) * source[4] * outputs  # multiplications per output pixel
    foldable = strides[2] == dilation[2] == 1 and length >= FOLDED_LINES * kernel[2]
    folded = kernel[2] if foldable and use != "elementwise" else 1
    phases = folded
    if folded > 1 and use == "product" and LEAST_ROWS * work <= SMALL_PRODUCT:
        phases = max(folded, -(-length * work // SMALL_PRODUCT))
    width = length + phases - 1
    parallel = 2.0 * work * math.prod(target[:4]) >= PARALLEL_FLOPS
    line_bytes = (width * math.prod(kernel) // folded * source[4] + length * outputs) * itemsize
    extent = (*kernel[:2], kernel[2] // folded)
    blocks = []
    for box in _boxes((rows, *lines), length, line_bytes, threads if parallel else 1):
        size = [span.stop - span.start for span in box]
        part, inner, padded = [box[0]], [slice(None)], [size[0]]
        spans = (*box[1:], slice(0, width))
        for span, k, s, p, d, n in zip(
            spans, extent, strides, low, dilation, source[1:4], strict=True
        ):
            start = span.start * s - p
            long = (span.stop - span.start - 1) * s + (k - 1) * d + 1
            first = min(max(0, -start), long)
            last = max(first, min(long, n - start))
            inner.append(slice(first, last))
            part.append(slice(start + first, start + last) if first < last else slice(0, 0))
            padded.append(long)
        padded.append(source[4])
        unit = [math.prod(padded[axis + 1 :]) * itemsize for axis in range(5)]
        steps = [unit[0]]
        steps += [u * s for u, s in zip(unit[1:4], strides, strict=True)]
        steps += [u * d for u, d in zip(unit[1:4], dilation, strict=True)]
        windows, chunk = (*size, width, *extent, source[4]), _chunk(math.prod(size) * length, work)
        block = box, tuple(part), tuple(inner), tuple(padded), windows, (*steps, itemsize), chunk
        blocks.append(Block(*block))
    direct = kernel == strides == (1, 1, 1) and low == (0, 0, 0) and source[:4] == target[:4]
    return Plan(folded, direct, phases, width, blocks, parallel)


def _boxes(
    shape: Shape, length: int, line_bytes: int, at_least: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Cut (rows, D, H) lines into boxes that suit the cache, but are worth a product."""
    most = max(1, BLOCK_BYTES // max(line_bytes, 1), BLOCK_ROWS // length)
    most = min(most, -(-math.prod(shape) // at_least))
    steps = [1, 1, 1]
    for axis in (2, 1, 0):
        pieces = -(-shape[axis] // max(1, most // math.prod(shape[axis + 1 :])))
        steps[axis] = -(-shape[axis] // pieces)
        if pieces > 1:
            break
    cuts = [
        [slice(i, min(i + step, n)) for i in range(0, n, step)]
        for n, step in zip(shape, steps, strict=True)
    ]
    return product(*cuts)


def _chunk(number: int, work: int) -> int:
    """Largest divisor of `number` of outputs that makes a small product, or all of them."""
    most = min(number, SMALL_PRODUCT // max(work, 1))
    return next((m for m in range(most, LEAST_ROWS - 1, -1) if number % m == 0), number)
