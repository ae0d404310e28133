"""Numbers from lines of text, in C."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, pointer
from functools import cache
from typing import Any

import numpy as np

from ..text import Found
from .library import load


class _Stream(Structure):
    _fields_ = [
        ("name", c_char_p),
        *((n, c_int64) for n in ("name_size", "dimension", "sparse", "samples_", "numbers_")),
        *((n, c_void_p) for n in ("values", "columns", "ends", "lines")),
        *((n, c_int64) for n in ("samples", "numbers")),
    ]


@cache
def _parse() -> Any:
    function = load().parse_text
    function.argtypes = [c_char_p, c_int64, c_void_p, c_int, POINTER(c_int64)]
    function.restype = c_int
    return function


def parse(
    text: bytes, lines: int, streams: Sequence[tuple[bytes, int, bool]]
) -> tuple[int, int, list[Found]]:
    """What is wrong (0: nothing), before how many bytes, and what was found of each stream.

    Args:
        lines: how many lines the text has.
        streams: of each the name, a sample's size, and whether it is sparse.

    Raises `NativeError` where there is no compiler.
    """
    function = _parse()
    numbers = text.count(b":") if any(sparse for *_, sparse in streams) else 0
    found, table = [], (_Stream * len(streams))()
    for row, (name, size, sparse) in zip(table, streams, strict=True):
        values = np.empty(numbers if sparse else (lines, size), np.float32)
        columns = np.empty(numbers, np.int32) if sparse else None
        ends = np.empty(lines, np.int64) if sparse else None
        one = Found(values, columns, ends, np.empty(lines, np.int32))
        row.name, row.name_size, row.dimension, row.sparse = name, len(name), size, sparse
        row.samples_, row.numbers_ = lines, numbers
        arrays: dict[str, np.ndarray | None] = {
            "values": values,
            "columns": columns,
            "ends": ends,
            "lines": one.lines,
        }
        for field, array in arrays.items():
            setattr(row, field, None if array is None else array.ctypes.data)
        found.append(one)
    where = c_int64(0)
    fault = function(text, len(text), pointer(table), len(streams), byref(where))
    for row, one in zip(table, found, strict=True):
        one.lines = one.lines[: row.samples]
        one.values = one.values[: row.numbers if row.sparse else row.samples]
        if one.columns is not None and one.ends is not None:
            one.columns, one.ends = one.columns[: row.numbers], one.ends[: row.samples]
    return fault, where.value, found
