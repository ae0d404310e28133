"""Trainers: one step computes loss, metric and gradients in one plan, then the updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..default_options import get_global_option
from ..device import DeviceDescriptor
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
        model: the function to train, with one or several outputs; None if there is only a loss.
        criterion: the loss, a pair of loss and metric, or a function with these outputs. The
            loss is summed over all elements, samples and frames.
        parameter_learners: one or several learners. Parameters without a learner stay constant.
        progress_writers: one or several, such as `C.logging.ProgressPrinter()`.
        on_nan: what to do if the loss, a gradient or a running statistic of a minibatch is NaN, or
            a gradient or running statistic is infinite. "raise" raises an error; "skip" goes on
            with the next minibatch and reports the number of skipped minibatches to the progress
            writers. In both cases nothing is changed by the minibatch. "ignore" does not check. On
            a GPU, "raise" does not wait for the result: the error is raised by the next minibatch,
            summary or checkpoint, and neither minibatch has changed anything; "skip" waits in each
            step. Infinite gradients are accepted if the learner clips them
            (`gradient_clipping_threshold_per_sample`). The default is that of
            `C.set_global_option("on_nan", …)`, otherwise "raise". Programs started by `python -m
            rgraph run` have "ignore", as in CNTK.
        window: the number of frames of each sequence to compute at once: the same gradients with
            less memory, at the cost of a second forward pass; see `Function.grad`.
        memory_limit: chooses the window by the number of bytes for intermediate results.
        loss_scale: a factor of the loss in backpropagation, by which gradients are divided in the
            end, so that gradients in float16 don't underflow: a number, or "dynamic". Dynamic
            scaling starts with 2**15. It skips a minibatch whose gradients are not finite and
            halves the scale; after 2000 consecutive other minibatches it doubles the scale.
            `train.DynamicLossScale` sets other numbers. A NaN loss, and gradients that are not
            finite at a scale of 1, are treated according to `on_nan`. Schedules count skipped
            minibatches.

    With distributed learners a step is one of all workers together: losses, metrics and numbers of
    samples are sums over their minibatches, and all workers must call `train_minibatch`, and save
    and restore checkpoints, equally often.

    Attributes:
        previous_minibatch_sample_count: the number of samples (or frames) in the last minibatch.
        total_number_of_samples_seen: the number of samples in all minibatches.
        ended_sweep: whether a sweep over the data ended with the last minibatch.

    Raises:
        GraphError: a shape in the model is unknown; or in training, NaN (see `on_nan`).
        ValueError: the loss does not depend on a learner's parameter, or two learners have the
            same parameter.

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
            raise ValueError(f"on_nan must be 'raise', 'skip' or 'ignore', got {on_nan!r:.60}")
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
        self._sums: tuple[Any, Any] = (
            0.0,
            None,
        )  # loss and metric, which a GPU may still be computing
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
        """The loss that training minimizes."""
        return hold(self._loss)

    @property
    def evaluation_function(self) -> Any:
        """The metric, if one was given."""
        return None if self._metric is None else hold(self._metric)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The inputs, in the order of the criterion."""
        return self._criterion.arguments if self._is_function else self._program.arguments

    @property
    def workers(self) -> Workers:
        """The workers that train together; without distributed learners, this one."""
        return Workers() if self._exchange is None else self._exchange.workers

    def check_data(self, source: object) -> None:
        """Raises `GraphError` if the sources of the workers have different data."""
        if self._exchange is not None and isinstance(source, Source):
            self._exchange.check_data(source)

    def is_dealt(self) -> bool:
        """Whether each worker reads its own part of the data from now on."""
        seen = self.total_number_of_samples_seen
        return self._exchange is not None and self._exchange.parallel_at(seen)

    @property
    def loss_scale(self) -> float:
        """The current loss scale; 1 without scaling."""
        return self._scaling.value

    @property
    def counts_sequences(self) -> bool:
        """Whether samples are whole sequences, with one loss each, rather than frames."""
        return counts_sequences(self._steps.wanted[1], self.arguments)

    @property
    def previous_minibatch_loss_average(self) -> float:
        """The mean loss per sample (or frame) of the last minibatch; waits for the GPU."""
        return self._mean(self._sums[0])

    @property
    def previous_minibatch_evaluation_average(self) -> float:
        """The mean metric of the last minibatch; 0 if there is no metric."""
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
        arguments: object,
        outputs: Iterable[object] | None = None,
        device: DeviceDescriptor | None = None,
        is_sweep_end: bool | None = None,
    ) -> Any:
        """One step of training: the loss of a minibatch, its gradients, and the updates.

        Args:
            arguments: a dict from inputs to values, as `Function.eval` takes it. An empty dict
                means the end of the data: nothing is changed.
            outputs: values to return, computed before the update.
            is_sweep_end: whether a sweep over the data ends with this minibatch, for schedules
                without an epoch size. Minibatches from sources have this information.

        A minibatch without samples for the loss (for example if `sequence.gather` selects none)
        changes nothing.

        Returns:
            whether to go on training: False for an empty dict, or if all learners return False;
            with `outputs` a pair of that and a dict from outputs to their values.

        Raises:
            GraphError: an input is missing or has the wrong shape, or NaN (see `on_nan`).
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

        def accept(rows: Sequence[object]) -> bool:
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
        self,
        step: JointStep,
        arguments: object,
        wanted: Sequence[object],
        device: DeviceDescriptor | None,
    ) -> Any:
        """Same as `train_minibatch`, for all workers together."""
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
        """A function that restores the current state, except for values on a GPU."""
        learners = [learner.position() for learner in self._learners]
        seen = self.total_number_of_samples_seen

        def go_back() -> None:
            self.total_number_of_samples_seen = seen
            for learner in learners:
                learner()

        return go_back

    def _update(self, step: Step, gradients: Mapping[Any, object], sweep_end: bool) -> bool:
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
        self, learner: Learner, gradients: Mapping[Any, object], samples: int, sweep_end: bool
    ) -> bool:
        if not gradients:  # they are not finite
            return learner.has_own_update or learner.count(samples, sweep_end)
        own = gradients
        if len(self._learners) > 1:
            own = {p: gradients[p] for p in learner.parameters}
        if learner.as_numpy:
            own = {p: np.array(on_cpu(g)) for p, g in own.items()}
        return learner.update(own, samples, sweep_end)

    def test_minibatch(self, arguments: object, device: DeviceDescriptor | None = None) -> float:
        """The mean metric per sample (or loss, without a metric); changes nothing."""
        self._faults.settle()
        return self._evaluator.test_minibatch(arguments, device)

    @property
    def evaluator(self) -> Evaluator:
        """An evaluator of the metric, or of the loss if there is no metric."""
        return self._evaluator

    def summarize_training_progress(self) -> None:
        """Ends an epoch: the progress writers report its totals and reset them."""
        self._faults.settle()
        for writer in self.progress_writers:
            writer.write_training_summary()

    def summarize_test_progress(self) -> None:
        """Ends a test: the progress writers report its totals and reset them."""
        self._evaluator.summarize_test_progress()

    def print_node_timing(self) -> None:
        """Prints the times of operations since the last call; see `debugging.set_node_timing`."""
        print_node_timing()

    # Checkpoints

    def _roots(self) -> list[Node]:
        """The roots of its graph, in the order in which CNTK's trainers save them."""
        return [n for n in (*self._model, self._loss, self._metric) if n is not None]

    def save_checkpoint(self, filename: str, external_state: object = None) -> None:
        """Saves the state of training: parameters, learners, and counts of samples.

        Args:
            filename: the file, with arrays and JSON but no code. An existing file is replaced
                atomically, once the new one is complete.
            external_state: further state to save: numbers, strings, arrays, and lists and dicts
                of these. Each of several workers has its own.
        """
        self._faults.settle()
        for learner in self._distributed:
            learner.before_checkpoint()
        if self._exchange is not None:
            self._exchange.check()
        save_all(self, filename, {} if external_state is None else external_state)

    def restore_from_checkpoint(self, filename: str) -> Any:
        """Restores a checkpoint; returns the external state saved with it.

        Args:
            filename: a file that `save_checkpoint` wrote, in rgraph or in CNTK 2. CNTK's second
                file (.ckp) must be next to it, and the model must have the same structure.

        With several workers rank 0 reads the file. If their number has changed, all get the
        external state of rank 0, and new random numbers.

        Raises:
            ValueError: the file is not a checkpoint, or belongs to another model or other
                learners. Nothing is changed then.
        """
        self._faults.settle()
        external = restore(self, filename)
        if self._exchange is not None:
            self._exchange.restart()
        return external

    def __reduce__(self) -> Any:
        """Pickles model and criterion as one function, and the learners."""
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
    learners: object,
    writers: object,
    on_nan: str,
    seen: Any,
    scale: tuple[LossScale, list[float]],
) -> Trainer:
    """Restores a pickled trainer."""
    nodes = whole._current()
    criterion = hold(nodes[: len(nodes) - of_model], whole._signature)
    model = hold(nodes[len(nodes) - of_model :]) if of_model else None
    trainer = Trainer(model, criterion, learners, writers, on_nan, loss_scale=scale[0])
    trainer._scaling.state = scale[1]
    trainer.total_number_of_samples_seen, trainer._faults.skipped, random = seen
    trainer._program.set_random_state(random)
    return trainer
