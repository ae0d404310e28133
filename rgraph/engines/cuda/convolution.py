"""The kernels of the three convolution records, and of convolutions with a tail, through cuDNN.

The first time that a number of rows comes, it goes through in blocks of a few sizes, so that ragged
minibatches do not mean ever new plans; a shape that comes back gets plans of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph.node import Attributes
from ...graph.types import Array, DTypeLike
from ..base import Kernel
from ..sizes import row_blocks
from ..strides import Shape, empty_channels_last, is_dense
from .cudnn import Cudnn, Geometry
from .transfer import assign

if TYPE_CHECKING:
    from ...graph.node import Op
    from ...ops.fused import Program
    from ...plan import Run


Pads = tuple[tuple[int, int], ...]


class Convolutions:
    """The kernels of the three convolution records.

    Args:
        library: cuDNN.
        reference: the records' own kernels, for what cuDNN can't do.
    """

    def __init__(self, library: Cudnn, reference: dict[str, Kernel]) -> None:
        self.library, self.reference = library, reference
        self.cupy = library.cupy
        self._to_bfloat16 = self.cupy.RawKernel(TO_BFLOAT16, "to_bfloat16")
        self._from_bfloat16 = self.cupy.RawKernel(FROM_BFLOAT16, "from_bfloat16")
        self._worth: dict[Hashable, bool] = {}  # whether a tail in the same plan is faster
        self._warned: set[str] = set()

    def forward(
        self, run: Run, w: Array, x: Array, *, out: Array | None = None, **at: Any
    ) -> Array:
        if x.ndim < w.ndim:
            return _into(self.forward(run, w, x[None], **at)[0], out)
        what, where, shape = _whole("convolution", w, x, **at)
        found = self._by_rows(run, what, where, x, w, shape, out)
        if found is not None:
            return found
        if where.is_symmetric:
            self._warn(what, where, x, w)
            return self.reference["convolution"](run, w, x, out=out, **at)
        at["padding"], x = _no_padding(x), self._padded(run, x, at["padding"])
        return self.forward(run, w, x, out=out, **at)

    def data(
        self, run: Run, w: Array, g: Array, *, spatial: Shape, out: Array | None = None, **at: Any
    ) -> Array:
        if g.ndim < w.ndim:
            return _into(self.data(run, w, g[None], spatial=spatial, **at)[0], out)
        what, where, shape = _whole("convolution_transpose", w, g, spatial=spatial, **at)
        found = self._by_rows(run, what, where, g, w, shape, out)
        if found is not None:
            return found
        if where.is_symmetric:
            self._warn(what, where, g, w)
            return self.reference["convolution_transpose"](
                run, w, g, spatial=spatial, out=out, **at
            )
        padding, at["padding"] = at["padding"], _no_padding(g)
        whole = tuple(n + low + high for n, (low, high) in zip(spatial, padding, strict=True))
        x = self.data(run, w, g, spatial=whole, **at)
        return _into(self._padded(run, x, tuple((-low, -high) for low, high in padding)), out)

    def tailed(
        self, rest: Kernel, run: Run, *arrays: Array, head: Op, arguments: Attributes,
        program: Program, out: Array | None = None,
    ) -> Array:  # fmt: skip
        """A convolution and the pointwise group behind it (`passes.tails`).

        In one if cuDNN can, and if that is not slower.
        """
        w, x, *others = arrays

        def apart() -> Array:
            return rest(run, *arrays, out=out)

        ours = head.name in ("convolution", "convolution_transpose") and x.ndim == w.ndim
        if not (ours and self.library.tails):
            return apart()
        what, where, shape = _whole(head.name, w, x, **arguments)
        others = [o.reshape((1,) * (len(shape) - o.ndim) + o.shape) for o in others]
        same = all(is_dense(o) and o.dtype == x.dtype for o in others)
        if not same or not self._fits(where, x, w):
            return apart()
        tail = {"tail": program.steps, "others": tuple(o.shape for o in others)}
        at, kind = where.rows(slice(0, len(x))), self._kind(x)

        def together() -> Array | None:
            target = self._result(shape, x.dtype.name, out)
            given = (self._operand(x), self._kernels(run, w), *others, target)
            return _into(target, out) if self.library.run(what, at, kind, given, **tail) else None

        key = self.library.key(what, at, kind, **tail)
        if key not in self._worth:
            self._worth[key] = together() is not None and (
                not self.library.times
                or self.library.seconds(together) <= self.library.seconds(apart)
            )
        return together() if self._worth[key] else apart()

    def weights(
        self, run: Run, x: Array, g: Array, *, kernel: Shape, out: Array | None = None, **at: Any
    ) -> Array:
        if x.ndim == len(kernel) + 1:
            x, g = x[None], g[None]
        shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
        where = _Where(x.shape, shape, g.shape, **at)
        if self._fits(where, x, g):
            operand, result = self._operand(x), self._operand(g)
            total = None
            for rows in self._blocks(len(x)):
                part = self._result(shape, x.dtype.name, out if total is None else None)
                arrays = (operand[rows], result[rows], part)
                if not self._compute("weights", where.rows(rows), x, arrays):
                    break
                if total is None:
                    total = part
                else:
                    total += part
            else:
                return _into(total, out)
        if where.is_symmetric:
            self._warn("weights", where, x, g)
            return self.reference["convolution_weights"](run, x, g, kernel=kernel, out=out, **at)
        at["padding"], x = _no_padding(x), self._padded(run, x, at["padding"])
        return self.weights(run, x, g, kernel=kernel, out=out, **at)

    def _by_rows(
        self,
        run: Run,
        what: str,
        where: _Where,
        a: Array,
        w: Array,
        shape: Shape,
        out: Array | None,
    ) -> Array:
        """A convolution of all rows of `a`, block by block; None if cuDNN has no engine."""
        if not self._fits(where, a, w):
            return None
        low, w = self._operand(a), self._kernels(run, w)
        target = self._result(shape, a.dtype.name, out)
        for rows in self._blocks(len(a)):
            arrays = (low[rows], w, target[rows])
            if not self._compute(what, where.rows(rows), a, arrays):
                return None
        return _into(target, out)

    def _compute(self, what: str, at: Geometry, like: Array, arrays: Sequence[Array]) -> bool:
        """Runs a plan without a tail, if cuDNN has one, on operands as `_operand` gives them.

        cuDNN has engines for results of bfloat16 where it has none for those of float32.
        """
        kind = self._kind(like)
        if kind != "bfloat16":
            return self.library.run(what, at, kind, arrays)
        *operands, target = arrays
        low = self._channels_last(target.shape, self.cupy.uint16)
        done = self.library.run(what, at, kind, (*operands, low))
        if done:
            _on_each(self._from_bfloat16, low, target)
        return done

    def _kind(self, array: Array) -> str:
        """The type that cuDNN is given operands in."""
        name = str(array.dtype.name)
        low = self.library.options.precision == "bfloat16"
        return "bfloat16" if name == "float32" and low else name

    def _warn(self, what: str, where: _Where, a: Array, b: Array) -> None:
        """Says once of each convolution that cuDNN has no engine for it."""
        if not self._fits(where, a, b):
            return
        operand, kernel, result = where.shapes
        work = {
            "forward": f"of {operand[1:]} with kernels {kernel}",
            "data": f"of {result[1:]} with kernels {kernel}, transposed",
            "weights": f"of {operand[1:]} and {result[1:]} for the gradient of kernels {kernel}",
        }[what]
        said = f"cuDNN has no engine for the convolution {work} in {self._kind(a)}"
        if said not in self._warned:
            self._warned.add(said)
            warnings.warn(f"{said}; products, one for each tap, compute it, slower", stacklevel=2)

    def _fits(self, where: _Where, a: Array, b: Array) -> bool:
        known = a.dtype == b.dtype and a.dtype.name in ("float16", "float32", "float64")
        return known and where.is_whole and bool(a.size and b.size)

    def _blocks(self, rows: int) -> Iterable[slice]:
        return [slice(0, rows)] if self.library.exact else row_blocks(rows)

    def _result(self, shape: Shape, kind: str, out: Array | None) -> Array:
        if out is not None and is_dense(out):
            return out
        return self._channels_last(shape, kind)

    def _operand(self, a: Array) -> Array:
        """`a` channels-last, and in the type that cuDNN is to compute in."""
        if not is_dense(a):
            dense = self._channels_last(a.shape, a.dtype)
            assign(dense, a)
            a = dense
        if self._kind(a) == "bfloat16":
            low = self._channels_last(a.shape, self.cupy.uint16)
            _on_each(self._to_bfloat16, a, low)
            a = low
        return a

    def _kernels(self, run: Run, w: Array) -> Array:
        """As `_operand`; once in a run for each."""
        key = ("cudnn", id(w))
        if key not in run.memo:
            run.memo[key] = w, self._operand(w)  # w stays alive
        return run.memo[key][1]

    def _channels_last(self, shape: Shape, dtype: DTypeLike) -> Array:
        return empty_channels_last(self.cupy.empty, shape, dtype)

    def _padded(self, run: Run, x: Array, padding: Pads) -> Array:
        """`x` with zeros around it, or with its edges cut off where `padding` is negative."""
        inner = [slice(max(-low, 0), n + min(high, 0)) for n, (low, high) in zip(
            x.shape[2:], padding, strict=True
        )]  # fmt: skip
        x = x[(slice(None), slice(None), *inner)]
        added = [(max(low, 0), max(high, 0)) for low, high in padding]
        if not any(map(any, added)):
            return x
        size = [n + low + high for n, (low, high) in zip(x.shape[2:], added, strict=True)]
        whole = self._channels_last((*x.shape[:2], *size), x.dtype)
        whole.fill(0)
        place = [slice(low, low + n) for n, (low, _) in zip(x.shape[2:], added, strict=True)]
        assign(whole[(slice(None), slice(None), *place)], x)
        return whole


class _Where:
    """The geometry of a convolution for any rows of it."""

    def __init__(
        self, operand: Shape, kernel: Shape, result: Shape, *, strides: Shape, padding: Pads,
        dilation: Shape, groups: int,
    ) -> None:  # fmt: skip
        self.shapes = operand, kernel, result
        self.rest = strides, padding, dilation
        flat = [n for sides in padding for n in sides]
        self.is_whole = min(flat) >= 0  # no edge is cut off
        self.is_symmetric = self.is_whole and all(low == high for low, high in padding)

    def rows(self, rows: slice) -> Geometry:
        operand, kernel, result = self.shapes
        count = rows.stop - rows.start
        return Geometry((count, *operand[1:]), kernel, (count, *result[1:]), *self.rest)


def _whole(
    name: str, w: Array, x: Array, *, spatial: Shape = (), **at: Any
) -> tuple[str, _Where, Shape]:
    """What cuDNN is to do for an operation, its geometry, and the shape of the result."""
    if name == "convolution":
        shape = (len(x), w.shape[0], *_result_size(w, x, at))
        return "forward", _Where(x.shape, w.shape, shape, **at), shape
    shape = (len(x), w.shape[1] * at["groups"], *spatial)
    return "data", _Where(shape, w.shape, x.shape, **at), shape


def _result_size(w: Array, x: Array, at: Attributes) -> Shape:
    return tuple(
        (n + low + high - (k - 1) * d - 1) // s + 1
        for n, k, s, (low, high), d in zip(
            x.shape[2:], w.shape[2:], at["strides"], at["padding"], at["dilation"], strict=True
        )
    )


def _no_padding(x: Array) -> Pads:
    return ((0, 0),) * (x.ndim - 2)


def _into(result: Array, out: Array | None) -> Array:
    if out is None or result is out:
        return result
    assign(out, result)
    return out


def _on_each(kernel: Kernel, source: Array, target: Array) -> None:
    """Runs a kernel on all elements of arrays that lie in memory alike, without gaps."""
    kernel((-(-source.size // 256),), (256,), (np.int64(source.size), source, target))


# To the nearest bfloat16, ties to even; NaN stays NaN
TO_BFLOAT16 = r"""
extern "C" __global__ void to_bfloat16(long long size, const unsigned int* x, unsigned short* y) {
    long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i >= size) return;
    unsigned int bits = x[i];
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    y[i] = nan ? (unsigned short)(bits >> 16 | 64)
               : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
"""

FROM_BFLOAT16 = r"""
extern "C" __global__ void from_bfloat16(long long size, const unsigned short* x, unsigned int* y) {
    long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i < size) y[i] = (unsigned int)x[i] << 16;
}
"""
