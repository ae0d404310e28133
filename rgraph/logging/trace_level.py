"""CNTK's trace level, for programs that use it."""

from __future__ import annotations

import enum

from ..graph.context import context


class TraceLevel(enum.IntEnum):
    """How much to print. It has no effect on rgraph itself, which uses errors and warnings.

    >>> C.logging.TraceLevel.Warning.value
    1
    """

    __str__ = enum.Enum.__str__

    Error = 0
    Warning = 1
    Info = 2


def set_trace_level(value: int) -> None:
    """Sets the trace level for a program's own use.

    >>> C.logging.set_trace_level(C.logging.TraceLevel.Warning)
    """
    context().trace_level = TraceLevel(value)


def get_trace_level() -> TraceLevel:
    """The trace level that was set.

    >>> C.logging.get_trace_level() == C.logging.TraceLevel.Warning
    True
    """
    return TraceLevel(context().trace_level)
