"""`GraphError`, the error for mistakes of the user, and the user's line where they were made."""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_BETWEEN = (contextlib.__file__, functools.__file__)  # frames that stand between the library's own


class GraphError(ValueError, RuntimeError):
    """A mistake in how a graph was built, fed or evaluated.

    Args:
        problem: what is wrong: what was expected, and what was given.
        hint: how to fix it, if that is likely enough.

    `str(error)` is the whole message. It names the user's own line: by default the one being run,
    or the one that made the node with the mistake.
    """

    def __init__(self, problem: str, *, hint: str = "", located: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.origin = None if located else origin()

    def __str__(self) -> str:
        where = f"\n  at {self.origin}" if self.origin else ""
        return self.problem + where + (f"\n  hint: {self.hint}" if self.hint else "")

    def _render_traceback_(self) -> list[str]:
        """The traceback in a notebook, by IPython's protocol."""
        _hide_library(self)
        return "".join(traceback.format_exception(self)).rstrip().split("\n")


class Origin(NamedTuple):
    """The line of the user's code that made a node, and the layers in which it was made."""

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


# Of what is being made: the layers that it stands in, and the place that it is made for.
_layers: ContextVar[tuple[str, ...]] = ContextVar("layers", default=())
_place: ContextVar[Origin | None] = ContextVar("place", default=None)


@contextlib.contextmanager
def layer(name: str) -> Iterator[None]:
    """Nodes made inside belong to the layer of this name."""
    before = _layers.set((*_layers.get(), name))
    try:
        yield
    finally:
        _layers.reset(before)


@contextlib.contextmanager
def made_at(place: Origin) -> Iterator[None]:
    """Nodes made inside get this origin: they are made on behalf of another node."""
    before = _place.set(place)
    try:
        yield
    finally:
        _place.reset(before)


def origin() -> Origin:
    """The innermost frame of the call stack outside of the library."""
    place = _place.get()
    if place is not None:
        return place
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    code = frame.f_code
    return Origin(code.co_filename, frame.f_lineno, code.co_name, _layers.get())


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
    return GraphError("\n".join(lines), hint=error.hint, located=True)


@functools.lru_cache(maxsize=1024)
def _is_library(file: str) -> bool:
    return file.startswith(_PACKAGE) or file in _BETWEEN


def _hide_library(error: BaseException) -> None:
    """Remove the library's frames from the traceback of `error` and of its causes."""
    hidden = ("IPython.", "ipykernel.")
    seen: BaseException | None = error
    while seen is not None:
        frames = []
        link = seen.__traceback__
        while link is not None:
            module = link.tb_frame.f_globals.get("__name__", "") + "."
            file = link.tb_frame.f_code.co_filename
            if not _is_library(file) and not module.startswith(hidden):
                frames.append(link)
            link = link.tb_next
        kept = None
        for link in reversed(frames):
            kept = TracebackType(kept, link.tb_frame, link.tb_lasti, link.tb_lineno)
        seen.__traceback__ = kept
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _show(
    before: Callable[..., object],
    kind: type[BaseException],
    error: BaseException,
    where: TracebackType | None,
) -> None:
    """Replacement of Python's excepthook that hides the library's frames."""
    if isinstance(error, GraphError):
        _hide_library(error)
        where = error.__traceback__
    before(kind, error, where)


sys.excepthook = functools.partial(_show, sys.excepthook)
