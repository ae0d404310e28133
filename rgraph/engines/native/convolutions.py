"""Convolutions and their gradients: as products with patches, or, with kernels of 3x3, by
Winograd's minimal filtering.

Filtering takes a quarter of the multiplications. Rounding is about twice that of the plain sum
(2e-6 of the largest value), and what is not a number spreads over the 4x4 results that are computed
with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

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
# Where products with patches are faster than filtering: kernels that don't stay in the cache, few
# tiles for what is done to a kernel once (in a loop once for all frames), and tiles that are not
# full.
_MOST_KERNELS = 1 << 14
_LEAST_TILES, _LEAST_IN_LOOP = 48, 8
_LEAST_FILLED = 0.6


class Convolutions:
    """Kernels of convolutions; unsupported cases are left to the next providers.

    Args:
        programs: the extension module, and the programs of tails.
        empty: `empty(shape, dtype)`, allocates memory.
        only_filtering: whether to leave products with patches to the next providers.
    """

    def __init__(
        self, programs: Programs, empty: Callable[..., Array], only_filtering: bool = False
    ) -> None:
        self.programs, self.empty, self.only_filtering = programs, empty, only_filtering
        self.library = programs.library
        self.lanes = self.library.lanes
        self.makers: dict[str, Maker] = {
            "convolution": partial(self._convolution, "convolution", None),
            "convolution_transpose": partial(self._convolution, "convolution_transpose", None),
            "convolution_weights": self._weights,
            "tailed": self._tailed,
        }

    def _convolution(
        self, name: str, tail: Compiled | None, rest: Kernel, operands: Sequence[Type], /, **at: Any
    ) -> Kernel | None:
        shape = operands[0].shape
        if at["groups"] != 1 or shape is None or min(shape) < 1:
            return None
        if name == "convolution_transpose" and set(at["strides"]) != {1}:
            return None
        bound = BoundConvolution(self, shape[2:], name, at, tail, rest)
        return bound if bound.filtering or not self.only_filtering else None

    def _tailed(self, rest: Kernel, operands: Sequence[Type], /, **what: Any) -> Kernel | None:
        """A convolution, and its tail on each part of the result while that is in the cache."""
        name = what["head"].name
        if name not in ("convolution", "convolution_transpose"):
            return None
        tail = self.programs.compiled(what["program"])
        if tail is None:
            return None
        return self._convolution(name, tail, rest, operands, **what["arguments"])

    def _weights(
        self, rest: Kernel, operands: Sequence[Type], /, *, kernel: Shape, **at: Any
    ) -> Kernel | None:
        """The gradient with respect to the kernels."""
        if at["groups"] != 1:
            return None
        filtering = Filtering.of(self.lanes, kernel, at)
        if filtering is None and self.only_filtering:
            return None
        low = tuple(low for low, _ in at["padding"])
        form = self.library.convolution(
            tuple(kernel), tuple(at["strides"]), tuple(at["dilation"]), low, None
        )

        def weights(run: Run, x: Array, g: Array, *, out: Array | None = None) -> Array:
            if x.dtype != _FLOAT or g.dtype != _FLOAT or x.ndim != len(kernel) + 2:
                return rest(run, x, g, out=out)
            channels = g.shape[1], x.shape[1]
            tiles = filtering.tiles(channels, len(x), g.shape[2:]) if filtering else 0
            if self.only_filtering and tiles < _LEAST_TILES:
                return rest(run, x, g, out=out)
            target = np.empty((*channels, *kernel), np.float32)
            both = (dense(run, self.empty, a) for a in (x, g))
            refused = self.library.convolve_weights(form, target, *both, tiles >= _LEAST_TILES)
            return rest(run, x, g, out=out) if refused else into(out, target)

        return weights


class Filtering:
    """Decides where minimal filtering is used.

    Args:
        lanes: the number of floats in a vector.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes

    @classmethod
    def of(cls, lanes: int, kernel: Shape, at: Attributes) -> Filtering | None:
        """None for convolutions that it does not support, whatever the images."""
        plain = {*at["strides"], *at["dilation"]} == {1}
        return cls(lanes) if plain and tuple(kernel) == (3, 3) else None

    def tiles(self, channels: Sequence[int], images: int, size: Shape) -> int:
        """The number of tiles of images of that size; 0 if filtering should not be used.

        Args:
            channels: the channels of the operand and of the result.
        """
        if math.prod(channels) > _MOST_KERNELS or any(n % self._lanes for n in channels):
            return 0
        high, wide = size
        tiles = -(-high // 4) * -(-wide // 4)
        return images * tiles if high * wide >= _LEAST_FILLED * 16 * tiles else 0


class BoundConvolution:
    """The kernel of one convolution in a plan.

    Args:
        convolutions: what it belongs to.
        kernel: the spatial size of the kernels.
        name: "convolution" or "convolution_transpose".
        at: its arguments.
        tail: the pointwise operations after it.
        rest: the kernel for unsupported cases.

    Attributes:
        filtering: decides where minimal filtering is used; None: nowhere.
        form: the extension's object for it.
        right: the index of the operand with the kernels.
    """

    right, rows_apart = 0, True

    def __init__(
        self, convolutions: Convolutions, kernel: Shape, name: str, at: Attributes,
        tail: Compiled | None, rest: Kernel,
    ) -> None:  # fmt: skip
        self._rest, self._empty, self._library = rest, convolutions.empty, convolutions.library
        self._transposed = name == "convolution_transpose"
        self._lanes = convolutions.lanes
        strides, dilation = map(tuple, (at["strides"], at["dilation"]))
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = at["padding"]
        if self._transposed:
            padding = [(r - low, r - high) for r, (low, high) in zip(reach, padding, strict=True)]
        low = tuple(low for low, _ in padding)
        self._cut = [r - sum(p) for r, p in zip(reach, padding, strict=True)]  # of each axis
        self._strides = strides
        self.filtering = Filtering.of(self._lanes, kernel, at)
        self._only_filtering = convolutions.only_filtering
        self.form = self._library.convolution(kernel, strides, dilation, low, tail and tail.program)
        self._convolve = partial(self._library.convolve, self.form)
        self._result_of = lru_cache(maxsize=1024)(self._find_result)

    def _find_result(self, w: Shape, x: Shape) -> tuple[Shape, int] | None:
        """The shape of the result and the number of tiles; None if unsupported."""
        results, channels = (w[1], w[0]) if self._transposed else w[:2]
        if len(w) != len(x) or x[1] != channels:
            return None
        zipped = zip(x[2:], self._cut, self._strides, strict=True)
        size = tuple((n - cut - 1) // s + 1 for n, cut, s in zipped)
        if min(x) < 1 or min(size) < 1:
            return None
        tiles = self.filtering.tiles((channels, results), x[0], size) if self.filtering else 0
        return (x[0], results, *size), tiles

    def __call__(
        self, run: Run, w: Array, x: Array, *more: Array, out: Array | None = None
    ) -> Array:
        result = self._result_of(w.shape, x.shape) if w.dtype == x.dtype == _FLOAT else None
        least = _LEAST_TILES if run.step is None else _LEAST_IN_LOOP
        u = None if result is None else self._kernels(run, w, result[1] >= least)
        if result is not None and u is not None:
            target = dense_room(out, self._empty, result[0])
            if not self._convolve(u, w, dense(run, self._empty, x), target, *more):
                return into(out, target)
        if more and run.step is not None:  # the result may overwrite what the tail reads
            return into(out, self._rest(run, w, x, *more))
        return self._rest(run, w, x, *more, out=out)

    def prepared(self, run: Run, w: Array, rows: int, shape: Shape) -> Array | None:
        """The prepared kernels for this many images of a shape; None if unsupported."""
        result = self._result_of(w.shape, (rows, *shape)) if w.dtype == _FLOAT else None
        return None if result is None else self._kernels(run, w, result[1] >= _LEAST_IN_LOOP)

    def _kernels(self, run: Run, w: Array, filtering: bool) -> Array | None:
        """The prepared kernels; None if the case is left to the next providers."""
        if filtering:
            return self._at_points(run, w)
        return None if self._only_filtering else self._in_panels(run, w)

    def _turned(self, w: Array) -> Array:
        """Kernels (results, channels, ...); for a transposed convolution, those of the equivalent
        one."""
        return np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1) if self._transposed else w

    def _at_points(self, run: Run, w: Array) -> Array:
        """Kernels at the points of filtering, cached for the run."""
        key = (id(w), self._transposed, "at points")
        if key not in run.memo:
            plain = np.ascontiguousarray(self._turned(w))
            u = self._empty((_POINTS, plain.shape[0] * plain.shape[1]), np.float32)
            self._library.kernels_at_points(u, plain)
            run.memo[key] = (w, u)  # w stays alive
        return run.memo[key][1]

    def _in_panels(self, run: Run, w: Array) -> Array:
        """Kernels as the right factor of products with patches, cached for the run."""
        key = (id(w), self._transposed, "in panels")
        if key not in run.memo:
            own = self._turned(w)
            width = -(-len(own) // (2 * self._lanes)) * 2 * self._lanes
            panels = self._empty((own[0].size, width), np.float32)
            self._library.kernels_in_panels(panels, own)
            run.memo[key] = (w, panels)
        return run.memo[key][1]
