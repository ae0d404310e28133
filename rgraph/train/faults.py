"""Faults of training steps: losses, gradients or running statistics that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..device import engine as engine_of
from ..engines.base import Engine
from ..graph import GraphError, Node
from ..graph.node import describe
from ..inspect.nans import checked_mode
from ..learners import Learner
from ..ops.records import hold
from ..runtime.arrays import on_cpu
from ..runtime.evaluation import Feed
from .steps import Step, Steps

NOTHING_CHANGED = "\n  no parameter was changed"
HINT = (
    "a smaller rate or gradient clipping, if something grew too large; on_nan='skip' leaves such "
    "minibatches out"
)


class Part(NamedTuple):
    """A result of a step.

    Attributes:
        name: its name in messages.
        array: the array, on the CPU or on a GPU.
        may_be_infinite: whether only NaN is a fault.
    """

    name: str
    array: Any
    may_be_infinite: bool = False


def fault(parts: Iterable[Part]) -> str | None:
    """The first of these parts that is not finite, in words; None if all are finite."""
    for name, array, may_be_infinite in parts:
        values = np.asarray(on_cpu(array))
        for kind, found in (("NaN", np.isnan(values)), ("infinite", np.isinf(values))):
            if found.any() and not (kind == "infinite" and may_be_infinite):
                count = f" in {found.sum()} of {values.size} elements" if values.size > 1 else ""
                return f"{name} is {kind}{count}"
    return None


def surely_finite(arrays: Iterable[Any]) -> bool:
    """Whether all elements of arrays are finite, by one number: the sum of their squares.

    This runs at the speed of BLAS, in a fifth of the time of the simplest update. The sum may
    overflow although every element is finite; False means that a closer look is needed.
    """
    total: Any = 0.0
    for array in arrays:
        if isinstance(array, np.ndarray):
            array = array.ravel(order="K")  # as it lies, without a copy
        total = total + np.vdot(array, array)
    return math.isfinite(float(total))


class Pending(NamedTuple):
    """A training step whose outcome is not known yet.

    Attributes:
        step: the step.
        given: its data.
        go_back: restores the state that the CPU keeps to that before the step.
        failed: waits until it is known whether something was not finite.
    """

    step: Step
    given: Feed
    go_back: Callable[[], None]
    failed: Callable[[], bool]


class Watch:
    """Finds on a GPU what is not finite in training steps, without waiting for the GPU.

    From the first step on in which something is not finite, nothing is changed; the CPU hears of it
    during the next step.
    """

    def __init__(self) -> None:
        self._guards: dict[Engine, Any] = {}
        self._engine: Engine = None  # while a step is made
        self._latest: Pending | None = None

    def look(self, engine: Engine, parts: Iterable[Part]) -> None:
        """Looks at what a step found; until `release`, what it changes depends on that."""
        if engine not in self._guards:
            self._guards[engine] = engine.make_guard()
        engine.guard, self._engine = self._guards[engine], engine
        for part in parts:
            engine.guard.look(engine.from_numpy(part.array), not part.may_be_infinite)

    def release(self) -> Callable[[], bool] | None:
        """Ends a step; what tells whether it failed, or None if nobody looked."""
        if self._engine is None:
            return None
        engine, self._engine = self._engine, None
        guard, engine.guard = engine.guard, None
        with engine.active():
            return guard.later()

    def before(self, step: Pending | None) -> Pending | None:
        """Note a step that was just made, or that there is none; returns the previous one if it
        failed."""
        earlier, self._latest = self._latest, step
        if earlier is None or not earlier.failed():
            return None
        self._latest = None
        for engine, guard in self._guards.items():
            with engine.active():
                guard.clear()
        return earlier


class Faults:
    """Handles training steps that are not finite.

    Args:
        on_nan: "raise", "skip" or "ignore": see `Trainer`.
        steps: the steps of the trainer.
        learners: all its learners.
        write: `write(key, number)`, for the progress writers.

    Attributes:
        skipped: how many minibatches were skipped.
    """

    def __init__(
        self,
        on_nan: str,
        steps: Steps,
        learners: Sequence[Learner],
        write: Callable[[str, float], None],
    ) -> None:
        self.on_nan, self.skipped = on_nan, 0
        self._steps, self._learners, self._write = steps, learners, write
        self._watch = Watch()

    def watching(self, step: Step, given: Feed) -> Engine | None:
        """The engine, if it is a GPU and its results need not be waited for."""
        engine = engine_of(given.device)
        ours = all(k.is_by_step for k in self._learners) and not step.may_overflow
        return engine if self.on_nan == "raise" and ours and engine.is_gpu else None

    def look(self, engine: Engine, step: Step, loss: Any, found: Sequence[Any]) -> None:
        """Has a GPU look at what a step found; until `release`, what it changes depends on that."""
        self._watch.look(engine, self._found(step, loss, found))

    def release(self) -> Callable[[], bool] | None:
        """Ends a step; see `Watch.release`."""
        return self._watch.release()

    def overflows(self, step: Step, found: Sequence[Any]) -> bool:
        """Whether given gradients are not finite and a smaller scale may help."""
        if not step.may_overflow or self._steps.scaling.value <= 1:
            return False
        gradients = found[: len(step.given)]
        return not surely_finite(gradients) and fault(Part("", g) for g in gradients) is not None

    def problem(
        self, step: Step, loss: Any, found: Sequence[Any], overflows: bool = False
    ) -> str | None:
        """What is not finite among the loss and the other results of a minibatch.

        Args:
            overflows: whether gradients may be infinite.
        """
        looked_at = found[len(step.given) * overflows : len(found) - step.unchecked]
        if self.on_nan == "ignore" or surely_finite([loss, *looked_at]):
            return None
        before = [Part(f"{p!r}, before the step,", p.value) for p in self._steps.parameters]
        parts = self._found(step, loss, found)
        if overflows:
            del parts[1 : 1 + len(step.given)]
        return fault([*before, *parts])

    def settle(self, latest: Pending | None = None) -> None:
        """Raise the error of the step before the latest, or of the last one.

        The state is then that before the failed step.
        """
        failed = self._watch.before(latest)
        if failed is None:
            return
        failed.go_back()
        problem: str | None = None

        def look(rows: Sequence[Any]) -> bool:
            nonlocal problem
            found = rows[len(failed.step.request.values) :]
            problem = self.problem(failed.step, rows[0], found)
            return False

        self._steps.program.run(failed.step.request, failed.given, raw_gradients=True, accept=look)
        self.refuse(problem or "a minibatch gave NaN", failed.step, failed.given)

    def refuse(self, problem: str, step: Step, given: Feed) -> None:
        """Handle a minibatch that must not be learned from."""
        if not self.counts_as_skipped():
            raise GraphError(self.traced(problem, step, given) + NOTHING_CHANGED, hint=HINT)

    def counts_as_skipped(self) -> bool:
        """Count a minibatch as skipped; returns whether that is not an error."""
        self.skipped += 1
        if self.on_nan == "skip":
            self._write("Minibatches skipped for NaN", self.skipped)
        return self.on_nan == "skip"

    def traced(self, problem: str, step: Step, given: Feed) -> str:
        """`problem`, with the operation that computed the first NaN.

        The step is run again with the same random numbers, without the updates of learners that
        give NaN only if a gradient does: `problem` names that gradient's parameter.
        """
        updates = step.request.updates
        request = step.request._replace(updates=updates[: len(updates) - step.unchecked])
        try:
            with checked_mode():
                self._steps.program.run(request, given, accept=lambda rows: False)
        except GraphError as error:
            problem += f"\n  {error.problem}"
        return problem

    def _found(self, step: Step, loss: Any, found: Sequence[Any]) -> list[Part]:
        """The results of a step: loss, gradients, new running statistics, and new parameters."""
        request = step.request
        own = [k.parameters for k in self._learners if k.options.cuts_gradients]
        cut = {p.node for parameters in own for p in parameters}
        gradients = zip(request.wrt, found, strict=False)
        last = found[len(found) - len(request.updates) :]  # what the loss assigns comes before
        news = list(zip(request.updates, last, strict=True))
        news = news[: len(news) - step.unchecked]
        return [
            Part("the loss", loss, may_be_infinite=True),
            *(Part(f"the gradient of {hold(p)!r}", g, p in cut) for p, g in gradients),
            *(Part(self._new_value(stored), v) for (stored, _), v in news),
        ]

    def _new_value(self, stored: Node) -> str:
        if stored is self._steps.scaling.factor:
            return "a gradient at a loss scale of 1"
        kind = "running statistic" if stored in self._steps.states else "new value of"
        return f"the {kind} {describe(stored)}"
