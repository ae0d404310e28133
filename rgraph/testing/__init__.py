"""Checks the gradients of functions against finite differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import GraphError, Node
from ..graph.node import describe
from ..model.function import Function
from ..operands.variables import Variable
from ..ops import records
from ..passes import autodiff
from .finite_differences import Compared, Differences, Point, probes

__all__ = ["GradientError", "GradientReport", "check_gradients"]


class GradientError(AssertionError):
    """A gradient that differs from finite differences.

    Attributes:
        variable: the input or parameter with the wrong gradient.
        index: the worst element: its index in a parameter; in an input, (sample, *index), or
            (sequence, frame, *index).
        by_graph, by_differences: the two values of this element.
        kink: whether one-sided differences show that the function has no derivative there.
    """

    def __init__(
        self,
        message: str,
        variable: Variable,
        index: tuple[int, ...],
        by_graph: float,
        by_differences: float,
        kink: bool,
    ) -> None:
        super().__init__(message)
        self.variable, self.index, self.kink = variable, index, kink
        self.by_graph, self.by_differences = by_graph, by_differences


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`.

    Attributes:
        errors: for each variable the worst relative error.
        comparisons: for each variable the number of derivatives compared.
    """

    errors: Mapping[Variable, float]
    comparisons: Mapping[Variable, int]

    @property
    def worst(self) -> float:
        """The worst relative error of all variables."""
        return max(self.errors.values(), default=0.0)

    def __str__(self) -> str:
        return "\n".join(
            f"{_title(v)}: {self.comparisons[v]} derivatives, worst relative error {e:.1e}"
            for v, e in self.errors.items()
        )


def check_gradients(
    f: Any,
    at: Any = None,
    wrt: Sequence[Any] | Any = None,
    *,
    order: int = 1,
    epsilon: float = 1e-5,
    tolerance: float = 1e-6,
    elements: int = 100,
    directions: int = 4,
    seed: int = 0,
    training: bool = False,
) -> GradientReport:
    """Compares the gradients of a function with central finite differences.

    The differentiated value is the sum of all elements of all outputs, with random weights. It is
    computed in float64 on a copy of the function, whatever the function's dtype. Values that pass
    through `stop_gradient` are constant.

    Args:
        f: a function or variable, with all its inputs bound to `input_variable`s.
        at: the values of the inputs, as for `eval`. By default normally distributed: three
            samples, or three sequences of 3, 1 and 2 frames.
        wrt: one or several inputs and parameters; by default all of them.
        order: 2 to check second derivatives too.
        epsilon: the step, relative to elements larger than 1. If the derivatives disagree, other
            steps (from 100 times smaller to 10 times larger) are tried.
        tolerance: the largest relative error. The error of small elements is relative to a
            thousandth of the largest element of the variable, and errors within the rounding error
            of all intermediate values are allowed.
        elements: a variable with at most this many elements is checked element by element, a
            larger one along random directions; errors are then narrowed down to an element.
        directions: the number of random directions.
        seed: the seed of directions, weights and random inputs.
        training: whether dropout is active; it drops the same elements in each evaluation.

    Returns:
        a report of the worst relative error for each variable, which prints as a table.

    Raises:
        GradientError: (an AssertionError) names the worst element of the worst variable, with
            both values, and tells whether the function has a kink there.
        GraphError: an input is missing or has the wrong shape, or the function is not finite.

    >>> x = C.input_variable(3)
    >>> W = C.Parameter((3, 2), init=C.glorot_uniform(seed=1), name="W")
    >>> report = C.testing.check_gradients(C.tanh(C.times(x, W)), order=2)
    >>> report.errors[W] < 1e-6
    True
    """
    generator = np.random.default_rng(seed)
    function = f if isinstance(f, Function) else Function([records.as_node(f)])
    for open_ in function.placeholders:
        raise GraphError(
            f"placeholder {describe(open_.node)} has no value\n  made at {open_.node.origin}",
            hint="call the function with an input first",
        )
    variables = _chosen(function, wrt)
    point = Point(function, at, generator, training)
    leaves = [point.inputs[v.node] for v in variables]
    errors = dict.fromkeys(variables, 0.0)
    counts = dict.fromkeys(variables, 0)
    outputs = point.outputs
    for level in range(1, order + 1):
        weights = point.weights(outputs, generator)
        gradients = autodiff.pull_back(dict(zip(outputs, weights, strict=True)), leaves)
        differences = Differences(point, outputs, weights, epsilon, tolerance)
        found = point.run(gradients, optimized=True)
        failures = []
        for variable, leaf, gradient in zip(variables, leaves, found, strict=True):
            for probe in probes(gradient, elements, directions, generator):
                compared = differences.compare(leaf, gradient, probe)
                counts[variable] += 1
                errors[variable] = max(errors[variable], compared.error)
                if not compared.error <= tolerance:
                    failures.append((compared, variable, leaf, gradient))
        if failures:
            raise _error(failures, differences, level)
        outputs = list(dict.fromkeys(gradients))
    return GradientReport(errors, counts)


def _chosen(function: Function, wrt: Any) -> list[Variable]:
    every = [*(a for a in function.arguments if a.is_input), *function.parameters]
    if wrt is None:
        return every
    chosen = list(wrt) if isinstance(wrt, (list, tuple, set, frozenset)) else [wrt]
    for v in chosen:
        if v not in every:
            raise GraphError(f"{v!r} is not an input or parameter of the function")
    return chosen


# Messages


def _title(variable: Variable) -> str:
    kind = "parameter" if variable.is_parameter else "input"
    return f"{kind} {describe(variable.node)}"


def _error(
    failures: Sequence[tuple[Compared, Variable, Node, np.ndarray]],
    differences: Differences,
    order: int,
) -> GradientError:
    compared, variable, leaf, gradient = max(
        failures, key=lambda f: math.inf if math.isnan(f[0].error) else f[0].error
    )
    worst = differences.narrowed(leaf, gradient, compared)
    at = int(worst.probe[0][0])
    index = differences.point.index(leaf, at)
    scale = float(worst.probe[1][0] * max(1.0, abs(differences.point.values[leaf].reshape(-1)[at])))
    by_graph, by_differences = worst.by_graph / scale, worst.by_differences / scale
    what = "gradient" if order == 1 else "gradient of the gradient"
    where = "element" if not leaf.axes else "element (sample, …)"
    if len(leaf.axes or ()) == 2:
        where = "element (sequence, frame, …)"
    others = sorted({_title(f[1]) for f in failures if f[1] != variable})
    lines = [
        f"the {what} with respect to {_title(variable)} is wrong, worst at {where} {index}:",
        f"  by the graph           {by_graph: .9g}",
        f"  by finite differences  {by_differences: .9g}",
        f"  relative error {worst.error:.1e}, allowed is {differences.tolerance:.1e}",
    ]
    if others:
        lines.append(f"  wrong too: {', '.join(others)}")
    if worst.kink:
        lines.append(
            "  the function has a kink here: its one-sided differences disagree, so it has no "
            "derivative to compare with\n  hint: give the inputs other values: "
            "check_gradients(f, at={x: …}), or leave this one out of `wrt`"
        )
    lines.append(f"  made at {variable.node.origin}")
    return GradientError("\n".join(lines), variable, index, by_graph, by_differences, worst.kink)
