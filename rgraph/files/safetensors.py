"""The safetensors format: named arrays and texts in one file, and nothing that could be run.

Its own library and others' read such files. Written here, so that NumPy alone is enough to save.

Source: https://github.com/huggingface/safetensors (the format; Apache License 2.0).
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

_TYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32",
    "float64": "F64",
}  # fmt: skip
_NAMES = {kind: name for name, kind in _TYPES.items()}
_OTHER = "types of arrays"  # the text that says what arrays are that the format has no type for
_MOST = 100_000_000  # bytes of a header, the format's own limit


def write(file: BinaryIO, texts: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes texts and arrays, by name. Arrays of other types go as bytes, and as themselves back.

    Args:
        file: open for writing, at its start.
    """
    header: dict[str, object] = {}
    others: dict[str, object] = {}
    place, parts = 0, []
    for name, array in arrays.items():
        part = np.array(array, array.dtype.newbyteorder("="), order="C", copy=None)
        if part.dtype.name not in _TYPES:
            others[name] = [part.dtype.str, list(part.shape)]
            part = np.frombuffer(part.tobytes(), np.uint8)
        header[name] = {
            "dtype": _TYPES[part.dtype.name],
            "shape": list(part.shape),
            "data_offsets": [place, place + part.nbytes],
        }
        place += part.nbytes
        parts.append(part)
    about = {**texts, **({_OTHER: json.dumps(others)} if others else {})}
    content = json.dumps({"__metadata__": about, **header}).encode()
    content += b" " * (-len(content) % 8)  # the data begins at a whole number of words
    file.write(struct.pack("<Q", len(content)) + content)
    for part in parts:
        if part.size:
            file.write(part.astype(part.dtype.newbyteorder("<"), copy=False).data.cast("B"))


class Contents(Mapping[str, np.ndarray]):
    """What a file holds: arrays by name, each read when it is asked for.

    Raises `ValueError` for a file that is something else, or cut off, or says what can't be.

    Attributes:
        texts: by name.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        begin = file.read(8)
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
        if not 2 <= length <= min(size - 8, _MOST):
            raise ValueError("it does not begin as a file of arrays does")
        header = json.loads(file.read(length))
        self.texts: dict[str, str] = header.pop("__metadata__", {})
        self._entries = header
        self._start, self._room = 8 + length, size - 8 - length
        self._others: dict[str, Any] = json.loads(self.texts.pop(_OTHER, "{}"))
        for name in header:
            self._place(name)

    def _place(self, name: str) -> tuple[np.dtype, tuple[int, ...], int, int]:
        """An array's type, shape, first byte and number of bytes."""
        entry = self._entries[name]
        dtype = np.dtype(_NAMES[entry["dtype"]]).newbyteorder("<")
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        if not whole or end > self._room or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the array {name[:100]!r} is not where it is said to be")
        return dtype, shape, begin, end - begin

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, begin, size = self._place(name)
        if name in self._others:
            kind, own = self._others[name]
            dtype, shape = np.dtype(kind), tuple(own)
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != size:
                raise ValueError(f"the array {name[:100]!r} is not what it is said to be")
        array = np.empty(shape, dtype)
        self._file.seek(self._start + begin)
        if size and self._file.readinto(array.reshape(-1).view(np.uint8)) != size:  # type: ignore[attr-defined]
            raise ValueError("it is cut off")
        return array.astype(dtype.newbyteorder("="), copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
