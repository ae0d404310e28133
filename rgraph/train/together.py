"""One training step of several workers, each with a minibatch of its own, or with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..device import DeviceDescriptor
from ..device import engine as device_engine
from ..eval import has_samples
from ..graph import GraphError
from .exchange import Exchange, Found
from .faults import HINT, NOTHING_CHANGED, surely_finite

if TYPE_CHECKING:
    from .trainer import Trainer


class JointStep:
    """A training step of all workers.

    Args:
        ends_sweep: whether it ends a sweep over this worker's data.

    Attributes:
        own: the result of this worker.
        joined: the result of all workers.
        is_sound: whether that is finite, or need not be; gradients too large for the loss scale
            don't count.
    """

    def __init__(self, trainer: Trainer, exchange: Exchange, ends_sweep: bool) -> None:
        self._trainer, self._exchange = trainer, exchange
        self.own = self.joined = Found(ends_sweep=ends_sweep)
        self.is_sound = True

    @property
    def is_made(self) -> bool:
        """Whether there is a step without a fault."""
        return self.joined.samples > 0 and self.is_sound

    @property
    def is_change(self) -> bool:
        """Whether parameters are to be changed."""
        return self.is_made and not self.joined.overflows

    def run(
        self, arguments: Any, wanted: Sequence[Any], device: DeviceDescriptor | None
    ) -> list[Any]:
        """Run the step; returns the requested values.

        Raises:
            GraphError: something is not finite, and that is an error.
        """
        trainer, problem = self._trainer, ""
        self._exchange.begin(trainer.total_number_of_samples_seen)
        values: list[Any] = []
        if has_samples(arguments):
            values, problem = self._compute(arguments, wanted, device)
        else:
            self._join(self.own, device_engine(device))
            if self.is_change:
                self._exchange.set_statistics(self.joined.statistics)
        if not self.is_sound and trainer._faults.counts_as_skipped():
            return values
        if not self.is_sound:
            told = self._exchange.workers.gather(problem)
            parts = [f"{what}\n  on worker {rank}" for rank, what in enumerate(told) if what]
            what = "\n".join(parts) or "the sum over all workers is not finite"
            raise GraphError(what + NOTHING_CHANGED, hint=HINT)
        return values

    def learn(self) -> bool:
        """Run the updates of the learners; returns whether training goes on."""
        joined, results = self.joined, []
        if joined.overflows:
            joined = joined._replace(gradients={})
        for learner in self._exchange.learners:
            samples = joined.samples if learner.sums_gradients else self.own.samples
            if samples and (joined.overflows or learner.parameters[0] in joined.gradients):
                own, ends = learner.learner, joined.ends_sweep
                results.append(self._trainer._learn(own, joined.gradients, samples, ends))
        return any(results) or not results

    def _compute(
        self, arguments: object, wanted: Sequence[object], device: DeviceDescriptor | None
    ) -> tuple[list[Any], str]:
        """Like `run`, for a worker with data; also returns what is wrong with its own result."""
        trainer, exchange = self._trainer, self._exchange
        steps, faults = trainer._steps, trainer._faults
        given = exchange.of_its_own(steps.program.feed(arguments, device, training=True))
        step = steps.step(wanted, given, may_join=False)
        m = len(steps.wanted)
        n = m + len(wanted)
        request, engine = step.request, device_engine(given.device)
        problem: str | None = None

        def accept(rows: list[Any]) -> bool:
            nonlocal problem
            news = slice(len(rows) - len(request.updates), None)
            with engine.active():
                overflows = steps.samples() > 0 and faults.overflows(step, rows[n:])
                self.own = Found(
                    float(rows[0]),
                    float(rows[2]) if m > 2 else 0.0,
                    steps.samples(),
                    dict(zip(step.given, rows[n:], strict=False)),
                    rows[news],
                    True,
                    self.own.ends_sweep,
                    overflows,
                )
                if self.own.samples:
                    problem = faults.problem(step, rows[0], rows[n:], overflows)
            self._join(self.own, engine)
            rows[news] = self.joined.statistics
            return self.is_change

        ready = exchange.early(step.given, n, steps.samples, engine)
        try:
            values = steps.program.run(
                request, given, raw_gradients=True, later=m, accept=accept, ready=ready
            )
        except Exception:
            exchange.fail(engine)
            raise
        if problem and not self.is_sound and faults.on_nan == "raise":
            problem = faults.traced(problem, step, given)
        return values[m:n], problem or ""

    def _join(self, own: Found, engine: Any) -> None:
        joined = self._exchange.join(own, engine)
        arrays = [*joined.statistics, *(() if joined.overflows else joined.gradients.values())]
        if self._trainer._faults.on_nan != "ignore" and joined.samples:
            with engine.active():
                self.is_sound = surely_finite([joined.loss, *arrays])
        gradients = {p: engine.from_numpy(g) for p, g in joined.gradients.items()}
        statistics = [engine.from_numpy(s) for s in joined.statistics]
        self.joined = joined._replace(gradients=gradients, statistics=statistics)
        if self.is_made:
            self._trainer._scaling.note(not joined.overflows)
