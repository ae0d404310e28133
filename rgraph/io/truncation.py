"""Truncated backpropagation: sequences cut into pieces that continue in the next minibatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..graph import GraphError
from ..graph.types import Saved
from .background import Chunks
from .base import MinibatchData
from .order import Partition
from .packing import value_of
from .streams import StreamInformation
from .timeline import Cut, Place, Timeline


@dataclass(frozen=True)
class Started:
    """A sequence that is being read piece by piece."""

    state: Mapping[str, int]  # the position before it
    chunk: int
    index: int
    length: int
    end_of_sweep: bool
    given: int = 0
    piece: int = -1  # the number of its piece in the previous minibatch

    @property
    def progress(self) -> dict[str, object]:
        """The state to resume it from."""
        return {"state": dict(self.state), "given": self.given, "piece": self.piece}


@dataclass(frozen=True)
class Rows:
    """A position: the current sequences of each row, and the position after all of them."""

    place: Place
    slots: tuple[tuple[Started, ...], ...] = ()

    @property
    def state(self) -> dict[str, object]:
        """The state that `Slots.place` needs to return here."""
        slots = [[s.progress for s in row] for row in self.slots]
        return {**self.place.state, "slots": slots}


class Slots:
    """The rows of a minibatch; each reads its sequences in pieces of equal length."""

    def __init__(self, timeline: Timeline, length: int, partition: Partition) -> None:
        self._timeline, self._length, self._partition = timeline, length, partition

    def place(self, state: Saved) -> Rows:
        """The start of the data, or the position of a state."""
        slots = []
        for row in state.get("slots", ()):
            sequences = []
            for one in row:
                taken = self._next(self._timeline.place(one["state"]))
                assert taken is not None
                given, piece = int(one["given"]), int(one["piece"])
                sequences.append(replace(taken[0], given=given, piece=piece))

            slots.append(tuple(sequences))
        return Rows(self._timeline.place(state), tuple(slots))

    def read(
        self, rows: Rows, size: int, chunks: Chunks, streams: list[StreamInformation]
    ) -> tuple[dict[StreamInformation, MinibatchData], Rows, bool]:
        """The next minibatch, the position after it, and whether it is the last."""
        rows = self._filled(rows, size)
        pieces, left, ends_sweep = [], [], False
        for slot in rows.slots:
            room, rest = self._length, list(slot)
            while room and rest:
                one = rest[0]
                count = min(room, one.length - one.given)
                pieces.append((one, one.given, count))
                room -= count
                if one.given + count == one.length:
                    ends_sweep |= one.end_of_sweep
                    rest.pop(0)
                else:
                    number = len(pieces) - 1
                    rest[0] = replace(one, given=one.given + count, piece=number)
            left.append(tuple(rest))
        after = Rows(rows.place, tuple(left))
        ends = not any(left) and self._timeline.ended(rows.place)
        if not pieces:
            return {}, after, True
        window = rows.place.link.block.window | {one.chunk for row in left for one in row}
        found = chunks.get({one.chunk for one, _, _ in pieces}, window)
        minibatch = {}
        pieces_go_on = [one.piece if begin else None for one, begin, _ in pieces]
        for stream in streams:
            frames = []
            for one, begin, count in pieces:
                part = found[one.chunk][stream.name]
                whole, lengths = part.take(np.array([one.index]), np.zeros(1, np.int64))
                if int(lengths[0]) != one.length:
                    raise GraphError(
                        f"stream '{stream.name}' has a sequence of {int(lengths[0])} frames "
                        "next to "
                        f"one of {one.length}; with truncation_length all streams must have the "
                        "same length"
                    )
                some = whole[begin : begin + count]
                frames.append(some.toarray() if stream.is_sparse else some)
            sizes = np.array([count for *_, count in pieces])
            dense = replace(stream, storage_format="dense")
            value = value_of(np.concatenate(frames), sizes, dense, pieces_go_on)
            minibatch[stream] = MinibatchData(value, len(pieces), int(sizes.sum()), ends_sweep)
        return minibatch, after, ends

    def _filled(self, rows: Rows, size: int) -> Rows:
        """Fills each row with sequences for a whole piece, until the data ends."""
        count = max(1, size // self._length)
        own = count // self._partition.count + (
            self._partition.index < count % self._partition.count
        )
        if not own:
            raise GraphError(
                f"{self._partition.count} parts are too many for minibatches of {count} sequences"
            )
        slots = list(rows.slots) + [()] * (own - len(rows.slots))
        place = rows.place
        for i, slot in enumerate(slots[:own]):
            while sum(s.length - s.given for s in slot) <= self._length:  # one more, as in CNTK
                taken = self._next(place)
                if taken is None:
                    break
                slot = (*slot, taken[0])
                place = taken[1]
            slots[i] = slot
        return Rows(place, tuple(slots))

    def _next(self, place: Place) -> tuple[Started, Place] | None:
        cut: Cut
        cut, after = self._timeline.cut(place, 1)
        if not len(cut.chunks):
            return None
        chunk, index, length = int(cut.chunks[0]), int(cut.indices[0]), int(cut.lengths[0])
        return Started(place.state, chunk, index, length, cut.end_of_sweep), after
