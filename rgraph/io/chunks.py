"""Data in chunks: what deserializers give, and what all of the reading is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import GraphError
from .streams import StreamInformation


@dataclass(frozen=True)
class ChunkInfo:
    """What is known of a chunk before it is read.

    Attributes:
        num_sequences: how many sequences it has; samples are sequences of one frame.
        num_samples: how many samples these have, by which the size of minibatches is counted.
    """

    num_sequences: int
    num_samples: int


class Part:
    """A stream's sequences in a chunk, one behind the other.

    Args:
        frames: an array (frames, *shape), or a CSR matrix (frames, size).
        starts: where each sequence begins, and where the last ends; None: each has one frame.
    """

    def __init__(self, frames: Any, starts: np.ndarray | None = None) -> None:
        self.frames, self.starts = frames, starts

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Any, np.ndarray]:
        """The frames of these sequences, and how many frames each has.

        Args:
            numbers: of each the number in all that is read, from which what is random follows.
        """
        if self.starts is None:
            return _rows(self.frames, indices), np.ones(len(indices), np.int64)
        begins = self.starts[indices]
        lengths = self.starts[indices + 1] - begins
        return _rows(self.frames, ranges(begins, lengths)), lengths


def _rows(frames: Any, rows: np.ndarray) -> Any:
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return frames[rows[0] : rows[-1] + 1]
    return frames[rows]


def ranges(begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """begins[0], begins[0] + 1, … for each length, joined."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(begins - before, lengths) + np.arange(int(lengths.sum()))


Chunk = Mapping[str, Part]


class Deserializer:
    """What gives the data of a file in chunks. All that is known beforehand comes from an index."""

    reads_alone = False  # whether it can't be combined with other deserializers
    is_secondary = False  # whether it can't be read alone, or as the first of several
    is_repeated = False  # whether its only frame stands for all of another one's sequence
    is_speech = False  # whether frame_mode takes its sequences apart
    unread = False  # whether the lengths of sequences are known only when their chunk is read

    def stream_infos(self) -> list[StreamInformation]:
        """The streams that it gives."""
        raise NotImplementedError

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        """How many chunks there are, and how large."""
        raise NotImplementedError

    def lengths(self, chunk_id: int) -> np.ndarray:
        """How many samples each sequence of a chunk has."""
        raise NotImplementedError

    def keys(self, chunk_id: int) -> Sequence[Any]:
        """What names each sequence of a chunk, for others that have more streams of the same."""
        raise NotImplementedError

    def get_chunk(self, chunk_id: int) -> Chunk:
        """The parts of a chunk by the streams' names. Called by several threads."""
        raise NotImplementedError


class Bundle(Deserializer):
    """Several deserializers, whose sequences of the same key are one.

    The first has the order and the chunks. What the others lack of it is left out.
    """

    def __init__(self, members: Sequence[Deserializer]) -> None:
        self._members = members
        self.is_speech = all(m.is_speech for m in members)
        self._infos: list[ChunkInfo] = []
        self._found: list[list[np.ndarray]] = []  # by chunk and member: chunk and index, by row
        self._lengths: list[np.ndarray] = []
        self._chunks: list[int] = []  # those of the first that have sequences
        names = [s.name for m in members for s in m.stream_infos()]
        if len(set(names)) < len(names):
            raise GraphError(f"two streams have the same name: {', '.join(sorted(names))}")
        self._join()

    def _join(self) -> None:
        first, *others = self._members
        definers = [m for m in self._members if any(s.defines_mb_size for s in m.stream_infos())]
        if len(definers) > 1:
            raise GraphError("only one stream can define the size of a minibatch")
        tables = [_places(m) for m in others]
        for chunk in range(len(first.chunk_infos())):
            keys = first.keys(chunk)
            rows = [i for i, k in enumerate(keys) if all(k in t for t in tables)]
            if not rows:
                continue
            places = [np.array([(chunk, i) for i in rows], np.int64)]
            places += [np.array([t[keys[i]] for i in rows], np.int64) for t in tables]
            counted = [_lengths_at(m, p) for m, p in zip(self._members, places, strict=True)]
            by_member = dict(zip(map(id, self._members), counted, strict=True))
            lengths = by_member[id(definers[0])] if definers else np.max(counted, 0)
            self._found.append(places)
            self._lengths.append(lengths)
            self._infos.append(ChunkInfo(len(rows), int(lengths.sum())))
        if not self._infos:
            raise GraphError(
                "no sequence is in all of the deserializers' files",
                hint="those that belong together have the same number in front, in each file",
            )

    def stream_infos(self) -> list[StreamInformation]:
        return [s for m in self._members for s in m.stream_infos()]

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return self._infos

    def lengths(self, chunk_id: int) -> np.ndarray:
        return self._lengths[chunk_id]

    def get_chunk(self, chunk_id: int) -> Chunk:
        parts: dict[str, Part] = {}
        for member, places in zip(self._members, self._found[chunk_id], strict=True):
            chunks = {int(c): member.get_chunk(int(c)) for c in np.unique(places[:, 0])}
            for info in member.stream_infos():
                frames = {c: chunk[info.name] for c, chunk in chunks.items()}
                part: Part = Places(frames, places)
                if member.is_repeated:
                    part = Repeated(part, self._lengths[chunk_id])
                parts[info.name] = part
        return parts


class Places(Part):
    """Sequences that lie in several parts: rows of the part's number and the place in it."""

    def __init__(self, parts: Mapping[int, Part], places: np.ndarray) -> None:
        self._parts, self._places = parts, places

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Any, np.ndarray]:
        wanted = self._places[indices]
        return Spread(wanted[:, 0], wanted[:, 1], numbers).gather(self._parts)


class SingleFrames(Deserializer):
    """Each frame of another deserializer's sequences as a sequence of its own."""

    def __init__(self, whole: Deserializer) -> None:
        self._whole = whole

    def stream_infos(self) -> list[StreamInformation]:
        return self._whole.stream_infos()

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return [ChunkInfo(c.num_samples, c.num_samples) for c in self._whole.chunk_infos()]

    def lengths(self, chunk_id: int) -> np.ndarray:
        return np.ones(self._whole.chunk_infos()[chunk_id].num_samples, np.int64)

    def get_chunk(self, chunk_id: int) -> Chunk:
        wanted = self._whole.lengths(chunk_id)
        every, parts = np.arange(len(wanted)), {}
        for name, part in self._whole.get_chunk(chunk_id).items():
            frames, lengths = part.take(every, every)
            if (lengths != wanted).any():
                i = int(np.flatnonzero(lengths != wanted)[0])
                raise GraphError(
                    f"stream '{name}' has {lengths[i]} frames where another has {wanted[i]}; read "
                    "frame by frame (frame_mode) all must have as many"
                )
            parts[name] = Part(frames)
        return parts


class Repeated(Part):
    """Sequences of one frame each, which stands for as many as `lengths` says."""

    def __init__(self, part: Part, lengths: np.ndarray) -> None:
        self._part, self._lengths = part, lengths

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Any, np.ndarray]:
        frames, _ = self._part.take(indices, numbers)
        lengths = self._lengths[indices]
        return frames[np.repeat(np.arange(len(indices)), lengths)], lengths


class Spread:
    """Where sequences are, by chunk.

    Args:
        chunks, indices, numbers: of each its chunk, its place in that, its number in all.

    Attributes:
        shares: of each chunk its number, which of the sequences it has, their indices and numbers.
    """

    def __init__(self, chunks: np.ndarray, indices: np.ndarray, numbers: np.ndarray) -> None:
        self.count = len(chunks)
        self.shares: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        for chunk in sorted(set(chunks.tolist())):
            here = np.flatnonzero(chunks == chunk)
            self.shares.append((chunk, here, indices[here], numbers[here]))

    def gather(self, parts: Mapping[int, Part]) -> tuple[Any, np.ndarray]:
        """The frames of the sequences, in their order, and their lengths."""
        taken = [parts[c].take(indices, numbers) for c, _, indices, numbers in self.shares]
        if len(taken) == 1:
            return taken[0]
        shares = [(here, *some) for (_, here, _, _), some in zip(self.shares, taken, strict=True)]
        lengths = np.empty(self.count, np.int64)
        for here, _, some in shares:
            lengths[here] = some
        if isinstance(taken[0][0], np.ndarray) and lengths.max() == 1:
            same_shape([frames for frames, _ in taken])
            out = np.empty((self.count, *taken[0][0].shape[1:]), taken[0][0].dtype)
            for here, frames, _ in shares:
                out[here] = frames
            return out, lengths
        order = np.concatenate([here for here, _, _ in shares])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        sizes = lengths[order]
        begins = (np.cumsum(sizes) - sizes)[back]
        return joined_rows([frames for _, frames, _ in shares])[ranges(begins, lengths)], lengths


def joined_rows(parts: Sequence[Any]) -> Any:
    """Arrays, or sparse matrices, one below the other."""
    if isinstance(parts[0], np.ndarray):
        same_shape(parts)
        return np.concatenate(parts)
    from scipy.sparse import vstack  # only who reads sparse streams needs it

    return vstack(parts, format="csr")


def same_shape(parts: Sequence[np.ndarray]) -> None:
    """Raises `GraphError` if samples have different shapes."""
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise GraphError(
            f"samples of shapes {', '.join(map(str, shapes))} are no batch",
            hint="images get one size by transforms=[…, C.io.transforms.scale(…)]",
        )


def _places(member: Deserializer) -> dict[Any, tuple[int, int]]:
    """Where each sequence is, by its key."""
    return {
        key: (chunk, i)
        for chunk in range(len(member.chunk_infos()))
        for i, key in enumerate(member.keys(chunk))
    }


def _lengths_at(member: Deserializer, places: np.ndarray) -> np.ndarray:
    lengths = np.empty(len(places), np.int64)
    for chunk in np.unique(places[:, 0]):
        here = places[:, 0] == chunk
        lengths[here] = member.lengths(int(chunk))[places[here, 1]]
    return lengths
