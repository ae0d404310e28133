"""User-written deserializers: a class that returns chunks of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import GraphError
from ..graph.types import Data
from ..internal import Record
from ..runtime.arrays import is_sparse
from .chunks import Chunk, ChunkInfo, Deserializer, Frames, Part, joined_rows
from .streams import StreamInformation


class UserDeserializer:
    """The base class of user-written deserializers: define its three methods.

    `MinibatchSource` shuffles the sequences and cuts minibatches from them. It reads ahead:
    `get_chunk` is called in a background thread.

    Source: CNTK's `UserDeserializer`.

    >>> class Numbers(C.io.UserDeserializer):
    ...     def stream_infos(self):
    ...         return [C.io.StreamInformation("x", 0, "dense", np.float32, (1,))]
    ...     def num_chunks(self):
    ...         return 2
    ...     def get_chunk(self, chunk_id):
    ...         return {"x": np.arange(3, dtype=np.float32).reshape(3, 1) + 10 * chunk_id}
    >>> source = C.io.MinibatchSource(Numbers(), randomize=False, max_sweeps=1)
    >>> source.next_minibatch(5)[source.streams.x].asarray().ravel()
    array([ 0.,  1.,  2., 10., 11.], dtype=float32)
    """

    @property
    def streams(self) -> Record:
        """The streams by name."""
        return Record(**{s.name: s for s in self.stream_infos()})

    def stream_infos(self) -> list[StreamInformation]:
        """Name, shape and type of each stream."""
        raise NotImplementedError

    def num_chunks(self) -> int:
        """The number of chunks."""
        raise NotImplementedError

    def get_chunk(self, chunk_id: int) -> Mapping[str, Data]:
        """The data of a chunk, as a dict from stream names: an array (N, *shape) or a CSR matrix
        of samples, or a list of these with one item for each sequence."""
        raise NotImplementedError

    def chunk_infos(self) -> list[int]:
        """The numbers of the chunks."""
        return list(range(self.num_chunks()))


class Adapted(Deserializer):
    """Adapts a `UserDeserializer`; the lengths of sequences are known once a chunk is read."""

    reads_alone = unread = True

    def __init__(self, given: UserDeserializer) -> None:
        self._given = given
        self._streams = list(given.stream_infos())
        if not self._streams:
            raise GraphError(f"{type(given).__name__}.stream_infos() returns no stream")
        if sum(s.defines_mb_size for s in self._streams) > 1:
            raise GraphError("only one stream can define the size of a minibatch")
        count = given.num_chunks()
        if count < 1:
            raise GraphError(
                f"{type(given).__name__}.num_chunks() returns {count}: there is no data"
            )
        self._infos = [ChunkInfo(0, 0)] * count
        self._read: dict[int, Chunk] = {}  # chunks whose lengths were needed first

    def stream_infos(self) -> list[StreamInformation]:
        return self._streams

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return self._infos

    def lengths(self, chunk_id: int) -> np.ndarray:
        if chunk_id not in self._read:
            self._read[chunk_id] = self._parts(chunk_id)
        parts = self._read[chunk_id]
        definers = [s for s in self._streams if s.defines_mb_size] or self._streams
        every = [_lengths(parts[s.name]) for s in definers]
        return np.asarray(np.max(every, 0))

    def get_chunk(self, chunk_id: int) -> Chunk:
        found = self._read.pop(chunk_id, None)
        return self._parts(chunk_id) if found is None else found

    def _parts(self, chunk_id: int) -> Chunk:
        data, name = self._given.get_chunk(chunk_id), type(self._given).__name__
        missing = [s.name for s in self._streams if s.name not in data]
        if missing:
            raise GraphError(f"{name}.get_chunk({chunk_id}) returns no stream '{missing[0]}'")
        parts = {s.name: _part(data[s.name], s) for s in self._streams}
        counts = {s: len(_lengths(part)) for s, part in parts.items()}
        if len(set(counts.values())) > 1:
            raise GraphError(
                f"{name}.get_chunk({chunk_id}) returns different numbers of sequences: {counts}"
            )
        return parts


def _part(data: Data, stream: StreamInformation) -> Part:
    if not isinstance(data, (list, tuple)):
        return Part(_frames(data, stream))
    if not data:
        raise GraphError(f"stream '{stream.name}': a chunk has no sequence")
    sequences = [_sequence(one, stream) for one in data]
    starts = np.cumsum([0, *(one.shape[0] for one in sequences)])
    return Part(joined_rows(sequences), starts)


def _sequence(data: Data, stream: StreamInformation) -> Frames:
    """The frames of a sequence, see `_frames`; an array of a sample's shape is one frame."""
    single = not is_sparse(data) and np.shape(data) == stream.shape
    return _frames(np.asarray(data)[None] if single else data, stream)


def _frames(data: Data, stream: StreamInformation) -> Frames:
    """The data as (frames, *shape), or as a CSR matrix with a row for each frame."""
    if stream.is_sparse != is_sparse(data):
        kind = "dense" if stream.is_sparse else "sparse"
        raise GraphError(
            f"stream '{stream.name}' is {stream.storage_format}, but a chunk is {kind}"
        )
    size = int(np.prod(stream.shape, dtype=int))
    if stream.is_sparse:
        if data.shape[1] != size:
            raise GraphError(
                f"stream '{stream.name}' has {size} values per sample, got {data.shape[1]}"
            )
        return data.tocsr().astype(stream.dtype)
    array = np.asarray(data, stream.dtype)
    if array.shape[1:] == stream.shape:
        return array
    if array.shape == stream.shape or size and array.size % size:
        shape = array.shape
        raise GraphError(f"stream '{stream.name}' has shape {stream.shape}, got {shape}")
    return array.reshape(-1, *stream.shape)


def _lengths(part: Part) -> np.ndarray:
    if part.starts is None:
        return np.ones(part.frames.shape[0], np.int64)
    return np.diff(part.starts)
