"""CNTK's binary form of HTK's master label files."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..graph import GraphError
from .mlf import Entry, HTKMLFDeserializer

if TYPE_CHECKING:
    from ..internal import Record


_HEADER = struct.Struct("<3sh")  # "MLF", a version
_NUMBERS, _NAMES = 1, 2  # versions: utterances are numbered, or named
_PAIR = np.dtype([("label", "<u2"), ("frames", "<u2")])


class HTKMLFBinaryDeserializer(HTKMLFDeserializer):
    """Reads labels of speech from CNTK's binary label files; list it after the features.

    A file begins with "MLF" and its version, 1 or 2, as an int16. Each utterance has its key (in
    version 1 a number, as a uint32; in version 2 a text, preceded by its length as a uint16), its
    number of frames as a uint32, its number of labels as a uint16, and then for each label two
    uint16: the label, and its number of frames. Numbers are little-endian.

    Args:
        streams: `C.io.StreamDefs(y=C.io.StreamDef(shape=132, mlf="labels.mlf"))`; `mlf` may be a
            list of files.

    Each frame's label is a sparse one-hot vector.

    Errors in the files raise `GraphError` with file and utterance, when they are read.

    Source: CNTK's `HTKMLFBinaryDeserializer`.

    >>> labels = C.io.StreamDef(shape=132, mlf="labels.mlf")
    >>> C.io.HTKMLFBinaryDeserializer(C.io.StreamDefs(y=labels)).stream_infos()[0].shape
    (132,)
    """

    def __init__(self, streams: Mapping[str, Record]) -> None:
        super().__init__(None, streams)

    def _index(self, path: str) -> list[Entry]:
        found: list[Entry] = []
        try:
            with open(path, "rb") as file:
                version = self._version(file, path)
                size = os.fstat(file.fileno()).st_size
                while (offset := file.tell()) < size:
                    key, frames, labels = self._head(file, path, version)
                    file.seek(labels * _PAIR.itemsize, os.SEEK_CUR)
                    if file.tell() > size:
                        raise GraphError(f"{path} ends within utterance '{key}'")
                    found.append(Entry(key, path, offset, version, frames))
        except FileNotFoundError:
            raise GraphError(f"there is no file {path}") from None
        return found

    def _version(self, file: BinaryIO, path: str) -> int:
        head = file.read(_HEADER.size)
        mark, version = _HEADER.unpack(head) if len(head) == _HEADER.size else (b"", 0)
        if mark != b"MLF":
            raise GraphError(
                f"{path} is not a binary master label file: it does not begin with MLF"
            )
        if version not in (_NUMBERS, _NAMES):
            raise GraphError(f"{path} has version {version}; only versions 1 and 2 are supported")
        return int(version)

    def _head(self, file: BinaryIO, path: str, version: int) -> tuple[str, int, int]:
        """The key of an utterance, its number of frames, and its number of labels."""

        def number(layout: str) -> int:
            data = file.read(struct.calcsize(layout))
            if len(data) < struct.calcsize(layout):
                raise GraphError(f"{path} ends within an utterance")
            return int(struct.unpack(layout, data)[0])

        key = str(number("<I")) if version == _NUMBERS else file.read(number("<H")).decode()
        return key, number("<I"), number("<H")

    def _labels(self, file: BinaryIO, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        *_, count = self._head(file, entry.path, entry.line)
        pairs = np.frombuffer(file.read(count * _PAIR.itemsize), _PAIR)
        labels, frames = (pairs[name].astype(np.int64) for name in ("label", "frames"))
        (size,) = self._stream.shape
        if labels.max(initial=0) >= size:
            raise GraphError(
                f"{entry.path}, utterance '{entry.key}': a label must be from 0 to {size - 1}, got "
                f"{labels.max()}"
            )
        if frames.sum() != entry.frames:
            raise GraphError(
                f"{entry.path}, utterance '{entry.key}' has labels for {frames.sum()} frames, "
                "but its "
                f"header gives {entry.frames}"
            )
        return labels, frames
