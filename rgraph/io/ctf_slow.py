"""Parses CNTK's text format in Python: about ten times slower than `engines.native.text`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..engines.text import Found

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_BEFORE = re.compile(rb"[0-9 \t]*")
_INDEX = re.compile(rb"\d+\Z")
NO_BAR, NO_NAME, NO_NUMBER, TOO_MANY, NO_INDEX, LARGE_INDEX, TOO_MANY_SAMPLES = range(1, 8)


class _Fault(Exception):
    def __init__(self, fault: int, where: int) -> None:
        self.fault, self.where = fault, where


class _Stream:
    """The samples of one stream parsed so far."""

    def __init__(self, size: int, sparse: bool) -> None:
        self.size, self.sparse = size, sparse
        self.values: list[np.ndarray] = []
        self.columns: list[int] = []
        self.numbers: list[float] = []
        self.ends: list[int] = []
        self.lines: list[int] = []

    def add(self, text: bytes, where: int, line: int) -> None:
        words = text.split()
        self._add_sparse(words, text, where) if self.sparse else self._add_dense(words, text, where)
        self.lines.append(line)

    def _add_dense(self, words: list[bytes], text: bytes, where: int) -> None:
        for word in words:
            if not _NUMBER.match(word):
                raise _Fault(NO_NUMBER, where + text.index(word))
        if len(words) > self.size:
            raise _Fault(TOO_MANY, where + text.rindex(words[self.size]))
        row = np.zeros(self.size, np.float32)
        with np.errstate(over="ignore"):
            row[: len(words)] = np.array(words, float) if words else ()
        self.values.append(row)

    def _add_sparse(self, words: list[bytes], text: bytes, where: int) -> None:
        for word in words:
            index, colon, value = word.partition(b":")
            place = where + text.index(word)
            if not colon or not _INDEX.match(index):
                raise _Fault(NO_INDEX, place)
            if int(index) >= self.size:
                raise _Fault(LARGE_INDEX, place)
            if not _NUMBER.match(value):
                raise _Fault(NO_NUMBER, place + len(index) + 1)
            self.columns.append(int(index))
            self.numbers.append(float(value))
        self.ends.append(len(self.numbers))

    def found(self) -> Found:
        lines = np.array(self.lines, np.int32)
        if not self.sparse:
            values = np.array(self.values, np.float32).reshape(-1, self.size)
            return Found(values, None, None, lines)
        values = np.array(self.numbers, np.float32)
        return Found(values, np.array(self.columns, np.int32), np.array(self.ends, np.int64), lines)


def parse(
    text: bytes, lines: int, streams: Sequence[tuple[bytes, int, bool]]
) -> tuple[int, int, list[Found]]:
    """Same as `engines.native.text.parse`."""
    table = {name: _Stream(size, sparse) for name, size, sparse in streams}
    begin = 0
    try:
        for number, line in enumerate(text.split(b"\n")):
            _parse_line(line.rstrip(b"\r"), begin, number, table, lines)
            begin += len(line) + 1
    except _Fault as found:
        return found.fault, found.where, []
    return 0, 0, [stream.found() for stream in table.values()]


def _parse_line(
    line: bytes, begin: int, number: int, table: dict[bytes, _Stream], room: int
) -> None:
    before, *parts = line.split(b"|")
    skipped = _BEFORE.match(before)
    if skipped is not None and skipped.end() < len(before):
        raise _Fault(NO_BAR, begin + skipped.end())
    where = begin + len(before) + 1
    for part in parts:
        name = part[: len(part) - len(part.lstrip(b"#"))] or part.split(None, 1)[:1]
        name = name[0] if isinstance(name, list) and name else name
        if not name or part[:1] in b" \t":
            raise _Fault(NO_NAME, where)
        if name in table:
            if len(table[name].lines) == room:
                raise _Fault(TOO_MANY_SAMPLES, where)
            table[name].add(part[len(name) :], where + len(name), number)
        where += len(part) + 1
