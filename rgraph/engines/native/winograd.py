"""Convolutions of images with kernels of 3x3, and their gradients, by Winograd's minimal filtering.

They take a quarter of the multiplications. Rounding is about twice that of the plain sum (2e-6 of
the largest value), and what is not a number spreads over the 4x4 results that are computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...graph.node import Attributes, Type
from ..base import Kernel, Maker
from ..strides import Shape, dense, dense_room, into
from .programs import Compiled, Programs

if TYPE_CHECKING:
    from ...plan import Run


Array = np.ndarray

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
        return self._bound(operands, name, at, None, rest) if _suits(at) else None

    def _bound(self, operands: Sequence[Type], *what: Any) -> Kernel | None:
        bound = BoundConvolution(self, *what)
        return bound if bound.suits(operands) else None

    def _tailed(self, rest: Kernel, operands: Sequence[Type], /, **what: Any) -> Kernel | None:
        """A convolution, and its tail on each strip of the result while that is in the cache."""
        at, name = what["arguments"], what["head"].name
        if name not in ("convolution", "convolution_transpose") or not _suits(at):
            return None
        tail = self.programs.compiled(what["program"])
        return self._bound(operands, name, at, tail, rest) if tail else None

    def _weights(
        self, rest: Kernel, operands: Sequence[Type], /, *, kernel: Shape, **at: Any
    ) -> Kernel | None:
        """The gradient to the kernels."""
        if not _suits(at):
            return None

        def weights(run: Run, x: Array, g: Array, *, out: Array | None = None) -> Array:
            shape = (g.shape[1], x.shape[1], *kernel)
            suits = x.dtype == g.dtype == _FLOAT
            job = job_of(self.lanes, at["padding"], shape, x.shape) if suits else None
            if job is None or job.tiles < _LEAST_TILES:
                return rest(run, x, g, out=out)
            target, both = np.empty(shape, np.float32), (dense(run, self.empty, a) for a in (x, g))
            refused = self.library.convolve_weights(target, *both, job.top, job.left)
            return rest(run, x, g, out=out) if refused else into(out, target)

        return weights


class BoundConvolution:
    """The kernel of a convolution as it stands in a program.

    Args:
        winograd: what computes it.
        name: whether it is a convolution or a transposed one.
        at: its arguments.
        tail: what is pointwise after it.
        rest: the kernel of what does not suit.

    Attributes:
        form: the library's form of it.
        right: the number of the operand that has the kernels.
    """

    right, rows_apart = 0, True

    def __init__(
        self, winograd: Winograd, name: str, at: Attributes, tail: Compiled | None,
        rest: Kernel,
    ) -> None:  # fmt: skip
        self._rest, self._empty, self._library = rest, winograd.empty, winograd.library
        self._transposed = name == "convolution_transpose"
        padding = at["padding"]
        if self._transposed:
            padding = [(2 - low, 2 - high) for low, high in padding]
        (top, _), (left, _) = padding if len(padding) == 2 else ((0, 0), (0, 0))
        self.form = self._library.convolution(top, left, tail and tail.program)
        self._convolve = partial(self._library.convolve, self.form)
        self._job = lru_cache(maxsize=1024)(partial(job_of, winograd.lanes, padding))

    def suits(self, operands: Sequence[Type]) -> bool:
        """Whether it may be that it takes operands of these types."""
        w, x = (o.shape for o in operands[:2])
        if w is None or x is None or min((*w, *x), default=0) < 0:
            return True
        return self._suiting(w, (1, *x) if operands[1].axes else x, 0) is not None

    def _suiting(self, w: Shape, x: Shape, least: int) -> _Job | None:
        kernels = (w[1], w[0], *w[2:]) if self._transposed else w
        job = self._job(kernels, x)
        return job if job is not None and job.tiles >= least else None

    def __call__(
        self, run: Run, w: Array, x: Array, *more: Array, out: Array | None = None
    ) -> Array:
        least = _LEAST_TILES if run.step is None else _LEAST_IN_LOOP
        job = self._suiting(w.shape, x.shape, least) if w.dtype == x.dtype == _FLOAT else None
        if job is not None:
            target = dense_room(out, self._empty, job.shape)
            x, u = dense(run, self._empty, x), self._at_points(run, w)
            if not self._convolve(u, w, x, target, *more):
                return into(out, target)
        return self._rest(run, w, x, *more, out=out)

    def prepared(self, run: Run, w: Array, rows: int, shape: Shape) -> Array | None:
        """The kernels, for so many images of a shape; None where they don't suit."""
        suits = w.dtype == _FLOAT and self._suiting(w.shape, (rows, *shape), _LEAST_IN_LOOP)
        return self._at_points(run, w) if suits else None

    def _at_points(self, run: Run, w: Array) -> Array:
        """Kernels at the points; once in a run."""
        key = (id(w), self._transposed, "winograd")
        if key not in run.memo:
            turned = np.flip(w, (2, 3)).swapaxes(0, 1) if self._transposed else w
            plain = np.ascontiguousarray(turned)
            u = self._empty((_POINTS, plain.shape[0] * plain.shape[1]), np.float32)
            self._library.kernels_at_points(u, plain)
            run.memo[key] = (w, u)  # w stays alive
        return run.memo[key][1]


def job_of(
    lanes: int, padding: Sequence[tuple[int, int]], kernels: Shape, operand: Shape
) -> _Job | None:
    """None for shapes that don't suit."""
    if len(operand) != 4 or kernels[2:] != (3, 3):
        return None
    results, channels = kernels[:2]
    rows, _, *size = operand
    high, wide = (n + sum(p) - 2 for n, p in zip(size, padding, strict=True))
    if min(rows, results, high, wide) < 1 or results % lanes or channels % lanes:
        return None
    tiles = -(-high // 4) * -(-wide // 4)
    if high * wide < _LEAST_FILLED * 16 * tiles or results * channels > _MOST_KERNELS:
        return None
    return _Job((rows, results, high, wide), rows * tiles, padding[0][0], padding[1][0])


def _suits(at: Attributes) -> bool:
    one = (1, 1)
    return at["groups"] == 1 and tuple(at["strides"]) == one and tuple(at["dilation"]) == one
