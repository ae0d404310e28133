"""Evaluation of metrics on test data: CNTK's `eval` module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from . import ops
from .device import DeviceDescriptor
from .graph import Axis, Node
from .inspect.profile import print_node_timing
from .logging import ProgressWriter
from .operands.tracing import nodes_of
from .ops.records import as_node, hold
from .ops.reductions import row_count
from .ops.repetition import sum_rows
from .runtime import evaluation
from .runtime.evaluation import Feed, Request
from .runtime.feeding import as_feed
from .runtime.workers import Workers, all_workers


def total(node: Node) -> Node:
    """The sum of all elements of `node` over the minibatch."""
    return sum_rows(ops.reduce_sum(node), ())


def count_samples(*nodes: Node | None) -> Node:
    """How many samples or frames the minibatch has: those of the first value with rows, among
    these nodes and what they are computed from."""
    pending = [n for n in nodes if n is not None]
    seen: set[Node] = set()
    for node in pending:
        if node.axes:
            return row_count(node)
        if node not in seen:
            seen.add(node)
            pending.extend(node.inputs)
    return as_node(1.0)


def counted_axes(count: Node) -> tuple[Axis, ...]:
    """The axes of what a node of `count_samples` counts."""
    return (count.inputs[0].axes or ()) if count.inputs else ()


def counts_sequences(count: Node, inputs: Sequence[Any]) -> bool:
    """Whether a node of `count_samples` counts whole sequences, of which the inputs have frames."""
    return len(counted_axes(count)) == 1 and any(len(v.dynamic_axes) == 2 for v in inputs)


def as_writers(writers: Any, has_metric: bool = True) -> list[ProgressWriter]:
    """None, one, or several as a list; they are told whether there is a metric besides a loss."""
    if writers is None:
        return []
    found = list(writers) if isinstance(writers, (list, tuple)) else [writers]
    for writer in found:
        if not isinstance(writer, ProgressWriter):
            raise ValueError(
                "expected a progress writer such as C.logging.ProgressPrinter(), got "
                f"{writer!r:.60}"
            )
        writer.has_metric = has_metric
    return found


class Program:
    """Nodes that are computed again and again: what they read is looked up once."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes, self.function = tuple(nodes), hold(list(nodes))
        self._runner = evaluation.Runner(self.function._current())

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        return self.function.arguments

    @cached_property
    def _inputs(self) -> list[Any]:
        return [a.node for a in self.arguments if a.is_input]

    def feed(self, arguments: object, device: DeviceDescriptor | None, training: bool) -> Feed:
        """A run of its own.

        Args:
            arguments: as for `Function.eval`, or parts of a minibatch source's minibatch.
        """
        return self._runner.feed(as_feed(arguments, self.arguments), device, training)

    def run(self, request: Request, given: Feed, **options: Any) -> list[Any]:
        """The values of a request, then its gradients; options as for `Runner.run`."""
        return self._runner.run(request, given, self._inputs, **options)

    def random_state(self) -> dict[str, int]:
        """As `Runner.random_state`."""
        return self._runner.random_state()

    def set_random_state(self, state: Mapping[str, int]) -> None:
        """As `Runner.set_random_state`."""
        self._runner.set_random_state(state)

    def carried(self) -> dict[str, Any] | None:
        """As `Runner.carried`."""
        return self._runner.carried()

    def set_carried(self, state: Mapping[str, object] | None) -> None:
        """As `Runner.set_carried`."""
        self._runner.set_carried(state)

    def rows(self, axes: Sequence[Axis]) -> int:
        """As `Runner.rows`."""
        return self._runner.rows(axes)


def ends_sweep(arguments: object) -> bool:
    """Whether a minibatch comes from a source that says that it is the last of a sweep."""
    values = arguments.values() if isinstance(arguments, Mapping) else ()
    return any(getattr(v, "end_of_sweep", False) for v in values)


def has_samples(arguments: object) -> bool:
    """Whether a minibatch, as `train_minibatch` takes it, is more than nothing."""
    if arguments is None:
        return False
    values = arguments.values() if isinstance(arguments, Mapping) else [arguments]
    return any(_count(value) for value in values)


def _count(value: object) -> int:
    samples = getattr(value, "num_samples", None)
    return (len(value) if hasattr(value, "__len__") else 1) if samples is None else samples


class Evaluator:
    """Evaluates a metric on minibatches.

    Args:
        eval_function: the metric, a function of inputs; its elements are summed.
        progress_writers: one or several, such as `C.logging.ProgressPrinter()`.
        is_loss: whether the function is a loss, to report it as such.

    Source: CNTK's `Evaluator`.

    >>> x, t = C.input_variable(2), C.input_variable(2)
    >>> tester = C.eval.Evaluator(C.classification_error(x, t))
    >>> tester.test_minibatch({x: [[1, 0], [3, 2]], t: [[1, 0], [0, 1]]})
    0.5
    """

    def __init__(
        self, eval_function: object, progress_writers: object = None, is_loss: bool = False
    ) -> None:
        metric = nodes_of(eval_function)[-1]
        self._program = Program([metric])
        self._request = Request((total(metric), count_samples(metric)))
        self.progress_writers = as_writers(progress_writers, not is_loss)
        self._is_loss = is_loss

    def __reduce__(self) -> tuple[Any, ...]:
        return Evaluator, (self.evaluation_function, self.progress_writers, self._is_loss)

    @property
    def evaluation_function(self) -> Any:
        """The metric."""
        return hold(self._program.function.node)

    def test_minibatch(
        self, arguments: object, device: DeviceDescriptor | None = None, distributed: bool = False
    ) -> float:
        """The mean of the metric per sample (or frame) of a minibatch.

        Args:
            arguments: a dict from inputs to values, as `Function.eval` takes it.
            distributed: whether to evaluate the minibatches of all workers together. All workers
                must call it; one without data passes an empty dict.
        """
        workers = all_workers() if distributed else Workers()
        metric, count = self.measure(arguments, device, workers)
        return metric / count if count else 0.0

    def measure(
        self,
        arguments: object,
        device: DeviceDescriptor | None = None,
        workers: Workers | None = None,
    ) -> tuple[float, int]:
        """As `test_minibatch`: the sum of the metric over a minibatch, and its samples; over the
        minibatches of several workers, if they are given."""
        workers = workers or Workers()
        sums = np.zeros(2)
        if workers.size == 1 or has_samples(arguments):
            given = self._program.feed(arguments, device, training=False)
            sums[:] = [float(v) for v in self._program.run(self._request, given)]
        workers.sum(sums)
        metric, count = sums.tolist()
        if not count:
            return 0.0, 0
        for writer in self.progress_writers:
            writer.update_test(int(count), metric)
        return metric, int(count)

    @property
    def counts_sequences(self) -> bool:
        """Whether its samples are whole sequences, of which its inputs have frames."""
        return counts_sequences(self._request.values[1], self._program.arguments)

    def summarize_test_progress(self) -> None:
        """Ends a test: the progress writers report its totals, which start anew."""
        for writer in self.progress_writers:
            writer.write_test_summary()

    def print_node_timing(self) -> None:
        """Prints how long operations took since the last time; see `debugging.set_node_timing`."""
        print_node_timing()


__all__ = ["Evaluator"]
