"""Derivatives by finite differences, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import device, graph, passes
from ..graph import Axis, GraphError, Node
from ..graph.node import describe
from ..model.function import Function
from ..passes import autodiff
from ..plan import Plan
from ..runtime.evaluation import Runner
from ..runtime.feeding import as_feed
from ..runtime.minibatch import Minibatch


class Point:
    """A float64 copy of a function with parameters as inputs, and the values of the inputs.

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
        outputs = graph.copy([o.node for o in function.outputs], {}, self._leaf)
        self.outputs = list(dict.fromkeys(outputs))
        for a in function.arguments:
            if (
                a.is_input and a.node not in self.inputs
            ):  # it may determine the lengths of sequences
                self._leaf(a.node)
        known = at is not None
        given = as_feed(at, function.arguments) if known else _random(self.inputs, generator)
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
        """The data by input, of a copy with free dimensions set from the data."""
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
        """Replaces operands of `stop_gradient` by inputs with constant values."""
        stopped = [n for n in graph.order(self.outputs) if n.op is not None and n.op.constant]
        if not stopped:
            return
        held = [_input_like(n) for n in stopped]
        self.values.update(zip(held, self.run(stopped), strict=True))
        self.outputs = graph.copy(self.outputs, dict(zip(stopped, held, strict=True)))

    def weights(self, outputs: Sequence[Node], generator: np.random.Generator) -> list[Node]:
        """For each output an input of its shape, with random values."""
        weights = [_input_like(n) for n in outputs]
        for output, weight, value in zip(outputs, weights, self.run(outputs), strict=True):
            if not np.isfinite(value).all():
                raise GraphError(
                    f"the function is not finite here: {describe(output)} has NaN or "
                    "infinity in it",
                    hint="choose other values of the inputs: check_gradients(f, at={x: …})",
                )
            self.values[weight] = generator.normal(size=value.shape)
        return list(weights)

    def run(
        self,
        nodes: Sequence[Node],
        instead: Mapping[Node, Any] | None = None,
        optimized: bool = False,
    ) -> list[Any]:
        """The values of `nodes` in rows, with the values of some inputs replaced."""
        key = (optimized, *nodes)
        plan = self.plans.get(key)
        if plan is None:
            # What decides the lengths of outputs' sequences comes first: weights have them too.
            ends = [o.axes[-1].source for o in self.outputs if o.axes and o.axes[-1].source]
            graph_ = [*dict.fromkeys(ends), *nodes]
            graph_ = passes.optimize(graph_) if optimized else graph_
            plan = self.plans[key] = self.engine.plan(graph_)
        values = {**self.values, **(instead or {})}
        feed = {n: self.engine.from_numpy(values[n]) for n in plan.inputs}
        rows = plan.run(feed, dict(self.batch.layouts), self.batch.size, self.training, seed=0)
        return [self.engine.to_numpy(r) for r in rows[len(rows) - len(nodes) :]]

    def index(self, leaf: Node, flat: int) -> tuple[int, ...]:
        """The index of an element in the user's terms, from a flat index in rows."""
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


def _random(inputs: Mapping[Node, graph.Input], generator: np.random.Generator) -> dict[Node, Any]:
    """Random values for the inputs; each time axis has other lengths."""
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


Probe = tuple[np.ndarray, np.ndarray]  # flat indices of elements, and the direction of each


def probes(
    gradient: np.ndarray, elements: int, directions: int, generator: np.random.Generator
) -> Iterator[Probe]:
    """The directions in which a gradient is compared: see `testing.check_gradients`."""
    if gradient.size <= elements:
        for i in range(gradient.size):
            yield np.array([i]), np.ones(1)
    else:
        for _ in range(directions):
            yield np.arange(gradient.size), generator.choice([-1.0, 1.0], gradient.size)


@dataclass
class Compared:
    """A derivative along a direction, by the graph and by differences."""

    probe: Probe
    by_graph: float
    by_differences: float
    error: float
    kink: bool


class Differences:
    """Derivatives of the weighted sum of some outputs by finite differences."""

    def __init__(
        self,
        point: Point,
        outputs: Sequence[Node],
        weights: Sequence[Node],
        epsilon: float,
        tolerance: float,
    ) -> None:
        self.point, self.outputs = point, list(outputs)
        self.seeds = dict(zip(self.outputs, weights, strict=True))
        self.weights = [point.values[w] for w in weights]
        self.epsilon, self.tolerance = epsilon, tolerance
        self.middle = point.run(self.outputs)
        self.rounding = _rounding(self.weights, self.middle)

    @cached_property
    def carried_rounding(self) -> float:
        """The rounding error of the sum from all intermediate values, by their adjoints.

        These may be much larger than the outputs, as in x - mean(x).
        """
        nodes = [n for n in graph.order(self.outputs) if n.op is not None]
        adjoints = autodiff.pull_back(self.seeds, nodes)
        values = self.point.run([*nodes, *adjoints])
        return _rounding(values[: len(nodes)], values[len(nodes) :])

    def _change(self, leaf: Node, probe: Probe, step: float) -> float:
        """The change of the sum when `leaf` moves by `step` along the direction."""
        which, way = probe
        moved = self.point.values[leaf].copy()
        flat = moved.reshape(-1)
        flat[which] += step * way * np.maximum(1.0, np.abs(flat[which]))
        after = self.point.run(self.outputs, {leaf: moved})
        terms = zip(self.weights, after, self.middle, strict=True)
        return math.fsum(float(np.sum(w * (a - m))) for w, a, m in terms)

    def compare(self, leaf: Node, gradient: np.ndarray, probe: Probe) -> Compared:
        """The derivative along a direction, by `gradient` and by differences with the best step."""
        found = self._best(leaf, gradient, probe)
        if not found.error <= self.tolerance and self.carried_rounding > self.rounding:
            self.rounding = self.carried_rounding
            found = self._best(leaf, gradient, probe)
        return found

    def _best(self, leaf: Node, gradient: np.ndarray, probe: Probe) -> Compared:
        which, way = probe
        values = self.point.values[leaf].reshape(-1)[which]
        slopes = gradient.reshape(-1)[which] * np.maximum(1.0, np.abs(values))
        by_graph = float(np.dot(slopes, way))
        typical = float(np.max(np.abs(gradient), initial=0.0)) * math.sqrt(len(which))
        best = Compared(probe, by_graph, math.nan, math.inf, False)
        for factor in (1.0, 0.1, 10.0, 0.01):
            step = self.epsilon * factor
            right = self._change(leaf, probe, step) / step
            left = -self._change(leaf, probe, -step) / step
            middle = (left + right) / 2
            noise = self.rounding / step / self.tolerance
            seen = (
                by_graph,
                middle,
                left,
                right,
            )  # for zero derivatives these two show the curvature
            size = max(*map(abs, seen), 1e-3 * typical, noise, 1e-300)
            error = abs(middle - by_graph) / size
            if not error >= best.error:
                best = Compared(probe, by_graph, middle, error, False)
            if error <= self.tolerance:
                break
            # A kink at the point itself does not fade with the step, curvature does.
            best.kink = abs(right - left) > max(100 * step, 0.1) * size and (
                min(left, right) - 0.1 * size <= by_graph <= max(left, right) + 0.1 * size
            )
        return best

    def narrowed(self, leaf: Node, gradient: np.ndarray, compared: Compared) -> Compared:
        """The element that causes the difference along a direction."""
        while len(compared.probe[0]) > 1:
            which, way = compared.probe
            half = len(which) // 2
            halves = [(which[:half], way[:half]), (which[half:], way[half:])]
            parts = [self.compare(leaf, gradient, p) for p in halves]
            compared = max(parts, key=_difference)
        return compared


def _difference(compared: Compared) -> float:
    difference = abs(compared.by_graph - compared.by_differences)
    return math.inf if math.isnan(difference) else difference


def _rounding(values: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> float:
    """The rounding error of the weighted sum of the (finite) values."""
    products = (np.ravel(v * w) for v, w in zip(values, weights, strict=True))
    finite = (p[np.isfinite(p)] for p in products)
    return 2.0**-50 * math.sqrt(sum(float(np.dot(p, p)) for p in finite))
