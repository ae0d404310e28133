"""From nodes and what is fed to values: plans are made, kept, and run on minibatches.

A plan is made for shapes that are known. Where the graph leaves a size free (a free static axis
of an input, the longest sequence of a minibatch in `sequence.unpack`), the minibatch decides it,
and a plan is made for each size that comes by.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import autodiff, graph, passes
from . import device as _device
from .graph import FREE, Axis, GraphError, Input, Node, Placeholder
from .graph.node import resolve
from .minibatch import Minibatch, samples_of
from .ops.frames import UNPACK
from .plan import Plan

MOST_SIZES = 32  # plans that are kept for graphs with free sizes

_runs = itertools.count(1)
_seed = 0


def set_seed(seed: int) -> None:
    """Makes everything random (initial values, dropout) from here on the same in every run.

    >>> C.set_seed(7)
    """
    global _seed, _runs
    _seed, _runs = int(seed), itertools.count(1)
    graph.node.reset_random(_seed)


class Request(NamedTuple):
    """What a run computes: values, and gradients of the sum of `roots`.

    Attributes:
        values: nodes.
        roots: the nodes to differentiate.
        wrt: what with respect to.
        weighted: whether the elements of `roots` come with weights, which are fed.
    """

    values: tuple[Node, ...] = ()
    roots: tuple[Node, ...] = ()
    wrt: tuple[Node, ...] = ()
    weighted: bool = False


class Feed(NamedTuple):
    """What a run is given: enough to go back through it, the same random numbers included."""

    data: Mapping[Node, Any]
    run: int
    device: Any
    training: bool


def feed(data: Mapping[Node, Any], device: Any = None, training: bool = False) -> Feed:
    """A run of its own, with its own random numbers."""
    return Feed(data, next(_runs), device, training)


class _Job(NamedTuple):
    plan: Plan
    results: list[Node]
    inputs: dict[Node, Node]  # what stands for the inputs, and for the weights of the roots


class Runner:
    """Runs graphs, and keeps the plans that it made for them."""

    def __init__(self) -> None:
        self._jobs: dict[Any, _Job] = {}
        self._open: dict[Request, list[Node]] = {}

    def run(
        self,
        request: Request,
        given: Feed,
        inputs: Sequence[Input],
        weights: Sequence[Any] = (),
    ) -> list[Any]:
        """The values of a request, then its gradients, as people read them.

        Args:
            given: what is fed.
            inputs: those of the function; they may say how long sequences are.
            weights: those of the roots' elements, if the request is weighted.
        """
        sizes = self._sizes(request, given, inputs)
        engine = _device.engine(given.device)
        key = (engine.name, request, sizes)
        job = self._jobs.get(key)
        if job is None:
            if sizes and len(self._jobs) >= MOST_SIZES:
                self._jobs.pop(next(k for k in self._jobs if k[2]), None)
            job = self._jobs[key] = _job(request, dict(sizes), engine)
        data = {job.inputs.get(n, n): v for n, v in given.data.items()}
        data.update((job.inputs[r], w) for r, w in zip(request.roots, weights, strict=False))
        known = [job.inputs.get(n, n) for n in inputs]
        batch = Minibatch(_needed(job.plan, data, known), data, engine, read=job.plan.inputs)
        rows = job.plan.run(
            batch.arrays, batch.layouts, batch.size, given.training, (_seed << 32) + given.run
        )
        return [batch.read(n, r) for n, r in zip(job.results, rows, strict=True)]

    def _sizes(
        self, request: Request, given: Feed, inputs: Sequence[Input]
    ) -> tuple[tuple[Node, Any], ...]:
        """For each input with a free axis its shape, for each `unpack` its number of steps."""
        if request not in self._open:
            nodes = graph.order([*request.values, *request.roots, *request.wrt])
            self._open[request] = [n for n in nodes if _is_open(n)]
        sizes: dict[Node, Any] = {}
        for node in self._open[request]:
            if not isinstance(node, Input):
                sizes[node] = self._steps(node.inputs[0], given, inputs)
            elif node in given.data:
                sizes[node] = _sample_shape(node, given.data[node])
        return tuple(sizes.items())

    def _steps(self, sequence: Node, given: Feed, inputs: Sequence[Input]) -> int:
        """The length of the longest sequence."""
        axis = sequence.time_axis
        for node in () if axis.source else inputs:
            if axis in (node.axes or ()) and node in given.data:
                return max(map(len, samples_of(node, given.data[node])), default=0)
        source = axis.source if isinstance(axis.source, Node) else sequence
        (frames,) = self.run(Request((source,)), given, inputs)
        return max(map(len, frames), default=0)


def _is_open(node: Node) -> bool:
    return node.op is UNPACK or isinstance(node, Input) and FREE in (node.shape or ())


def _sample_shape(node: Input, data: Any) -> tuple[int, ...]:
    samples = samples_of(node, data)
    lead = len(node.axes or ())
    return tuple(samples[0].shape[1:]) if lead == 2 else tuple(samples.shape[lead:])


def _job(request: Request, sizes: Mapping[Node, Any], engine: Any) -> _Job:
    nodes = [*request.values, *request.roots, *request.wrt]
    inputs: dict[Node, Node] = {
        n: Input(s, n.axes or (), n.dtype, n.name, where=n.origin)
        for n, s in sizes.items()
        if isinstance(n, Input)
    }
    if sizes:
        unpacked = {n: s for n, s in sizes.items() if n not in inputs}
        nodes = _sized(nodes, inputs, unpacked)
    cuts = len(request.values), len(request.values) + len(request.roots)
    results, roots, wrt = nodes[: cuts[0]], nodes[cuts[0] : cuts[1]], nodes[cuts[1] :]
    if request.weighted:
        weights = [Input(r.shape or (), r.axes or (), r.dtype, "weights") for r in roots]
        inputs.update(zip(request.roots, weights, strict=True))
        made = autodiff.pull_back(dict(zip(roots, weights, strict=True)), wrt)
    else:
        made = autodiff.gradients(roots[0], wrt) if roots else []
    plan = Plan(passes.optimize([*results, *made]), engine)
    return _Job(plan, [*results, *wrt], inputs)


def _sized(
    nodes: Sequence[Node], inputs: Mapping[Node, Node], unpacked: Mapping[Node, int]
) -> list[Node]:
    """The graph with inputs of a given shape and sequences unpacked to a given length."""
    later = {n: Placeholder(where=n.origin) for n in unpacked}
    operands = [n.inputs[0] for n in unpacked]
    copies = graph.copy([*nodes, *operands], {**inputs, **later}, same_random=True)
    for (node, steps), operand in zip(unpacked.items(), copies[len(nodes) :], strict=True):
        attrs = {**node.attrs, "steps": steps}
        later[node].target = graph.apply(UNPACK, operand, name=node.name, **attrs)
    graph.complete(copies)
    return [resolve(n) for n in copies[: len(nodes)]]


def _needed(plan: Plan, data: Mapping[Node, Any], known: Sequence[Node]) -> list[Any]:
    """The inputs that the plan reads, and those that say how long its sequences are."""
    given = [n for n in known if n in data]
    inputs = dict.fromkeys([*given, *plan.inputs])
    axes: set[Axis] = {a for n in inputs for a in n.axes or ()}
    for node in known:
        if plan.axes.intersection(node.axes or ()) - axes:
            inputs[node] = None
    return list(inputs)


def as_feed(arguments: Any, inputs: Sequence[Any]) -> dict[Node, Any]:
    """What people feed, by node.

    Args:
        arguments: a dict from inputs or their names to values, or the value of the only input.
        inputs: the function's.
    """
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        if len(inputs) != 1:
            raise GraphError(
                f"the function has {len(inputs)} inputs "
                f"({', '.join(i.name or '?' for i in inputs)})",
                mend="say which value is whose: {x: …, y: …}",
            )
        return {inputs[0].node: arguments}
    named = {a.name: a.node for a in inputs if a.name}
    found = {}
    for key, value in arguments.items():
        node = named.get(key) if isinstance(key, str) else getattr(key, "node", key)
        if not isinstance(node, Node):
            raise GraphError(f"the function has no input named '{key}'; it has {list(named)}")
        found[resolve(node)] = value
    return found
