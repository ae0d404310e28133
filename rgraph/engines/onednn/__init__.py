"""The engine on oneDNN, the vendor's library for CPUs: convolutions in float32.

Everything else, and every other type, is the `numpy` engine's. Needs the library (the extra
`onednn`, or a system's); without it `OnednnError` is raised and `rgraph.device` falls back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numpy import NumpyEngine
from .convolution import Convolutions, Geometry, dense, is_dense, row_blocks
from .library import Library, OnednnError

__all__ = ["OnednnEngine", "OnednnError"]


class OnednnEngine(NumpyEngine):
    """NumPy's arrays and memory, oneDNN's convolutions."""

    name = "onednn"

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = Convolutions(Library())
        self.reference = dict(self.kernels)
        for name in ("convolution", "convolution_transpose", "convolution_weights"):
            self.kernels[name] = _or_reference(name, getattr(self, "_" + name))

    def _convolution(self, run: Any, w: Any, x: Any, *, out: Any = None, **at: Any) -> Any:
        geometry = _geometry(x.shape[1:], _result(w, x, at), w.shape[2:], at)
        return self._mapped(run, self.convolutions.forward, geometry, w, x, geometry.result, out)

    def _convolution_transpose(
        self, run: Any, w: Any, g: Any, *, spatial: Any, out: Any = None, **at: Any
    ) -> Any:
        operand = (w.shape[1] * at["groups"], *spatial)
        geometry = _geometry(operand, g.shape[1:], w.shape[2:], at)
        return self._mapped(run, self.convolutions.data, geometry, w, g, operand, out)

    def _mapped(
        self, run: Any, primitives: Any, at: Geometry, w: Any, x: Any, shape: Any, out: Any
    ) -> Any:
        """A primitive on all rows of `x`, block by block."""
        x = dense(x, self.pool.take)
        ready = out is not None and is_dense(out)
        target = out if ready else self._channels_last((len(x), *shape))
        for block in row_blocks(len(x)):
            primitive, reorder = primitives(block.stop - block.start, at)
            primitive.run(x[block], self._arranged(run, w, reorder, at), target[block])
        if out is None or ready:
            return target
        out[...] = target
        return out

    def _channels_last(self, shape: Any) -> Any:
        rows, channels, *size = shape
        return np.moveaxis(self.pool.take((rows, *size, channels), np.float32), -1, 1)

    def _arranged(self, run: Any, w: Any, reorder: Any, at: Geometry) -> Any:
        """Kernels in the order of a primitive; once in a run for each."""
        key = (id(w), id(reorder), at)
        if key not in run.memo:
            plain = np.ascontiguousarray(w)
            run.memo[key] = (w, plain if reorder is None else reorder(plain))  # w stays alive
        return run.memo[key][1]

    def _convolution_weights(
        self, run: Any, x: Any, g: Any, *, kernel: Any, out: Any = None, **at: Any
    ) -> Any:
        geometry = _geometry(x.shape[1:], g.shape[1:], kernel, at)
        shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
        x, g = dense(x, self.pool.take), dense(g, self.pool.take)
        total = np.zeros(shape, x.dtype)
        for block in row_blocks(len(x)):
            primitive, reorder, size = self.convolutions.weights(block.stop - block.start, geometry)
            part = np.empty(size // x.itemsize, x.dtype)
            primitive.run(x[block], g[block], part)
            if reorder is not None:
                part = reorder(part, np.empty(total.size, x.dtype))
            total += part.reshape(shape)
        if out is None:
            return total
        out[...] = total
        return out


def _geometry(operand: Any, result: Any, kernel: Any, at: Any) -> Geometry:
    return Geometry(
        tuple(operand),
        tuple(result),
        tuple(kernel),
        at["strides"],
        at["padding"],
        at["dilation"],
        at["groups"],
    )


def _result(w: Any, x: Any, at: Any) -> tuple[int, ...]:
    return (
        w.shape[0],
        *(
            (n + low + high - (k - 1) * d - 1) // s + 1
            for n, k, s, (low, high), d in zip(
                x.shape[2:], w.shape[2:], at["strides"], at["padding"], at["dilation"], strict=True
            )
        ),
    )


def _or_reference(name: str, kernel: Any) -> Any:
    """The kernel for float32 with rows and without cuts; for all else the numpy engine's."""

    def call(run: Any, a: Any, b: Any, **arguments: Any) -> Any:
        rank = len(arguments["strides"]) + 2
        cut = min(map(min, arguments["padding"])) < 0  # where strides skip elements at an edge
        if cut or a.dtype != np.float32 or {a.ndim, b.ndim} != {rank} or not a.size or not b.size:
            return run.engine.reference[name](run, a, b, **arguments)
        return kernel(run, a, b, **arguments)

    return call
