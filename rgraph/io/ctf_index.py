"""An index of a text file: its sequences and chunks, found in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..graph import GraphError
from .chunks import ChunkInfo

_NEWLINE, _BAR, _ZERO = 10, ord("|"), ord("0")
_SPACES = b" \t\r\n\v\f"


@dataclass(frozen=True)
class Place:
    """The location of a chunk: first byte, number of bytes, first line, number of lines."""

    offset: int
    size: int
    first_line: int
    lines: int


class _Lines(NamedTuple):
    """For each line: its end, whether it begins a sequence, and its number of samples."""

    ends: np.ndarray
    starts: np.ndarray
    samples: np.ndarray


class Index:
    """The chunks of a text file; of the sequences only their lengths are kept.

    Attributes:
        chunks: the location of each chunk.
        infos: the size of each chunk.
    """

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.chunks: list[Place] = []
        self.infos: list[ChunkInfo] = []
        self._samples: list[np.ndarray | None] = []  # None: one per sequence
        self._lines: list[np.ndarray | None] = []
        self.has_ids = False

    def add(self, place: Place, lines: np.ndarray, samples: np.ndarray) -> None:
        """Adds a chunk, given the numbers of lines and of samples of its sequences."""
        self.chunks.append(place)
        self.infos.append(ChunkInfo(len(samples), int(samples.sum())))
        self._samples.append(None if (samples == 1).all() else samples.astype(np.int32))
        self._lines.append(None if (lines == 1).all() else lines.astype(np.int32))

    def samples(self, chunk: int) -> np.ndarray:
        """The number of samples of each sequence."""
        return self._of(self._samples[chunk], chunk)

    def _of(self, kept: np.ndarray | None, chunk: int) -> np.ndarray:
        count = self.infos[chunk].num_sequences
        return np.ones(count, np.int64) if kept is None else kept.astype(np.int64)

    def first_lines(self, chunk: int) -> np.ndarray:
        """The first line of each sequence within the chunk, and the end of the last one."""
        return np.concatenate([[0], np.cumsum(self._of(self._lines[chunk], chunk))])

    def keys(self, chunk: int) -> list[int]:
        """The numbers of the sequences in the file, or else their line numbers."""
        place, firsts = self.chunks[chunk], self.first_lines(chunk)[:-1]
        if not self.has_ids:
            return (firsts + place.first_line).tolist()
        text = np.frombuffer(self.read(place), np.uint8)
        ends = np.flatnonzero(text == _NEWLINE)
        begins = np.concatenate([[0], ends + 1])[firsts]
        return _ids(text, begins)[1].tolist()

    def read(self, place: Place) -> bytes:
        """Reads the text of a chunk."""
        with open(self.filename, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)


def indexed(filename: str, chunk_size: int, definer: bytes | None) -> Index:
    """The index of a file.

    Args:
        chunk_size: the largest size of a chunk in bytes; a longer sequence is a chunk by itself.
        definer: the stream whose samples are counted; None: count lines.
    """
    if not os.path.isfile(filename):
        raise GraphError(f"there is no file {filename}")
    index = Index(filename)
    begin = _beginning(filename)
    builder = _Builder(index, chunk_size, begin)
    with open(filename, "rb") as file:
        file.seek(begin)
        index.has_ids = file.read(1) != b"|"
    for lines in _Scanner(filename, definer, index.has_ids).scan(begin, 4 << 20):
        builder.add(lines)
    builder.finish()
    return index


def _beginning(filename: str) -> int:
    """The offset of the first line, after a byte order mark."""
    with open(filename, "rb") as file:
        head = file.read(4096)
    skipped = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise GraphError(f"{filename} is encoded in UTF-16; a text file must be UTF-8 or ASCII")
    text = head[skipped:].lstrip(_SPACES)
    if not text:
        raise GraphError(f"{filename} is empty")
    return len(head) - len(text)


class _Scanner:
    """Finds the sequences of a file block by block."""

    def __init__(self, filename: str, definer: bytes | None, has_ids: bool) -> None:
        self._filename, self._has_ids = filename, has_ids
        self._mark = None if definer is None else b"|" + definer
        self._last_id: int | None = None

    def scan(self, begin: int, block_size: int) -> Iterator[_Lines]:
        """The lines of each block."""
        rest, offset = b"", begin
        with open(self._filename, "rb") as file:
            file.seek(begin)
            while True:
                more = file.read(block_size)
                text = rest + more
                if more:
                    cut = text.rfind(b"\n") + 1
                    text, rest = text[:cut], text[cut:]
                if text:
                    yield self._lines(text, offset)
                    offset += len(text)
                if not more:
                    return

    def _lines(self, text: bytes, offset: int) -> _Lines:
        array = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(array == _NEWLINE) + 1
        if not len(ends) or ends[-1] < len(text):
            ends = np.append(ends, len(text))
        begins = np.concatenate([[0], ends[:-1]])
        return _Lines(ends + offset, self._starts(array, begins), self._counted(text, ends))

    def _starts(self, text: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Which lines begin a sequence."""
        if not self._has_ids:
            return np.ones(len(begins), bool)
        known, ids = _ids(text, begins)
        if self._last_id is None and not known[0]:
            raise GraphError(
                f"{self._filename}, line 1: a line must begin with '|' or a sequence number"
            )
        numbers = ids[known]
        starts = np.zeros(len(begins), bool)
        if len(numbers):
            before = np.append(np.uint64(self._last_id or 0), numbers[:-1])
            new = numbers != before
            new[0] |= self._last_id is None
            starts[known] = new
            self._last_id = int(numbers[-1])
        return starts

    def _counted(self, text: bytes, ends: np.ndarray) -> np.ndarray:
        """The number of samples on each line: 1 or 0."""
        if self._mark is None:
            return np.ones(len(ends), np.int64)
        counts = np.zeros(len(ends), np.int64)
        at = text.find(self._mark)
        while at >= 0:
            after = at + len(self._mark)
            if text[after : after + 1] <= b" " or text[after : after + 1] == b"|":
                counts[np.searchsorted(ends, at, "right")] = 1
            at = text.find(self._mark, after)
        return counts


def _ids(text: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each line whether it begins with a number, and the number."""
    ids = np.zeros(len(begins), np.uint64)
    active = np.arange(len(begins))
    known = np.zeros(len(begins), bool)
    place = begins.copy()
    while len(active):
        active = active[place[active] < len(text)]
        digits = text[place[active]] - np.uint8(_ZERO)
        active, digits = active[digits < 10], digits[digits < 10]
        ids[active] = ids[active] * np.uint64(10) + digits
        known[active] = True
        place[active] += 1
    return known, ids


class _Builder:
    """Groups lines into sequences, and sequences into chunks."""

    def __init__(self, index: Index, chunk_size: int, begin: int) -> None:
        self._index, self._chunk_size, self._offset = index, chunk_size, begin
        self._line = 1
        # lines whose chunk may not be complete: ends, whether they begin a sequence, samples
        none = np.empty(0, np.int64)
        self._waiting = _Lines(none, none.astype(bool), none)

    def add(self, found: _Lines) -> None:
        """Adds the lines of a block."""
        pairs = zip(self._waiting, found, strict=True)
        self._waiting = _Lines(*(np.concatenate(pair) for pair in pairs))
        self._put(whole=False)

    def finish(self) -> None:
        """Ends the last sequence and chunk."""
        self._put(whole=True)

    def _put(self, whole: bool) -> None:
        """Makes chunks of the pending lines, up to the last complete sequence."""
        ends, starts, counts = self._waiting
        firsts = np.flatnonzero(starts)
        lasts = np.append(firsts[1:], len(ends))
        sequence_ends, samples = ends[lasts - 1], np.add.reduceat(counts, firsts)
        known = len(firsts) if whole else len(firsts) - 1
        i = 0
        while i < len(firsts):
            j = int(np.searchsorted(sequence_ends, self._offset + self._chunk_size, "right"))
            j = max(j, i + 1)
            if j >= known and not whole:
                break
            end = int(sequence_ends[j - 1])
            line = self._line + int(firsts[i])
            place = Place(self._offset, end - self._offset, line, int(lasts[j - 1] - firsts[i]))
            self._index.add(place, lasts[i:j] - firsts[i:j], samples[i:j])
            self._offset, i = end, j
        done = int(firsts[i]) if i < len(firsts) else len(ends)
        self._line += done
        self._waiting = _Lines(*(some[done:] for some in self._waiting))
