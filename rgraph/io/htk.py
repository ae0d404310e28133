"""Reads HTK's files of speech features, and the lists of utterances in them."""

from __future__ import annotations

import os
import struct
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..graph import GraphError
from .chunks import Chunk, ChunkInfo, Deserializer, Part
from .streams import StreamInformation

if TYPE_CHECKING:
    from ..internal import Record


_CHUNK = 15 * 60 * 100  # frames: a quarter of an hour, as in CNTK
_KINDS = {6: "MFCC", 7: "FBANK", 9: "USER", 11: "PLP", 12: "USER"}
_BASE, _STREAM, _COMPRESSED, _QUANTIZED = 0o77, 12, 0o2000, 0o40000


class Utterance(NamedTuple):
    """A line of a list: the location of an utterance's frames.

    Attributes:
        key: the name of the utterance, which matches it with labels and other features.
        path: the file.
        first, frames: its first frame in the file, and the number of its frames; -1: all.
    """

    key: str
    path: str
    first: int
    frames: int


class Header(NamedTuple):
    """The header of a file of features.

    Attributes:
        form: the kind of features, numbers per frame, and frame period in units of 100 ns.
        frames: the number of frames.
        begin: the offset of the first frame in bytes.
        dtype: the type of the numbers.
        scale, shift: a compressed number n stands for (n + shift) / scale.
    """

    form: tuple[int, int, int]
    frames: int
    begin: int
    dtype: np.dtype
    scale: np.ndarray | None = None
    shift: np.ndarray | None = None


def read_header(path: str) -> Header:
    """Reads the header of a file. Raises `GraphError` if it is not a file of HTK features."""
    try:
        with open(path, "rb") as file:
            start = file.read(12)
            # The period is a small number; with the wrong byte order it would be large.
            order = min("><", key=lambda o: struct.unpack(f"{o}2IHH", start)[1])
            frames, period, size, kind = struct.unpack(f"{order}2IHH", start)
            begin = 12 + 16 * (kind & _BASE == _STREAM)  # there is an identifier in between
            if kind & _BASE not in _KINDS or kind & _QUANTIZED:
                raise GraphError(f"{path} has features of an unsupported kind (code {kind})")
            width = 2 if kind & _COMPRESSED else 4
            if not size or size % width:
                raise GraphError(f"{path} is damaged: a frame can't have {size} bytes")
            form = kind, size // width, period
            if width == 4:
                return Header(form, frames, begin, np.dtype(f"{order}f4"))
            file.seek(begin)
            numbers = np.frombuffer(file.read(2 * 4 * form[1]), f"{order}f4")
            scale, shift = numbers.reshape(2, form[1])
            # Scale and shift take the space of four frames, and are counted as such.
            begin += 8 * form[1]
            return Header(form, frames - 4, begin, np.dtype(f"{order}i2"), scale, shift)
    except FileNotFoundError:
        raise GraphError(f"there is no file {path}") from None
    except (struct.error, ValueError, OSError):
        raise GraphError(f"{path} is not a file of HTK features: can't read its header") from None


def read_frames(path: str, header: Header, first: int, count: int) -> np.ndarray:
    """Reads frames of a file, as an array (count, numbers per frame)."""
    if first + count > header.frames:
        raise GraphError(
            f"{path} has {header.frames} frames, but the list refers to {first} to "
            f"{first + count - 1}"
        )
    size = header.form[1]
    with open(path, "rb") as file:
        file.seek(header.begin + first * size * header.dtype.itemsize)
        found = np.fromfile(file, header.dtype, count * size)
    if len(found) < count * size:
        raise GraphError(f"{path} is damaged: it is too short")
    frames = found.reshape(count, size).astype(np.float32)
    if header.scale is not None and header.shift is not None:
        frames = (frames + header.shift) / header.scale
    return frames


def read_list(path: str) -> list[Utterance]:
    """Reads a list with lines of the form "key=file[first,last]"; "file" alone is a whole file.

    Raises `GraphError` with file and line.
    """
    found = []
    folder = os.path.dirname(path)
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise GraphError(f"there is no file {path}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, _, place = line.strip().partition("=")
        file_name, bracket, range_ = (place or key).partition("[")
        if file_name.startswith("..."):  # the folder of the list
            file_name = folder + file_name[3:]
        key = key[: key.rfind(".")] if "." in key else key
        if not bracket:
            found.append(Utterance(key, file_name, 0, -1))
            continue
        try:
            first, last = (int(n) for n in range_.removesuffix("]").split(","))
        except ValueError:
            first, last = 0, -1
        if not range_.endswith("]") or not 0 <= first <= last:
            raise GraphError(
                f"{path}, line {number}: invalid range of frames in '{line.strip()}'",
                hint="a line must be key=file[first frame,last frame]",
            )
        found.append(Utterance(key, file_name, first, last + 1 - first))
    return found


class HTKFeatures(Deserializer):
    """One stream of HTK features; see `HTKFeatureDeserializer`."""

    is_speech = True

    def __init__(self, name: str, stream: Record) -> None:
        if stream.get("stream_alias") is not None:
            raise ValueError(f"stream '{name}': HTK files have no stream names, leave out field")
        if not stream.get("scp") or stream.get("dim") is None:
            raise ValueError(f"stream '{name}' of HTK features needs scp=… and shape=…")
        self.scp = os.fspath(stream["scp"])
        self.context: tuple[int, int] = tuple(stream.get("context") or (0, 0))
        self.is_repeated = bool(stream.get("broadcast"))
        self._most = stream.get("max_sequence_length") or np.inf
        size = int(np.prod(stream["dim"], dtype=int)) * (1 + sum(self.context))
        definer = bool(stream.get("defines_mb_size"))
        self._stream = StreamInformation(name, 0, "dense", np.float32, (size,), definer)

    @cached_property
    def _headers(self) -> dict[str, Header]:
        return {}

    def _header(self, path: str) -> Header:
        found = self._headers.get(path)
        if found is None:
            found = self._headers[path] = read_header(path)
            first = next(iter(self._headers.items()))
            if found.form != first[1].form:
                raise GraphError(
                    f"{path} has other features than {first[0]}: kind, numbers per frame and "
                    f"period are {found.form} and {first[1].form}"
                )
        return found

    @cached_property
    def _chunks(self) -> list[list[Utterance]]:
        keys: dict[str, int] = {}
        known = [
            u if u.frames >= 0 else u._replace(frames=self._header(u.path).frames)
            for u in read_list(self.scp)
        ]
        for u in known:
            keys[u.key] = keys.get(u.key, 0) + 1
        chunks: list[list[Utterance]] = []
        total = _CHUNK + 1
        for u in known:
            if u.frames > self._most:
                continue
            if keys[u.key] > 1:
                raise GraphError(f"{self.scp} has {keys[u.key]} utterances with the key '{u.key}'")
            if total > _CHUNK:
                chunks.append([])
                total = 0
            chunks[-1].append(u)
            total += u.frames
        if not chunks:
            raise GraphError(f"{self.scp} has no utterances")
        return chunks

    @cached_property
    def _window(self) -> tuple[int, int]:
        """The numbers of neighboring frames before and after that are added to each frame."""
        own = self._header(self._chunks[0][0].path).form[1]
        (size,) = self._stream.shape
        left, right = self.context
        if (1 + left + right) * own == size:
            return left, right
        if (
            not left + right and size % own == 0 and size // own % 2
        ):  # inferred from the shape, as in CNTK
            return size // own // 2, size // own // 2
        raise GraphError(
            f"stream '{self._stream.name}' has {own} numbers per frame in its files; with "
            f"context={self.context} this does not give shape={size}",
            hint=f"shape={own}",
        )

    def stream_infos(self) -> list[StreamInformation]:
        return [self._stream]

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        return [ChunkInfo(len(c), sum(u.frames for u in c)) for c in self._chunks]

    def lengths(self, chunk_id: int) -> np.ndarray:
        return np.array([u.frames for u in self._chunks[chunk_id]], np.int64)

    def keys(self, chunk_id: int) -> Sequence[Hashable]:
        return [u.key for u in self._chunks[chunk_id]]

    def get_chunk(self, chunk_id: int) -> Chunk:
        utterances = self._chunks[chunk_id]
        frames = [self._frames(u) for u in utterances]
        starts = np.concatenate([[0], np.cumsum([u.frames for u in utterances])])
        return {self._stream.name: Part(np.concatenate(frames), starts)}

    def _frames(self, u: Utterance) -> np.ndarray:
        if self.is_repeated and u.frames != 1:
            raise GraphError(
                f"{self.scp}: '{u.key}' has {u.frames} frames; with broadcast it must have one"
            )
        frames = read_frames(u.path, self._header(u.path), u.first, u.frames)
        left, right = self._window
        around = np.arange(-left, right + 1)
        rows = np.clip(
            np.arange(u.frames)[:, None] + around, 0, u.frames - 1
        )  # the first and last frames are repeated
        return frames[rows].reshape(u.frames, -1)


class HTKFeatureDeserializer(Deserializer):
    """Reads HTK's files of speech features.

    Args:
        streams: `C.io.StreamDefs(x=C.io.StreamDef(shape=33, scp="list.scp", context=(2, 2)), …)`.
            `scp` is a file with a line "key=file[first frame,last frame]" for each utterance;
            `context` the numbers of neighboring frames before and after to concatenate to each
            frame (at both ends the outermost frame is repeated); `broadcast` repeats the
            utterance's single frame for all its frames in the other streams.

    Errors in the files raise `GraphError` with file and line, when they are read.

    Source: CNTK's `HTKFeatureDeserializer`; The HTK Book, "HTK format parameter files".

    >>> features = C.io.StreamDef(shape=33, scp="features.scp", context=(2, 2))
    >>> C.io.HTKFeatureDeserializer(C.io.StreamDefs(x=features)).stream_infos()[0].shape
    (165,)
    """

    def __init__(self, streams: Mapping[str, Record]) -> None:
        if not streams:
            raise ValueError("HTK features need at least one stream")
        self.members = [HTKFeatures(name, stream) for name, stream in streams.items()]

    def stream_infos(self) -> list[StreamInformation]:
        return [s for m in self.members for s in m.stream_infos()]
