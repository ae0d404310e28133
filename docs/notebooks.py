"""Makes notebooks of the first four pages: `python -m docs.notebooks`.

The outputs that stand on the pages stand in the notebooks. Drawings come when a cell is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FOLDER = DOCS / "notebooks"
PAGES = ("index", "axes", "recurrences", "training")
_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def notebook(page: Path) -> str:
    """A page as a notebook, in Jupyter's format 4.5."""
    cells: list[dict[str, Any]] = []
    for kind, content in _parts(page.read_text("utf-8")):
        if kind == "text" and "..." not in content:  # that would be a time, say
            cells[-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": content}]
        elif kind == "python":
            cells.append(_cell("code", content) | {"outputs": [], "execution_count": None})
        elif kind == "markdown" and content:
            content = re.sub(r"(!?\[[^]]*\])\((?!http)", r"\1(../", content)
            cells.append(_cell("markdown", content))
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """What a page is made of: Markdown, programs, and their output."""
    end = 0
    for block in _BLOCK.finditer(text):
        yield "markdown", text[end : block.start()].strip()
        yield block[1], block[2]
        end = block.end()
    yield "markdown", text[end:].strip()


def _cell(kind: str, content: str) -> dict[str, Any]:
    lines = content.strip("\n").splitlines(keepends=True)
    return {"cell_type": kind, "id": "", "metadata": {}, "source": lines}


def main() -> None:
    """Writes all."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / f"{name}.ipynb").write_text(notebook(DOCS / f"{name}.md"), "utf-8")


if __name__ == "__main__":
    main()
