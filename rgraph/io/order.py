"""The order in which sequences are read: that of the file, or shuffled within windows as in CNTK.

An order gives the blocks of a sweep, one pass over the data. It uses CNTK's random numbers in
CNTK's way, so the same seed gives the same order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .chunks import Deserializer
from .mersenne import Mersenne64


@dataclass(frozen=True)
class Partition:
    """The part of the data that this process reads: `index` of `count`."""

    count: int = 1
    index: int = 0


@dataclass
class Block:
    """Some sequences, in the order in which they are read.

    Attributes:
        chunks, indices: for each sequence its chunk, and its index in the chunk.
        lengths: the number of samples of each.
        own: the number of sequences that this process reads: all, or none.
        window: the chunks that this block and the next ones read from.
        ends_sweep: whether it is the last block of a sweep.
    """

    chunks: np.ndarray
    indices: np.ndarray
    lengths: np.ndarray
    own: np.ndarray
    window: frozenset[int]
    ends_sweep: bool
    after: np.ndarray = field(init=False)  # the number of samples before each sequence, and in all
    own_after: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.after = np.concatenate([[0], np.cumsum(self.lengths)])
        self.own_after = np.concatenate([[0], np.cumsum(self.own)])


class AsTheyStand:
    """The order of the file: one chunk after another."""

    def __init__(self, deserializer: Deserializer) -> None:
        self._data = deserializer
        self._infos = deserializer.chunk_infos()

    def blocks(self, sweep: int, partition: Partition) -> Iterator[Block]:
        """The blocks of one sweep."""
        count = len(self._infos)
        number = 0 if self._data.unread else sweep * sum(i.num_sequences for i in self._infos)
        for chunk in range(count):
            lengths = self._data.lengths(chunk)
            indices = np.arange(len(lengths))
            ours = (number + indices) % partition.count == partition.index
            number += len(lengths)
            window = frozenset({chunk})
            chunks = np.full(len(lengths), chunk)
            own = np.where(ours, lengths, 0)
            yield Block(chunks, indices, lengths, own, window, chunk == count - 1)


class Tumbling:
    """Chunks are shuffled, then sequences within consecutive windows of chunks.

    It needs no lengths of sequences before their chunk is read.
    """

    def __init__(
        self, deserializer: Deserializer, window: int, in_samples: bool, seed: int
    ) -> None:
        self._data, self._window, self._in_samples = deserializer, window, in_samples
        self._seed = seed

    def blocks(self, sweep: int, partition: Partition) -> Iterator[Block]:
        """The blocks of one sweep; windows continue from the previous sweep."""
        count = len(self._data.chunk_infos())
        order = _shuffled(count, Mersenne64(self._seed + sweep))
        ours = [p for p in range(count) if p % partition.count == partition.index]
        start = used = 0
        if not self._in_samples:
            used = sweep * len(ours) % self._window
        for place, position in enumerate(ours):
            last = place == len(ours) - 1
            used += int(self._data.lengths(order[position]).sum()) if self._in_samples else 1
            if last or used >= self._window:
                chunks = [order[p] for p in ours if start <= p <= position]
                yield self._block(chunks, start, sweep, last)
                start, used = position + 1, 0

    def _block(self, chunks: Sequence[int], start: int, sweep: int, last: bool) -> Block:
        lengths = [self._data.lengths(chunk) for chunk in chunks]
        counts = [len(some) for some in lengths]
        places = np.arange(sum(counts))
        drawn = Mersenne64(start + sweep + self._seed).draw(len(places))
        others = (places + drawn % (len(places) - places).astype(np.uint64)).astype(np.int64)
        mixed = array("q", places.tolist())
        for i, j in enumerate(others.tolist()):
            mixed[i], mixed[j] = mixed[j], mixed[i]
        order = np.frombuffer(mixed, np.int64) if len(mixed) else places
        own = np.concatenate(lengths)[order]
        return Block(
            np.repeat(chunks, counts)[order],
            np.concatenate([np.arange(n) for n in counts])[order],
            own,
            own,
            frozenset(chunks),
            last,
        )


class Rolling:
    """Chunks are shuffled, then sequences within a rolling window of chunks."""

    def __init__(
        self, deserializer: Deserializer, window: int, in_samples: bool, seed: int
    ) -> None:
        self._data, self._window, self._in_samples = deserializer, window, in_samples
        self._seed = seed
        self._infos = deserializer.chunk_infos()

    def blocks(self, sweep: int, partition: Partition) -> Iterator[Block]:
        """The blocks of one sweep."""
        seed, count = self._seed + sweep, len(self._infos)
        order = _shuffled(count, Mersenne64(seed))
        windows = self._windows_in_samples(order) if self._in_samples else self._windows()
        first = np.cumsum([0, *(self._infos[c].num_sequences for c in order)])
        mixed = array("q", range(int(first[-1])))
        shuffle = _Shuffle(Mersenne64(seed), mixed, first.tolist(), windows)
        lengths = _Lengths(self._data)
        for position in range(count):
            shuffle.settle(position)
            numbers = np.frombuffer(mixed, np.int64)[first[position] : first[position + 1]].copy()
            places = np.searchsorted(first, numbers, "right") - 1
            chunks, indices = np.array(order)[places], numbers - first[places]
            begin, end = windows[position]
            window = frozenset(order[begin:end])
            sizes = lengths.of(chunks, indices, window)
            own = np.where(places % partition.count == partition.index, sizes, 0)
            yield Block(chunks, indices, sizes, own, window, position == count - 1)

    def _windows(self) -> list[tuple[int, int]]:
        """For each position of a chunk, the range of positions that its sequences may come from."""
        count, size = len(self._infos), self._window or 1
        begins = [min(max(i - size // 2, 0), max(count - size, 0)) for i in range(count)]
        return [(begin, min(begin + size, count)) for begin in begins]

    def _windows_in_samples(self, order: Sequence[int]) -> list[tuple[int, int]]:
        half, count = self._window // 2, len(order)
        starts = np.cumsum([0, *(self._infos[c].num_samples for c in order)]).tolist()
        windows, begin, end = [], 0, 1
        for i in range(count):
            while starts[i] - starts[begin] > half:
                begin += 1
            begin, end = min(begin, i), max(end, i + 1)
            while end < count and starts[end + 1] - starts[i] < half:
                end += 1
            windows.append((begin, end))
        return windows


class _Shuffle:
    """Swaps sequences so that none leaves the window of its chunk."""

    def __init__(
        self, random: Mersenne64, mixed: array, first: list[int], windows: list[tuple[int, int]]
    ) -> None:
        self._random, self._mixed, self._first, self._windows = random, mixed, first, windows
        self._done = 0  # positions of chunks below this one are settled

    def settle(self, position: int) -> None:
        """Swaps all sequences that can still reach the chunk at this position."""
        windows, count = self._windows, len(self._windows)
        end = windows[position][1]
        while end < count and windows[end][0] <= position:
            end += 1
        for place in range(self._done, end):
            self._swap(place)
        self._done = max(self._done, end)

    def _swap(self, place: int) -> None:
        mixed, first, windows = self._mixed, self._first, self._windows
        begin, end = windows[place]
        low, high = first[begin], first[end]
        free = begin == 0 and end == len(windows) and windows[0] == windows[-1] == (begin, end)
        if free:
            count = first[place + 1] - first[place]
            others = (self._random.draw(count) % np.uint64(high - low)).astype(np.int64) + low
            for t, j in zip(range(first[place], first[place + 1]), others.tolist(), strict=True):
                mixed[t], mixed[j] = mixed[j], mixed[t]
            return
        for t in range(first[place], first[place + 1]):
            here = mixed[t]
            home = bisect_right(first, here) - 1
            while True:
                j = low + int(self._random.draw(1)[0]) % (high - low)
                at, there = bisect_right(first, j) - 1, mixed[j]
                if not begin <= bisect_right(first, there) - 1 < end:
                    continue
                if windows[at][0] <= home < windows[at][1]:
                    break
            mixed[t], mixed[j] = there, here


class _Lengths:
    """The lengths of sequences in a window, each chunk read once."""

    def __init__(self, data: Deserializer) -> None:
        self._data = data
        self._known: dict[int, np.ndarray] = {}

    def of(self, chunks: np.ndarray, indices: np.ndarray, window: frozenset[int]) -> np.ndarray:
        """The length of each sequence; chunks that have left the window are dropped."""
        self._known = {c: some for c, some in self._known.items() if c in window}
        sizes = np.empty(len(chunks), np.int64)
        for chunk in np.unique(chunks).tolist():
            if chunk not in self._known:
                self._known[chunk] = self._data.lengths(chunk)
            here = chunks == chunk
            sizes[here] = self._known[chunk][indices[here]]
        return sizes


def _shuffled(count: int, random: Mersenne64) -> list[int]:
    order = list(range(count))
    others = (random.draw(count) % np.uint64(count)).tolist()
    for i, j in enumerate(others):
        order[i], order[j] = order[j], order[i]
    return order


Order = AsTheyStand | Tumbling | Rolling
