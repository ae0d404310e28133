"""How the frames of a minibatch of sequences lie in memory: packed rows, no padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from .types import Array


class Layout:
    """Sequences sorted by length, longest first, in time-major order.

    The frames of step t are the rows `offsets[t] : offsets[t] + counts[t]`, and the sequences with
    a frame at step t are the first `counts[t]` of that order.

    Args:
        lengths: the length of each sequence, in the minibatch's order.
        batch_order: the order of rows in values that have only a batch axis, as indices of
            sequences in the minibatch. By default this layout's own order.
    """

    def __init__(
        self, lengths: Sequence[int] | np.ndarray, batch_order: np.ndarray | None = None
    ) -> None:
        self.given = np.asarray(lengths, np.intp)
        self.order = np.argsort(-self.given, kind="stable")
        self.lengths = self.given[self.order]
        self.steps = int(self.lengths[0]) if len(self.lengths) else 0
        ends = np.bincount(self.lengths, minlength=self.steps + 1)
        self.counts = (len(self.given) - np.cumsum(ends))[: self.steps].tolist()
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.intp)
        self.offsets = self.starts.tolist()
        self.rows = self.offsets[-1]
        self.batch_order = self.order if batch_order is None else batch_order

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.given)

    @cached_property
    def batch_rows(self) -> np.ndarray:
        """For each sequence, longest first: its row in values that have only a batch axis."""
        inverse = np.empty(len(self), np.intp)
        inverse[self.batch_order] = np.arange(len(self))
        return inverse[self.order]

    @cached_property
    def sorted_rows(self) -> np.ndarray:
        """For each row of values that have only a batch axis: its sequence, longest first."""
        return np.argsort(self.batch_rows)

    @cached_property
    def sorted_as_batch(self) -> bool:
        return bool(np.array_equal(self.batch_rows, np.arange(len(self))))

    @cached_property
    def sequence_of_row(self) -> np.ndarray:
        """For each frame: the number of its sequence, longest first."""
        return np.arange(self.rows) - np.repeat(self.starts[:-1], self.counts)

    @cached_property
    def step_of_row(self) -> np.ndarray:
        return np.repeat(np.arange(self.steps), self.counts)

    @cached_property
    def length_of_row(self) -> np.ndarray:
        """For each frame: the length of its sequence."""
        return self.lengths[self.sequence_of_row]

    @cached_property
    def mirrored_row(self) -> np.ndarray:
        """For each frame: the row of the frame at the same distance from the other end of its
        sequence."""
        return self.row(self.sequence_of_row, self.length_of_row - 1 - self.step_of_row)

    @cached_property
    def batch_row_of_row(self) -> np.ndarray:
        """For each frame: its sequence's row in values that have only a batch axis."""
        return self.batch_rows[self.sequence_of_row]

    @cached_property
    def last_row(self) -> np.ndarray:
        """For each sequence, longest first: the row of its last frame."""
        return self.starts[self.lengths - 1] + np.arange(len(self))

    def row(self, sequence: np.ndarray, step: np.ndarray) -> np.ndarray:
        """The rows of these steps of these sequences (longest first)."""
        return self.starts[step] + sequence

    @cached_property
    def rows_of_sequences(self) -> list[np.ndarray]:
        """For each sequence, in the minibatch's order: the rows of its frames."""
        place = np.argsort(self.order)
        return [self.starts[: self.given[i]] + place[i] for i in range(len(self))]

    def pack(self, sequences: Sequence[np.ndarray], out: np.ndarray) -> np.ndarray:
        """Write the sequences (in the minibatch's order) into the rows of `out`."""
        for place, frames in zip(self._places, sequences, strict=True):
            out[place] = frames
        return out

    def unpack(self, rows: Array) -> list[Array]:
        """The sequences, in the minibatch's order: views of the rows if all have the same length,
        otherwise of a single copy of them.
        """
        if self.is_ragged:
            return self.split(rows[self.rows_in_order])
        return [rows[place] for place in self._places]

    def split(self, frames: Array) -> list[Array]:
        """The sequences, as views of their concatenated frames."""
        ends = np.cumsum(self.given).tolist()
        return [frames[end - n : end] for end, n in zip(ends, self.given.tolist(), strict=True)]

    @cached_property
    def is_ragged(self) -> bool:
        """Whether the sequences have different lengths, or there are none."""
        return not len(self) or bool(self.lengths[-1] != self.steps)

    @cached_property
    def rows_in_order(self) -> np.ndarray:
        """The row of each frame, for the sequences one after the other."""
        return np.concatenate(self.rows_of_sequences or [np.empty(0, np.intp)])

    @cached_property
    def places_in_order(self) -> np.ndarray:
        """For each row: the position of its frame among the concatenated sequences."""
        return np.argsort(self.rows_in_order)

    @cached_property
    def _places(self) -> Sequence[slice | np.ndarray]:
        """The rows of each sequence's frames, in the minibatch's order."""
        if self.is_ragged:
            return self.rows_of_sequences
        return [slice(i, None, len(self)) for i in np.argsort(self.order).tolist()]


@lru_cache(maxsize=64)
def layout_of(lengths: tuple[int, ...], batch_order: tuple[int, ...] | None = None) -> Layout:
    """A cached layout for recurring lengths; it must not be changed."""
    return Layout(lengths, None if batch_order is None else np.array(batch_order, np.intp))
