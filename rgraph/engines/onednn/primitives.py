"""The primitives of convolutions and their two gradients, channels-last: one for each shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..strides import Form, Shape, channels_last
from .chains import Post, tail
from .library import (
    CONVOLUTION_DIRECT,
    DIFF_DST,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    FORWARD_TRAINING,
    QUERY_DIFF_WEIGHTS,
    QUERY_WEIGHTS,
    SRC,
    WEIGHTS,
    Library,
    PostOperations,
    Primitive,
    Reorder,
    dims,
)

if TYPE_CHECKING:
    from ...ops.fused import Program


WHOLE: Shape = ()  # the shape, in a tail, of what is as large as the result
IN_PLACE: Shape = (0,)  # and of what lies where the result is to be written
_MOST_STAYING = 256  # some 100 KB each
_NONE = c_void_p(0)

Tail = tuple[tuple[Post, Shape | None], ...]  # operations, with the shapes of their operands


def tail_of(
    program: Program, more: Sequence[Form], result: Shape, axis: int, own: int | None = None
) -> tuple[Tail | None, list[int]]:
    """A program as a tail, and which of its operands that reads, in order.

    No tail if the library can't do it: it takes operands that are as large as the result, and
    such that have elements along one axis only.

    Args:
        more: the program's operands but for the first, which is the head's result.
        axis: that one axis, of the result.
        own: the operand in whose place the result is written. The tail must begin by adding it.
    """
    posts = tail(program.steps, program.arity)
    shapes = [_shape_in_tail(m, result, axis) for m in more]
    if posts is None or None in shapes or any(m.dtype != np.float32 for m in more):
        return None, []
    reads = [p.operand - 1 for p in posts if p.operand is not None]
    if own is not None:
        if posts[0].name != "add" or reads.count(own) != 1 or reads.pop(0) != own:
            return None, []
        shapes[own] = IN_PLACE
    return tuple((p, None if p.operand is None else shapes[p.operand - 1]) for p in posts), reads


def _shape_in_tail(array: Form, result: Shape, axis: int) -> Shape | None:
    """The shape of an operand of a tail, as the library is told; None if it can't take that."""
    if array.shape == result:
        return WHOLE
    shape = (1,) * (len(result) - len(array.shape)) + array.shape
    single = len(shape) == len(result) and all(n == 1 for n in (*shape[:axis], *shape[axis + 1 :]))
    return shape if single and shape[axis] in (1, result[axis]) and array.in_order else None


class Geometry(NamedTuple):
    """All that a primitive is specialized to, but for the rows."""

    operand: Shape  # (channels, *size)
    result: Shape  # (channels, *size)
    kernel: Shape
    strides: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int


def _contiguous(shape: Shape) -> Shape:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def post_operations(
    library: Library, tail: Tail, result: Shape, describe: Callable[[Shape], c_void_p]
) -> PostOperations:
    """A tail, as the library is told of it; `describe` says how arrays of a shape lie in memory."""
    after = PostOperations(library)
    for post, shape in tail:
        if shape is None:
            after.eltwise(post.name, post.alpha, post.beta)
        elif shape == IN_PLACE:
            after.sum()
        else:
            after.binary(post.name, describe(result if shape == WHOLE else shape))
    return after


class _Weights(NamedTuple):
    """How kernels are seen: with groups they have an axis of their own."""

    shape: Shape
    plain: c_void_p

    @classmethod
    def of(cls, library: Library, at: Geometry) -> _Weights:
        groups, inputs, outputs = at.groups, at.operand[0], at.result[0]
        shape = (outputs // groups, inputs // groups, *at.kernel)
        shape = (groups, *shape) if groups > 1 else shape
        return cls(shape, library.plain(shape, _contiguous(shape)))


class ConvolutionPrimitives:
    """The primitives made so far.

    Args:
        library: oneDNN.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._staying = 0
        self.forward = lru_cache(maxsize=512)(self._forward)
        self.data = lru_cache(maxsize=512)(self._data)
        self.weights = lru_cache(maxsize=512)(self._weights)

    def _describe(
        self,
        what: str,
        at: Geometry,
        hint: Sequence[c_void_p],
        *arrays: c_void_p,
        after: c_void_p | None = None,
    ) -> c_void_p:
        low, high = zip(*at.padding, strict=True)
        dilation = [d - 1 for d in at.dilation]  # the library counts the holes
        kind = (c_int(FORWARD_TRAINING),) if what == "forward" else ()
        return self.library.make(
            f"dnnl_convolution_{what}_primitive_desc_create",
            self.library.engine, *kind, c_int(CONVOLUTION_DIRECT), *arrays,
            dims(at.strides), dims(dilation), dims(low), dims(high), *hint,
            after or self.library.attributes,
        )  # fmt: skip

    def _avoid_what_stays(self, description: c_void_p) -> None:
        """Version 3.2 never frees the code of `brgconv`: ever new sizes get the next best."""
        while self.library.implementation(description).startswith("brgconv"):
            self._staying += 1
            if self._staying <= _MOST_STAYING or not self.library.turn_to_next(description):
                break

    def _arrays(self, rows: int, at: Geometry) -> tuple[c_void_p, c_void_p]:
        operand, result = (rows, *at.operand), (rows, *at.result)
        plain = self.library.plain
        return plain(operand, channels_last(operand)), plain(result, channels_last(result))

    def _forward_description(
        self, rows: int, at: Geometry, after: c_void_p | None = None
    ) -> tuple[c_void_p, c_void_p, c_void_p, _Weights, c_void_p]:
        operand, result = self._arrays(rows, at)
        kernels = _Weights.of(self.library, at)
        free = self.library.any_order(kernels.shape)
        description = self._describe("forward", at, (), operand, free, _NONE, result, after=after)
        return description, operand, result, kernels, free

    def _forward(
        self, rows: int, at: Geometry, tail: Tail = ()
    ) -> tuple[Primitive, Reorder | None]:
        """The primitive (operand, kernels, result, *operands of the tail), and what puts kernels
        in its order."""
        result_shape = (rows, *at.result)
        after = post_operations(
            self.library, tail, result_shape, lambda s: self.library.plain(s, channels_last(s))
        )
        attributes = after.attributes() if tail else None
        description, operand, result, kernels, _ = self._forward_description(rows, at, attributes)
        self._avoid_what_stays(description)
        own = self.library.queried(description, QUERY_WEIGHTS)
        arrays = [(SRC, operand), (WEIGHTS, own), (DST, result), *after.arguments]
        return Primitive(self.library, description, arrays), self._reorder(kernels.plain, own)

    def _data(self, rows: int, at: Geometry) -> tuple[Primitive, Reorder | None]:
        """The primitive (result's gradient, kernels, operand's gradient), as `_forward`."""
        hint, operand, result, kernels, free = self._forward_description(rows, at)
        description = self._describe("backward_data", at, (hint,), operand, free, result)
        self._avoid_what_stays(description)
        own = self.library.queried(description, QUERY_WEIGHTS)
        arrays = [(DIFF_DST, result), (WEIGHTS, own), (DIFF_SRC, operand)]
        return Primitive(self.library, description, arrays), self._reorder(kernels.plain, own)

    def _weights(self, rows: int, at: Geometry) -> tuple[Primitive, Reorder | None, int]:
        """The primitive (operand, result's gradient, kernels' gradient), what puts that in plain
        order, and its size before."""
        hint, operand, result, kernels, free = self._forward_description(rows, at)
        description = self._describe("backward_weights", at, (hint,), operand, free, _NONE, result)
        own = self.library.queried(description, QUERY_DIFF_WEIGHTS)
        arrays = [(SRC, operand), (DIFF_DST, result), (DIFF_WEIGHTS, own)]
        reorder = self._reorder(own, kernels.plain)
        return Primitive(self.library, description, arrays), reorder, self.library.size(own)

    def _reorder(self, source: c_void_p, target: c_void_p) -> Reorder | None:
        if self.library.same(source, target):
            return None
        return Reorder(self.library, source, target)
