"""The provider on oneDNN, the vendor's library for CPUs: in float32, convolutions, pooling,
products of matrices and softmax.

Needs the library (the extra `onednn`, or a system's); without it `OnednnError` is raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph import Node, Op
from ...graph.node import Attributes, Type
from ...ops.fused import TAILED
from ..base import Array, Kernel, Maker, Provider
from ..numpy.threads import number
from ..strides import address
from .chains import tail
from .convolution import Convolutions
from .library import Library, OnednnError
from .patience import Patience
from .pooling import Poolings
from .products import Products
from .softmax import Softmaxes

if TYPE_CHECKING:
    from ...graph.node import Shape
    from ...ops.fused import Program
    from ...plan import Run


__all__ = ["Onednn", "OnednnError"]

_FEW = 1 << 14  # elements of the larger operand: less is not worth a second thread
_MUCH = 1 << 26  # multiplications that take two milliseconds, about

_Threads = Callable[[Sequence[Array]], int]


class Onednn(Provider):
    """What oneDNN does, for float32.

    Args:
        empty: `empty(shape, dtype)`, memory to be written.

    Raises `OnednnError` where it can't be had.
    """

    name = "onednn"
    dtype = np.dtype(np.float32)

    def __init__(self, empty: Callable[..., np.ndarray]) -> None:
        self._empty = empty
        self._patience = Patience()
        self._parts = lru_cache(maxsize=4)(self._made)
        self.makers = {name: partial(self._shared, name) for name in self._parts(number()).makers}

    def _made(self, threads: int) -> _Parts:
        return _Parts(Library(threads, self._patience), self._empty)

    def in_place(self, op: Op, rest: bool) -> bool:
        """A tail's operand is copied where it is not the first thing that is added."""
        return op is TAILED

    def _shared(
        self, name: str, rest: Kernel, operands: Sequence[Type], /, **arguments: Any
    ) -> Kernel | None:
        """A kernel that small work, and what other programs would hold up, has in one thread."""

        @lru_cache(maxsize=4)
        def of(threads: int) -> Kernel | None:
            return self._parts(threads).makers[name](rest, operands, **arguments)

        if of(number()) is None:
            return None
        threads_for: _Threads = self._threads
        if name == "convolution_weights":
            threads_for = partial(_of_weights, arguments["kernel"], arguments["groups"])

        def kernel(run: Run, *arrays: Array, **room: object) -> Array:
            return of(threads_for(arrays))(run, *arrays, **room)

        return kernel

    def matmul(self, a: Array, b: Array) -> Array:
        return self._parts(self._threads((a, b))).products.matmul(a, b)

    def _threads(self, arrays: Sequence[Array]) -> int:
        for a in arrays[:2]:
            if a.size >= _FEW:
                return 1 if self._patience.is_gone() else number()
        return 1


def _of_weights(kernel: Shape, groups: int, arrays: Sequence[Array]) -> int:
    """Always the same number of threads: sums in several are other sums."""
    x, g = arrays
    channels = x.shape[-len(kernel) - 1] // groups
    work = g.size * channels * math.prod(kernel)
    return number() if work > _MUCH else 1


class _Parts:
    """What there is for one number of threads: primitives are made for one.

    Args:
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, library: Library, empty: Callable[..., np.ndarray]) -> None:
        convolutions, self.products = Convolutions(library, empty), Products(library)
        softmaxes = Softmaxes(library, empty)
        tailed = {
            "convolution": _of_convolution(convolutions.tailed),
            "convolution_transpose": _of_convolution(convolutions.tailed),
            "times": _or_rest(self.products.tailed),
            "contract": _or_rest(self.products.tailed),
        }
        self.makers: dict[str, Maker] = {
            "times": _or_rest(self.products.product),
            "contract": _or_rest(self.products.product),
            **{name: _or_rest(kernel) for name, kernel in Poolings(library, empty).kernels.items()},
            **{n: _or_rest(partial(softmaxes.kernel, n)) for n in ("softmax", "log_softmax")},
            "convolution": _of_convolution(convolutions.convolution),
            "convolution_transpose": _of_convolution(convolutions.transpose),
            "convolution_weights": _of_convolution(convolutions.weights),
            "tailed": partial(_tailed, tailed),
        }


def _or_rest(own: Callable[..., Array | None]) -> Maker:
    """Of a kernel that gives None where the library can't do it: then the others do.

    So too where it refuses: it has no code for a processor, or for a chain of operations.
    """

    def make(rest: Kernel, operands: Sequence[Type], /, **arguments: Any) -> Kernel:
        kernel = partial(own, **arguments)

        def call(run: Run, *arrays: Array, **room: object) -> Array | None:
            with suppress(OnednnError):
                result = kernel(run, *arrays, **room)
                if result is not None:
                    return result
            if "own" in room:  # the others do nothing in place
                return None
            return rest(run, *arrays, **room)

        return call

    return make


def _of_convolution(own: Callable[..., Array | None]) -> Maker:
    """The kernel for operands with rows, and without cuts."""
    otherwise = _or_rest(own)

    def make(rest: Kernel, operands: Sequence[Type], /, **arguments: Any) -> Kernel | None:
        at = arguments.get("arguments", arguments)
        rank = len(at["strides"]) + 2
        cut = min(map(min, at["padding"])) < 0  # where strides skip elements at an edge
        with_rows = all(len(t.shape) + bool(t.axes) == rank for t in operands[:2])
        return otherwise(rest, operands, **arguments) if with_rows and not cut else None

    return make


def _tailed(
    makers: Mapping[str, Maker], rest: Kernel, operands: Sequence[Type], /,
    *, head: Op, program: Program, **what: Any,
) -> Kernel | None:  # fmt: skip
    """A head with its tail, which may lie in the place of one of the tail's operands."""
    make = makers.get(head.name)
    if make is None or tail(program.steps, program.arity) is None:
        return None
    kernel = make(rest, operands, head=head, program=program, **what)
    if kernel is None:
        return None

    def call(run: Run, *arrays: Array, out: Array | None = None) -> Array:
        own = None if out is None else _index(arrays[2:], out)
        if own is None:
            return kernel(run, *arrays, out=out)
        done = kernel(run, *arrays, out=out, own=own)
        if done is not None:
            return done
        more = [m.copy() if i == own else m for i, m in enumerate(arrays[2:])]
        return kernel(run, *arrays[:2], *more, out=out)

    return call


def _index(arrays: Sequence[np.ndarray], place: np.ndarray) -> int | None:
    """Which of the arrays lies in this place."""
    alike = (i for i, a in enumerate(arrays) if a.shape == place.shape)
    return next((i for i in alike if address(arrays[i]) == address(place)), None)
