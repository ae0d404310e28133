"""Reads CNTK's binary format, which its script ctf2bin.py writes."""

from __future__ import annotations

import os
import struct
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from ..graph import GraphError
from .chunks import Chunk, ChunkInfo, Deserializer, Part
from .streams import StreamInformation

if TYPE_CHECKING:
    from ..internal import Record


_MAGIC, _VERSION = 0x636E746B5F62696E, 1
_KINDS, _TYPES = ("dense", "sparse"), (np.dtype("<f4"), np.dtype("<f8"))
_COUNT = np.dtype("<u4")


class _Stream(NamedTuple):
    name: str
    kind: str
    dtype: np.dtype
    size: int


class _Chunk(NamedTuple):
    offset: int
    sequences: int
    samples: int


class CBFDeserializer(Deserializer):
    """Reads CNTK's binary format.

    Args:
        filename: the file.
        streams: `C.io.StreamDefs(x=C.io.StreamDef(field="name in the file", shape=3), …)`; by
            default all streams of the file, under their names there.

    Errors in the file raise `GraphError` when the source is made or a chunk is read.

    Source: CNTK's `CBFDeserializer`; its script ctf2bin.py defines the format.

    >>> C.io.CBFDeserializer("data.bin").filename
    'data.bin'
    """

    def __init__(self, filename: str, streams: Mapping[str, Record] | None = None) -> None:
        self.filename = os.fspath(filename)
        self._named = {s.get("stream_alias"): name for name, s in (streams or {}).items()}

    @cached_property
    def _header(self) -> tuple[list[_Stream], list[_Chunk]]:
        try:
            with open(self.filename, "rb") as file:
                return self._read_header(file)
        except FileNotFoundError:
            raise GraphError(f"there is no file {self.filename}") from None
        except (struct.error, IndexError, OSError, UnicodeDecodeError):
            raise GraphError(f"{self.filename} is damaged: can't read its header") from None

    def _read_header(self, file: BinaryIO) -> tuple[list[_Stream], list[_Chunk]]:
        def read(layout: str) -> tuple[Any, ...]:
            return struct.unpack(layout, file.read(struct.calcsize(layout)))

        magic, version = read("<QI")
        if magic != _MAGIC:
            raise GraphError(f"{self.filename} is not in CNTK's binary format")
        if version != _VERSION:
            raise GraphError(
                f"{self.filename} has version {version}; only version {_VERSION} is supported"
            )
        file.seek(-8, os.SEEK_END)
        (end,) = read("<q")
        file.seek(end)
        magic, chunks, count = read("<QII")
        if magic != _MAGIC:
            raise GraphError(f"{self.filename} is damaged: its header is not where it should be")
        streams = []
        for _ in range(count):
            kind, length = read("<BI")
            name = file.read(length).decode()
            dtype, size = read("<BI")
            streams.append(_Stream(name, _KINDS[kind], _TYPES[dtype], size))
        places = [_Chunk(*read("<qII")) for _ in range(chunks)]
        return streams, [*places, _Chunk(end, 0, 0)]

    def stream_infos(self) -> list[StreamInformation]:
        return [
            StreamInformation(self._named.get(s.name, s.name), i, s.kind, np.float32, (s.size,))
            for i, s in enumerate(self._header[0])
        ]

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return [ChunkInfo(c.sequences, c.samples) for c in self._header[1][:-1]]

    def _bytes(self, begin: int, end: int) -> bytes:
        with open(self.filename, "rb") as file:
            file.seek(begin)
            found = file.read(end - begin)
        if len(found) < end - begin:
            raise GraphError(f"{self.filename} is damaged: it is too short")
        return found

    def lengths(self, chunk_id: int) -> np.ndarray:
        chunk = self._header[1][chunk_id]
        text = self._bytes(chunk.offset, chunk.offset + 4 * chunk.sequences)
        return np.frombuffer(text, _COUNT).astype(np.int64)

    def keys(self, chunk_id: int) -> Sequence[Hashable]:
        first = sum(c.sequences for c in self._header[1][:chunk_id])
        return range(first, first + self._header[1][chunk_id].sequences)

    def get_chunk(self, chunk_id: int) -> Chunk:
        streams, chunks = self._header
        chunk, after = chunks[chunk_id : chunk_id + 2]
        data = self._bytes(chunk.offset + 4 * chunk.sequences, after.offset)
        parts, place = {}, 0
        try:
            for stream, info in zip(streams, self.stream_infos(), strict=True):
                read = _dense if stream.kind == "dense" else _sparse
                parts[info.name], place = read(data, place, stream, chunk.sequences)
        except ValueError:
            raise GraphError(f"{self.filename} is damaged: can't read a chunk") from None
        return parts


def _dense(data: bytes, place: int, stream: _Stream, count: int) -> tuple[Part, int]:
    """A stream's data in a chunk, and the offset of its end."""
    row = np.dtype([("count", _COUNT), ("values", stream.dtype, (stream.size,))])
    if place + count * row.itemsize <= len(data):
        rows = np.frombuffer(data, row, count, place)
        if (rows["count"] == 1).all():  # samples
            return Part(rows["values"].astype(np.float32)), place + count * row.itemsize
    starts, sequences = [0], []
    for _ in range(count):
        (frames,) = np.frombuffer(data, _COUNT, 1, place).tolist()
        values = np.frombuffer(data, stream.dtype, frames * stream.size, place + 4)
        sequences.append(values.reshape(frames, stream.size))
        starts.append(starts[-1] + frames)
        place += 4 + values.nbytes
    return Part(np.concatenate(sequences).astype(np.float32), np.array(starts)), place


def _sparse(data: bytes, place: int, stream: _Stream, count: int) -> tuple[Part, int]:
    from scipy.sparse import csr_matrix  # imported only if there are sparse streams

    starts = [0]
    values: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for _ in range(count):
        frames, numbers = np.frombuffer(data, "<i4", 2, place).tolist()
        place += 8
        for kept, dtype, length in (
            (values, stream.dtype, numbers),
            (columns, np.dtype("<i4"), numbers),
            (sizes, np.dtype("<i4"), frames),
        ):
            kept.append(np.frombuffer(data, dtype, length, place))
            place += kept[-1].nbytes
        starts.append(starts[-1] + frames)
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    content = np.concatenate(values).astype(np.float32), np.concatenate(columns), ends
    return Part(csr_matrix(content, (starts[-1], stream.size)), np.array(starts)), place
