"""Reads CNTK's text format: one line per sample, "id |name 1 2 3 |other 5:1 7:0.5"."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..engines.text import Found
from ..graph import GraphError
from .chunks import Chunk, ChunkInfo, Deserializer, Frames, Part
from .ctf_index import Index, indexed
from .streams import StreamInformation, as_shape

if TYPE_CHECKING:
    from ..internal import Record


_CHUNK = 32 << 20  # bytes of text, as in CNTK

_FAULTS = (
    "",
    "a stream begins with '|'",
    "'|' must be followed by a stream's name",
    "is not a number",
    "the stream has only {dim} values per sample",
    "sparse values are written index:value",
    "the stream has {dim} columns, counted from 0",
    "a stream has more samples than the sequence has lines",
)


class CTFDeserializer(Deserializer):
    """Reads CNTK's text format.

    Args:
        filename: the file, which may be larger than the memory.
        streams: `C.io.StreamDefs(features=C.io.StreamDef(field="S0", shape=3), …)`.

    A line holds one sample of each stream, for example "|S0 1 2 3 |S1 0:1 5:2": dense values
    (trailing zeros may be omitted) or index:value pairs. Consecutive lines that begin with the same
    number form a sequence; without numbers each line is a sequence. "|# …" is a comment.

    Errors in the file raise `GraphError` with file and line, when they are read.

    Source: CNTK's `CTFDeserializer`.

    >>> C.io.CTFDeserializer("data.txt", C.io.StreamDefs(x=C.io.StreamDef("S0", 3))).filename
    'data.txt'
    """

    def __init__(self, filename: str, streams: Mapping[str, Record]) -> None:
        self.filename = os.fspath(filename)
        self._streams, self._fields = [], []
        for i, (name, stream) in enumerate(streams.items()):
            field, size = stream.get("stream_alias"), stream.get("dim")
            if not field or size is None:
                missing = "its name in the file (field)" if not field else "its size (shape)"
                raise ValueError(f"stream '{name}' of a text file needs {missing}")
            kind = "sparse" if stream.is_sparse else "dense"
            shape, definer = as_shape(size), bool(stream.get("defines_mb_size"))
            self._streams.append(StreamInformation(name, i, kind, np.float32, shape, definer))
            self._fields.append(str(field).encode())
        definers = [i for i, s in enumerate(self._streams) if s.defines_mb_size]
        if not self._streams or len(definers) > 1:
            raise ValueError(
                "a text file needs at least one stream, and at most one may define the "
                "minibatch size"
            )
        self._definer = definers[0] if definers else None

    @cached_property
    def _index(self) -> Index:
        definer = None if self._definer is None else self._fields[self._definer]
        return indexed(self.filename, _CHUNK, definer)

    def stream_infos(self) -> list[StreamInformation]:
        return self._streams

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return self._index.infos

    def lengths(self, chunk_id: int) -> np.ndarray:
        return self._index.samples(chunk_id)

    def keys(self, chunk_id: int) -> Sequence[Hashable]:
        return self._index.keys(chunk_id)

    def get_chunk(self, chunk_id: int) -> Chunk:
        place = self._index.chunks[chunk_id]
        text = self._index.read(place)
        wanted = [
            (field, int(np.prod(s.shape, dtype=int)), s.is_sparse)
            for field, s in zip(self._fields, self._streams, strict=True)
        ]
        fault, where, found = _parser()(text, place.lines, wanted)
        if fault:
            self._refuse(fault, where, text, place.first_line)
        firsts = self._index.first_lines(chunk_id)
        parts = {}
        for (_, size, _), stream, one in zip(wanted, self._streams, found, strict=True):
            starts = np.searchsorted(one.lines, firsts)
            self._check(chunk_id, stream, np.diff(starts), firsts)
            single = len(starts) - 1 == len(one.lines) and (np.diff(starts) == 1).all()
            parts[stream.name] = Part(_frames(one, stream, size), None if single else starts)
        self._check_all(chunk_id, parts, firsts)
        return parts

    def _check(
        self, chunk: int, stream: StreamInformation, counts: np.ndarray, firsts: np.ndarray
    ) -> None:
        if not counts.all():
            line = firsts[np.flatnonzero(counts == 0)[0]]
            self._raise(chunk, int(line), f"the sequence has no sample of stream '{stream.name}'")

    def _check_all(self, chunk: int, parts: Chunk, firsts: np.ndarray) -> None:
        """Checks that the longest stream of each sequence has a sample on each line, as in CNTK."""
        counts = [
            np.ones(len(firsts) - 1, np.int64) if p.starts is None else np.diff(p.starts)
            for s, p in zip(self._streams, parts.values(), strict=True)
            if self._definer is None or s.defines_mb_size
        ]
        wrong = np.flatnonzero(np.max(counts, 0) != self._index.samples(chunk))
        if len(wrong):
            i = wrong[0]
            problem = (
                f"the sequence has {self._index.samples(chunk)[i]} lines, and "
                f"{np.max(counts, 0)[i]} samples of its longest stream"
            )
            self._raise(chunk, int(firsts[i]), problem)

    def _raise(self, chunk: int, line: int, problem: str) -> None:
        raise GraphError(
            f"{self.filename}, line {self._index.chunks[chunk].first_line + line}: {problem}",
            hint="each line needs a sample of each stream, until a stream's sequence has ended",
        )

    def _refuse(self, fault: int, where: int, text: bytes, first_line: int) -> None:
        before = text[:where]
        line, begin = first_line + before.count(b"\n"), before.rfind(b"\n") + 1
        bar = before.rfind(b"|") + 1
        name = text[bar:].split(None, 1)[0] if bar > begin else b""
        sizes = {f: s.shape for f, s in zip(self._fields, self._streams, strict=True)}
        size = int(np.prod(sizes.get(name, (0,)), dtype=int))
        what = text[where : where + 40].split()[:1] or [b""]
        shown = what[0].decode(errors="replace")
        stream = f" of '{name.decode(errors='replace')}'" if name else ""
        message = _FAULTS[fault].format(dim=size)
        place = f"{self.filename}, line {line}, column {where - begin + 1}"
        raise GraphError(f"{place}: '{shown}'{stream}: {message}")


@cache
def _parser() -> Callable[..., tuple[int, int, list[Found]]]:
    """The parser in C, or the one in Python if the C library was not built."""
    from ..engines.native import NativeError  # imported only to read text
    from ..engines.native.text import parse

    try:
        parse(b"", 0, [])
    except NativeError:
        from .ctf_slow import parse
    return parse


def _frames(found: Found, stream: StreamInformation, size: int) -> Frames:
    if found.columns is None or found.ends is None:
        return found.values.reshape(-1, *stream.shape)
    from scipy.sparse import csr_matrix  # imported only if there are sparse streams

    ends = np.concatenate([[0], found.ends])
    return csr_matrix((found.values, found.columns, ends), (len(found.ends), size))
