"""One step of training: loss, metric and all gradients by one plan, then the learners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import graph
from ..default_options import get_global_option
from ..device import engine as device_engine
from ..eval import (
    Evaluator,
    Program,
    as_writers,
    count_samples,
    counted_axes,
    counts_sequences,
    ends_sweep,
    total,
)
from ..graph import GraphError, Node
from ..graph.node import describe
from ..inspect.nans import checked_mode
from ..inspect.profile import print_node_timing
from ..io.base import Source
from ..learners import Learner
from ..operands.tracing import nodes_of
from ..ops.records import as_node, hold
from ..runtime.arrays import on_cpu
from ..runtime.carrying import sources_of
from ..runtime.evaluation import Feed, Request
from ..runtime.jobs import assigned, shown_to_users
from ..runtime.latest import Latest
from ..runtime.windows import window_of
from ..runtime.workers import Workers
from .checkpoint import load_all, save_all, set_state
from .criterion import as_criterion, check_learners, learned_by, loss_and_metric
from .distributed import DistributedLearner
from .exchange import exchange_of
from .faults import HINT, NOTHING_CHANGED, Part, Step, Watch, fault, surely_finite
from .together import JointStep

if TYPE_CHECKING:
    from ..model.function import Function


class _Step(NamedTuple):
    """What a step of training computes.

    Attributes:
        request: the loss and what else is wanted, gradients and updates, as one plan.
        given: the parameters whose gradients are given to their learners.
        joined: the learners whose updates are in the plan.
    """

    request: Request
    given: list[Any]
    joined: list[Learner]


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
    ) -> None:
        on_nan = get_global_option("on_nan", "raise") if on_nan is None else on_nan
        if on_nan not in ("raise", "skip", "ignore"):
            raise ValueError(f"on_nan is 'raise', 'skip' or 'ignore', not {on_nan!r:.60}")
        self._on_nan, self._skipped, self._watch = on_nan, 0, Watch()
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
        self._window = window_of(window, memory_limit)
        parts = [n for n in (self._loss, self._metric, *self._model) if n is not None]
        self._program = Program(parts)
        self._parameters = learned_by(learners, self._loss)
        # If the loss has no rows, what it is computed from says how many samples there are.
        count = count_samples(*parts)
        self._counted = counted_axes(count)
        self._wanted = [total(self._loss), count]
        if self._metric is not None:
            self._wanted.append(total(self._metric))
        self._states = graph.updates([self._loss])  # running statistics, and what they become
        self._exchange = exchange_of(learners, list(map(hold, self._states)))
        if self._exchange is not None and assigned(graph.order([self._loss])):
            raise GraphError(
                "the loss assigns values, which each worker would do by itself",
                hint="assign them outside of the loss, on all workers alike",
            )
        measured, is_loss = self._metric or self._loss, self._metric is None
        self._evaluator = Evaluator(measured, self.progress_writers, is_loss)
        self._steps: Latest[Any, _Step] = Latest()
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
    def counts_sequences(self) -> bool:
        """Whether its samples are whole sequences (which have a loss each), not their frames."""
        return counts_sequences(self._wanted[1], self.arguments)

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
            self._settle()
            return (False, {}) if wanted else False
        asked = (*self._wanted, *map(as_node, wanted))
        n, m = len(asked), len(self._wanted)
        problem: str | None = None

        given = self._program.feed(arguments, device, training=True)
        in_windows = self._window is not None or sources_of(given.data) is not None
        step = self._steps.get((asked, in_windows), lambda key: self._step(asked, not in_windows))
        request = step.request
        watching = self._watching(given)
        if not watching:
            self._settle()
        go_back = self._position()

        def accept(rows: Sequence[Any]) -> bool:
            nonlocal problem
            samples = self.previous_minibatch_sample_count = self._program.rows(self._counted)
            if samples and watching:
                self._watch.look(watching, self._found(request, rows[0], rows[n:]))
            elif samples:
                problem = self._problem(request, rows[0], rows[n:])
            return samples > 0 and problem is None

        goes_on = True
        try:
            values = self._program.run(request, given, raw_gradients=True, later=m, accept=accept)
            self._sums = values[0], values[2] if m > 2 else None
            if problem is not None:
                self._refuse(problem, request, given)
            elif self.previous_minibatch_sample_count > 0:
                gradients = dict(zip(step.given, values[n:], strict=True))
                goes_on = self._update(step, gradients, ends)
        finally:
            failed = self._watch.release()
        self.total_number_of_samples_seen += self.previous_minibatch_sample_count
        if failed is not None:
            self._settle(Step(request, given, go_back, failed))
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

    def _watching(self, given: Feed) -> Any:
        """The engine, if it is a GPU's and nobody need wait to see whether a step is sound."""
        engine = device_engine(given.device)
        ours = all(k.is_by_step for k in self._learners)
        return engine if self._on_nan == "raise" and ours and engine.is_gpu else None

    def _found(self, request: Request, loss: Any, found: Sequence[Any]) -> list[Part]:
        """What a step found: the loss, gradients, and what running statistics, and parameters that
        are learned by a graph, are to become."""
        own = [k.parameters for k in self._learners if k.options.cuts_gradients]
        cut = {p.node for parameters in own for p in parameters}
        gradients = zip(request.wrt, found, strict=False)
        last = found[len(found) - len(request.updates) :]  # what the loss assigns comes before
        news = zip(request.updates, last, strict=True)
        return [
            Part("the loss", loss, may_be_infinite=True),
            *(Part(f"the gradient of {hold(p)!r}", g, p in cut) for p, g in gradients),
            *(Part(f"{self._new_value(stored)} {describe(stored)}", v) for (stored, _), v in news),
        ]

    def _new_value(self, stored: Node) -> str:
        return "the running statistic" if stored in self._states else "the new value of"

    def _problem(self, request: Request, loss: Any, found: Sequence[Any]) -> str | None:
        """What is not finite of a loss and of what else a minibatch gave."""
        if self._on_nan == "ignore" or surely_finite([loss, *found]):
            return None
        before = [Part(f"{p!r}, before the step,", p.value) for p in self._parameters]
        return fault([*before, *self._found(request, loss, found)])

    def _position(self) -> Callable[[], None]:
        """What goes back to where training is now, but for what is on a GPU."""
        learners = [learner.position() for learner in self._learners]
        seen = self.total_number_of_samples_seen

        def go_back() -> None:
            self.total_number_of_samples_seen = seen
            for learner in learners:
                learner()

        return go_back

    def _settle(self, latest: Step | None = None) -> None:
        """Raises what was wrong with the step before the latest, or with the last there was.

        All is as it was before that step then.
        """
        failed = self._watch.before(latest)
        if failed is None:
            return
        failed.go_back()
        problem: str | None = None

        def look(rows: Sequence[Any]) -> bool:
            nonlocal problem
            found = rows[len(failed.request.values) :]
            problem = self._problem(failed.request, rows[0], found)
            return False

        self._program.run(failed.request, failed.given, raw_gradients=True, accept=look)
        self._refuse(problem or "a minibatch gave NaN", failed.request, failed.given)

    def _refuse(self, problem: str, request: Request, given: Feed) -> None:
        """A minibatch that nothing is learned from, by what is wrong with it."""
        if not self._counts_as_skipped():
            raise GraphError(self._traced(problem, request, given) + NOTHING_CHANGED, hint=HINT)

    def _counts_as_skipped(self) -> bool:
        """Counts a minibatch that nothing is learned from; whether it is to be no error."""
        self._skipped += 1
        if self._on_nan == "skip":
            self._write("Minibatches skipped for NaN", self._skipped)
        return self._on_nan == "skip"

    def _traced(self, problem: str, request: Request, given: Feed) -> str:
        """What is wrong with a minibatch, with the operation in which that began."""
        try:
            with checked_mode():  # again, with the same random numbers, to hear where it began
                self._program.run(request, given, accept=lambda rows: False)
        except GraphError as error:
            problem += f"\n  {error.problem}"
        return problem

    def _step(self, asked: tuple[Node, ...], may_join: bool) -> _Step:
        """What a step computes: rules that are graphs have their part in it, if they may.

        They may not where they read what else a step changes: that comes before them.
        """
        before = {stored for stored, _ in assigned(graph.order(asked))}
        joined: list[Learner] = []
        updates, learned = list(self._states.items()), list[tuple[Node, Node]]()
        for learner in self._learners if may_join else ():
            others = {p.node for p in self._parameters if p not in learner.parameters}
            rule = learner.rule
            if rule is not None and rule.reads.isdisjoint({*self._states, *before, *others}):
                joined.append(learner)
                updates += rule.updates
                own = [p.node for p in learner.parameters]
                learned += zip(rule.gradients, own, strict=True)
        inside = {p for learner in joined for p in learner.parameters}
        given = [p for p in self._parameters if p not in inside]
        request = Request(
            asked,
            (self._loss,),
            tuple(p.node for p in given),
            updates=tuple(updates),
            learned=tuple(learned),
            window=self._window,
            shown=shown_to_users(self._loss),
        )
        return _Step(request, given, joined)

    def _update(self, step: _Step, gradients: Mapping[Any, Any], sweep_end: bool) -> bool:
        samples, results = self.previous_minibatch_sample_count, []
        for distributed in self._distributed:
            distributed.before_step()
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
        own = gradients
        if len(self._learners) > 1:
            own = {p: gradients[p] for p in learner.parameters}
        if learner.as_numpy:
            own = {p: np.array(on_cpu(g)) for p, g in own.items()}
        return learner.update(own, samples, sweep_end)

    def test_minibatch(self, arguments: Any, device: Any = None) -> float:
        """The metric's (without one, the loss's) mean per sample; nothing is learned."""
        self._settle()
        return self._evaluator.test_minibatch(arguments, device)

    @property
    def evaluator(self) -> Evaluator:
        """What measures the metric, or the loss where there is none."""
        return self._evaluator

    def summarize_training_progress(self) -> None:
        """Ends an epoch: the progress writers report its totals, which start anew."""
        self._settle()
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

    def _kept(self) -> list[Any]:
        """What checkpoints hold, in their order."""
        nodes = [n for n in graph.order(self._program.nodes) if isinstance(n, graph.Parameter)]
        return [*map(hold, nodes), *map(hold, self._states)]

    def _learned(self) -> list[list[int]]:
        """Of each learner, which of `_kept` its parameters are."""
        places = {v.node: i for i, v in enumerate(self._kept())}
        return [[places[p.node] for p in k.parameters] for k in self.parameter_learners]

    def save_checkpoint(self, filename: str, external_state: Any = None) -> None:
        """Saves all that training needs to go on later: parameters, learners, what was seen.

        Args:
            filename: the file; it holds arrays and JSON, no code. A file of that name is
                replaced at once, when the new one is complete.
            external_state: what else to keep: numbers, strings, arrays, and lists and dicts of
                these. Of several workers, each keeps its own.
        """
        self._settle()
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
        self._settle()
        state, before = load_all(self, filename), self._state()
        try:
            set_state(self, state)
            if self._exchange is not None:
                self._exchange.restart()
            return state["external"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            set_state(self, before)
            problem = error if isinstance(error, ValueError) else f"{error!r} in what it holds"
            raise ValueError(f"{filename} is no checkpoint of this trainer: {problem}") from None

    def __reduce__(self) -> Any:
        """A pickle has model and criterion as one function, and the learners as they are."""
        self._settle()
        signature = self._criterion._declared() if self._is_function else None
        whole = hold(list(self._program.nodes), signature)
        seen = self.total_number_of_samples_seen, self._skipped, self._program.random_state()
        more = self.parameter_learners, self.progress_writers, self._on_nan
        return _again, (whole, len(self._model), *more, seen)

    def _state(self) -> dict[str, Any]:
        return {
            "parameters": [v.value for v in self._kept()],
            "learners": [learner.create_checkpoint() for learner in self.parameter_learners],
            "learned": self._learned(),
            "samples": self.total_number_of_samples_seen,
            "random": self._program.random_state(),
            "carried": self._program.carried(),
        }


def _again(
    whole: Function, of_model: int, learners: Any, writers: Any, on_nan: str, seen: Any
) -> Trainer:
    """The trainer that was pickled."""
    nodes = whole._current()
    criterion = hold(nodes[: len(nodes) - of_model], whole._signature)
    model = hold(nodes[len(nodes) - of_model :]) if of_model else None
    trainer = Trainer(model, criterion, learners, writers, on_nan)
    trainer.total_number_of_samples_seen, trainer._skipped, random = seen
    trainer._program.set_random_state(random)
    return trainer
