"""Convolutions of images with kernels of 3x3, and their gradients, by Winograd's minimal filtering.

They take a quarter of the multiplications. Rounding is about twice that of the plain sum (2e-6 of
the largest value), and what is not a number spreads over the 4x4 results that are computed with it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from ctypes import byref, c_int, c_ssize_t, c_void_p
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from ..numpy.threads import lives_over_forks, scratch
from ..strides import Shape, address, dense, empty_channels_last, lies_densely
from .programs import Programs

Array = np.ndarray[Any, Any]
Kernel = Callable[..., Any]

_FLOAT = np.dtype(np.float32)
_POINTS = 36
_LEAST_FILLED = 0.5  # of the tiles' pixels, the share that must be inside an image


class _Geometry(ctypes.Structure):
    _fields_ = [
        (name, c_ssize_t)
        for name in (
            "images", "channels", "results", "height", "width", "high", "wide", "top", "left"
        )
    ]  # fmt: skip


class _Job(NamedTuple):
    geometry: Any
    shape: Shape  # of the result
    forward: int  # numbers of scratch memory
    gradient: int


class Winograd:
    """Kernels that take what suits, and leave all else to those that an engine had.

    Args:
        programs: the compiled library, and the tails' programs.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, programs: Programs, empty: Callable[..., Array]) -> None:
        self.programs, self.empty = programs, empty
        library = programs.library
        self.lanes = c_int.in_dll(library, "lanes").value
        self._threads = library.omp_get_max_threads()
        library.winograd_scratch.restype = c_ssize_t
        pointers = [c_void_p] * 5
        library.winograd.argtypes = [*pointers, c_int, c_void_p, ctypes.c_char_p]
        library.winograd_gradient.argtypes = [*pointers, c_int]
        library.winograd_kernels.argtypes = [c_void_p] * 3
        self._scratch = library.winograd_scratch
        self._run, self._gradient = library.winograd, library.winograd_gradient
        self._at_points = library.winograd_kernels
        for name in ("_run", "_gradient", "_at_points"):
            lives_over_forks(self, name)
        self._job = lru_cache(maxsize=4096)(self._prepare)

    def kernels(self, others: Mapping[str, Kernel]) -> dict[str, Kernel]:
        """Args: `others`: those of all else."""
        return {
            "convolution": partial(self._convolution, "convolution", others["convolution"]),
            "convolution_transpose": partial(
                self._convolution, "convolution_transpose", others["convolution_transpose"]
            ),
            "convolution_weights": partial(self._weights, others["convolution_weights"]),
            "tailed": partial(self._tailed, others["tailed"]),
        }

    def _prepare(self, name: str, kernels: Shape, operand: Shape, at: Any) -> _Job | None:
        """None where it doesn't suit."""
        at = dict(at)
        one = (1, 1)
        if len(operand) != 4 or kernels[2:] != (3, 3) or at["groups"] != 1:
            return None
        if tuple(at["strides"]) != one or tuple(at["dilation"]) != one:
            return None
        results, channels = kernels[:2]
        padding = at["padding"]
        if name == "convolution_transpose":
            results, channels = channels, results
            padding = [(2 - low, 2 - high) for low, high in padding]
        rows, _, *size = operand
        high, wide = (n + sum(p) - 2 for n, p in zip(size, padding, strict=True))
        if not rows or results % self.lanes or channels % self.lanes or min(high, wide) < 1:
            return None
        tiles = -(-high // 4) * -(-wide // 4)
        if high * wide < _LEAST_FILLED * 16 * tiles:
            return None
        top, left = padding[0][0], padding[1][0]
        geometry = _Geometry(rows, channels, results, *size, high, wide, top, left)
        forward, gradient = (self._scratch(byref(geometry), self._threads, i) for i in (0, 1))
        return _Job(geometry, (rows, results, high, wide), forward, gradient)

    def _suiting(self, name: str, w: Array, x: Array, at: Mapping[str, Any]) -> _Job | None:
        if w.dtype != _FLOAT or x.dtype != _FLOAT:
            return None
        return self._job(name, w.shape, x.shape, tuple(at.items()))

    def _convolution(
        self, name: str, other: Kernel, run: Any, w: Array, x: Array, *, out: Any = None, **at: Any
    ) -> Array:
        job = self._suiting(name, w, x, at)
        if job is None:
            return other(run, w, x, out=out, **at)
        target = self._target(job, out)
        self._compute(run, job, name, w, x, target)
        if out is None or target is out:
            return target
        out[...] = target
        return out

    def _tailed(self, other: Kernel, run: Any, *arrays: Array, out: Any = None, **what: Any) -> Any:
        w, x, *more = arrays
        name = what["head"].name
        job = None
        if name in ("convolution", "convolution_transpose"):
            job = self._suiting(name, w, x, what["arguments"])
        tail = self.programs.whole(what["program"]) if job else None
        if job is None or tail is None:
            return other(run, *arrays, out=out, **what)
        target = self._target(job, out)
        if self._compute(
            run,
            job,
            name,
            w,
            x,
            target,
            (tail.here, tail.packed(*map(id, (target, *more, target)))),
        ):
            return other(run, *arrays, out=out, **what)
        if out is None or target is out:
            return target
        out[...] = target
        return out

    def _target(self, job: _Job, out: Any) -> Array:
        if out is not None and lies_densely(out.shape, out.strides):
            return out
        return empty_channels_last(self.empty, job.shape, np.float32)

    def _compute(
        self,
        run: Any,
        job: _Job,
        name: str,
        w: Array,
        x: Array,
        target: Array,
        tail: Any = (None, None),
    ) -> int:
        """Whether the tail could not be done; nothing has been done then."""
        x = dense(run, self.empty, x)
        memory = scratch("winograd", (job.forward,), _FLOAT)
        u = self._kernels(run, job, name, w)
        return self._run(
            byref(job.geometry),
            address(target),
            address(x),
            address(u),
            address(memory),
            self._threads,
            *tail,
        )

    def _kernels(self, run: Any, job: _Job, name: str, w: Array) -> Array:
        """Kernels at the points; once in a run."""
        key = (id(w), name, "winograd")
        if key not in run.memo:
            turned = np.flip(w, (2, 3)).swapaxes(0, 1) if name == "convolution_transpose" else w
            plain = np.ascontiguousarray(turned)
            u = self.empty((_POINTS, plain.shape[0] * plain.shape[1]), np.float32)
            self._at_points(byref(job.geometry), address(u), address(plain))
            run.memo[key] = (w, u)  # w stays alive
        return run.memo[key][1]

    def _weights(
        self,
        other: Kernel,
        run: Any,
        x: Array,
        g: Array,
        *,
        kernel: Any,
        out: Any = None,
        **at: Any,
    ) -> Array:
        """The gradient to the kernels."""
        job = None
        if x.dtype == g.dtype == _FLOAT and x.ndim == 4:
            shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
            job = self._job("convolution", shape, x.shape, tuple(at.items()))
        if job is None:
            return other(run, x, g, kernel=kernel, out=out, **at)
        x, g = dense(run, self.empty, x), dense(run, self.empty, g)
        memory = scratch("winograd", (job.gradient,), _FLOAT)
        target = np.empty(shape, np.float32)
        self._gradient(
            byref(job.geometry),
            address(target),
            address(x),
            address(g),
            address(memory),
            self._threads,
        )
        if out is None:
            return target
        out[...] = target
        return out
