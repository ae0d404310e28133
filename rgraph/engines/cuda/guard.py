"""Whether what was computed is finite, found out on the GPU; what follows depends on it there.

So nobody waits: a change that is made under a guard leaves everything as it was where the guard has
seen something that is not finite, and the CPU hears of it later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...graph.types import Array
from ...ops.fused import Program
from .pointwise import HALF, Pointwise
from .transfer import Transfers, in_memory_order

if TYPE_CHECKING:
    from .library import Module


_THREADS, _MOST = 256, 1 << 18  # of a block, and in all

LOOK = r"""
extern "C" __global__ void look(long long size, long long threads, const T* x, int infinite_too, int* found) {
    bool bad = false;
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < size; i += threads) {
        T v = x[i];
        bad = bad || v != v || (infinite_too && v - v != 0);
    }
    if (bad) *found = 1;
}
"""  # noqa: E501
_TYPES = {"float16": "Half", "float32": "float", "float64": "double"}


def source(dtype: str) -> str:
    """The CUDA source of `look` for numbers of a type."""
    return (HALF if dtype == "float16" else "") + f"typedef {_TYPES[dtype]} T;\n" + LOOK


class Guard:
    """Remembers whether something that it was shown was not finite, until it is cleared.

    Args:
        cupy: the array library.
        transfers: how the CPU hears of it.
    """

    def __init__(self, cupy: Module, transfers: Transfers) -> None:
        self.cupy, self.transfers = cupy, transfers
        self._kernels = {t: cupy.RawKernel(source(t), "look") for t in _TYPES}
        self.found = cupy.zeros((), np.int32)

    def look(self, array: Array, infinite_too: bool) -> None:
        """Looks for NaN, and for infinities too, in an array of the GPU's."""
        if array.dtype.name not in self._kernels or not array.size:
            return
        plain = self.cupy.ascontiguousarray(in_memory_order(array))
        blocks = min(-(-plain.size // _THREADS), _MOST // _THREADS)
        sizes = np.int64(plain.size), np.int64(blocks * _THREADS)
        given = (*sizes, plain, np.int32(infinite_too), self.found)
        self._kernels[array.dtype.name]((blocks,), (_THREADS,), given)

    def clear(self) -> None:
        self.found.fill(0)

    def later(self) -> Callable[[], bool]:
        """What tells whether it is set now: called later, it hardly waits."""
        return self.transfers.number_later(self.found)

    def write(self, pointwise: Pointwise, array: Array, value: Array) -> None:
        """Sets an array to `value`, unless something was found."""
        pointwise.launch(_SET, (array,), (self.found, array, value))


_SET = Program((("element_select", (0, 1, 2)),), 3)
