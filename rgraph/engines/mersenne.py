"""The random numbers that CNTK draws on a CPU for a seed, to the last bit.

They are made of the Mersenne twister's words of 64 bits (Matsumoto and Nishimura, 1998; C++'s
`mt19937_64`): uniform ones, and by Boost's ziggurat (Marsaglia and Tsang, 2000) normal ones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache

import numpy as np

from ..graph.types import Array, DTypeLike, ShapeLike

_SIZE, _MIDDLE = 312, 156  # numbers of the state, and how far apart those are that are combined
_BLOCK = 1 << 16  # numbers that are made at once
_REMEMBERED = 64  # ends of runs
_WIDEST, _TAIL = 3.7130862467403632609, 3.4426198558966521214  # of the ziggurat's layers
_MASK = (1 << 64) - 1
_word = np.uint64


class Mersenne:
    """A source of numbers, with the methods of NumPy's generators that initial values need."""

    def __init__(self, seed: int) -> None:
        words = [seed & _MASK]
        for i in range(1, _SIZE):
            words.append((6364136223846793005 * (words[-1] ^ words[-1] >> 62) + i) & _MASK)
        self._state = np.array(words, _word)
        self._ready = np.empty(0, _word)

    def uniform(self, low: float, high: float, shape: ShapeLike) -> np.ndarray:
        """From `low` to `high`."""
        values = np.empty(shape)
        flat = values.reshape(-1)
        for begin in range(0, flat.size, _BLOCK):
            part = flat[begin : begin + _BLOCK]
            part[:] = self._words(part.size)
            part *= 2.0**-64
        values *= high - low
        values += low
        return values

    def normal(self, mean: float, deviation: float, shape: ShapeLike) -> np.ndarray:
        return self.standard_normal(shape) * deviation + mean

    def standard_normal(self, shape: ShapeLike) -> np.ndarray:
        count = math.prod(np.atleast_1d(shape))
        parts, missing = [np.empty(0)], count
        while missing > 0:
            parts.append(self._normals(min(missing, _BLOCK)))
            missing -= len(parts[-1])
        return np.concatenate(parts)[:count].reshape(shape)

    def _words(self, count: int) -> np.ndarray:
        """The next numbers of 64 bits."""
        while len(self._ready) < count:
            more = min(count - len(self._ready), _BLOCK)
            self._ready = np.concatenate([self._ready, self._made(more)])
        words, self._ready = self._ready[:count], self._ready[count:]
        return words

    def _made(self, count: int) -> np.ndarray:
        words = np.empty(-(-count // _SIZE) * _SIZE, _word)
        _twister()(self._state, words)
        return words

    def _normals(self, count: int) -> np.ndarray:
        """Normal values out of the next numbers: nearly as many as these."""
        words = self._words(count)
        layer, sign = (words >> _word(1) & _word(127)).astype(int), (words & _word(1)) * 2.0 - 1
        x = (words >> _word(8)) * 2.0**-56 * _EDGES[layer]
        values, used = x * sign, list[int]()
        edges = np.flatnonzero(x >= _EDGES[layer + 1])  # one in a hundred
        is_below = _below(x[edges], layer[edges], words.take(edges + 1, mode="clip"))
        after = 0
        for place, below in zip(edges.tolist(), is_below.tolist(), strict=True):
            if place < after:
                continue  # it was part of a value before
            after = place + 2
            if not layer[place] or after > count:
                found, taken = self._at_edge(float(x[place]), int(layer[place]), words[place + 1 :])
                below, after = found is not None, place + 1 + taken
                values[place] = (found or 0) * sign[place]
            used += range(place + below, min(after, count))
        return np.delete(values, used)

    def _at_edge(self, x: float, layer: int, words: np.ndarray) -> tuple[float | None, int]:
        """The value that comes of a number which is not all below the curve, None if it is of no
        use; and how many of the words after it were taken."""
        taken = 0

        def one() -> np.uint64:
            nonlocal taken
            word = words[taken] if taken < len(words) else self._words(1)[0]
            taken += 1
            return word

        if layer:
            return (x if _below(x, layer, one()) else None), taken
        while True:
            x = -math.log1p(-float(one()) * 2.0**-64) / _TAIL
            y = -math.log1p(-float(one()) * 2.0**-64)
            if 2 * y > x * x:
                return x + _TAIL, taken


class Series:
    """What CNTK's random operations draw in the n-th run, if all runs draw as many numbers.

    Args:
        turn: of the run; the first is 1.
    """

    def __init__(self, seed: int, turn: int) -> None:
        self._seed, self._before = seed, turn - 1

    def random(self, shape: ShapeLike, dtype: DTypeLike = float) -> np.ndarray:
        return self._next(_uniform, shape).astype(dtype, copy=False)

    def standard_normal(self, shape: ShapeLike, dtype: DTypeLike = float) -> np.ndarray:
        return self._next(Mersenne.standard_normal, shape).astype(dtype, copy=False)

    def _next(self, draw: _Draw, shape: ShapeLike) -> np.ndarray:
        count = math.prod(np.atleast_1d(shape))
        numbers = _after(self._seed, draw, count * self._before)
        values = draw(numbers, shape)
        _remember((self._seed, draw, count * (self._before + 1)), numbers)
        return values


def _uniform(numbers: Mersenne, shape: ShapeLike) -> np.ndarray:
    return numbers.uniform(0.0, 1.0, shape)


_Draw = Callable[[Mersenne, ShapeLike], np.ndarray]
_Place = tuple[int, _Draw, int]  # seed, what is drawn, how often
_known: dict[_Place, Mersenne] = {}  # where runs ended, the latest last


def _after(seed: int, draw: _Draw, count: int) -> Mersenne:
    """The source of a seed after so many draws: remembered, or made anew."""
    found = _known.get((seed, draw, count))
    if found is not None:
        return copy.deepcopy(found)
    numbers = Mersenne(seed)
    while count > 0:
        count -= draw(numbers, min(count, _BLOCK)).size
    return numbers


def _remember(place: _Place, numbers: Mersenne) -> None:
    _known[place] = numbers
    for old in list(_known)[:-_REMEMBERED]:
        _known.pop(old, None)


def _below(x: float | np.ndarray, layer: int | np.ndarray, word: np.uint64 | np.ndarray) -> Array:
    """Whether a point of the layer, at a height that the word says, is below the curve."""
    low, high = _HEIGHTS[layer], _HEIGHTS[layer + 1]
    return low + word * 2.0**-64 * (high - low) < np.exp(-x * x / 2)


@cache
def _twister() -> Callable[[np.ndarray, np.ndarray], None]:
    """What fills an array with the next words, and changes the state: C, or NumPy without it."""
    from .native.library import NativeError, load

    try:
        in_c: Callable[[np.ndarray, np.ndarray], None] = load().mersenne
        return in_c
    except NativeError:
        return twist


def twist(state: np.ndarray, words: np.ndarray) -> None:
    """Fills `words`, of which there are a multiple of the state's 312, and changes the state."""
    x = np.concatenate([state, words])
    upper, odd = np.empty(_MIDDLE, _word), np.empty(_MIDDLE, _word)
    for new in range(_SIZE, len(x), _MIDDLE):  # of which each is made of three before it
        old = new - _SIZE
        np.bitwise_and(x[old : old + _MIDDLE], _word(0xFFFFFFFF80000000), upper)
        np.bitwise_and(x[old + 1 : old + 1 + _MIDDLE], _word(0x7FFFFFFF), odd)
        np.bitwise_or(upper, odd, upper)
        np.bitwise_and(upper, _word(1), odd)
        np.multiply(odd, _word(0xB5026F5AA96619E9), odd)
        np.right_shift(upper, _word(1), upper)
        np.bitwise_xor(upper, odd, upper)
        np.bitwise_xor(upper, x[new - _MIDDLE : new], x[new : new + _MIDDLE])
    state[:], words[:] = x[-_SIZE:], x[_SIZE:]
    words ^= words >> _word(29) & _word(0x5555555555555555)
    words ^= words << _word(17) & _word(0x71D67FFFEDA60000)
    words ^= words << _word(37) & _word(0xFFF7EEE000000000)
    words ^= words >> _word(43)


def _ziggurat() -> np.ndarray:
    """The right edges of the layers, which are of the same area."""
    edges = [_WIDEST, _TAIL]
    area = _WIDEST * math.exp(-_TAIL * _TAIL / 2)
    while len(edges) < 128:
        edges.append(math.sqrt(-2 * math.log(area / edges[-1] + math.exp(-(edges[-1] ** 2) / 2))))
    return np.array([*edges, 0.0])


_EDGES = _ziggurat()
_HEIGHTS = np.exp(-_EDGES * _EDGES / 2)
