"""Groups of pointwise operations, evaluated piece by piece while the pieces are in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...ops import fused
from ..strides import joined
from .threads import Array, number, run, scratch

PIECE = 1 << 14  # elements of a piece: all registers of a program stay in a second-level cache
PARALLEL = 1 << 17  # elements of a result that are worth waking another thread


def evaluate(context: Any, *arrays: Array, program: Any, out: Array | None = None) -> Array:
    """Runs a program of pointwise operations (`ops.fused.Program`) on whole arrays.

    Args:
        arrays: the operands, broadcast to `out`.
        out: the result's array, of any memory order; a small one may be left to the program.
    """
    if out is None or out.size <= 2 * PIECE:
        return fused.evaluate(context, *arrays, program=program, out=out)
    _, on_piece = program.on(np)
    result, operands = collapsed(out, arrays)
    pieces = list(_pieces(result.shape))
    names = [f"register {i}" for i in range(1, program.registers)]

    def work(queue: Iterator[Any]) -> None:
        for piece in queue:
            target = result[piece]
            registers = [scratch(name, target.shape, target.dtype) for name in names]
            on_piece([a[piece] for a in operands], [target, *registers])

    run(work, pieces, out.size >= PARALLEL and len(pieces) >= number())
    return out


def on_parts(program: Any, operands: Sequence[Array]) -> Callable[[Array, tuple[slice, ...]], None]:
    """`after(part, place)`: the program on a part of a result, its first operand, in its place.

    Args:
        operands: the others, of the whole result's shape.
    """
    _, on_piece = program.on(np)
    names = [f"register {i}" for i in range(1, program.registers)]

    def after(part: Array, place: tuple[slice, ...]) -> None:
        registers = [scratch(name, part.shape, part.dtype) for name in names]
        on_piece([part, *(a[place] for a in operands)], [part, *registers])

    return after


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
