"""Convolutions through oneDNN: the product, with what is pointwise after it, and its gradients.

A primitive is made for each shape and kept. So that ragged minibatches, whose numbers of rows
hardly ever repeat, do not mean ever new ones, rows go through in blocks of a few sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import tailed
from .chains import tail
from .library import Library
from .primitives import WHOLE, ConvolutionPrimitives, Geometry, Shape, channels_last
from .sizes import row_blocks

Array = np.ndarray[Any, Any]


class Convolutions:
    """Kernels for float32.

    Args:
        library: oneDNN.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, library: Library, empty: Callable[..., Array]) -> None:
        self.primitives = ConvolutionPrimitives(library)
        self.empty = empty

    def convolution(self, run: Any, w: Array, x: Array, *, out: Any = None, **at: Any) -> Array:
        return self._product(run, w, x, out, at)

    def tailed(
        self,
        run: Any,
        w: Array,
        x: Array,
        *more: Array,
        head: Any,
        arguments: Any,
        program: Any,
        out: Any = None,
    ) -> Array:
        """A convolution that does its tail itself; where the library can't, one after the other."""
        posts = tail(program.steps, program.arity)
        turned = head.name == "convolution_transpose"
        at = _turned(w, arguments) if turned else arguments
        shape = () if at is None else (len(x), *_result(w, x, at, turned))
        shapes = [_shape_in_tail(m, shape) for m in more]
        if None in (at, posts, *shapes) or any(m.dtype != np.float32 for m in more):
            own = {"head": head, "arguments": arguments, "program": program}
            return tailed(run, w, x, *more, **own, out=out)
        reads = [p.operand for p in posts if p.operand is not None]  # the first is the result
        chain = tuple((p, None if p.operand is None else shapes[p.operand - 1]) for p in posts)
        return self._product(run, w, x, out, at, turned, chain, [more[i - 1] for i in reads])

    def transpose(
        self, run: Any, w: Array, g: Array, *, spatial: Any, out: Any = None, **at: Any
    ) -> Array:
        operand = (w.shape[1] * at["groups"], *spatial)
        geometry = _geometry(operand, g.shape[1:], w.shape[2:], at)
        arranged = partial(self._arranged, run, w, _plain)
        return self._mapped(run, self.primitives.data, geometry, arranged, g, operand, out)

    def _product(
        self,
        run: Any,
        w: Array,
        x: Array,
        out: Any,
        at: Any,
        turned: bool = False,
        chain: Any = (),
        more: Sequence[Array] = (),
    ) -> Array:
        result = _result(w, x, at, turned)
        geometry = _geometry(x.shape[1:], result, w.shape[2:], at)
        primitives = partial(self.primitives.forward, tail=chain)
        arranged = partial(self._arranged, run, w, _turned_kernels if turned else _plain)
        return self._mapped(run, primitives, geometry, arranged, x, result, out, more)

    def _mapped(
        self,
        run: Any,
        primitives: Any,
        at: Geometry,
        arranged: Callable[[Any], Array],
        x: Array,
        shape: Shape,
        out: Any,
        more: Sequence[Array] = (),
    ) -> Array:
        """A primitive on all rows of `x`, block by block."""
        x = self._dense(run, x)
        more = [self._dense(run, m) if m.ndim == x.ndim and len(m) == len(x) else m for m in more]
        ready = out is not None and is_dense(out)
        target = out if ready else self._channels_last((len(x), *shape))
        for block in row_blocks(len(x)):
            primitive, reorder = primitives(block.stop - block.start, at)
            others = [m[block] if m.shape == target.shape else m for m in more]
            primitive.run(x[block], arranged(reorder), target[block], *others)
        if out is None or ready:
            return target
        out[...] = target
        return out

    def _channels_last(self, shape: Shape) -> Array:
        rows, channels, *size = shape
        return np.moveaxis(self.empty((rows, *size, channels), np.float32), -1, 1)

    def _dense(self, run: Any, array: Array) -> Array:
        """`array`, or a copy of it that is dense; the last copy is kept, others may want it too."""
        if is_dense(array):
            return array
        if run.memo.get("copied") is not array:
            copy = self._channels_last(array.shape)
            copy[...] = array
            run.memo["copied"], run.memo["copy"] = array, copy
        return run.memo["copy"]

    def _arranged(self, run: Any, w: Array, seen: Callable[[Array], Array], reorder: Any) -> Array:
        """Kernels in the order of a primitive; once in a run for each."""
        key = (id(w), seen, id(reorder))
        if key not in run.memo:
            plain = np.ascontiguousarray(seen(w))
            run.memo[key] = (w, plain if reorder is None else reorder(plain))  # w stays alive
        return run.memo[key][1]

    def weights(
        self, run: Any, x: Array, g: Array, *, kernel: Any, out: Any = None, **at: Any
    ) -> Array:
        geometry = _geometry(x.shape[1:], g.shape[1:], kernel, at)
        shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
        x, g = self._dense(run, x), self._dense(run, g)
        total = np.zeros(shape, x.dtype)
        for block in row_blocks(len(x)):
            primitive, reorder, size = self.primitives.weights(block.stop - block.start, geometry)
            part = np.empty(size // x.itemsize, x.dtype)
            primitive.run(x[block], g[block], part)
            if reorder is not None:
                part = reorder(part, np.empty(total.size, x.dtype))
            total += part.reshape(shape)
        if out is None:
            return total
        out[...] = total
        return out


def is_dense(array: Array) -> bool:
    """Whether `array`, (rows, channels, *size), is channels-last in memory and without gaps."""
    steps = (n * array.itemsize for n in channels_last(array.shape))
    return all(n == 1 or a == b for n, a, b in zip(array.shape, array.strides, steps, strict=True))


def _shape_in_tail(array: Array, result: Shape) -> Shape | None:
    """The shape of an operand of a tail, as the library is told; None if it can't take that."""
    if array.shape == result:
        return WHOLE
    shape = (1,) * (len(result) - array.ndim) + array.shape
    one_per_channel = all(n == 1 for i, n in enumerate(shape) if i != 1)
    dense = array.flags.c_contiguous and len(shape) == len(result)
    return shape if one_per_channel and dense else None


def _geometry(operand: Any, result: Any, kernel: Any, at: Any) -> Geometry:
    return Geometry(
        tuple(operand),
        tuple(result),
        tuple(kernel),
        at["strides"],
        at["padding"],
        at["dilation"],
        at["groups"],
    )


def _result(w: Array, x: Array, at: Any, turned: bool = False) -> Shape:
    """The shape of a sample of the result."""
    return (
        w.shape[turned],
        *(
            (n + low + high - (k - 1) * d - 1) // s + 1
            for n, k, s, (low, high), d in zip(
                x.shape[2:], w.shape[2:], at["strides"], at["padding"], at["dilation"], strict=True
            )
        ),
    )


def _plain(w: Array) -> Array:
    return w


def _turned_kernels(w: Array) -> Array:
    """Kernels with which a convolution is the transposed one: turned round, ends exchanged."""
    return np.flip(w, range(2, w.ndim)).swapaxes(0, 1)


def _turned(w: Array, at: Any) -> dict[str, Any] | None:
    """The convolution that a transposed one is; None if it is not one."""
    if at["groups"] > 1 or any(s > 1 for s in at["strides"]):
        return None
    padding = []
    for k, d, (low, high) in zip(w.shape[2:], at["dilation"], at["padding"], strict=True):
        reach = d * (k - 1)
        if low > reach or high > reach:
            return None
        padding.append((reach - low, reach - high))
    return {**at, "padding": tuple(padding)}
