"""The kernels of the three convolution records, and of convolutions with a tail, through cuDNN.

The first time that a number of rows comes, it goes through in blocks of a few sizes, so that ragged
minibatches do not mean ever new plans; a shape that comes back gets plans of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import tailed
from ..sizes import row_blocks
from ..strides import Shape, empty_channels_last, is_dense
from .cudnn import Cudnn, Geometry


class Convolutions:
    """The kernels of the three convolution records.

    Args:
        library: cuDNN.
        reference: the records' own kernels, for what cuDNN can't do.
    """

    def __init__(self, library: Cudnn, reference: dict[str, Callable[..., Any]]) -> None:
        self.library, self.reference = library, reference
        self.cupy = library.cupy
        self._to_bfloat16 = self.cupy.RawKernel(TO_BFLOAT16, "to_bfloat16")

    def forward(self, run: Any, w: Any, x: Any, *, out: Any = None, **at: Any) -> Any:
        if x.ndim < w.ndim:
            return _into(self.forward(run, w, x[None], **at)[0], out)
        shape = (len(x), w.shape[0], *_result_size(w, x, at))
        where = _Where(x.shape, w.shape, shape, **at)
        found = self._by_rows(run, "forward", where, x, w, shape, out)
        if found is not None:
            return found
        if where.is_symmetric:
            return self.reference["convolution"](run, w, x, out=out, **at)
        at["padding"], x = _no_padding(x), self._padded(run, x, at["padding"])
        return self.forward(run, w, x, out=out, **at)

    def data(self, run: Any, w: Any, g: Any, *, spatial: Shape, out: Any = None, **at: Any) -> Any:
        if g.ndim < w.ndim:
            return _into(self.data(run, w, g[None], spatial=spatial, **at)[0], out)
        shape = (len(g), w.shape[1] * at["groups"], *spatial)
        where = _Where(shape, w.shape, g.shape, **at)
        found = self._by_rows(run, "data", where, g, w, shape, out)
        if found is not None:
            return found
        if where.is_symmetric:
            return self.reference["convolution_transpose"](
                run, w, g, spatial=spatial, out=out, **at
            )
        padding, at["padding"] = at["padding"], _no_padding(g)
        whole = tuple(n + low + high for n, (low, high) in zip(spatial, padding, strict=True))
        x = self.data(run, w, g, spatial=whole, **at)
        return _into(self._padded(run, x, tuple((-low, -high) for low, high in padding)), out)

    def tailed(
        self, run: Any, *arrays: Any, head: Any, arguments: Any, program: Any, out: Any = None
    ) -> Any:
        """A convolution and the pointwise group behind it (`passes.tails`), in one if cuDNN can."""
        w, x, *others = arrays
        ours = head.name in ("convolution", "convolution_transpose")
        if ours and self.library.exact and x.ndim == w.ndim:
            found = self._in_one(run, head.name, w, x, others, arguments, program, out)
            if found is not None:
                return found
        return tailed(run, *arrays, head=head, arguments=arguments, program=program, out=out)

    def _in_one(
        self, run: Any, name: str, w: Any, x: Any, others: Any, at: Any, program: Any, out: Any
    ) -> Any:
        """A convolution with its tail in one plan; None if cuDNN has no engine for that."""
        at = dict(at)
        spatial = at.pop("spatial", None)
        if name == "convolution":
            what, shape = "forward", (len(x), w.shape[0], *_result_size(w, x, at))
            where = _Where(x.shape, w.shape, shape, **at)
        else:
            what, shape = "data", (len(x), w.shape[1] * at["groups"], *spatial)
            where = _Where(shape, w.shape, x.shape, **at)
        others = [o.reshape((1,) * (len(shape) - o.ndim) + o.shape) for o in others]
        same = all(is_dense(o) and o.dtype == x.dtype for o in others)
        if not same or not self._fits(where, x, w):
            return None
        target = self._result(shape, x.dtype.name, out)
        done = self.library.run(
            what,
            where.rows(slice(0, len(x))),
            x.dtype.name,
            (self._operand(x), self._kernels(run, w), *others, target),
            tail=tuple(program.steps),
            others=tuple(o.shape for o in others),
        )
        return _into(target, out) if done else None

    def weights(
        self, run: Any, x: Any, g: Any, *, kernel: Shape, out: Any = None, **at: Any
    ) -> Any:
        if x.ndim == len(kernel) + 1:
            x, g = x[None], g[None]
        shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
        where = _Where(x.shape, shape, g.shape, **at)
        if self._fits(where, x, g):
            kind = x.dtype.name
            operand, result = self._operand(x), self._operand(g)
            total = None
            for rows in self._blocks(len(x)):
                part = self._result(shape, kind, out if total is None else None)
                arrays = (operand[rows], result[rows], part)
                if not self.library.run("weights", where.rows(rows), kind, arrays):
                    break
                if total is None:
                    total = part
                else:
                    total += part
            else:
                return _into(total, out)
        if where.is_symmetric:
            return self.reference["convolution_weights"](run, x, g, kernel=kernel, out=out, **at)
        at["padding"], x = _no_padding(x), self._padded(run, x, at["padding"])
        return self.weights(run, x, g, kernel=kernel, out=out, **at)

    def _by_rows(
        self, run: Any, what: str, where: _Where, a: Any, w: Any, shape: Shape, out: Any
    ) -> Any:
        """A convolution of all rows of `a`, block by block; None if cuDNN has no engine."""
        if not self._fits(where, a, w):
            return None
        kind = a.dtype.name
        a, w = self._operand(a), self._kernels(run, w)
        target = self._result(shape, kind, out)
        for rows in self._blocks(len(a)):
            arrays = (a[rows], w, target[rows])
            if not self.library.run(what, where.rows(rows), kind, arrays):
                return None
        return _into(target, out)

    def _fits(self, where: _Where, a: Any, b: Any) -> bool:
        known = a.dtype == b.dtype and a.dtype.name in ("float32", "float64")
        return known and where.is_whole and bool(a.size and b.size)

    def _blocks(self, rows: int) -> Any:
        return [slice(0, rows)] if self.library.exact else row_blocks(rows)

    def _result(self, shape: Shape, kind: str, out: Any) -> Any:
        if out is not None and is_dense(out):
            return out
        return self._channels_last(shape, kind)

    def _operand(self, a: Any) -> Any:
        """`a` channels-last, and in the type that cuDNN is to compute in."""
        if not is_dense(a):
            dense = self._channels_last(a.shape, a.dtype)
            dense[...] = a
            a = dense
        if a.dtype.name == "float32" and self.library.options.precision == "bfloat16":
            low = self._channels_last(a.shape, self.cupy.uint16)
            self._to_bfloat16((-(-a.size // 256),), (256,), (self.cupy.int64(a.size), a, low))
            a = low
        return a

    def _kernels(self, run: Any, w: Any) -> Any:
        """As `_operand`; once in a run for each."""
        key = ("cudnn", id(w))
        if key not in run.memo:
            run.memo[key] = w, self._operand(w)  # w stays alive
        return run.memo[key][1]

    def _channels_last(self, shape: Shape, dtype: Any) -> Any:
        return empty_channels_last(self.cupy.empty, shape, dtype)

    def _padded(self, run: Any, x: Any, padding: Any) -> Any:
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
        whole[(slice(None), slice(None), *place)] = x
        return whole


class _Where:
    """The geometry of a convolution for any rows of it."""

    def __init__(
        self, operand: Shape, kernel: Shape, result: Shape, *, strides: Shape, padding: Any,
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


def _result_size(w: Any, x: Any, at: Any) -> Shape:
    return tuple(
        (n + low + high - (k - 1) * d - 1) // s + 1
        for n, k, s, (low, high), d in zip(
            x.shape[2:], w.shape[2:], at["strides"], at["padding"], at["dilation"], strict=True
        )
    )


def _no_padding(x: Any) -> tuple[tuple[int, int], ...]:
    return ((0, 0),) * (x.ndim - 2)


def _into(result: Any, out: Any) -> Any:
    if out is None or result is out:
        return result
    out[...] = result
    return out


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
