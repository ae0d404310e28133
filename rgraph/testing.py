"""Proof of gradients: any function's against finite differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import autodiff, device, graph, passes
from .evaluation import Runner, plan_on
from .function import Function
from .graph import Axis, GraphError, Node
from .graph.node import describe
from .minibatch import Minibatch
from .ops import records
from .plan import Plan
from .variables import Variable

__all__ = ["GradientError", "GradientReport", "check_gradients"]


class GradientError(AssertionError):
    """A gradient that finite differences do not confirm.

    Attributes:
        variable: the input or parameter whose gradient is off.
        index: the worst element: its index in a parameter; for an input the sample's number
            (and the frame's, of a sequence) come before it.
        by_graph, by_differences: the two numbers there.
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
    """What `check_gradients` found.

    Attributes:
        errors: for each variable the worst relative error that was seen.
        comparisons: for each variable the number of derivatives compared.
    """

    errors: Mapping[Variable, float]
    comparisons: Mapping[Variable, int]

    @property
    def worst(self) -> float:
        """The worst relative error of all."""
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

    What is differentiated is the sum of all elements of all outputs, each times a random weight.
    It is computed in float64 on a copy of the function, whatever the function's own dtype is;
    the function itself is left alone. What goes through `stop_gradient` is held fixed.

    Args:
        f: a function or variable, with all its inputs bound to `input_variable`s.
        at: the inputs' values, as for `eval`. By default random ones, normally distributed:
            three samples, or three sequences of 3, 1 and 2 frames.
        wrt: inputs and parameters, or one; by default all of them.
        order: 2 to check the gradients' own gradients too.
        epsilon: the step, relative to the size of an element where that is above 1. Where a
            step disagrees, others (100 times smaller to 10 times larger) are tried.
        tolerance: the relative error that is allowed. Elements of less than a thousandth of
            the largest in their variable are held to that thousandth.
        elements: a variable of at most so many elements is checked element by element, a larger
            one along random directions, of which a wrong one is narrowed down to an element.
        directions: how many of those.
        seed: of the directions, the weights and the random inputs.
        training: whether dropout drops; it drops the same in every evaluation.

    Returns:
        a report of the worst relative error for each variable, which prints as a table.

    Raises:
        GradientError: (an AssertionError) says which element of which variable is worst, with
            both numbers, and whether the function has a kink there.
        GraphError: an input is missing or does not fit, or the function is not finite there.

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
            mend="call the function with an input first",
        )
    variables = _chosen(function, wrt)
    point = _Point(function, at, generator, training)
    leaves = [point.inputs[v.node] for v in variables]
    errors = dict.fromkeys(variables, 0.0)
    counts = dict.fromkeys(variables, 0)
    outputs = point.outputs
    for level in range(1, order + 1):
        weights = point.weights(outputs, generator)
        gradients = autodiff.pull_back(dict(zip(outputs, weights, strict=True)), leaves)
        differences = _Differences(point, outputs, weights, epsilon, tolerance)
        found = point.run(gradients, optimized=True)
        failures = []
        for variable, leaf, gradient in zip(variables, leaves, found, strict=True):
            probes = _probes(gradient, elements, directions, generator)
            for compared in (differences.compare(leaf, gradient, p) for p in probes):
                counts[variable] += 1
                errors[variable] = max(errors[variable], compared.error)
                if not compared.error <= tolerance:
                    failures.append((compared, variable, leaf, gradient))
        if failures:
            raise _error(failures, differences, level)
        outputs = _distinct(gradients)
    return GradientReport(errors, counts)


def _chosen(function: Function, wrt: Any) -> list[Variable]:
    every = [*(a for a in function.arguments if a.is_input), *function.parameters]
    if wrt is None:
        return every
    chosen = list(wrt) if isinstance(wrt, (list, tuple, set, frozenset)) else [wrt]
    for v in chosen:
        if v not in every:
            raise GraphError(f"{v!r} is no input or parameter of the function")
    return chosen


class _Point:
    """A float64 copy of a function, in which parameters are inputs too, and the inputs' values.

    Attributes:
        outputs: the copy's outputs.
        inputs: for each input and parameter of the function, the copy's input.
        values: for each input of the copy, its value in rows.
    """

    def __init__(
        self, function: Function, at: Any, generator: np.random.Generator, training: bool
    ) -> None:
        self.engine = device.engine()
        self.training = training
        self.inputs: dict[Node, graph.Input] = {}
        self.outputs = _distinct(graph.copy([o.node for o in function.outputs], {}, self._leaf))
        for a in function.arguments:
            if a.is_input and a.node not in self.inputs:  # it may say how long sequences are
                self._leaf(a.node)
        given = function._feed(at) if at is not None else _random(self.inputs, generator)
        data: dict[Node, Any] = {self.inputs[n]: v for n, v in given.items() if n in self.inputs}
        for node, copied in self.inputs.items():
            if isinstance(node, graph.Stored):
                data[copied] = node.value
        data = self._fitted(data)
        self.batch = Minibatch(list(self.inputs.values()), data, self.engine)
        self.values: dict[Node, np.ndarray] = {
            n: np.array(self.engine.to_numpy(a), order="C") for n, a in self.batch.arrays.items()
        }
        self.plans: dict[Any, Plan] = {}
        self._hold_stopped()

    def _leaf(self, leaf: Node) -> Node | None:
        if isinstance(leaf, graph.Constant):
            return graph.Constant(leaf.value, None, np.float64, leaf.name, where=leaf.origin)
        if not isinstance(leaf, (graph.Input, graph.Stored)):
            return None
        assert leaf.shape is not None and leaf.axes is not None
        new = graph.Input(leaf.shape, leaf.axes, np.float64, leaf.name, where=leaf.origin)
        self.inputs[leaf] = new
        return new

    def _fitted(self, data: dict[Node, Any]) -> dict[Node, Any]:
        """The data by the inputs of a copy that has its sizes where some are free."""
        flexible = [n for n in graph.order(self.outputs) if graph.follows_data(n)]
        if not flexible:
            return data
        runner = Runner()
        sizes = runner.sizes(flexible, runner.feed(data), list(self.inputs.values()))
        fitted: dict[Any, Any] = graph.fit(self.outputs, flexible, sizes)
        self.outputs = [fitted.get(n, n) for n in self.outputs]
        self.inputs = {n: fitted.get(own, own) for n, own in self.inputs.items()}
        return {fitted.get(n, n): v for n, v in data.items()}

    def _hold_stopped(self) -> None:
        """Makes inputs, held fixed, of what goes through `stop_gradient`."""
        stopped = [
            n
            for n in graph.order(self.outputs)
            if n.op is not None and n.op.name == "stop_gradient"
        ]
        if not stopped:
            return
        held = [_input_like(n) for n in stopped]
        self.values.update(zip(held, self.run(stopped), strict=True))
        self.outputs = graph.copy(self.outputs, dict(zip(stopped, held, strict=True)))

    def weights(self, outputs: Sequence[Node], generator: np.random.Generator) -> list[Node]:
        """For each output an input with random values, of its size."""
        weights = [_input_like(n) for n in outputs]
        for output, weight, value in zip(outputs, weights, self.run(outputs), strict=True):
            if not np.isfinite(value).all():
                raise GraphError(
                    f"the function is not finite at this point: {describe(output)} has NaN or "
                    "infinity in it",
                    mend="give the inputs values where it is: check_gradients(f, at={x: …})",
                )
            self.values[weight] = generator.normal(size=value.shape)
        return list(weights)

    def run(
        self,
        nodes: Sequence[Node],
        instead: Mapping[Node, Any] | None = None,
        optimized: bool = False,
    ) -> list[Any]:
        """The values of `nodes` in rows, with some inputs' values replaced."""
        key = (optimized, *nodes)
        plan = self.plans.get(key)
        if plan is None:
            graph_ = passes.optimize(nodes) if optimized else nodes
            plan = self.plans[key] = plan_on(self.engine, graph_)
        values = {**self.values, **(instead or {})}
        feed = {n: self.engine.from_numpy(values[n]) for n in plan.inputs}
        rows = plan.run(feed, dict(self.batch.layouts), self.batch.size, self.training, seed=0)
        return [self.engine.to_numpy(r) for r in rows]

    def index(self, leaf: Node, flat: int) -> tuple[int, ...]:
        """The index, as people count, of an element of a value in rows."""
        index = tuple(int(i) for i in np.unravel_index(flat, self.values[leaf].shape))
        if not leaf.axes:
            return index
        numbers = self.batch.read(leaf, np.arange(len(self.values[leaf])))
        if isinstance(numbers, list):
            for i, rows in enumerate(numbers):
                if index[0] in rows:
                    return (i, int(np.flatnonzero(rows == index[0])[0]), *index[1:])
        return (int(np.flatnonzero(numbers == index[0])[0]), *index[1:])


def _input_like(node: Node) -> graph.Input:
    assert node.shape is not None and node.axes is not None
    return graph.Input(node.shape, node.axes, node.dtype)


def _distinct(nodes: Sequence[Node]) -> list[Node]:
    return list(dict.fromkeys(nodes))


def _random(inputs: Mapping[Node, graph.Input], generator: np.random.Generator) -> dict[Node, Any]:
    """Values for the inputs; on each further time axis the lengths are others."""
    lengths: dict[Axis, list[int]] = {}
    given: dict[Node, Any] = {}
    for node in inputs:
        if not isinstance(node, graph.Input):
            continue
        shape = tuple(n if n >= 0 else 3 for n in node.shape or ())
        axes = node.axes or ()
        if len(axes) == 2:
            turn = len(lengths) % 3
            own = lengths.setdefault(axes[1], [3, 1, 2][turn:] + [3, 1, 2][:turn])
            given[node] = [generator.normal(size=(n, *shape)) for n in own]
        else:
            given[node] = generator.normal(size=(3, *shape) if axes else shape)
    return given


# Directions in which to compare

Probe = tuple[np.ndarray, np.ndarray]  # flat elements of a variable, and the way each is moved


def _probes(
    gradient: np.ndarray, elements: int, directions: int, generator: np.random.Generator
) -> Iterator[Probe]:
    if gradient.size <= elements:
        for i in range(gradient.size):
            yield np.array([i]), np.ones(1)
    else:
        for _ in range(directions):
            yield np.arange(gradient.size), generator.choice([-1.0, 1.0], gradient.size)


@dataclass
class _Compared:
    """A derivative along a direction, twice."""

    probe: Probe
    by_graph: float
    by_differences: float
    error: float
    kink: bool


class _Differences:
    """Derivatives of the weighted sum of some outputs by finite differences."""

    def __init__(
        self,
        point: _Point,
        outputs: Sequence[Node],
        weights: Sequence[Node],
        epsilon: float,
        tolerance: float,
    ) -> None:
        self.point, self.outputs = point, list(outputs)
        self.weights = [point.values[w] for w in weights]
        self.epsilon, self.tolerance = epsilon, tolerance
        self.middle = point.run(self.outputs)
        # What rounding makes of the sum, before it is divided by a step.
        terms = zip(self.weights, self.middle, strict=True)
        self.rounding = 2.0**-50 * math.sqrt(sum(float(np.sum((w * m) ** 2)) for w, m in terms))

    def _change(self, leaf: Node, probe: Probe, step: float) -> float:
        """How much the sum changes when `leaf` moves by `step` along the direction."""
        which, way = probe
        moved = self.point.values[leaf].copy()
        flat = moved.reshape(-1)
        flat[which] += step * way * np.maximum(1.0, np.abs(flat[which]))
        after = self.point.run(self.outputs, {leaf: moved})
        terms = zip(self.weights, after, self.middle, strict=True)
        return math.fsum(float(np.sum(w * (a - m))) for w, a, m in terms)

    def compare(self, leaf: Node, gradient: np.ndarray, probe: Probe) -> _Compared:
        which, way = probe
        values = self.point.values[leaf].reshape(-1)[which]
        slopes = gradient.reshape(-1)[which] * np.maximum(1.0, np.abs(values))
        by_graph = float(np.dot(slopes, way))
        typical = float(np.max(np.abs(gradient), initial=0.0)) * math.sqrt(len(which))
        best = _Compared(probe, by_graph, math.nan, math.inf, False)
        for factor in (1.0, 0.1, 10.0, 0.01):
            step = self.epsilon * factor
            right = self._change(leaf, probe, step) / step
            left = -self._change(leaf, probe, -step) / step
            middle = (left + right) / 2
            noise = self.rounding / step / self.tolerance
            size = max(abs(by_graph), abs(middle), 1e-3 * typical, noise, 1e-300)
            error = abs(middle - by_graph) / size
            if not error >= best.error:
                best = _Compared(probe, by_graph, middle, error, False)
            if error <= self.tolerance:
                break
            # A kink at the point itself does not fade with the step, curvature does.
            best.kink = abs(right - left) > max(100 * step, 0.1) * size and (
                min(left, right) - 0.1 * size <= by_graph <= max(left, right) + 0.1 * size
            )
        return best

    def narrowed(self, leaf: Node, gradient: np.ndarray, compared: _Compared) -> _Compared:
        """The element that is to blame for a direction in which the derivatives differ."""
        while len(compared.probe[0]) > 1:
            which, way = compared.probe
            half = len(which) // 2
            halves = [(which[:half], way[:half]), (which[half:], way[half:])]
            parts = [self.compare(leaf, gradient, p) for p in halves]
            compared = max(parts, key=lambda c: abs(c.by_graph - c.by_differences))
        return compared


# Messages


def _title(variable: Variable) -> str:
    kind = "parameter" if variable.is_parameter else "input"
    return f"{kind} {describe(variable.node)}"


def _error(
    failures: Sequence[tuple[_Compared, Variable, Node, np.ndarray]],
    differences: _Differences,
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
            "derivative to compare with\n  mend: give the inputs other values: "
            "check_gradients(f, at={x: …})"
        )
    lines.append(f"  made at {variable.node.origin}")
    return GradientError("\n".join(lines), variable, index, by_graph, by_differences, worst.kink)
