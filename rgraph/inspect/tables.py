"""Tables as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """A line of a table: its cells, and the indentation of the first one."""

    cells: Sequence[str]
    depth: int = 0


def as_text(
    columns: Sequence[str], lines: Sequence[Line], numbers: Collection[int], rule: bool = True
) -> str:
    """A table for a terminal.

    Args:
        numbers: the columns to align to the right.
        rule: whether to draw lines below the head and at the end.
    """
    rows = [list(columns)]
    rows += [["  " * line.depth + line.cells[0], *line.cells[1:]] for line in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    text = [
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    between = ["-" * max(map(len, text))] if rule else []
    return "\n".join([text[0], *between, *text[1:], *between])


def as_html(columns: Sequence[str], lines: Sequence[Line], below: Sequence[str] = ()) -> str:
    """A table as HTML, with sentences below it."""

    def row(line: Line, tag: str) -> str:
        first, *rest = map(html.escape, line.cells)
        pad = f' style="padding-left:{1 + line.depth}em"'
        return f"<tr><{tag}{pad}>{first}</{tag}>" + "".join(f"<{tag}>{c}</{tag}>" for c in rest)

    body = "".join(row(line, "td") for line in lines)
    after = "<br>".join(map(html.escape, below))
    return f"<table>{row(Line(columns), 'th')}{body}</table>" + (f"<p>{after}</p>" if after else "")
