"""Groups of pointwise operations through oneDNN, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from ctypes import c_int
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..numpy import pointwise as reference
from ..sizes import Sizes
from ..strides import Form, address
from .chains import ONE, Chain, chains, turned
from .library import (
    BINARY,
    DST,
    SRC,
    SRC_1,
    Library,
    OnednnError,
    PostOperations,
    Primitive,
)

# Elements of a piece, which with its operands stays in the second-level caches. What is repeated
# for each row makes a row the smallest piece, and that may be larger.
PIECE = 1 << 18
_MOST_AXES = 3

Shape = tuple[int, ...]
Pattern = tuple[bool, ...]  # for each axis of a piece, whether an operand is repeated along it


class _Compiled(NamedTuple):
    """A program for pieces of one size: its passes over memory, and what each reads and writes."""

    passes: list[tuple[Primitive, list[int]]]
    between: int  # how many results stand between them
    size: int  # elements of each


class _Piece(NamedTuple):
    """Where a piece begins in each operand and in the result (bytes), and what is done with it."""

    starts: list[int]
    compiled: _Compiled


class Pointwise:
    """The `fused` kernel: programs as chains, compiled for the sizes of pieces that occur.

    Args:
        library: oneDNN.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._one = np.ones(1, np.float32)
        self._sizes = Sizes()
        self._chains = lru_cache(maxsize=1024)(lambda program: chains(program.steps, program.arity))
        self._compiled = lru_cache(maxsize=512)(self._compile)
        self._pieces = lru_cache(maxsize=1024)(self._cut)

    def evaluate(self, run: Any, *arrays: Any, program: Any, out: Any = None) -> Any:
        """`engines.numpy.pointwise.evaluate`, to which goes what the library can't do."""
        if out is None or out.nbytes <= run.engine.small_bytes:
            return reference.evaluate(run, *arrays, program=program, out=out)
        arrays = tuple(map(np.asarray, arrays))  # a reduction may have made a number
        pieces = self._pieces(program, Form.of(out), *map(Form.of, arrays))
        if not pieces:
            return reference.evaluate(run, *arrays, program=program, out=out)
        bases = [*map(address, arrays), address(out)]
        largest = pieces[0].compiled  # the first
        between = [address(self._scratch(i, largest.size)) for i in range(largest.between)]
        one = address(self._one)
        for starts, compiled in pieces:
            *values, target = (b + s for b, s in zip(bases, starts, strict=True))
            values += [*between, target, one]
            for primitive, places in compiled.passes:
                primitive.run_at([values[i] for i in places])
        return out

    def _scratch(self, number: int, size: int) -> np.ndarray:
        return reference.scratch(f"between {number}", (size,), np.dtype(np.float32))

    def _cut(self, program: Any, out: Form, *arrays: Form) -> list[_Piece]:
        """The pieces; none if the library can't do it."""
        if any(a.dtype != np.float32 for a in (out, *arrays)) or self._chains(program) is None:
            return []
        result, operands = reference.collapsed(out.example(), [a.example() for a in arrays])
        patterns = tuple(_pattern(a, result.shape) for a in operands)
        dense = _pattern(result, result.shape) == (False,) * result.ndim
        if None in patterns or not dense or result.ndim > _MOST_AXES:
            return []
        rows, *inner = result.shape
        pieces = []
        for start, size in self._blocks((program, patterns, *inner), rows, math.prod(inner)):
            compiled = self._compiled(program, (size, *inner), patterns)
            if compiled is None:
                return []
            pieces.append(_Piece([start * a.strides[0] for a in (*operands, result)], compiled))
        return pieces

    def _blocks(self, kind: Any, rows: int, unit: int) -> Iterator[tuple[int, int]]:
        """Where pieces of `rows`, each of `unit` elements, start, and their numbers of rows."""
        most = max(1, PIECE // unit)
        whole = rows - rows % most
        for start in range(0, whole, most):
            yield start, most
        for block in self._sizes.blocks(kind, rows - whole) if rows > whole else ():
            yield whole + block.start, block.stop - block.start

    def _compile(
        self, program: Any, shape: Shape, patterns: tuple[Pattern, ...]
    ) -> _Compiled | None:
        """Values are numbered: operands, results between, the last result, the number one."""
        found = self._chains(program)
        whole, one = (False,) * len(shape), program.arity + len(found)
        kinds = dict(enumerate((*patterns, *[whole] * len(found))))
        kinds[ONE] = (True,) * len(shape)
        passes = []
        for i, chain in enumerate(found):
            made = self._primitive(turned(chain, kinds), shape, kinds)
            if made is None:
                return None
            primitive, reads = made
            places = [one if r == ONE else r for r in reads]
            passes.append((primitive, [*places, program.arity + i]))
        return _Compiled(passes, len(found) - 1, math.prod(shape))

    def _primitive(
        self, chain: Chain, shape: Shape, kinds: Mapping[int, Pattern]
    ) -> tuple[Primitive, list[int]] | None:
        """The primitive of a chain, and what it reads, in order; None if there is no fast one."""
        memory = {i: self.library.dense(_own(shape, kind)) for i, kind in kinds.items()}
        result = self.library.dense(shape)
        after = PostOperations(self.library)
        reads = [chain.left, chain.right]
        for post in chain.posts:
            if post.operand is None:
                after.eltwise(post.name, post.alpha, post.beta)
            else:
                after.binary(post.name, memory[post.operand])
                reads.append(post.operand)
        left, right = memory[chain.left], memory[chain.right]
        arguments = [(SRC, left), (SRC_1, right), *after.arguments, (DST, result)]
        try:
            description = self.library.make(
                "dnnl_binary_primitive_desc_create",
                self.library.engine, c_int(BINARY[chain.name]), left, right, result,
                after.attributes(),
            )  # fmt: skip
            if self.library.implementation(description).startswith("ref"):
                return None
            return Primitive(self.library, description, arguments), reads
        except OnednnError:
            return None


def _own(shape: Shape, pattern: Pattern) -> Shape:
    """The shape of an operand that is repeated to `shape`."""
    return tuple(1 if repeated else n for n, repeated in zip(shape, pattern, strict=True))


def _pattern(array: np.ndarray, shape: Shape) -> Pattern | None:
    """Along which axes `array` is repeated; None if it is not dense along the others."""
    pattern = tuple(s == 0 and n > 1 for s, n in zip(array.strides, shape, strict=True))
    step = array.itemsize
    for size, stride in zip(_own(shape, pattern)[::-1], array.strides[::-1], strict=True):
        if size > 1 and stride != step:
            return None
        step *= size
    return pattern
