"""How much programs that ask for it print: CNTK's trace level."""

from __future__ import annotations

import enum

from ..graph.context import context


class TraceLevel(enum.IntEnum):
    """How much to print. rgraph itself looks at none: what is wrong is an error or a warning.

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
