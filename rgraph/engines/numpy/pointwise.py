"""Groups of pointwise operations, evaluated piece by piece while the pieces are in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...ops import fused
from ...ops.fused import OnArrays, Program
from ..base import Kernel
from ..strides import joined
from .threads import Array, number, run, scratch

After = Callable[[Array, tuple[slice, ...]], None]

PIECE = 1 << 14  # elements of a piece: all registers of a program stay in a second-level cache
PARALLEL = 1 << 17  # elements of a result that are worth waking another thread


def kernel(program: Program) -> Kernel:
    """The kernel of a program of pointwise operations, on whole arrays."""
    on_arrays = OnArrays(program, np)
    names = [f"register {i}" for i in range(on_arrays.registers)]

    def evaluate(context: Any, *arrays: Array, out: Array | None = None) -> Array:
        if out is None or out.size <= 2 * PIECE:
            if arrays[0].ndim:
                return on_arrays(arrays, out)
            return fused.evaluate(context, *arrays, program=program, out=out)
        result, operands = collapsed(out, arrays)
        pieces = list(_pieces(result.shape))

        def work(queue: Iterator[Any]) -> None:
            for piece in queue:
                target = result[piece]
                registers = [scratch(name, target.shape, target.dtype) for name in names]
                on_arrays([a[piece] for a in operands], target, registers)

        run(work, pieces, out.size >= PARALLEL and len(pieces) >= number())
        return out

    return evaluate


def on_parts(program: Program) -> Callable[..., After]:
    """`of(*operands)` gives `after(part, place)`: the program on a part of a result, its first
    operand, in its place. The others are of the whole result's shape."""
    on_arrays = OnArrays(program, np)
    names = [f"register {i}" for i in range(on_arrays.registers)]

    def of(*operands: Array) -> After:
        def after(part: Array, place: tuple[slice, ...]) -> None:
            registers = [scratch(name, part.shape, part.dtype) for name in names]
            on_arrays([part, *(a[place] for a in operands)], part, registers)

        return after

    return of


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The array in parts of about `PIECE` elements, along its first axes."""
    inner = 1
    axis = len(shape)
    while axis and inner * shape[axis - 1] <= PIECE:
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield ()
        return
    step = max(1, PIECE // inner)
    for outer in np.ndindex(*shape[: axis - 1]):
        for start in range(0, shape[axis - 1], step):
            yield (*outer, slice(start, start + step))


def collapsed(out: Array, arrays: Sequence[Array]) -> tuple[Array, list[Array]]:
    """The arrays with `out`'s memory order, and with as few axes as that allows.

    Loops over short inner axes are slow; channels-last images become (pixels, channels), or one
    axis if no operand is repeated.
    """
    views = [out, *(np.broadcast_to(a, out.shape) for a in arrays)]
    shape, strides = joined(out.shape, [v.strides for v in views])
    flat = [
        np.lib.stride_tricks.as_strided(v, shape, s, writeable=v is out)
        for v, s in zip(views, strides, strict=True)
    ]
    return flat[0], flat[1:]
