"""Reads HTK's master label files: the state or phone of each frame of an utterance."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from ..graph import GraphError
from .chunks import Chunk, ChunkInfo, Deserializer, Part
from .streams import StreamInformation

if TYPE_CHECKING:
    from ..internal import Record


_CHUNK = 64 << 20  # bytes per chunk, as in CNTK
_HEADER = b"#!MLF!#"
_TICKS = 100000.0  # units of 100 ns per frame
_BEGINS = 2.0  # marks the first frame of a phone, see `labels_to_graph`


class Entry(NamedTuple):
    """The location of an utterance's labels in a file, and their line (or version, if binary)."""

    key: str
    path: str
    offset: int
    line: int
    frames: int


class HTKMLFDeserializer(Deserializer):
    """Reads labels of speech from HTK's master label files; list it after the features.

    Args:
        label_mapping_file: a file with one label name per line: the label's number is its line
            number, from 0. Without it ("" or None) the last of four columns is the number.
        streams: `C.io.StreamDefs(y=C.io.StreamDef(shape=132, mlf="labels.mlf"))`; `mlf` may be a
            list of files.
        phoneBoundaries: whether the first frame of each label has 2 in place of 1, as
            `labels_to_graph` expects it.

    Each frame's label is a sparse one-hot vector.

    Errors in the files raise `GraphError` with file and line, when they are read.

    Source: CNTK's `HTKMLFDeserializer`; The HTK Book, "Master label files".

    >>> labels = C.io.StreamDef(shape=132, mlf="labels.mlf")
    >>> C.io.HTKMLFDeserializer("states.txt", C.io.StreamDefs(y=labels)).stream_infos()[0].shape
    (132,)
    """

    is_speech = True
    is_secondary = True  # the features determine the sequences

    def __init__(
        self,
        label_mapping_file: str | None,
        streams: Mapping[str, Record],
        phoneBoundaries: bool = False,
    ) -> None:
        if len(streams) != 1:
            raise ValueError(f"{type(self).__name__} must have exactly one stream")
        ((name, stream),) = streams.items()
        if stream.get("stream_alias") is not None:
            raise ValueError(f"stream '{name}': label files have no stream names, leave out field")
        if not stream.get("mlf") or stream.get("dim") is None:
            raise ValueError(f"stream '{name}' of labels needs mlf=… and shape=…")
        files = stream["mlf"] if isinstance(stream["mlf"], (list, tuple)) else [stream["mlf"]]
        self.files, self.mapping = [os.fspath(f) for f in files], label_mapping_file
        self.marks_boundaries = bool(phoneBoundaries)
        size = int(np.prod(stream["dim"], dtype=int))
        self._stream = StreamInformation(name, 0, "sparse", np.float32, (size,))

    @cached_property
    def _states(self) -> dict[str, int] | None:
        if not self.mapping:
            return None
        states: dict[str, int] = {}
        for number, line in enumerate(_lines(self.mapping), 1):
            name = line.strip().decode()
            if name in states:
                raise GraphError(f"{self.mapping}, line {number}: '{name}' occurs twice")
            if name:
                states[name] = len(states)
        return states

    @cached_property
    def _chunks(self) -> list[list[Entry]]:
        chunks: list[list[Entry]] = []
        for path in self.files:
            begin = -_CHUNK
            for entry in self._index(path):
                if entry.offset >= begin + _CHUNK:
                    chunks.append([])
                    begin = entry.offset
                chunks[-1].append(entry)
        return chunks

    def stream_infos(self) -> list[StreamInformation]:
        return [self._stream]

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return [ChunkInfo(len(c), sum(e.frames for e in c)) for c in self._chunks]

    def lengths(self, chunk_id: int) -> np.ndarray:
        return np.array([e.frames for e in self._chunks[chunk_id]], np.int64)

    def keys(self, chunk_id: int) -> Sequence[Hashable]:
        return [e.key for e in self._chunks[chunk_id]]

    def get_chunk(self, chunk_id: int) -> Chunk:
        from scipy.sparse import csr_matrix  # imported only to read labels

        entries = self._chunks[chunk_id]
        classes, values = [], []
        with open(entries[0].path, "rb") as file:
            for entry in entries:
                file.seek(entry.offset)
                numbers, counts = self._labels(file, entry)
                classes.append(np.repeat(numbers, counts))
                marks = np.ones(len(classes[-1]), np.float32)
                if self.marks_boundaries:
                    marks[np.cumsum(counts) - counts] = _BEGINS
                values.append(marks)
        columns = np.concatenate(classes)
        (size,) = self._stream.shape
        content = np.concatenate(values), columns, np.arange(len(columns) + 1)
        frames = csr_matrix(content, (len(columns), size))
        starts = np.concatenate([[0], np.cumsum(self.lengths(chunk_id))])
        return {self._stream.name: Part(frames, starts)}

    def _index(self, path: str) -> list[Entry]:
        return _index(path)

    def _labels(self, file: BinaryIO, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        """The labels of an utterance, and the number of frames of each."""
        file.readline()  # the line with its name
        numbers, counts, at, line = [], [], 0, entry.line
        while (text := file.readline()).strip() != b".":
            line += 1
            parts = text.split()
            if not parts:
                continue
            begin, end = _frames(parts, entry.path, line)
            if begin != at or end < begin:
                raise GraphError(
                    f"{entry.path}, line {line}: the label is for frames {begin} to {end}, but "
                    f"the one before ends at {at}"
                )
            numbers.append(self._number(parts, entry.path, line))
            counts.append(end - begin)
            at = end
        return np.array(numbers), np.array(counts)

    def _number(self, parts: Sequence[bytes], path: str, line: int) -> int:
        (size,) = self._stream.shape
        if self._states is not None:
            name = parts[2].decode() if len(parts) > 2 else ""
            number = self._states.get(name, -1)
            if number < 0:
                raise GraphError(f"{path}, line {line}: '{name}' is not in {self.mapping}")
        elif len(parts) == 4 and parts[3].isdigit():
            number = int(parts[3])
        else:
            raise GraphError(
                f"{path}, line {line}: without a label_mapping_file a label needs four columns, "
                "the last a number"
            )
        if number >= size:
            raise GraphError(
                f"{path}, line {line}: a label must be from 0 to {size - 1}, got {number}"
            )
        return number


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        raise GraphError(f"there is no file {path}") from None


def _index(path: str) -> list[Entry]:
    """The locations of the utterances in a file."""
    found: list[Entry] = []
    key, begin, first, last = None, 0, 0, b""
    try:
        with open(path, "rb") as file:
            offset = 0
            for number, text in enumerate(file, 1):
                line = text.strip()
                if number == 1 and line != _HEADER:
                    raise GraphError(
                        f"{path} is not a master label file: it does not begin with #!MLF!#"
                    )
                if key is None and line and line != _HEADER:
                    key, begin, first, last = _key(line, path, number), offset, number, b""
                elif key is not None and line == b".":
                    if not last:
                        raise GraphError(f"{path}, line {first}: the utterance has no labels")
                    frames = _frames(last.split(), path, number - 1)[1]
                    found.append(Entry(key, path, begin, first, frames))
                    key = None
                elif line:
                    last = line
                offset += len(text)
    except FileNotFoundError:
        raise GraphError(f"there is no file {path}") from None
    if key is not None:
        raise GraphError(f"{path}, line {first}: the utterance is not ended by a line with one dot")
    return found


def _key(line: bytes, path: str, number: int) -> str:
    """The key in "*/key.lab"."""
    text = line.decode()
    if len(text) < 3 or text[0] != '"' or text[-1] != '"':
        raise GraphError(f"{path}, line {number}: an utterance's name must be in quotes")
    key = text[1:-1].removeprefix("*/")
    return key[: key.rfind(".")] if "." in key else key


def _frames(parts: Sequence[bytes], path: str, line: int) -> tuple[int, int]:
    """The first frame of a label, and the frame after its last."""
    try:
        begin, end = float(parts[0]), float(parts[1])
    except (ValueError, IndexError):
        raise GraphError(f"{path}, line {line}: a label must begin with two times") from None
    if end - begin >= _TICKS - 1:  # these are times; smaller numbers are frames, as in CNTK
        return int(begin / _TICKS + 0.5), int(end / _TICKS + 0.5)
    return int(begin), int(end)
