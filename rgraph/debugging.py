"""Help in finding mistakes: CNTK's `debugging` module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import minibatch

__all__ = ["set_checked_mode"]


def set_checked_mode(enable: bool) -> None:
    """Whether inputs are searched for NaN from here on, at the cost of a pass over each.

    With it, `eval` and `grad` of an input that has NaN raise a `GraphError` that says where.

    Source: CNTK's `debugging.set_checked_mode`.

    >>> C.debugging.set_checked_mode(True)
    >>> x = C.input_variable(2, name="x")
    >>> try:
    ...     (x + 1).eval({x: [[1, np.nan]]})
    ... except C.GraphError as error:
    ...     print(error.problem.splitlines()[0])
    input 'x' (2,) per sample has NaN, first at (0, 1)
    >>> C.debugging.set_checked_mode(False)
    """
    minibatch.checked_mode = bool(enable)


@contextmanager
def checked_mode() -> Iterator[None]:
    """The checked mode for a while: to run again what gave NaN, and hear where that came from."""
    before = minibatch.checked_mode
    set_checked_mode(True)
    try:
        yield
    finally:
        set_checked_mode(before)
