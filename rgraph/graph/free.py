"""Free dimensions: sizes of an input that each run may choose anew.

A shape with a free dimension is worked out by trying: each shape rule runs twice with two
sizes in the free dimensions' place, and what differs between the results is free again. So no rule
knows of free dimensions. Before a graph runs, `fitting.fit` gives it the sizes that it is fed with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import GraphError

Shape = tuple[int, ...]

FREE = -3
_TRIALS = (60_480, 110_880)  # with many divisors, so that groups and reshapes work out


def is_free(shape: Shape | None) -> bool:
    return shape is not None and FREE in shape


def tried(rule: Callable[..., Any], shapes: Sequence[Shape | None], unknown: int) -> Any:
    """What `rule(*shapes)`, a shape or several, is for free dimensions; None if that can't be said.

    Args:
        unknown: what stands in the result for a dimension that depends on the free ones.
    """
    results = []
    for size in _TRIALS:
        filled = [None if s is None else tuple(size if n == FREE else n for n in s) for s in shapes]
        try:
            results.append(rule(*filled))
        except GraphError:
            return None
    first, second = results
    return _merged(first, second, unknown)


def _merged(a: Any, b: Any, unknown: int) -> Any:
    if a is None or b is None:
        return None
    if isinstance(a, list):
        return [_merged(x, y, unknown) for x, y in zip(a, b, strict=True)]
    return tuple(x if x == y else unknown for x, y in zip(a, b, strict=True))
