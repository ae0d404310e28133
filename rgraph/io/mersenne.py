"""The random numbers of CNTK's readers, so that the same seed gives the same order."""

from __future__ import annotations

import numpy as np

_SIZE, _HALF = 312, 156
_MASK = (1 << 64) - 1
_UPPER, _LOWER = np.uint64(0xFFFFFFFF80000000), np.uint64(0x7FFFFFFF)
_TWIST = np.uint64(0xB5026F5AA96619E9)


class Mersenne64:
    """The 64-bit Mersenne Twister; NumPy only has the 32-bit version.

    Source: T. Nishimura, "Tables of 64-bit Mersenne Twisters", 2000; C++'s `std::mt19937_64`.
    """

    def __init__(self, seed: int) -> None:
        state = [seed & _MASK]
        for i in range(1, _SIZE):
            last = state[-1]
            state.append((6364136223846793005 * (last ^ (last >> 62)) + i) & _MASK)
        self._state = np.array(state, np.uint64)
        self._left = np.empty(0, np.uint64)

    def draw(self, count: int) -> np.ndarray:
        """The next `count` numbers."""
        parts = [self._left]
        missing = count - len(self._left)
        while missing > 0:
            parts.append(self._block())
            missing -= _SIZE
        drawn = np.concatenate(parts)
        self._left = drawn[count:]
        return drawn[:count]

    def _block(self) -> np.ndarray:
        state = self._state
        old = state.copy()
        following = np.append(old[1:], np.uint64(0))
        mixed = (old & _UPPER) | (following & _LOWER)
        twisted = (mixed >> np.uint64(1)) ^ np.where(mixed & np.uint64(1), _TWIST, np.uint64(0))
        state[:_HALF] = old[_HALF:] ^ twisted[:_HALF]
        state[_HALF:-1] = state[: _HALF - 1] ^ twisted[_HALF:-1]
        last = (old[-1] & _UPPER) | (state[0] & _LOWER)
        state[-1] = state[_HALF - 1] ^ (last >> np.uint64(1)) ^ (_TWIST * (last & np.uint64(1)))
        y = state.copy()
        y ^= (y >> np.uint64(29)) & np.uint64(0x5555555555555555)
        y ^= (y << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000)
        y ^= (y << np.uint64(37)) & np.uint64(0xFFF7EEE000000000)
        return y ^ (y >> np.uint64(43))
