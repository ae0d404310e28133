"""Data in chunks: the base class of deserializers, and how they are combined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..graph import GraphError
from .streams import StreamInformation

Frames: TypeAlias = Any  # an array (frames, *shape), or a CSR matrix of SciPy's, which has no types


@dataclass(frozen=True)
class ChunkInfo:
    """The size of a chunk, known before it is read.

    Attributes:
        num_sequences: the number of sequences; a sample is a sequence of one frame.
        num_samples: the number of samples (frames) that count towards the minibatch size.
    """

    num_sequences: int
    num_samples: int


class Part:
    """The sequences of one stream in a chunk, concatenated.

    Args:
        frames: an array (frames, *shape), or a CSR matrix (frames, size).
        starts: the first frame of each sequence, and the end of the last; None: each sequence has
            one frame.
    """

    def __init__(self, frames: Frames, starts: np.ndarray | None = None) -> None:
        self.frames, self.starts = frames, starts

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Frames, np.ndarray]:
        """The frames of these sequences, and the length of each.

        Args:
            numbers: the position of each sequence in the data read so far; it seeds random
                transforms.
        """
        if self.starts is None:
            return _rows(self.frames, indices), np.ones(len(indices), np.int64)
        begins = self.starts[indices]
        lengths = self.starts[indices + 1] - begins
        return _rows(self.frames, ranges(begins, lengths)), lengths


def _rows(frames: Frames, rows: np.ndarray) -> Frames:
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return frames[rows[0] : rows[-1] + 1]
    return frames[rows]


def ranges(begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenates the ranges `begins[i]`, …, `begins[i] + lengths[i] - 1`."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(begins - before, lengths) + np.arange(int(lengths.sum()))


Chunk = Mapping[str, Part]


class Deserializer:
    """Reads the data of a file in chunks; sizes and keys come from an index of the file."""

    reads_alone = False  # it can't be combined with other deserializers
    is_secondary = False  # it can't be read alone, or as the first of several
    is_repeated = False  # its single frame is repeated for each frame of the others
    is_speech = False  # frame_mode splits its sequences into frames
    unread = False  # the lengths of sequences are known only once their chunk is read

    def stream_infos(self) -> list[StreamInformation]:
        """Name, shape and type of each stream."""
        raise NotImplementedError

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        """The size of each chunk."""
        raise NotImplementedError

    def lengths(self, chunk_id: int) -> np.ndarray:
        """The number of samples of each sequence in a chunk."""
        raise NotImplementedError

    def keys(self, chunk_id: int) -> Sequence[Hashable]:
        """The key of each sequence in a chunk, which matches it with those of other files."""
        raise NotImplementedError

    def get_chunk(self, chunk_id: int) -> Chunk:
        """The data of a chunk by stream name. Called from several threads."""
        raise NotImplementedError


class Bundle(Deserializer):
    """Several deserializers combined: sequences with the same key belong together.

    The first one determines order and chunks. Sequences that another one lacks are left out.
    """

    def __init__(self, members: Sequence[Deserializer]) -> None:
        self._members = members
        self.is_speech = all(m.is_speech for m in members)
        self._infos: list[ChunkInfo] = []
        self._found: list[list[np.ndarray]] = []  # by chunk and member: (chunk, index) rows
        self._lengths: list[np.ndarray] = []
        self._chunks: list[int] = []  # chunks of the first that have sequences left
        names = [s.name for m in members for s in m.stream_infos()]
        if len(set(names)) < len(names):
            raise GraphError(f"stream names must be unique, got {', '.join(sorted(names))}")
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
                "no sequence key occurs in the files of all deserializers",
                hint="give sequences that belong together the same key in each file",
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
    """Sequences located in several parts: rows of (part number, index in the part)."""

    def __init__(self, parts: Mapping[int, Part], places: np.ndarray) -> None:
        self._parts, self._places = parts, places

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Frames, np.ndarray]:
        wanted = self._places[indices]
        return Spread(wanted[:, 0], wanted[:, 1], numbers).gather(self._parts)


class SingleFrames(Deserializer):
    """Makes each frame of another deserializer's sequences a sequence of one frame."""

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
                    f"stream '{name}' has {lengths[i]} frames where another has {wanted[i]}; with "
                    "frame_mode all streams must have the same length"
                )
            parts[name] = Part(frames)
        return parts


class Repeated(Part):
    """Sequences of one frame each, repeated `lengths` times."""

    def __init__(self, part: Part, lengths: np.ndarray) -> None:
        self._part, self._lengths = part, lengths

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Frames, np.ndarray]:
        frames, _ = self._part.take(indices, numbers)
        lengths = self._lengths[indices]
        return frames[np.repeat(np.arange(len(indices)), lengths)], lengths


class Spread:
    """The locations of sequences, grouped by chunk.

    Args:
        chunks, indices, numbers: for each sequence its chunk, its index in the chunk, and its
            position in the data read so far.

    Attributes:
        shares: for each chunk its number, which of the sequences are in it, and their indices and
            numbers.
    """

    def __init__(self, chunks: np.ndarray, indices: np.ndarray, numbers: np.ndarray) -> None:
        self.count = len(chunks)
        self.shares: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        for chunk in sorted(set(chunks.tolist())):
            here = np.flatnonzero(chunks == chunk)
            self.shares.append((chunk, here, indices[here], numbers[here]))

    def gather(self, parts: Mapping[int, Part]) -> tuple[Frames, np.ndarray]:
        """The frames of the sequences in their order, and the sequences' lengths."""
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


def joined_rows(parts: Sequence[Frames]) -> Frames:
    """Arrays or sparse matrices, concatenated along their rows."""
    if isinstance(parts[0], np.ndarray):
        same_shape(parts)
        return np.concatenate(parts)
    from scipy.sparse import vstack  # imported only if there are sparse streams

    return vstack(parts, format="csr")


def same_shape(parts: Sequence[np.ndarray]) -> None:
    """Raises `GraphError` if samples have different shapes."""
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise GraphError(
            f"the samples of a batch must have the same shape, got {', '.join(map(str, shapes))}",
            hint="scale images to one size: transforms=[…, C.io.transforms.scale(…)]",
        )


def _places(member: Deserializer) -> dict[Hashable, tuple[int, int]]:
    """The chunk and index of each sequence, by its key."""
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
