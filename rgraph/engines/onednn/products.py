"""Matrix products through oneDNN: its threads are those of all else, where a BLAS has its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import c_void_p
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...graph.node import Attributes
from ..sizes import Sizes
from ..strides import Form, address
from .library import (
    DST,
    SRC,
    WEIGHTS,
    Library,
    OnednnError,
    Primitive,
)
from .primitives import Shape, Tail, post_operations, tail_of

if TYPE_CHECKING:
    from ...graph.node import Op
    from ...ops.contractions import Recipe
    from ...ops.fused import Program
    from ...plan import Run


Array = np.ndarray
Strides = tuple[int, int]

_FEW = 1 << 18  # multiplications up to which NumPy's BLAS uses one thread, and is faster
_NONE = c_void_p(0)


class _Job(NamedTuple):
    """What is done to operands of one form.

    Attributes:
        shape: of the result.
        regular: of both factors, whether they are as the primitives want them.
        reads: of the tail's operands, those that the primitives read, in order.
        blocks: each primitive, and where its block begins (bytes): in the factors, the result, and
            what the tail reads.
    """

    shape: Shape
    regular: tuple[bool, bool]
    reads: list[int]
    blocks: list[tuple[Primitive, list[int]]]


class Products:
    """Products of matrices of float32, with what is pointwise after them.

    Args:
        library: oneDNN.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._rows, self._inner = Sizes(), Sizes()
        self._primitive = lru_cache(maxsize=512)(self._make)
        self._job = lru_cache(maxsize=1024)(self._prepare)

    def matmul(self, a: Array, b: Array) -> Array:
        """NumPy's function of that name, to which goes what the library can't do."""
        job = self._job(None, Form.of(a), Form.of(b))
        return np.matmul(a, b) if job is None else self._run(job, a, b, (), None)

    def product(self, run: Run, a: Array, b: Array, *, recipe: Recipe) -> Array | None:
        """The kernel of `times` and `contract`; None for what is left to others."""
        if recipe.plain:
            left, right = recipe.matrices(a, b)
            job = self._job(None, Form.of(left), Form.of(right))
            if job is not None:
                return self._run(job, left, right, (), None)
        return None

    def tailed(
        self, run: Run, a: Array, b: Array, *more: Array, head: Op, arguments: Attributes,
        program: Program, out: Array | None = None, own: int | None = None,
    ) -> Array | None:  # fmt: skip
        """A product that does its tail itself; None, and nothing done, where that can't be."""
        recipe = arguments["recipe"]
        if recipe.plain and (out is None or out.flags.c_contiguous):
            left, right = recipe.matrices(a, b)
            more = tuple(map(np.asarray, more))  # a reduction may have made a number
            job = self._job(program, *map(Form.of, (left, right, *more)), own=own)
            if job is not None:
                return self._run(job, left, right, more, out)
        return None

    def _prepare(
        self,
        program: Program | None,
        left: Form,
        right: Form,
        *more: Form,
        own: int | None = None,
    ) -> _Job | None:
        """None for what the library can't do, or not faster."""
        float32 = all(f.dtype == np.float32 for f in (left, right, *more))
        if not float32 or not len(left.shape) == len(right.shape) == 2:
            return None
        (rows, inner), columns = left.shape, right.shape[1]
        if rows * inner * columns <= _FEW or not all(m.in_order for m in more):
            return None
        chain: Tail | None = ()
        reads: list[int] = []
        if program is not None:
            chain, reads = tail_of(program, more, (rows, columns), 1, own)
        if chain is None:
            return None
        try:
            return self._blocks(left, right, more, chain, reads)
        except OnednnError:
            return None

    def _blocks(
        self, left: Form, right: Form, more: Sequence[Form], chain: Tail, reads: list[int]
    ) -> _Job:
        (rows, inner), columns = left.shape, right.shape[1]
        regular = _is_regular(left), _is_regular(right)
        steps = [
            _steps(f) if r else (f.shape[1], 1) for f, r in zip((left, right), regular, strict=True)
        ]
        # Either may be the number of rows, which hardly ever repeats in ragged minibatches: the
        # rows of a batch through a layer, or summed over in the gradient of its weights.
        parts: Iterable[slice] = (slice(0, inner),)
        if not chain:
            parts = self._inner.blocks((rows, columns, *steps), inner)
        line = [4 * columns if more[i].shape == (rows, columns) else 0 for i in reads]
        blocks = []
        for k in parts:
            for r in self._rows.blocks((inner, columns, *steps, chain), rows):
                sizes = (r.stop - r.start, k.stop - k.start, columns)
                primitive = self._primitive(sizes, *steps, k.start > 0, chain)
                at_left = 4 * (r.start * steps[0][0] + k.start * steps[0][1])
                at_right = 4 * k.start * steps[1][0]
                others = [r.start * n for n in line]
                blocks.append((primitive, [at_left, at_right, 4 * r.start * columns, *others]))
        return _Job((rows, columns), regular, reads, blocks)

    def _run(
        self, job: _Job, left: Array, right: Array, more: Sequence[Array], out: Array | None
    ) -> Array:
        if out is None:
            out = np.empty(job.shape, np.float32)
        if not job.regular[0]:
            left = np.ascontiguousarray(left)
        if not job.regular[1]:
            right = np.ascontiguousarray(right)
        arrays = [address(left), address(right), address(out)]
        arrays += [address(more[i]) for i in job.reads]
        for primitive, starts in job.blocks:
            primitive.run_at(list(map(int.__add__, arrays, starts)))
        return out

    def _make(
        self, sizes: tuple[int, int, int], left: Strides, right: Strides, add: bool, chain: Tail
    ) -> Primitive:
        """(rows, inner) times (inner, columns), added to what is there or not, and its tail."""
        rows, inner, columns = sizes
        a = self.library.plain((rows, inner), left)
        b = self.library.plain((inner, columns), right)
        c = self.library.dense((rows, columns))
        after = post_operations(self.library, chain, (rows, columns), self.library.dense)
        if add:
            after.sum()
        description = self.library.make(
            "dnnl_matmul_primitive_desc_create",
            self.library.engine, a, b, _NONE, c, after.attributes(),
        )  # fmt: skip
        arrays = [(SRC, a), (WEIGHTS, b), (DST, c), *after.arguments]
        return Primitive(self.library, description, arrays)


def _steps(a: Form) -> Strides:
    """Strides in elements; an axis of one element has that of a matrix in order."""
    rows, columns = a.strides[0] // 4, a.strides[1] // 4
    if a.shape[1] == 1:
        columns = 1
    if a.shape[0] == 1:
        rows = max(rows, a.shape[1] * columns)
    return rows, columns


def _is_regular(a: Form) -> bool:
    """Whether its elements follow one another along rows or columns."""
    rows, columns = _steps(a)
    in_rows = columns == 1 and rows >= a.shape[1]
    return in_rows or (rows == 1 and columns >= a.shape[0])
