"""Positions in the data: minibatches are cut from there, and checkpoints return there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..graph import GraphError
from ..graph.types import Saved
from .order import Block, Order, Partition
from .streams import INFINITELY_REPEAT

POSITION, SWEEP, SEQUENCE = "minibatchSourcePosition", "sweep", "sequence"


class _Link:
    """A block in a lazily extended linked list of blocks."""

    def __init__(self, block: Block, sweep: int, rest: Iterator[tuple[int, Block]]) -> None:
        self.block, self.sweep, self._rest = block, sweep, rest
        self._next: _Link | None = None

    def following(self) -> _Link:
        if self._next is None:
            sweep, block = next(self._rest)
            self._next = _Link(block, sweep, self._rest)
        return self._next


@dataclass(frozen=True)
class Place:
    """A position in the data.

    Attributes:
        offset: the number of sequences read from the link's block.
        sequence: the number of sequences read in this sweep.
        samples: the number of samples read in all sweeps, including those of other processes.
    """

    link: _Link = field(repr=False)
    offset: int = 0
    sequence: int = 0
    samples: int = 0

    @property
    def state(self) -> dict[str, int]:
        """The state that `Timeline.place` needs to return here."""
        sweep, sequence = self.link.sweep, self.sequence
        if self.is_through and self.link.block.ends_sweep:
            sweep, sequence = sweep + 1, 0
        return {POSITION: self.samples, SWEEP: sweep, SEQUENCE: sequence}

    @property
    def is_through(self) -> bool:
        """Whether the whole block was read."""
        return self.offset == len(self.link.block.lengths)

    def read_to(self, end: int) -> Place:
        """The position after `end` sequences of the block."""
        after = self.link.block.after
        samples = self.samples + int(after[end] - after[self.offset])
        return Place(self.link, end, self.sequence + end - self.offset, samples)

    def following(self) -> Place:
        """The same position, as the start of the next block."""
        sequence = 0 if self.link.block.ends_sweep else self.sequence
        return Place(self.link.following(), 0, sequence, self.samples)


@dataclass
class Cut:
    """Some sequences: their locations and lengths, and the chunks to keep in memory.

    Attributes:
        numbers: the position of each sequence in the data read so far.
    """

    chunks: np.ndarray
    indices: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    end_of_sweep: bool
    ends: bool
    window: frozenset[int]


class Timeline:
    """All sweeps over the data, one after another.

    Args:
        max_samples, max_sweeps: where it ends. The last sequence may extend beyond.
    """

    def __init__(
        self,
        order: Order,
        partition: Partition,
        max_samples: float = INFINITELY_REPEAT,
        max_sweeps: float = INFINITELY_REPEAT,
    ) -> None:
        self._order, self._partition = order, partition
        self._max_samples, self._max_sweeps = max_samples, max_sweeps

    def place(self, state: Saved | None = None) -> Place:
        """The start of the data, or the position of a state."""
        state = state or {}
        if POSITION in state and SWEEP not in state:  # a state of CNTK's: samples in all sweeps
            return self._after(int(state[POSITION]))
        sweep, skipped = int(state.get(SWEEP, 0)), int(state.get(SEQUENCE, 0))
        rest = self._blocks(sweep)
        first = next(rest, None)
        if first is None:
            raise GraphError(
                f"there is no data for part {self._partition.index} of {self._partition.count}"
            )
        place = Place(_Link(first[1], sweep, rest), samples=int(state.get(POSITION, 0)))
        while place.sequence + len(place.link.block.lengths) <= skipped:
            if place.link.block.ends_sweep:
                raise GraphError("the state belongs to other data: its sweep is longer")
            sequence = place.sequence + len(place.link.block.lengths)
            place = replace(place, link=place.link.following(), sequence=sequence)
        return replace(place, offset=skipped - place.sequence, sequence=skipped)

    def _after(self, samples: int) -> Place:
        """The position after this many samples."""
        place = self.place()
        while samples > place.samples + int(place.link.block.after[-1]):
            place = place.read_to(len(place.link.block.lengths)).following()
        after = place.samples + place.link.block.after
        place = place.read_to(int(np.searchsorted(after, samples, "left")))
        if place.samples != samples:
            raise GraphError(
                f"the state belongs to other data: no sequence ends after {samples} samples"
            )
        return place

    def _blocks(self, sweep: int) -> Iterator[tuple[int, Block]]:
        while True:
            found = False
            for block in self._order.blocks(sweep, self._partition):
                found = True
                yield sweep, block
            if not found:
                return
            sweep += 1

    def ended(self, place: Place) -> bool:
        """Whether this is the end of the data."""
        return place.samples >= self._max_samples or place.state[SWEEP] >= self._max_sweeps

    def next_own(self, place: Place) -> Place | None:
        """The position of the next sequence that this process reads; None: there is none."""
        passed = 0
        while not self.ended(place) and passed < 2:
            block, begin = place.link.block, place.offset
            own = np.flatnonzero(block.own[begin:])
            end = begin + int(own[0]) if len(own) else len(block.lengths)
            samples = place.samples + int(block.after[end] - block.after[begin])
            place = Place(place.link, end, place.sequence + end - begin, samples)
            if len(own):
                return place
            passed += block.ends_sweep
            place = place.following()
        return None if passed else place

    def cut(self, place: Place, size: int) -> tuple[Cut, Place]:
        """The next sequences with up to `size` samples, at least one; and the position after them.

        They may come from several sweeps. A process gets none if its part of a sweep is empty.
        """
        parts: list[tuple[np.ndarray, ...]] = []
        room, end_of_sweep, begins_at = size, False, place.samples
        passed = 0  # consecutive ends of sweeps without a sequence
        while room > 0 and passed < 2 and not self.ended(place):
            if place.is_through:
                place = place.following()
            block, begin = place.link.block, place.offset
            end = self._end(place, room, first=not parts)
            if end == begin:
                break
            own = np.flatnonzero(block.own[begin:end]) + begin
            if len(own):
                parts.append((block.chunks[own], block.indices[own], block.lengths[own]))
            room -= int(block.own_after[end] - block.own_after[begin])
            place = place.read_to(end)
            if place.is_through and block.ends_sweep:
                end_of_sweep, passed = True, 0 if parts else passed + 1
        empty = np.empty(0, np.int64)
        chunks, indices, lengths = (
            (np.concatenate(p) for p in zip(*parts, strict=True)) if parts else [empty] * 3
        )
        numbers = begins_at + np.arange(len(chunks))
        window = place.link.block.window
        return Cut(
            chunks, indices, lengths, numbers, end_of_sweep, self.ended(place), window
        ), place

    def _end(self, place: Place, room: int, first: bool) -> int:
        """The end of the sequences of the block that fit."""
        block, begin = place.link.block, place.offset
        own = block.own_after - block.own_after[begin]
        end = int(np.searchsorted(own, room, "right")) - 1
        if own[end] == room:
            end = int(np.searchsorted(own, room, "left"))
        if first and own[end] == 0 and end < len(block.lengths):
            end += 1  # one sequence, even if it is longer than the minibatch
        left = min(self._max_samples - place.samples, 1 << 62)
        before = block.after - block.after[begin]
        return min(end, int(np.searchsorted(before[:-1], left, "left")))
