"""Convolutions through oneDNN: the product, with what is pointwise after it, and its gradients.

A primitive is made for each shape and kept. So that ragged minibatches, whose numbers of rows
hardly ever repeat, do not mean ever new ones, rows go through in blocks of a few sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...graph.node import Attributes
from ..sizes import Sizes
from ..strides import (
    Form,
    Shape,
    address,
    channels_last,
    dense,
    dense_room,
    into,
    is_dense,
    lies_densely,
)
from .library import Library, Primitive, Reorder
from .primitives import (
    ConvolutionPrimitives,
    Geometry,
    tail_of,
)

if TYPE_CHECKING:
    from ...graph.node import Op
    from ...ops.fused import Program
    from ...plan import Run


Array = np.ndarray


class _Job(NamedTuple):
    """What is done to operands of one form.

    Attributes:
        shape: of the result.
        packed: of the operand and the tail's, which are as the primitives want them.
        reads: of the tail's operands, those that the primitives read, in order.
        turned: whether the kernels are to be turned round.
        blocks: for each block of rows the primitive, what puts the kernels in its order, and where
            the block begins (bytes): in the operand, the result, and what the tail reads.
    """

    shape: Shape
    packed: list[bool]
    reads: list[int]
    turned: bool
    blocks: list[tuple[Primitive, Reorder | None, list[int]]]


class Convolutions:
    """Kernels for float32.

    Args:
        library: oneDNN.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, library: Library, empty: Callable[..., Array]) -> None:
        self.primitives = ConvolutionPrimitives(library)
        self.empty = empty
        self._sizes = Sizes()
        self._job = lru_cache(maxsize=1024)(self._prepare)

    # These give None for what is left to others: nothing to sum over.

    def convolution(
        self, run: Run, w: Array, x: Array, *, out: Array | None = None, **at: Any
    ) -> Array | None:
        if not (w.size and x.size):
            return None
        job = self._job("convolution", None, _hashable(at), w.shape, Form.of(x))
        return self._run(run, job, w, x, (), out)

    def transpose(
        self, run: Run, w: Array, g: Array, *, out: Array | None = None, **at: Any
    ) -> Array | None:
        if not (w.size and g.size):
            return None
        job = self._job("convolution_transpose", None, _hashable(at), w.shape, Form.of(g))
        return self._run(run, job, w, g, (), out)

    def tailed(
        self,
        run: Run,
        w: Array,
        x: Array,
        *more: Array,
        head: Op,
        arguments: Attributes,
        program: Program,
        out: Array | None = None,
        own: int | None = None,
    ) -> Array | None:
        """A convolution that does its tail itself; None, and nothing done, where that can't be.

        Args:
            own: which of `more` lies where the result is to be written.
        """
        if not (w.size and x.size):
            return None
        more = tuple(map(np.asarray, more))  # a reduction may have made a number
        forms = map(Form.of, more)
        at = _hashable(arguments)
        job = self._job(head.name, program, at, w.shape, Form.of(x), *forms, own=own)
        if own is not None and not lies_densely(out.shape, out.strides):
            return None
        return None if job is None else self._run(run, job, w, x, more, out)

    def _prepare(
        self,
        name: str,
        program: Program | None,
        at: Any,
        kernel: Shape,
        operand: Form,
        *more: Form,
        own: int | None = None,
    ) -> _Job | None:
        """None for a tail that the library can't do along with the convolution."""
        at = dict(at)
        make: Any = self.primitives.forward
        turned = _turned(kernel, at) if name == "convolution_transpose" else None
        if turned is not None:
            at, kernel = turned, (kernel[1], kernel[0], *kernel[2:])
        if name == "convolution" or turned is not None:
            sample = _result(kernel, operand.shape, at)
        elif program is None:
            sample = (kernel[1] * at["groups"], *at["spatial"])
            make = self.primitives.data
        else:
            return None
        rows = operand.shape[0]
        shape = (rows, *sample)
        reads: list[int] = []
        if program is not None:
            chain, reads = tail_of(program, more, shape, 1, own)
            if chain is None:
                return None
            make = partial(make, tail=chain)
        geometry = _geometry(operand.shape[1:], sample, kernel[2:], at)
        if make is self.primitives.data:  # there the operand is the convolution's result
            geometry = _geometry(sample, operand.shape[1:], kernel[2:], at)
        steps = [4 * channels_last(operand.shape)[0], 4 * channels_last(shape)[0]]
        steps += [steps[1] if more[i].shape == shape else 0 for i in reads]
        blocks = [
            (*make(b.stop - b.start, geometry), [b.start * s for s in steps])
            for b in self._sizes.blocks((name, program, geometry), rows)
        ]
        packed = [is_dense(operand), *(m.shape != shape or is_dense(m) for m in more)]
        return _Job(shape, packed, reads, turned is not None, blocks)

    def _run(
        self, run: Run, job: _Job, w: Array, x: Array, more: Sequence[Array], out: Array | None
    ) -> Array:
        x, *more = (
            a if packed else dense(run, self.empty, a)
            for a, packed in zip((x, *more), job.packed, strict=True)
        )
        target = dense_room(out, self.empty, job.shape)
        arrays = [address(x), address(target), *(address(more[i]) for i in job.reads)]
        for primitive, reorder, starts in job.blocks:
            source, result, *others = map(int.__add__, arrays, starts)
            kernels = address(self._arranged(run, w, job.turned, reorder))
            primitive.run_at([source, kernels, result, *others])
        return into(out, target)

    def _arranged(self, run: Run, w: Array, turned: bool, reorder: Reorder | None) -> Array:
        """Kernels in the order of a primitive; once in a run for each."""
        key = (id(w), turned, id(reorder))
        if key not in run.memo:
            # turned round and ends exchanged, a convolution is the transposed one
            seen = np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1) if turned else w
            plain = np.ascontiguousarray(seen)
            run.memo[key] = (w, plain if reorder is None else reorder(plain))  # w stays alive
        return run.memo[key][1]

    def weights(
        self, run: Run, x: Array, g: Array, *, kernel: Shape, out: Array | None = None, **at: Any
    ) -> Array | None:
        """The gradient to the kernels."""
        if not (x.size and g.size):
            return None
        geometry = _geometry(x.shape[1:], g.shape[1:], kernel, at)
        shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
        x, g = (dense(run, self.empty, a) for a in (x, g))
        total = np.zeros(shape, x.dtype)
        for block in self._sizes.blocks(("weights", geometry), len(x)):
            primitive, reorder, size = self.primitives.weights(block.stop - block.start, geometry)
            part = np.empty(size // x.itemsize, x.dtype)
            primitive.run(x[block], g[block], part)
            if reorder is not None:
                part = reorder(part, np.empty(total.size, x.dtype))
            total += part.reshape(shape)
        return into(out, total)


def _hashable(at: Attributes) -> tuple[tuple[str, object], ...]:
    return tuple(at.items())


def _geometry(operand: Shape, result: Shape, kernel: Shape, at: Attributes) -> Geometry:
    return Geometry(
        tuple(operand),
        tuple(result),
        tuple(kernel),
        at["strides"],
        at["padding"],
        at["dilation"],
        at["groups"],
    )


def _result(kernel: Shape, operand: Shape, at: Attributes) -> Shape:
    """The shape of a sample of a convolution's result."""
    return (
        kernel[0],
        *(
            (n + low + high - (k - 1) * d - 1) // s + 1
            for n, k, s, (low, high), d in zip(
                operand[2:], kernel[2:], at["strides"], at["padding"], at["dilation"], strict=True
            )
        ),
    )


def _turned(kernel: Shape, at: Attributes) -> dict[str, object] | None:
    """The convolution that a transposed one is; None if it is not one."""
    if at["groups"] > 1 or any(s > 1 for s in at["strides"]):
        return None
    reach = [d * (k - 1) for k, d in zip(kernel[2:], at["dilation"], strict=True)]
    padding = [(r - low, r - high) for r, (low, high) in zip(reach, at["padding"], strict=True)]
    return {**at, "padding": tuple(padding)} if min(map(min, padding)) >= 0 else None
