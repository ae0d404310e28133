"""The engine on oneDNN, the vendor's library for CPUs: in float32, convolutions, pooling, products
of matrices, softmax and what is pointwise.

Everything else, and every other type, is the `numpy` engine's. Needs the library (the extra
`onednn`, or a system's); without it `OnednnError` is raised and `rgraph.device` falls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from ...ops.records import TABLE
from .. import tailed
from ..native import NativeError, equip
from ..numpy import NumpyEngine
from ..strides import address
from .convolution import Convolutions
from .library import Library, OnednnError
from .pointwise import Pointwise
from .pooling import Poolings
from .products import Products
from .softmax import Softmaxes

__all__ = ["OnednnEngine", "OnednnError"]


class OnednnEngine(NumpyEngine):
    """NumPy's arrays and memory, oneDNN's kernels."""

    name = "onednn"
    in_place = frozenset({"tailed"})

    def __init__(self) -> None:
        super().__init__()
        library = Library()
        convolutions, products = Convolutions(library, self.pool.take), Products(library)
        self.reference = dict(self.kernels)
        self.kernels["matmul"] = products.matmul
        self.kernels["times"] = self.kernels["contract"] = products.product
        self.kernels |= Poolings(library, self.pool.take, self.reference).kernels
        softmaxes = Softmaxes(library, self.pool.take)
        for name in ("softmax", "log_softmax"):
            self.kernels[name] = softmaxes.kernel(name, TABLE[name].kernel)
        for name, kernel in (
            ("convolution", convolutions.convolution),
            ("convolution_transpose", convolutions.transpose),
            ("convolution_weights", convolutions.weights),
        ):
            self.kernels[name] = _or_reference(name, kernel)
        of_convolutions = _or_reference("tailed", convolutions.tailed)
        self._tailed = {
            "convolution": of_convolutions,
            "convolution_transpose": of_convolutions,
            "times": products.tailed,
            "contract": products.tailed,
        }
        self.kernels["tailed"] = self._with_tail
        try:
            equip(self)
        except NativeError:
            self.kernels["fused"] = Pointwise(library).evaluate
        else:
            self.in_place = frozenset({"tailed", "fused"})

    def _with_tail(self, run: Any, *arrays: Any, head: Any, out: Any = None, **options: Any) -> Any:
        kernel = partial(self._tailed[head.name], run, head=head, out=out, **options)
        own = None if out is None else _index(arrays[2:], out)
        if own is None:
            return kernel(*arrays)
        done = kernel(*arrays, own=own)
        if done is not None:
            return done
        more = [m.copy() if i == own else m for i, m in enumerate(arrays[2:])]
        return kernel(*arrays[:2], *more)


def _index(arrays: Sequence[Any], place: np.ndarray) -> int | None:
    """Which of the arrays lies in this place."""
    alike = (i for i, a in enumerate(arrays) if a.shape == place.shape)
    return next((i for i in alike if address(arrays[i]) == address(place)), None)


def _or_reference(name: str, kernel: Any) -> Any:
    """The kernel for float32 with rows and without cuts; for all else the numpy engine's.

    So too where the library refuses: it has no code for a processor, or for a chain of operations.
    """

    def call(run: Any, a: Any, b: Any, *more: Any, **options: Any) -> Any:
        at = options.get("arguments", options)
        rank = len(at["strides"]) + 2
        cut = min(map(min, at["padding"])) < 0  # where strides skip elements at an edge
        suits = not cut and all(m.dtype == np.float32 and m.ndim == rank and m.size for m in (a, b))
        if suits:
            with suppress(OnednnError):
                return kernel(run, a, b, *more, **options)
        if options.get("own") is not None:  # the reference does nothing in place
            return None
        return run.engine.reference[name](run, a, b, *more, **options)

    return call
