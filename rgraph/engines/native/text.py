"""Parses numbers in lines of text, in C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..text import Found
from .library import load


def parse(
    text: bytes, lines: int, streams: Sequence[tuple[bytes, int, bool]]
) -> tuple[int, int, list[Found]]:
    """Returns an error code (0: none), the position of the error in bytes, and what was found of
    each stream.

    Args:
        lines: how many lines the text has.
        streams: for each stream its name, the size of a sample, and whether it is sparse.

    Raises `NativeError` if the package was built without C.
    """
    library = load()
    numbers = text.count(b":") if any(sparse for *_, sparse in streams) else 0
    found = []
    for _, size, sparse in streams:
        values = np.empty(numbers if sparse else (lines, size), np.float32)
        columns = np.empty(numbers, np.int32) if sparse else None
        ends = np.empty(lines, np.int64) if sparse else None
        found.append(Found(values, columns, ends, np.empty(lines, np.int32)))
    given = tuple(
        (*stream, one.values, one.columns, one.ends, one.lines)
        for stream, one in zip(streams, found, strict=True)
    )
    fault, where, sizes = library.parse_text(text, given)
    for one, (samples, stored) in zip(found, sizes, strict=True):
        one.lines = one.lines[:samples]
        one.values = one.values[: samples if one.columns is None else stored]
        if one.columns is not None and one.ends is not None:
            one.columns, one.ends = one.columns[:stored], one.ends[:samples]
    return fault, where, found
