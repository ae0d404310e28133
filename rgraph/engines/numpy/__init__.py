"""The reference engine: NumPy on all cores of a CPU. Always there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...graph import Op
from ...graph.node import Type
from ...ops.records import TABLE
from .. import bound, tailed
from ..base import Engine, Kernel
from . import convolution, pointwise, pooling
from .pool import Pool


class NumpyEngine(Engine):
    """Kernels and memory of the CPU, through NumPy."""

    name = "numpy"
    xp = np
    small_bytes = 1 << 16  # bytes of a result: see `plan.Call`

    def __init__(self) -> None:
        self.pool = Pool()
        self.kernels: dict[str, Callable[..., Any]] = {
            "convolution": _convolution,
            "convolution_transpose": _convolution_transpose,
            "convolution_weights": _convolution_weights,
            "fused": pointwise.evaluate,
            "tailed": _tailed,
            **pooling.kernels(),
        }

    def bind(self, op: Op, arguments: Mapping[str, Any], operands: Sequence[Type]) -> Kernel:
        return bound(self.kernels.get(op.name, op.kernel), arguments)

    def empty(
        self, shape: tuple[int, ...], dtype: Any, like: np.ndarray | None = None
    ) -> np.ndarray:
        if len(shape) < 4:
            return self.pool.take(shape, dtype)
        order, back = _orders(len(shape), None if like is None else like.strides)
        return self.pool.take(tuple([shape[i] for i in order]), dtype).transpose(back)

    def from_numpy(self, array: np.ndarray) -> np.ndarray:
        # A field of records may begin in the middle of a number; libraries count in whole ones.
        return array if array.flags.aligned else array.copy()

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def generator(self, seed: Any, varies: int | None = None) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))

    def is_lone(self, values: Sequence[Any], index: int) -> bool:
        return self.pool.is_lone(values, index)

    def writes_over(self, node: Any, operand: int | None) -> bool:
        return node.op.pointwise

    def finish(self) -> None:
        self.pool.next_run()


@lru_cache(maxsize=256)
def _orders(rank: int, strides: tuple[int, ...] | None) -> tuple[list[int], list[int]]:
    """The axes as they lie in memory, outermost first, and the way back."""
    if strides is None:
        order = [0, *range(2, rank), 1]
    else:
        order = sorted(range(rank), key=lambda i: -strides[i])
    return order, [order.index(i) for i in range(rank)]


def _convolution(run: Any, w: Any, x: Any, *, out: Any = None, **at: Any) -> Any:
    if x.ndim < w.ndim:
        return _convolution(run, w, x[None], **at)[0]
    return convolution.convolution(x, w, out=out, **at)


def _tailed(
    run: Any, *arrays: Any, head: Any, arguments: Any, program: Any, out: Any = None
) -> Any:
    """A convolution, with its tail on each part of the result while that is in the cache."""
    w, x, *more = arrays
    kernel = _HEADS.get(head.name)
    if kernel is None or out is None or x.ndim < w.ndim or not _in_one_piece(head, arguments):
        own = {"head": head, "arguments": arguments, "program": program}
        return tailed(run, *arrays, **own, out=out)
    operands = [convolution.volume(np.broadcast_to(m, out.shape)) for m in more]
    after = pointwise.on_parts(program, operands)
    return kernel(x, w, out=out, after=after, **arguments)


def _in_one_piece(head: Any, at: Any) -> bool:
    """Whether each part of the result is written once: not in groups, nor stride by stride."""
    turned = head.name == "convolution_transpose"
    return at["groups"] == 1 and not (turned and any(s > 1 for s in at["strides"]))


_HEADS: dict[str, Callable[..., Any]] = {
    "convolution": convolution.convolution,
    "convolution_transpose": convolution.convolution_data_gradient,
}


def _convolution_transpose(run: Any, w: Any, g: Any, *, out: Any = None, **at: Any) -> Any:
    if g.ndim < w.ndim:
        return _convolution_transpose(run, w, g[None], **at)[0]
    return convolution.convolution_data_gradient(g, w, out=out, **at)


def _convolution_weights(run: Any, x: Any, g: Any, *, out: Any = None, **at: Any) -> Any:
    if x.ndim == len(at["kernel"]) + 1:
        x, g = x[None], g[None]
    return convolution.convolution_weight_gradient(x, g, out=out, **at)
