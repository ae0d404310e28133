"""Free dimensions: sizes that each run may choose anew.

A shape with a free dimension is inferred by trial: each shape rule runs twice with two trial sizes
for the free dimensions, and dimensions in which the results differ are free again. So no rule needs
to know about free dimensions. Before a graph runs, `fitting.fit` gives it the sizes of the data.

A free dimension remembers its two trial sizes. They distinguish, for example, sizes that are
proportional to the number of samples from sizes that are not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .errors import GraphError

Shape = tuple[int, ...]
Trials = tuple[int, int]

_TRIALS = (60_480, 110_880)  # with many divisors, so that groups and reshapes work out
SAMPLES = (11 * _TRIALS[0], 13 * _TRIALS[1])  # of the number of samples in a minibatch
_MOST_FREE = 3  # dimensions whose sizes are looked for


class Free(int):
    """A free dimension: CNTK's number for it, with its trial sizes."""

    trials: Trials

    def __new__(cls, trials: Trials) -> Free:
        new = super().__new__(cls, -3)
        new.trials = trials
        return new


FREE = Free(_TRIALS)


def is_free(shape: Shape | None) -> bool:
    return shape is not None and FREE in shape


def elements(sizes: Iterable[int]) -> int:
    """The number of elements of a shape, counting a free dimension as one."""
    return math.prod(n for n in sizes if n >= 0)


def trials_of(size: int) -> Trials:
    """The two trial sizes of a dimension; for a known size, that size twice."""
    return getattr(size, "trials", _TRIALS) if size == FREE else (size, size)


def tried(rule: Callable[..., Any], shapes: Sequence[Shape | None], unknown: int) -> Any:
    """The result of `rule(*shapes)`, a shape or several, for free dimensions; None if it can't be
    determined.

    Free dimensions that meet are taken to be equal; one that meets a known size, and fits no other,
    gets that size.

    Args:
        unknown: the result's value for a dimension that depends on the free ones.
    """
    own = [trials_of(n) for s in shapes for n in s or () if n == FREE]
    known = sorted({n for s in shapes for n in s or () if n >= 0})
    for ways in (*_ways(own, known), [_beside(shapes)]):
        found = []
        for trials in ways:
            try:
                first, second = (rule(*_filled(shapes, t)) for t in zip(*trials, strict=True))
            except GraphError:
                continue
            found.append(_merged(first, second, unknown))
        if found:
            return found[0] if all(f == found[0] for f in found) else None
    return None


def _ways(own: Sequence[Trials], known: Sequence[int]) -> Iterator[Iterable[Sequence[Trials]]]:
    """What to try for the free dimensions, group by group: as they are, all equal, then one of them
    with a known size, two, and so on.
    """
    equal = [_TRIALS] * len(own)
    yield [own]
    yield [equal]
    for some in range(1, len(own) + 1) if len(own) <= _MOST_FREE else ():
        yield (
            [(size[at.index(i)],) * 2 if i in at else t for i, t in enumerate(equal)]
            for at in itertools.combinations(range(len(own)), some)
            for size in itertools.product(known, repeat=some)
        )


def _beside(shapes: Sequence[Shape | None]) -> list[Trials]:
    """For each free dimension, the dimensions of other shapes in the same place from the end."""
    given = [s or () for s in shapes]
    met: dict[int, Trials] = {}
    for shape in given:
        for place, n in enumerate(reversed(shape)):
            if n > 1:
                met.setdefault(place, (n, n))
    return [
        met.get(len(shape) - 1 - i, _TRIALS)
        for shape in given
        for i, n in enumerate(shape)
        if n == FREE
    ]


def _filled(shapes: Sequence[Shape | None], sizes: Sequence[int]) -> list[Shape | None]:
    """The shapes with these sizes for the free dimensions, in order."""
    rest = iter(sizes)
    return [None if s is None else tuple(next(rest) if n == FREE else n for n in s) for s in shapes]


def _merged(a: Any, b: Any, unknown: int) -> Any:
    if a is None or b is None:
        return None
    if isinstance(a, list):
        return [_merged(x, y, unknown) for x, y in zip(a, b, strict=True)]
    free = unknown == FREE
    return tuple(
        x if x == y else Free((x, y)) if free else unknown for x, y in zip(a, b, strict=True)
    )
