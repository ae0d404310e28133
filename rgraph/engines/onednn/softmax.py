"""Softmax and its logarithm through oneDNN, where they run along what is innermost in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from ctypes import c_int
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..sizes import Sizes
from .library import DST, FORWARD_INFERENCE, SOFTMAX, SRC, Library, Primitive, address

if TYPE_CHECKING:
    from ...plan import Run


Array = np.ndarray

_FEW = 1 << 8  # elements that NumPy is through with before the library is called


class Softmaxes:
    """Kernels for float32.

    Args:
        library: oneDNN.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, library: Library, empty: Callable[..., Array]) -> None:
        self.library, self.empty = library, empty
        self._sizes = Sizes()
        self._primitive = lru_cache(maxsize=512)(self._make)

    def kernel(self, name: str, run: Run, x: Array, *, axis: tuple[int, ...]) -> Array | None:
        """The kernel of the record of that name; None for what is left to others."""
        inner = axis == tuple(range(-len(axis), 0)) and x.flags.c_contiguous
        if not inner or not axis or x.size <= _FEW:
            return None
        length = math.prod(x.shape[-len(axis) :])
        result = self.empty(x.shape, x.dtype)
        source, target = address(x), address(result)
        for block in self._sizes.blocks((name, length), x.size // length):
            primitive = self._primitive(name, block.stop - block.start, length)
            start = 4 * length * block.start
            primitive.run_at([source + start, target + start])
        if np.isnan(np.add.reduce(result, axis=None)):  # the library leaves the others' as is
            return None
        return result

    def _make(self, name: str, rows: int, length: int) -> Primitive:
        array = self.library.dense((rows, length))
        description = self.library.make(
            "dnnl_softmax_forward_primitive_desc_create",
            self.library.engine, c_int(FORWARD_INFERENCE), c_int(SOFTMAX[name]), array, array,
            c_int(1), self.library.attributes,
        )  # fmt: skip
        return Primitive(self.library, description, [(SRC, array), (DST, array)])
