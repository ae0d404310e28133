"""The engine on oneDNN, the vendor's library for CPUs: in float32, convolutions, pooling, products
of matrices, softmax and what is pointwise.

Everything else, and every other type, is the `numpy` engine's. Needs the library (the extra
`onednn`, or a system's); without it `OnednnError` is raised and `rgraph.device` falls back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ...ops.records import TABLE
from .. import tailed
from ..native import NativeError, equip
from ..numpy import NumpyEngine
from ..numpy.threads import number
from ..strides import address
from .convolution import Convolutions
from .library import Library, OnednnError
from .patience import Patience
from .pointwise import Pointwise
from .pooling import Poolings
from .products import Products
from .softmax import Softmaxes

__all__ = ["OnednnEngine", "OnednnError"]

_FEW = 1 << 14  # elements of the larger operand: less is not worth a second thread
_MUCH = 1 << 26  # multiplications that take two milliseconds, about


class OnednnEngine(NumpyEngine):
    """NumPy's arrays and memory, oneDNN's kernels."""

    name = "onednn"

    def __init__(self) -> None:
        super().__init__()
        self.reference = dict(self.kernels)
        self._patience = Patience()
        self._kernels = lru_cache(maxsize=4)(self._made)
        own = self._kernels(number()).keys() - {"matmul"}
        self.kernels |= {name: self._shared(name) for name in own}
        with suppress(NativeError):
            equip(self)

    def writes_over(self, node: Any, operand: int | None) -> bool:
        """What is in C may, and a head whose tail begins by adding what is there, if nothing else
        reads that."""
        program = node.attrs.get("program")
        if node.op.pointwise or program is None or operand is None:
            return self.compiler is not None and super().writes_over(node, operand)
        number = operand - (len(node.inputs) - program.arity)
        first, reads = program.steps[0]
        readers = [r for _, r in program.steps if number in r]
        return number > 0 and first == "plus" and number in reads and len(readers) == 1

    def _made(self, threads: int) -> dict[str, Any]:
        """The kernels, for a number of threads: primitives are made for one."""
        library = Library(threads, self._patience)
        convolutions, products = Convolutions(library, self.pool.take), Products(library)
        softmaxes = Softmaxes(library, self.pool.take)
        of_convolutions = _or_reference("tailed", convolutions.tailed)
        tailed_ = {
            "convolution": of_convolutions,
            "convolution_transpose": of_convolutions,
            "times": products.tailed,
            "contract": products.tailed,
        }
        return {
            "matmul": products.matmul,
            "times": products.product,
            "contract": products.product,
            **Poolings(library, self.pool.take, self.reference).kernels,
            **{n: softmaxes.kernel(n, TABLE[n].kernel) for n in ("softmax", "log_softmax")},
            "convolution": _or_reference("convolution", convolutions.convolution),
            "convolution_transpose": _or_reference("convolution_transpose", convolutions.transpose),
            "convolution_weights": _or_reference("convolution_weights", convolutions.weights),
            "tailed": partial(_with_tail, tailed_),
            "fused": Pointwise(library).evaluate,
        }

    def _shared(self, name: str) -> Any:
        """A kernel that small work, and what other programs would hold up, has in one thread."""

        def call(run: Any, *arrays: Any, **options: Any) -> Any:
            return self._kernels(self._threads(arrays))[name](run, *arrays, **options)

        def weights(run: Any, x: Any, g: Any, **options: Any) -> Any:
            threads = self._threads_of_weights(x, g, options["kernel"], options["groups"])
            return self._kernels(threads)[name](run, x, g, **options)

        return weights if name == "convolution_weights" else call

    def matmul(self, a: Any, b: Any) -> Any:
        return self._kernels(self._threads((a, b)))["matmul"](a, b)

    def _threads(self, arrays: Sequence[Any]) -> int:
        for a in arrays[:2]:
            if a.size >= _FEW:
                return 1 if self._patience.is_gone() else number()
        return 1

    def _threads_of_weights(self, x: Any, g: Any, kernel: Any, groups: int) -> int:
        """Always the same: sums in several threads are other sums."""
        channels = x.shape[-len(kernel) - 1] // groups
        work = g.size * channels * math.prod(kernel)
        return number() if work > _MUCH else 1


def _with_tail(
    kernels: Mapping[str, Any], run: Any, *arrays: Any, head: Any, out: Any = None, **options: Any
) -> Any:
    kernel = partial(kernels[head.name], run, head=head, out=out, **options)
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
