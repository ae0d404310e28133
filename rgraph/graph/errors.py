"""The one kind of error that a user's mistake gives, and where in the user's code it was made."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class GraphError(ValueError):
    """A mistake in how a graph was built, fed or asked for.

    Args:
        problem: what is wrong: what was expected and what was got.
        mend: what to do about it, if that is likely enough to say.

    `str(error)` is the whole message. It names the user's own line: by default the one that is
    being run, or the one that made the node that the mistake is in.
    """

    def __init__(self, problem: str, *, mend: str = "", located: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend
        self.origin = None if located else origin()

    def __str__(self) -> str:
        where = f"\n  at {self.origin}" if self.origin else ""
        return self.problem + where + (f"\n  mend: {self.mend}" if self.mend else "")


class Origin(NamedTuple):
    """The line of the user's code that made a node, and the layers that it was made in."""

    file: str
    line: int
    function: str
    layers: tuple[str, ...]

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        where = f"{self.file}, line {self.line}"
        if not self.function.startswith("<"):
            where += f", in {self.function}"
        return where + (f":  {text}" if text else "")


_layers: list[str] = []


@contextlib.contextmanager
def layer(name: str) -> Iterator[None]:
    """Nodes made inside say that they stand in the layer of this name."""
    _layers.append(name)
    try:
        yield
    finally:
        _layers.pop()


def origin() -> Origin:
    """The innermost frame of the call stack that is not the library's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    code = frame.f_code
    return Origin(code.co_filename, frame.f_lineno, code.co_name, tuple(_layers))


def located(error: GraphError, op: str, made: Origin, operands: list[str]) -> GraphError:
    """`error` with the operation, where it was made and used, and its operands."""
    lines = [f"{op}: {error.problem}" if op else error.problem]
    if made.layers:
        lines.append("  in layer " + " of ".join(reversed(made.layers)))
    lines.append(f"  at {made}")
    used = origin()
    if used[:2] != made[:2]:
        lines.append(f"  used at {used}")
    lines += [f"  {operand}" for operand in operands]
    return GraphError("\n".join(lines), mend=error.mend, located=True)
