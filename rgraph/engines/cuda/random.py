"""Random numbers by Philox4x32-10 (Salmon et al., 2011), a function of seed and place alone.

A kernel reads the seed from the GPU's memory, so a captured graph draws anew whenever that is
changed. The same seed gives the same numbers on every GPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...graph.types import Array, DTypeLike, ShapeLike
from .transfer import Transfers

if TYPE_CHECKING:
    from .library import Module


_THREADS = 256
_PER_THREAD = {"float32": 4, "float64": 2}
_TYPES = {"float32": "float", "float64": "double"}
_UNIFORM, _NORMAL = 0, 1

PHILOX = r"""
__device__ inline void philox(unsigned int a, unsigned int b, unsigned int c, unsigned int d,
                              unsigned int key, unsigned int other, unsigned int* words) {
    for (int round = 0; round < 10; ++round) {
        unsigned long long p = 0xD2511F53ull * a, q = 0xCD9E8D57ull * c;
        unsigned int e = (unsigned int)(q >> 32) ^ b ^ key, f = (unsigned int)(p >> 32) ^ d ^ other;
        b = (unsigned int)q; d = (unsigned int)p; a = e; c = f;
        key += 0x9E3779B9u; other += 0xBB67AE85u;
    }
    words[0] = a; words[1] = b; words[2] = c; words[3] = d;
}
"""

_DRAW = r"""
extern "C" __global__ void draw(long long size, const unsigned long long* seed, unsigned int low, unsigned int high, int normal, T* y) {
    long long thread = (long long)blockIdx.x * THREADS + threadIdx.x;
    unsigned long long key = *seed;
    unsigned int words[4];
    philox((unsigned int)thread, (unsigned int)(thread >> 32), low, high,
           (unsigned int)key, (unsigned int)(key >> 32), words);
    T u[PER];
    for (int k = 0; k < PER; ++k)
        u[k] = PER == 4 ? T(words[k] >> 8) * T(1.0 / 16777216)
             : T((unsigned long long)(words[2 * k] >> 5) * 67108864ull + (words[2 * k + 1] >> 6))
               * T(1.0 / 9007199254740992);
    for (int k = 0; normal && k < PER; k += 2) {
        T radius = sqrt(T(-2) * log(T(1) - u[k])), angle = T(6.283185307179586) * u[k + 1];
        u[k] = radius * cos(angle);
        u[k + 1] = radius * sin(angle);
    }
    for (int k = 0; k < PER; ++k)
        if (thread * PER + k < size) y[thread * PER + k] = u[k];
}
"""  # noqa: E501


def source(dtype: str) -> str:
    """The CUDA source of `draw` for float32 or float64."""
    own = {"THREADS": _THREADS, "PER": _PER_THREAD[dtype], "T": _TYPES[dtype]}
    return "".join(f"#define {k} {v}\n" for k, v in own.items()) + PHILOX + _DRAW


class Random:
    """The random numbers of one GPU.

    Args:
        cupy: the array library.
        transfers: how seeds come to the GPU.
    """

    def __init__(self, cupy: Module, transfers: Transfers) -> None:
        self.cupy, self.transfers = cupy, transfers
        self.kernels = {d: cupy.RawKernel(source(d), "draw") for d in _TYPES}
        self.numbers = cupy.zeros(2, cupy.uint64)  # of the run: its seed and its turn
        self._now: tuple[int, int] | None = None

    def begin(self, seed: int, turn: int) -> None:
        """A run begins; what it draws follows from these, which graphs read anew each time."""
        self._now = int(seed), int(turn)
        staged = self.transfers.pinned((2,), np.uint64)
        staged[...] = [n & (2**64 - 1) for n in self._now]
        stream = self.transfers.stream
        self.numbers.data.copy_from_host_async(staged.ctypes.data, staged.nbytes, stream)
        self.transfers.keep(staged)

    def generator(self, seed: tuple[int, ...], varies: int | None = None) -> Generator:
        """The generator of a seed.

        Args:
            varies: which of its numbers is the run's own, its seed (0) or its turn (1): that one
                is read on the GPU when something is drawn, the others are fixed.
        """
        if varies is not None and self._now is not None and seed[varies] == self._now[varies]:
            rest = (varies, *seed[:varies], *seed[varies + 1 :])
            return Generator(self, self.numbers[varies : varies + 1], rest)
        number = np.random.SeedSequence(seed).generate_state(1, np.uint64)
        return Generator(self, self.transfers.to_gpu(number), seed)


class Generator:
    """What operations draw from, with the methods of NumPy's that they use."""

    def __init__(self, random: Random, number: Array, seed: tuple[int, ...]) -> None:
        self._random, self._number = random, number
        self._seed, self._drawn = seed, 0

    def random(self, size: ShapeLike | None = None, dtype: DTypeLike = np.float64) -> Array:
        """Numbers from 0 to 1, 1 left out."""
        return self._draw(size, dtype, _UNIFORM)

    def standard_normal(
        self, size: ShapeLike | None = None, dtype: DTypeLike = np.float64
    ) -> Array:
        """Numbers of the normal distribution (Box and Muller, 1958)."""
        return self._draw(size, dtype, _NORMAL)

    def _draw(self, size: ShapeLike | None, dtype: DTypeLike, kind: int) -> Array:
        cupy = self._random.cupy
        shape = () if size is None else (size,) if isinstance(size, int) else tuple(size)
        name = np.dtype(dtype).name
        result = cupy.empty(shape, dtype)
        count = math.prod(shape)
        if count:
            low, high = np.random.SeedSequence((*self._seed, self._drawn)).generate_state(2)
            self._drawn += 1  # what is drawn next is other numbers
            blocks = -(-count // (_PER_THREAD[name] * _THREADS))
            given = (np.int64(count), self._number, low, high, np.int32(kind), result)
            self._random.kernels[name]((blocks,), (_THREADS,), given)
        return result
