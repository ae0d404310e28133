"""Packs sequences for the engine: an array if all have the same length, otherwise a list."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..device import cpu
from ..runtime.values import Value
from .base import MinibatchData
from .chunks import Chunk, Frames, Spread
from .streams import StreamInformation
from .timeline import Cut

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def packed(
    cut: Cut, chunks: Mapping[int, Chunk], streams: list[StreamInformation]
) -> dict[StreamInformation, MinibatchData]:
    """The minibatch of all streams."""
    minibatch, spread = {}, Spread(cut.chunks, cut.indices, cut.numbers)
    for stream in streams:
        parts = {number: chunk[stream.name] for number, chunk in chunks.items()}
        frames, lengths = spread.gather(parts)
        value = value_of(frames, lengths, stream)
        count, samples = len(lengths), int(lengths.sum())
        minibatch[stream] = MinibatchData(value, count, samples, cut.end_of_sweep)
    return minibatch


def value_of(
    frames: Frames,
    lengths: np.ndarray,
    stream: StreamInformation,
    continued: list[int | None] | None = None,
) -> Value:
    """The `Value` of sequences from their concatenated frames; see `Value.sources`."""
    if stream.is_sparse:
        return SparseValue(frames, lengths, stream.shape)
    if len(lengths) and (lengths == lengths[0]).all() and continued is None:
        return Value.of_run(frames.reshape(len(lengths), int(lengths[0]), *frames.shape[1:]))
    value = Value.of_run(np.split(frames, np.cumsum(lengths)[:-1]))
    if continued is not None:
        value.continued, value.starts = continued, [c is None for c in continued]
    return value


class SparseValue(Value):
    """Sequences of sparse vectors; they become dense when `content` is read, as the engine does.

    Args:
        frames: a CSR matrix of the concatenated frames of all sequences.
        lengths: the number of frames of each sequence.
        shape: the shape of a frame.
    """

    def __init__(self, frames: Frames, lengths: np.ndarray, shape: tuple[int, ...]) -> None:
        self._frames, self._lengths, self._shape = frames, lengths, shape
        self.is_sparse, self.device = True, cpu()
        self.starts = self.continued = None

    @cached_property
    def content(self) -> np.ndarray | list[np.ndarray]:
        """The dense sequences: one array, or a list of arrays."""
        stream = StreamInformation("", shape=self._shape)
        frames = self._frames.toarray().reshape(-1, *self._shape)
        return value_of(frames, self._lengths, stream).content

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._lengths), int(self._lengths.max(initial=0)), *self._shape)

    @property
    def dtype(self) -> type[np.generic]:
        return self._frames.dtype.type

    def as_sequences(self, variable: object = None) -> list[np.ndarray] | list[csr_matrix]:
        ends = np.cumsum(self._lengths)
        begins = ends - self._lengths
        return [self._frames[a:b] for a, b in zip(begins, ends, strict=True)]

    def __len__(self) -> int:
        return len(self._lengths)
