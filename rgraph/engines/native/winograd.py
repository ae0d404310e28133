"""Convolutions of images with kernels of 3x3, and their gradients, by Winograd's minimal filtering.

They take a quarter of the multiplications. Rounding is about twice that of the plain sum (2e-6 of
the largest value), and what is not a number spreads over the 4x4 results that are computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from ...graph.node import Type
from ..base import Kernel, Maker
from ..strides import Shape, dense, dense_room, into
from .programs import Compiled, Programs

Array = np.ndarray[Any, Any]

_FLOAT = np.dtype(np.float32)
_POINTS = 36
# Where direct convolutions are faster: kernels that don't stay in the cache, few tiles for what
# is done to a kernel once (in a loop once for all frames), and tiles that are not full.
_MOST_KERNELS = 1 << 14
_LEAST_TILES, _LEAST_IN_LOOP = 48, 8
_LEAST_FILLED = 0.6


class _Job(NamedTuple):
    shape: Shape  # of the result
    tiles: int
    top: int  # rows of zeros before the operand, and columns
    left: int


class Winograd:
    """Kernels that take what suits, and leave all else to those of the providers after this one.

    Args:
        programs: the compiled library, and the tails' programs.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, programs: Programs, empty: Callable[..., Array]) -> None:
        self.programs, self.empty = programs, empty
        self.library = programs.library
        self.lanes = self.library.lanes

        self.makers: dict[str, Maker] = {
            "convolution": partial(self._convolution, "convolution"),
            "convolution_transpose": partial(self._convolution, "convolution_transpose"),
            "convolution_weights": self._weights,
            "tailed": self._tailed,
        }

    def _convolution(
        self, name: str, rest: Kernel, operands: Sequence[Type], /, **at: Any
    ) -> Kernel | None:
        return self._bound(name, at, None, rest) if _suits(at) else None

    def _tailed(self, rest: Kernel, operands: Sequence[Type], /, **what: Any) -> Kernel | None:
        """A convolution, and its tail on each strip of the result while that is in the cache."""
        at, name = what["arguments"], what["head"].name
        if name not in ("convolution", "convolution_transpose") or not _suits(at):
            return None
        tail = self.programs.compiled(what["program"])
        return self._bound(name, at, tail, rest) if tail else None

    def _bound(self, name: str, at: Any, tail: Compiled | None, rest: Kernel) -> Kernel:
        prepared = lru_cache(maxsize=1024)(partial(self._prepared, name, at["padding"]))

        def kernel(run: Any, w: Array, x: Array, *more: Any, out: Any = None) -> Any:
            job = prepared(w.shape, x.shape) if w.dtype == x.dtype == _FLOAT else None
            least = _LEAST_TILES if run.step is None else _LEAST_IN_LOOP
            if job is not None and job.tiles >= least:
                target = dense_room(out, self.empty, job.shape)
                if not self._compute(run, job, name, w, x, target, tail, more):
                    return into(out, target)
            return rest(run, w, x, *more, out=out)

        return kernel

    def _prepared(self, name: str, padding: Any, kernels: Shape, operand: Shape) -> _Job | None:
        """None for shapes that don't suit."""
        if len(operand) != 4 or kernels[2:] != (3, 3):
            return None
        results, channels = kernels[:2]
        if name == "convolution_transpose":
            results, channels = channels, results
            padding = [(2 - low, 2 - high) for low, high in padding]
        rows, _, *size = operand
        high, wide = (n + sum(p) - 2 for n, p in zip(size, padding, strict=True))
        if min(rows, results, high, wide) < 1 or results % self.lanes or channels % self.lanes:
            return None
        tiles = -(-high // 4) * -(-wide // 4)
        if high * wide < _LEAST_FILLED * 16 * tiles or results * channels > _MOST_KERNELS:
            return None
        return _Job((rows, results, high, wide), rows * tiles, padding[0][0], padding[1][0])

    def _compute(
        self, run: Any, job: _Job, name: str, w: Array, x: Array, target: Array,
        tail: Compiled | None, more: Sequence[Any],
    ) -> bool:  # fmt: skip
        """Whether it could not be done; nothing has been done then."""
        x = dense(run, self.empty, x)
        u = self._kernels(run, name, w)
        program = tail and tail.program
        return self.library.convolve(target, x, u, job.top, job.left, program, *more)

    def _kernels(self, run: Any, name: str, w: Array) -> Array:
        """Kernels at the points; once in a run."""
        key = (id(w), name, "winograd")
        if key not in run.memo:
            turned = np.flip(w, (2, 3)).swapaxes(0, 1) if name == "convolution_transpose" else w
            plain = np.ascontiguousarray(turned)
            u = self.empty((_POINTS, plain.shape[0] * plain.shape[1]), np.float32)
            self.library.kernels_at_points(u, plain)
            run.memo[key] = (w, u)  # w stays alive
        return run.memo[key][1]

    def _weights(
        self, rest: Kernel, operands: Sequence[Type], /, *, kernel: Any, **at: Any
    ) -> Kernel | None:
        """The gradient to the kernels."""
        if not _suits(at):
            return None

        def weights(run: Any, x: Array, g: Array, *, out: Any = None) -> Array:
            job = None
            shape = (g.shape[1], x.shape[1], *kernel)
            if x.dtype == g.dtype == _FLOAT and x.ndim == 4:
                job = self._prepared("convolution", at["padding"], shape, x.shape)
            target = np.empty(shape, np.float32)
            few = job is None or job.tiles < _LEAST_TILES
            if few or self._compute_weights(run, job, x, g, target):
                return rest(run, x, g, out=out)
            return into(out, target)

        return weights

    def _compute_weights(self, run: Any, job: _Job, x: Array, g: Array, target: Array) -> bool:
        x, g = dense(run, self.empty, x), dense(run, self.empty, g)
        return self.library.convolve_weights(target, x, g, job.top, job.left)


def _suits(at: Mapping[str, Any]) -> bool:
    one = (1, 1)
    return at["groups"] == 1 and tuple(at["strides"]) == one and tuple(at["dilation"]) == one
