"""What forbids a step of training: a loss, gradients or running statistics that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..engines.base import Engine
from ..runtime.arrays import on_cpu
from ..runtime.evaluation import Feed, Request

NOTHING_CHANGED = "\n  no parameter was changed"
HINT = (
    "a smaller rate or gradient clipping, if something grew too large; on_nan='skip' leaves such "
    "minibatches out"
)


class Part(NamedTuple):
    """Something that a step found.

    Attributes:
        name: as messages call it.
        array: where it was computed, on the CPU or on a GPU.
        may_be_infinite: whether only NaN is a fault.
    """

    name: str
    array: Any
    may_be_infinite: bool = False


def fault(parts: Iterable[Part]) -> str | None:
    """What is not finite: the first of these parts with how much of it, or None."""
    for name, array, may_be_infinite in parts:
        values = np.asarray(on_cpu(array))
        for kind, found in (("NaN", np.isnan(values)), ("infinite", np.isinf(values))):
            if found.any() and not (kind == "infinite" and may_be_infinite):
                count = f" in {found.sum()} of {values.size} elements" if values.size > 1 else ""
                return f"{name} is {kind}{count}"
    return None


def surely_finite(arrays: Iterable[Any]) -> bool:
    """Whether arrays in one memory are finite, by one number: the sum of all squares.

    A pass at the speed of BLAS, a fifth of what the plainest update takes. It may overflow where
    every element is finite; False means that one has to look closer.
    """
    total: Any = 0.0
    for array in arrays:
        if isinstance(array, np.ndarray):
            array = array.ravel(order="K")  # as it lies, without a copy
        total = total + np.vdot(array, array)
    return math.isfinite(float(total))


class Step(NamedTuple):
    """A step of training whose outcome is not known yet.

    Attributes:
        request: what was computed.
        given: what it was given.
        go_back: makes all that the CPU keeps what it was before the step.
        failed: waits until it is known whether something was not finite.
    """

    request: Request
    given: Feed
    go_back: Callable[[], None]
    failed: Callable[[], bool]


class Watch:
    """What is not finite in steps on a GPU, found there, without anybody waiting for it.

    From the first step in which something is not finite on, nothing is changed; the CPU hears of it
    when the next step is under way.
    """

    def __init__(self) -> None:
        self._guards: dict[str, Any] = {}  # by engine
        self._engine: Engine = None  # while a step is made
        self._latest: Step | None = None

    def look(self, engine: Engine, parts: Iterable[Part]) -> None:
        """Looks at what a step found; until `release`, what it changes depends on that."""
        if engine.name not in self._guards:
            self._guards[engine.name] = engine.make_guard()
        engine.guard, self._engine = self._guards[engine.name], engine
        for part in parts:
            engine.guard.look(engine.from_numpy(part.array), not part.may_be_infinite)

    def release(self) -> Callable[[], bool] | None:
        """Ends a step; what tells whether it failed, or None if nobody looked."""
        if self._engine is None:
            return None
        guard, self._engine.guard, self._engine = self._engine.guard, None, None
        return guard.later()

    def before(self, step: Step | None) -> Step | None:
        """Notes a step that was just made, or that there is none; the one before, if it failed."""
        earlier, self._latest = self._latest, step
        if earlier is None or not earlier.failed():
            return None
        self._latest = None
        for guard in self._guards.values():
            guard.clear()
        return earlier
