"""Groups of pointwise operations, evaluated piece by piece while the pieces are in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...ops import fused
from ...ops.fused import OnArrays, Program
from ..base import Compute, Kernel
from ..strides import joined
from .threads import Array, number, run, scratch

if TYPE_CHECKING:
    from ...plan import Run


After = Callable[[Array, tuple[slice, ...]], None]

PIECE = 1 << 14  # elements of a piece: all registers of a program stay in a second-level cache
PARALLEL = 1 << 17  # elements of a result that are worth waking another thread


def kernel(program: Program) -> Kernel:
    """The kernel of a program of one result."""
    on_arrays, compute = OnArrays(program, np), together(program)

    def evaluate(context: Run, *arrays: Array, out: Array | None = None) -> Array:
        if out is not None and out.size > 2 * PIECE:
            compute(*arrays, out)
            return out
        if arrays[0].ndim:
            return on_arrays(arrays, out)
        return fused.evaluate(context, *arrays, program=program, out=out)

    return evaluate


def together(program: Program) -> Compute:
    """Computes the results of a program from its operands; all arrays are given."""
    on_arrays, first = OnArrays(program, np), program.arity
    names = [f"register {i}" for i in range(on_arrays.registers)]
    none = [None] * on_arrays.registers

    def compute(*arrays: Array) -> bool:
        out = arrays[first]
        if out.size <= 2 * PIECE:
            if not out.ndim:  # NumPy would make numbers of the registers
                arrays = tuple([a.reshape(1) for a in arrays])
            on_arrays.fill([*arrays, *none])
            return False
        parts = collapsed(arrays[first:], arrays[:first])
        pieces = list(_pieces(parts[first].shape))

        def work(queue: Iterator[tuple[slice, ...]]) -> None:
            for piece in queue:
                own = [a[piece] for a in parts]
                shape = own[first].shape
                on_arrays.fill([*own, *(scratch(name, shape, out.dtype) for name in names)])

        run(work, pieces, out.size >= PARALLEL and len(pieces) >= number())
        return False

    return compute


def on_parts(program: Program) -> Callable[..., After]:
    """`of(*operands)` returns `after(part, place)`, which applies the program to a part of a result
    in place. The part is its first operand; the others have the shape of the whole result.
    """
    on_arrays = OnArrays(program, np)
    names = [f"register {i}" for i in range(on_arrays.registers)]

    def of(*operands: Array) -> After:
        def after(part: Array, place: tuple[slice, ...]) -> None:
            registers = [scratch(name, part.shape, part.dtype) for name in names]
            on_arrays([part, *(a[place] for a in operands)], part, registers)

        return after

    return of


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The array in pieces of about `PIECE` elements, along its first axes."""
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


def collapsed(outs: Sequence[Array], arrays: Sequence[Array]) -> list[Array]:
    """The operands and then the results, in the memory order of the first result, with as few axes
    as possible.

    Loops over short inner axes are slow; channels-last images become (pixels, channels), or one
    axis if no operand is broadcast.
    """
    whole = outs[0].shape
    views = [*outs, *(np.broadcast_to(a, whole) for a in arrays)]
    shape, strides = joined(whole, [v.strides for v in views])
    flat = [
        np.lib.stride_tricks.as_strided(v, shape, s, writeable=n < len(outs))
        for n, (v, s) in enumerate(zip(views, strides, strict=True))
    ]
    return [*flat[len(outs) :], *flat[: len(outs)]]
