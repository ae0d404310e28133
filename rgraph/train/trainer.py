"""One step of training: loss, metric and all gradients by one plan, then the learners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import graph, ops
from ..autodiff import gradients
from ..function import Function
from ..graph import GraphError, Node
from ..learners import Learner
from ..ops.records import as_node, hold
from ..ops.reductions import row_count
from ..ops.repetition import gather_up


def as_criterion(criterion: Any) -> tuple[Node, Node | None]:
    """The nodes of loss and metric, of a function with one or two outputs or a tuple."""
    if isinstance(criterion, Function):
        criterion = criterion.outputs
    parts = list(criterion) if isinstance(criterion, (tuple, list)) else [criterion]
    if not 1 <= len(parts) <= 2 or parts[0] is None:
        raise ValueError(
            f"a criterion is a loss, or a pair of a loss and a metric; got {len(parts)} values"
        )
    nodes = [None if p is None else as_node(p) for p in parts] + [None]
    return nodes[0], nodes[1]  # type: ignore[return-value]


def total(node: Node) -> Node:
    """The sum of all elements of `node` over the minibatch."""
    return gather_up(ops.reduce_sum(node), ())


def samples_of(*nodes: Node | None) -> Node:
    """How many samples (or frames) the minibatch has: the rows of the first that has rows."""
    pending = [n for n in nodes if n is not None]
    seen: set[Node] = set()
    while pending:
        node = pending.pop(0)
        if node.axes:
            return row_count(node)
        if node not in seen:
            seen.add(node)
            pending.extend(node.inputs)
    return as_node(np.float32(1))


class Trainer:
    """Trains a model: each call of `train_minibatch` is one step.

    Args:
        model: the function that is trained; None if the loss is all there is.
        criterion: the loss, a pair of loss and metric, or a function with these outputs. The
            loss is summed over all elements, samples and frames.
        parameter_learners: a learner or several.
        progress_writers: `C.logging.ProgressPrinter()` or the like, or several.

    Raises:
        GraphError: a shape in the model is not known yet.
        ValueError: a learner's parameter is not one of the loss, or two learners have the same.

    Source: CNTK's `Trainer`.

    >>> x, t = C.input_variable(1), C.input_variable(1)
    >>> y = x * C.Parameter(1)
    >>> trainer = C.Trainer(y, C.squared_error(y, t), C.sgd(y.parameters, 0.25))
    >>> for _ in range(10):
    ...     _ = trainer.train_minibatch({x: [[1], [2]], t: [[3], [6]]})
    >>> y.parameters[0].value.round(2)
    array([3.], dtype=float32)
    """

    def __init__(
        self,
        model: Any,
        criterion: Any,
        parameter_learners: Any,
        progress_writers: Any = None,
    ) -> None:
        self._model = None if model is None else as_node(model)
        self._loss, self._metric = as_criterion(criterion)
        learners = parameter_learners
        self.parameter_learners: list[Learner] = (
            list(learners) if isinstance(learners, (list, tuple)) else [learners]
        )
        writers = progress_writers
        if writers is None:
            writers = []
        self.progress_writers = list(writers) if isinstance(writers, (list, tuple)) else [writers]
        self._parameters = self._learned()
        self._made: dict[Any, tuple[Function, list[Node]]] = {}
        self.previous_minibatch_loss_average = 0.0
        self.previous_minibatch_evaluation_average = 0.0
        self.previous_minibatch_sample_count = 0
        self.total_number_of_samples_seen = 0

    def _learned(self) -> list[Any]:
        own = set(graph.order([self._loss]))
        learned = [p for learner in self.parameter_learners for p in learner.parameters]
        if len(set(learned)) < len(learned):
            twice = next(p for p in learned if learned.count(p) > 1)
            raise ValueError(f"{twice!r} is learned by two learners")
        for p in learned:
            if p.node not in own:
                raise ValueError(f"the loss does not depend on {p!r}, which a learner has")
        return learned

    @property
    def model(self) -> Any:
        return None if self._model is None else hold(self._model)

    @property
    def loss_function(self) -> Any:
        return hold(self._loss)

    @property
    def evaluation_function(self) -> Any:
        return None if self._metric is None else hold(self._metric)

    # Running

    def _nodes(self, training: bool) -> tuple[Function, list[Node]]:
        """What a step computes: [loss, metric, count, *gradients], each but the last a total."""
        if training not in self._made:
            loss, metric = self._loss, self._metric
            parts = [n for n in (loss, metric, self._model) if n is not None]
            nodes = [total(loss), total(metric or loss), samples_of(loss, metric, self._model)]
            if training:
                nodes += gradients(loss, [p.node for p in self._parameters])
            self._made[training] = Function(parts), nodes
        return self._made[training]

    def train_minibatch(
        self,
        arguments: Any,
        outputs: Iterable[Any] | None = None,
        device: Any = None,
        is_sweep_end: bool = False,
    ) -> Any:
        """One step: the loss of a minibatch, its gradients, and the learners' updates.

        Args:
            arguments: a dict from inputs to values, as `Function.eval` takes it. An empty one
                is the end of the data: nothing is learned.
            outputs: values to give back, computed before the update.
            is_sweep_end: whether a sweep over the data ends with this minibatch; schedules
                without an epoch size follow that.

        Returns:
            whether learning goes on; with `outputs` a pair of that and a dict of their values.
        """
        if not arguments:
            return False
        wanted = list(outputs or ())
        function, nodes = self._nodes(training=True)
        values = function._run([*nodes, *map(as_node, wanted)], arguments, device, training=True)
        loss, metric, count = (float(v) for v in values[:3])
        self.previous_minibatch_sample_count = samples = int(count)
        self.previous_minibatch_loss_average = loss / samples if samples else 0.0
        if self._metric is not None:
            self.previous_minibatch_evaluation_average = metric / samples if samples else 0.0
        self.total_number_of_samples_seen += samples
        grads = dict(zip(self._parameters, values[3:], strict=False))
        goes_on = samples > 0 and self._update(grads, samples, bool(is_sweep_end))
        if not wanted:
            return goes_on
        return goes_on, dict(zip(wanted, values[3 + len(grads) :], strict=True))

    def _update(self, grads: Mapping[Any, np.ndarray], samples: int, sweep_end: bool) -> bool:
        live = {id(p.node.value) for p in self._parameters}
        # A gradient may be another parameter itself, which is about to change.
        grads = {p: g.copy() if id(_owner(g)) in live else g for p, g in grads.items()}
        results = [
            learner.update({p: grads[p] for p in learner.parameters}, samples, sweep_end)
            for learner in self.parameter_learners
        ]
        return any(results)

    def test_minibatch(self, arguments: Any, device: Any = None) -> float:
        """The metric's (without one, the loss's) mean per sample; nothing is learned."""
        function, nodes = self._nodes(training=False)
        _, metric, count = (float(v) for v in function._run(nodes, arguments, device))
        return metric / count if count else 0.0


def _owner(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


__all__: Sequence[str] = ["GraphError", "Trainer"]
