"""The provider that is always available: NumPy, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...graph import Node, Op
from ...graph.node import Attributes, Type
from ...ops.fused import Program
from ...plan import Run
from ..base import Compute, Kernel, Maker, Provider
from . import convolution, pointwise, pooling
from .products import Product
from .threads import Array


class Numpy(Provider):
    """Kernels that work piece by piece in the cache, on all threads."""

    name = "numpy"

    def __init__(self) -> None:
        self.makers = {
            "convolution": _with(_convolution),
            "convolution_transpose": _with(_convolution_transpose),
            "convolution_weights": _with(_convolution_weights),
            "fused": lambda rest, operands, /, program: pointwise.kernel(program),
            "tailed": _tailed,
            "times": Product.make,
            "contract": Product.make,
            **{name: _with(kernel) for name, kernel in pooling.kernels().items()},
        }

    def program(self, program: Program, dtype: np.dtype) -> Compute:
        return pointwise.together(program)

    def in_place(self, op: Op, rest: bool) -> bool:
        return op.pointwise

    def takes_out(self, kernel: Kernel) -> bool:
        return isinstance(kernel, Product)


def _with(kernel: Callable[..., Array]) -> Maker:
    def make(rest: Kernel, operands: Sequence[Type], /, **arguments: Any) -> Kernel:
        return partial(kernel, **arguments)

    return make


def _convolution(run: Run, w: Array, x: Array, *, out: Array | None = None, **at: Any) -> Array:
    if x.ndim < w.ndim:
        return _convolution(run, w, x[None], **at)[0]
    return convolution.convolution(x, w, out=out, **at)


def _tailed(
    rest: Kernel, operands: Sequence[Type], /, *, head: Op, arguments: Attributes, program: Program
) -> Kernel | None:
    """A convolution, with its tail applied to each part of the result while it is in the cache."""
    head_kernel = _HEADS.get(head.name)
    if head_kernel is None or not _in_one_piece(head, arguments):
        return None
    tail = pointwise.on_parts(program)

    def kernel(run: Run, w: Array, x: Array, *more: Array, out: Array | None = None) -> Array:
        if out is None or x.ndim < w.ndim:
            return rest(run, w, x, *more, out=out)
        others = [convolution.volume(np.broadcast_to(m, out.shape)) for m in more]
        return head_kernel(x, w, out=out, after=tail(*others), **arguments)

    return kernel


def _in_one_piece(head: Op, at: Attributes) -> bool:
    """Whether each part of the result is written once: neither in groups nor stride by stride."""
    turned = head.name == "convolution_transpose"
    return at["groups"] == 1 and not (turned and any(s > 1 for s in at["strides"]))


_HEADS: dict[str, Callable[..., Array]] = {
    "convolution": convolution.convolution,
    "convolution_transpose": convolution.convolution_data_gradient,
}


def _convolution_transpose(
    run: Run, w: Array, g: Array, *, out: Array | None = None, **at: Any
) -> Array:
    if g.ndim < w.ndim:
        return _convolution_transpose(run, w, g[None], **at)[0]
    return convolution.convolution_data_gradient(g, w, out=out, **at)


def _convolution_weights(
    run: Run, x: Array, g: Array, *, out: Array | None = None, **at: Any
) -> Array:
    if x.ndim == len(at["kernel"]) + 1:
        x, g = x[None], g[None]
    return convolution.convolution_weight_gradient(x, g, out=out, **at)
