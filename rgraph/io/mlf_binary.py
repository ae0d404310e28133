"""CNTK's binary form of HTK's master label files."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from ..graph import GraphError
from .mlf import Entry, HTKMLFDeserializer

_HEADER = struct.Struct("<3sh")  # "MLF", a version
_NUMBERS, _NAMES = 1, 2  # versions: utterances have numbers, or names
_PAIR = np.dtype([("label", "<u2"), ("frames", "<u2")])


class HTKMLFBinaryDeserializer(HTKMLFDeserializer):
    """Reads labels of speech from CNTK's binary label files. It stands behind the features.

    A file begins with "MLF" and its version, 1 or 2, as an int16. Each utterance has its key (in
    version 1 a number, as a uint32; in version 2 a text, behind its length as a uint16), its
    number of frames as a uint32, the number of its labels as a uint16, and then for each label
    two uint16: the label, and for how many frames it holds. Numbers are little-endian.

    Args:
        streams: `C.io.StreamDefs(y=C.io.StreamDef(shape=132, mlf="labels.mlf"))`; `mlf` may be a
            list of files.

    Labels are one-hot vectors, one for each frame, and sparse.

    Raises `GraphError` with file and utterance, when it is read, for what does not suit.

    Source: CNTK's `HTKMLFBinaryDeserializer`.

    >>> labels = C.io.StreamDef(shape=132, mlf="labels.mlf")
    >>> C.io.HTKMLFBinaryDeserializer(C.io.StreamDefs(y=labels)).stream_infos()[0].shape
    (132,)
    """

    def __init__(self, streams: Mapping[str, Any]) -> None:
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
            raise GraphError(f"{path} is no binary master label file: it does not begin with MLF")
        if version not in (_NUMBERS, _NAMES):
            raise GraphError(f"{path} is of version {version}; versions 1 and 2 are read")
        return int(version)

    def _head(self, file: BinaryIO, path: str, version: int) -> tuple[str, int, int]:
        """An utterance's key, and the numbers of its frames and of its labels."""

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
                f"{entry.path}, utterance '{entry.key}': label {labels.max()} of {size}, counted "
                "from 0"
            )
        if frames.sum() != entry.frames:
            raise GraphError(
                f"{entry.path}, utterance '{entry.key}' has labels for {frames.sum()} frames, and "
                f"says {entry.frames}"
            )
        return labels, frames
