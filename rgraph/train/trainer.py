"""One step of training: loss, metric and all gradients by one plan, then the learners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..default_options import get_global_option
from ..device import engine as engine_of
from ..eval import Evaluator, as_writers, counts_sequences, ends_sweep
from ..graph import Node
from ..inspect.profile import print_node_timing
from ..io.base import Source
from ..learners import Learner
from ..operands.tracing import nodes_of
from ..ops.records import hold
from ..runtime.arrays import on_cpu
from ..runtime.windows import window_of
from ..runtime.workers import Workers
from .checkpoint import restore, save_all
from .criterion import as_criterion, check_learners, learned_by, loss_and_metric
from .distributed import DistributedLearner
from .exchange import exchange_of
from .faults import Faults, Pending
from .scaling import LossScale, Scaling
from .steps import Step, Steps
from .together import JointStep

if TYPE_CHECKING:
    from ..model.function import Function


class Trainer:
    """Trains a model: each call of `train_minibatch` is one step.

    Args:
        model: the function that is trained, of one or several outputs; None if the loss is all
            there is.
        criterion: the loss, a pair of loss and metric, or a function with these outputs. The
            loss is summed over all elements, samples and frames.
        parameter_learners: a learner or several. They need not learn all parameters.
        progress_writers: `C.logging.ProgressPrinter()` or the like, or several.
        on_nan: what to do where the loss, a gradient or a running statistic of a minibatch is NaN,
            or one of the latter two infinite. Parameters, learners and statistics stay as they
            were before; "raise" raises an error, "skip" goes on with the next minibatch, and the
            progress writers hear how many were skipped so far. "ignore" does not look. On a GPU
            "raise" does not wait to see: the error comes with the next minibatch, summary or
            checkpoint, neither minibatch having changed anything; "skip" waits in each step.
            Infinite gradients are no fault where the learner cuts them off
            (`gradient_clipping_threshold_per_sample`). By default what
            `C.set_global_option("on_nan", …)` said, or "raise". Programs that `python -m rgraph
            run` starts have "ignore", as in CNTK.
        window: how many frames of each sequence are computed at once: the same gradients in less
            memory, for one more forward pass; see `Function.grad`.
        memory_limit: instead of `window`, how many bytes results on the way may take.
        loss_scale: what the loss is multiplied with for the way back, and gradients divided by, so
            that values of float16 on the way are not too small: a number, or "dynamic". That
            begins with 2**15. A minibatch whose gradients are not finite is left out then and the
            scale halved; after 2000 others in a row it is doubled. `train.DynamicLossScale` has
            other numbers. Gradients that are not finite at a scale of 1, and a loss that is NaN,
            are faults as ever (see `on_nan`). Schedules count minibatches that are left out.

    Where learners are distributed, a step is one of all workers together: its losses, metrics and
    samples are sums over their minibatches, and all must call `train_minibatch`, and save and
    restore checkpoints, the same number of times.

    Attributes:
        previous_minibatch_sample_count: how many samples (or frames) the last minibatch had.
        total_number_of_samples_seen: in all minibatches.
        ended_sweep: whether a sweep over the data ended with the last one.

    Raises:
        GraphError: a shape in the model is not known yet; while training, NaN (see `on_nan`).
        ValueError: the loss does not depend on a learner's parameter, or two learners have one.

    Source: CNTK's `Trainer`.

    >>> x, t = C.input_variable(1), C.input_variable(1)
    >>> y = x * C.Parameter(1)
    >>> trainer = C.Trainer(y, C.squared_error(y, t), C.sgd(y.parameters, 0.25))
    >>> for _ in range(10):
    ...     _ = trainer.train_minibatch({x: [[1], [2]], t: [[3], [6]]})
    >>> y.parameters[0].value.round(2)
    array([3.], dtype=float32)
    """

    _get_loss_metric = staticmethod(loss_and_metric)

    def __init__(
        self,
        model: Any,
        criterion: Any,
        parameter_learners: Any,
        progress_writers: Any = None,
        on_nan: str | None = None,
        window: int | None = None,
        memory_limit: int | None = None,
        loss_scale: LossScale = None,
    ) -> None:
        on_nan = get_global_option("on_nan", "raise") if on_nan is None else on_nan
        if on_nan not in ("raise", "skip", "ignore"):
            raise ValueError(f"on_nan is 'raise', 'skip' or 'ignore', not {on_nan!r:.60}")
        self._model = [] if model is None else nodes_of(model)
        self._criterion = criterion
        self._is_function = hasattr(criterion, "signature")  # not a tuple, not a variable
        self._loss, self._metric = as_criterion(criterion)
        several = isinstance(parameter_learners, (list, tuple))
        learners: list[Learner] = list(parameter_learners) if several else [parameter_learners]
        self.parameter_learners = learners
        self.progress_writers = as_writers(progress_writers, self._metric is not None)
        check_learners(learners)
        self._distributed = [k for k in learners if isinstance(k, DistributedLearner)]
        self._learners = [getattr(k, "learner", k) for k in learners]
        for learner in self._learners:
            learner.tell = self._write
        parts = self._loss, self._metric, self._model
        learned, among = learned_by(learners, self._loss), window_of(window, memory_limit)
        looks = on_nan != "ignore"
        self._scaling = Scaling(loss_scale, looks)
        self._steps = Steps(*parts, self._learners, learned, among, looks, self._scaling)
        self._faults = Faults(on_nan, self._steps, self._learners, self._write)
        self._program = self._steps.program
        self._exchange = exchange_of(learners, list(map(hold, self._steps.states)), self._loss)
        measured, is_loss = self._metric or self._loss, self._metric is None
        self._evaluator = Evaluator(measured, self.progress_writers, is_loss)
        self._sums: tuple[Any, Any] = 0.0, None  # loss and metric, which may be under way yet
        self.previous_minibatch_sample_count = 0
        self.ended_sweep = False
        self.total_number_of_samples_seen = 0

    @property
    def model(self) -> Any:
        """The model, if one was given."""
        if not self._model:
            return None
        return hold(self._model[0] if len(self._model) == 1 else self._model)

    @property
    def loss_function(self) -> Any:
        """What training makes small."""
        return hold(self._loss)

    @property
    def evaluation_function(self) -> Any:
        """The metric, if one was given."""
        return None if self._metric is None else hold(self._metric)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The inputs, in the criterion's order."""
        return self._criterion.arguments if self._is_function else self._program.arguments

    @property
    def workers(self) -> Workers:
        """Those that train together: of learners that are not distributed, this one."""
        return Workers() if self._exchange is None else self._exchange.workers

    def check_data(self, source: Any) -> None:
        """Raises `GraphError` if a source reads something else for another worker."""
        if self._exchange is not None and isinstance(source, Source):
            self._exchange.check_data(source)

    def is_dealt(self) -> bool:
        """Whether each worker is to read its part of the data from here on."""
        seen = self.total_number_of_samples_seen
        return self._exchange is not None and self._exchange.parallel_at(seen)

    @property
    def loss_scale(self) -> float:
        """What the loss is multiplied with now; 1 if it is not scaled."""
        return self._scaling.value

    @property
    def counts_sequences(self) -> bool:
        """Whether its samples are whole sequences (which have a loss each), not their frames."""
        return counts_sequences(self._steps.wanted[1], self.arguments)

    @property
    def previous_minibatch_loss_average(self) -> float:
        """The last minibatch's loss, per sample (or frame); asking for it waits for a GPU."""
        return self._mean(self._sums[0])

    @property
    def previous_minibatch_evaluation_average(self) -> float:
        """And its metric; 0 if there is none."""
        return self._mean(self._sums[1])

    def _mean(self, total: Any) -> float:
        number = 0.0 if total is None else float(total)
        return number / max(self.previous_minibatch_sample_count, 1)

    def _write(self, key: str, value: float) -> None:
        for writer in self.progress_writers:
            writer.write(key, value)

    # Running

    def train_minibatch(
        self,
        arguments: Any,
        outputs: Iterable[Any] | None = None,
        device: Any = None,
        is_sweep_end: bool | None = None,
    ) -> Any:
        """One step: the loss of a minibatch, its gradients, and the learners' updates.

        Args:
            arguments: a dict from inputs to values, as `Function.eval` takes it. An empty one
                is the end of the data: nothing is learned.
            outputs: values to give back, computed before the update.
            is_sweep_end: whether a pass over the data ends with this minibatch; schedules
                without an epoch size follow that. Minibatch sources say it themselves.

        A minibatch that the loss has no samples of (all were left out by `sequence.gather`, say)
        changes nothing.

        Returns:
            whether there is more to learn: False for an empty dict, and if all learners say so;
            with `outputs` a pair of that and a dict of their values.
        """
        wanted = list(outputs or ())
        ends = self.ended_sweep = bool(is_sweep_end) or ends_sweep(arguments)
        if self._exchange is not None:
            return self._train_together(
                JointStep(self, self._exchange, ends), arguments, wanted, device
            )
        if arguments is None or (isinstance(arguments, Mapping) and not arguments):
            self._faults.settle()
            return (False, {}) if wanted else False
        given = self._program.feed(arguments, device, training=True)
        step = self._steps.step(wanted, given)
        given = self._steps.with_numbers(given, step)
        request, m = step.request, len(self._steps.wanted)
        n = m + len(wanted)
        problem, overflows = None, False
        watching = self._faults.watching(step, given)
        if not watching:
            self._faults.settle()
        go_back = self._position()

        def accept(rows: Sequence[Any]) -> bool:
            nonlocal problem, overflows
            samples = self.previous_minibatch_sample_count = self._steps.samples()
            with engine_of(given.device).active():
                if samples and watching:
                    self._faults.look(watching, step, rows[0], rows[n:])
                elif samples:
                    overflows = self._faults.overflows(step, rows[n:])
                    problem = self._faults.problem(step, rows[0], rows[n:], overflows)
            accepted = samples > 0 and problem is None and not overflows
            for distributed in self._distributed if accepted else ():
                distributed.before_step()
            return accepted

        goes_on = True
        try:
            values = self._program.run(request, given, raw_gradients=True, later=m, accept=accept)
            self._sums = values[0], values[2] if m > 2 else None
            if problem is not None:
                self._faults.refuse(problem, step, given)
            elif self.previous_minibatch_sample_count > 0:
                gradients = dict(zip(step.given, values[n:], strict=True))
                if step.may_overflow:
                    self._scaling.note(not overflows)
                goes_on = self._update(step, {} if overflows else gradients, ends)
        finally:
            failed = self._faults.release()
        self.total_number_of_samples_seen += self.previous_minibatch_sample_count
        if failed is not None:
            self._faults.settle(Pending(step, given, go_back, failed))
        if not wanted:
            return goes_on
        return goes_on, dict(zip(wanted, values[m:n], strict=True))

    def _train_together(
        self, step: JointStep, arguments: Any, wanted: Sequence[Any], device: Any
    ) -> Any:
        """As `train_minibatch`, of all workers, who share the sums."""
        values, goes_on = step.run(arguments, wanted, device), True
        joined = step.joined
        if joined.has_data:
            self.previous_minibatch_sample_count = joined.samples
            self._sums = joined.loss, None if self._metric is None else joined.metric
            self.ended_sweep = joined.ends_sweep
        for learner in self._distributed:
            learner.before_step()
        if step.is_made:
            goes_on = step.learn()
            for writer in self.progress_writers:
                writer.update_training(joined.samples, *self._sums)
        for learner in self._distributed:
            learner.after_step(joined.samples, joined.has_data)
        self.total_number_of_samples_seen += joined.samples
        goes_on = goes_on and joined.has_data
        return (goes_on, dict(zip(wanted, values, strict=False))) if wanted else goes_on

    def _position(self) -> Callable[[], None]:
        """What goes back to where training is now, but for what is on a GPU."""
        learners = [learner.position() for learner in self._learners]
        seen = self.total_number_of_samples_seen

        def go_back() -> None:
            self.total_number_of_samples_seen = seen
            for learner in learners:
                learner()

        return go_back

    def _update(self, step: Step, gradients: Mapping[Any, Any], sweep_end: bool) -> bool:
        samples, results = self.previous_minibatch_sample_count, []
        for learner in self._learners:
            if learner in step.joined:
                results.append(learner.count(samples, sweep_end))
            else:
                results.append(self._learn(learner, gradients, samples, sweep_end))
        for distributed in self._distributed:
            distributed.after_step(samples, goes_on=True)
        for writer in self.progress_writers:
            writer.update_training(samples, *self._sums)
        return any(results)

    def _learn(
        self, learner: Learner, gradients: Mapping[Any, Any], samples: int, sweep_end: bool
    ) -> bool:
        if not gradients:  # they are not finite
            return learner.has_own_update or learner.count(samples, sweep_end)
        own = gradients
        if len(self._learners) > 1:
            own = {p: gradients[p] for p in learner.parameters}
        if learner.as_numpy:
            own = {p: np.array(on_cpu(g)) for p, g in own.items()}
        return learner.update(own, samples, sweep_end)

    def test_minibatch(self, arguments: Any, device: Any = None) -> float:
        """The metric's (without one, the loss's) mean per sample; nothing is learned."""
        self._faults.settle()
        return self._evaluator.test_minibatch(arguments, device)

    @property
    def evaluator(self) -> Evaluator:
        """What measures the metric, or the loss where there is none."""
        return self._evaluator

    def summarize_training_progress(self) -> None:
        """Ends an epoch: the progress writers report its totals, which start anew."""
        self._faults.settle()
        for writer in self.progress_writers:
            writer.write_training_summary()

    def summarize_test_progress(self) -> None:
        """Ends a test: the progress writers report its totals, which start anew."""
        self._evaluator.summarize_test_progress()

    def print_node_timing(self) -> None:
        """Prints how long operations took since the last time; see `debugging.set_node_timing`."""
        print_node_timing()

    # Checkpoints

    def _roots(self) -> list[Node]:
        """What it computes, in the order in which CNTK's trainers save it."""
        return [n for n in (*self._model, self._loss, self._metric) if n is not None]

    def save_checkpoint(self, filename: str, external_state: Any = None) -> None:
        """Saves all that training needs to go on later: parameters, learners, what was seen.

        Args:
            filename: the file; it holds arrays and JSON, no code. A file of that name is
                replaced at once, when the new one is complete.
            external_state: what else to keep: numbers, strings, arrays, and lists and dicts of
                these. Of several workers, each keeps its own.
        """
        self._faults.settle()
        for learner in self._distributed:
            learner.before_checkpoint()
        if self._exchange is not None:
            self._exchange.check()
        save_all(self, filename, {} if external_state is None else external_state)

    def restore_from_checkpoint(self, filename: str) -> Any:
        """Goes back to where a checkpoint was saved; gives the external state kept with it.

        Args:
            filename: what `save_checkpoint` wrote, here or in CNTK 2, whose second file (.ckp) is
                beside it; the model there must be written as here.

        Of several workers rank 0 reads the file. If it is of another number of workers, all get
        rank 0's external state and random numbers of their own.

        Raises:
            ValueError: the file is no checkpoint, or one of another model or other learners. All
                stays as it was then.
        """
        self._faults.settle()
        external = restore(self, filename)
        if self._exchange is not None:
            self._exchange.restart()
        return external

    def __reduce__(self) -> Any:
        """A pickle has model and criterion as one function, and the learners as they are."""
        self._faults.settle()
        signature = self._criterion._declared() if self._is_function else None
        whole = hold(list(self._program.nodes), signature)
        seen = self.total_number_of_samples_seen, self._faults.skipped, self._program.random_state()
        more = self.parameter_learners, self.progress_writers, self._faults.on_nan
        scale = self._scaling.given, self._scaling.state
        return _again, (whole, len(self._model), *more, seen, scale)


def _again(
    whole: Function,
    of_model: int,
    learners: Any,
    writers: Any,
    on_nan: str,
    seen: Any,
    scale: tuple[LossScale, list[float]],
) -> Trainer:
    """The trainer that was pickled."""
    nodes = whole._current()
    criterion = hold(nodes[: len(nodes) - of_model], whole._signature)
    model = hold(nodes[len(nodes) - of_model :]) if of_model else None
    trainer = Trainer(model, criterion, learners, writers, on_nan, loss_scale=scale[0])
    trainer._scaling.state = scale[1]
    trainer.total_number_of_samples_seen, trainer._faults.skipped, random = seen
    trainer._program.set_random_state(random)
    return trainer
