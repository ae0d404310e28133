"""Evaluation on data that is not learned from: CNTK's `eval` module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import ops
from .function import Function
from .graph import Node
from .logging import ProgressWriter
from .ops.records import as_node, hold
from .ops.reductions import row_count
from .ops.repetition import gather_up


def total(node: Node) -> Node:
    """The sum of all elements of `node` over the minibatch."""
    return gather_up(ops.reduce_sum(node), ())


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


def as_writers(writers: Any) -> list[ProgressWriter]:
    """None, one, or several as a list."""
    if writers is None:
        return []
    return list(writers) if isinstance(writers, (list, tuple)) else [writers]


def as_arguments(arguments: Any) -> tuple[Any, bool]:
    """What was fed, without the wrapping of a minibatch source, and whether a sweep ends."""
    if not isinstance(arguments, Mapping):
        return arguments, False
    ends = any(getattr(v, "end_of_sweep", False) for v in arguments.values())
    plain = {k: v.data if hasattr(v, "end_of_sweep") else v for k, v in arguments.items()}
    return plain, ends


class Evaluator:
    """Measures a metric on minibatches.

    Args:
        eval_function: the metric, a function of inputs; its elements are summed.
        progress_writers: `C.logging.ProgressPrinter()` or the like, or several.

    Source: CNTK's `Evaluator`.

    >>> x, t = C.input_variable(2), C.input_variable(2)
    >>> tester = C.eval.Evaluator(C.classification_error(x, t))
    >>> tester.test_minibatch({x: [[1, 0], [3, 2]], t: [[1, 0], [0, 1]]})
    0.5
    """

    def __init__(self, eval_function: Any, progress_writers: Any = None) -> None:
        if isinstance(eval_function, Function):
            eval_function = eval_function.outputs[-1]
        metric = as_node(eval_function)
        self._function = Function([metric])
        self._wanted = [total(metric), count_samples(metric)]
        self.progress_writers = as_writers(progress_writers)

    @property
    def evaluation_function(self) -> Any:
        return hold(self._function.node)

    def test_minibatch(self, arguments: Any, device: Any = None) -> float:
        """The mean of the metric per sample (or frame) of a minibatch.

        Args:
            arguments: a dict from inputs to values, as `Function.eval` takes it.
        """
        plain, _ = as_arguments(arguments)
        metric, count = map(float, self._function._run(self._wanted, plain, device))
        for writer in self.progress_writers:
            writer.update_test(int(count), metric)
        return metric / count if count else 0.0

    def summarize_test_progress(self) -> None:
        """Ends a test: the progress writers report its totals, which start anew."""
        for writer in self.progress_writers:
            writer.write_test_summary()


__all__ = ["Evaluator"]
