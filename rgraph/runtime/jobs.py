"""Requests, and the plans made for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import graph, passes
from ..device import DeviceDescriptor
from ..device import engine as engine_of
from ..engines.base import Engine
from ..graph import Axis, Constant, Input, Node
from ..graph.context import context
from ..graph.types import Array, Data
from ..passes import autodiff
from ..plan import Plan
from ..plan.observe import Observer, observe
from .cache import Cache
from .forward import Forward, forward_of
from .windowed import WindowedPlan
from .windows import Window

if TYPE_CHECKING:
    from ..graph.fitting import Sizes


SETTABLE = ("rate", "seed")  # attributes of random operations that people may set


class Request(NamedTuple):
    """What a run computes: values, and gradients of the sum of `roots`.

    Attributes:
        values: the nodes to evaluate.
        roots: the nodes to differentiate.
        wrt: the nodes with respect to which to differentiate.
        weighted: whether the elements of `roots` are multiplied by weights, which are fed.
        updates: `Stored` nodes, each with the node of its new value after the run.
        learned: pairs of an input that represents, in `updates`, a gradient of the sum of `roots`,
            and the node with respect to which it is taken. These gradients are not returned.
        window: how many frames of each sequence to compute at once; None: all.
        shown: nodes whose gradients are computed only because user functions on the way need to be
            called. They are not returned.
        looked_at: how many of the last gradients are passed to `accept` only.
        numbers: inputs whose values depend on the number of samples: see `Feed.numbers`.
        scale: a factor for the sum of `roots` during back-propagation, so that small gradients
            don't underflow in float16. Gradients are divided by it.
    """

    values: tuple[Node, ...] = ()
    roots: tuple[Node, ...] = ()
    wrt: tuple[Node, ...] = ()
    weighted: bool = False
    updates: tuple[tuple[Node, Node], ...] = ()
    learned: tuple[tuple[Node, Node], ...] = ()
    window: Window | None = None
    shown: tuple[Node, ...] = ()
    looked_at: int = 0
    numbers: tuple[Input, ...] = ()
    scale: Node | None = None


class Feed(NamedTuple):
    """The data of a run, and all it takes to repeat it with the same random numbers.

    Attributes:
        data: the values, by input.
        seed: the seed in force.
        run: the number of the run among all runs; it determines random numbers.
        turn: the number of the run among those of its runner; it determines the random numbers of
            operations with a seed of their own.
        numbers: returns the values of the request's `numbers`, once the runner's `rows` are known.
    """

    data: Mapping[Node, Data]
    seed: int
    run: int
    turn: int
    device: DeviceDescriptor | None
    training: bool
    numbers: Callable[[], Mapping[Input, Array]] = dict


class Job:
    """A plan, with what is needed to run it.

    Attributes:
        plan: the plan.
        results: the nodes of the values and gradients that it returns first.
        inputs: the nodes that replace the inputs and the weights of the roots.
        stored: the nodes that are set after the run to the values that the plan returns last.
        forward: chooses another plan if that takes less memory.
        fed: the inputs that the plan reads, without the request's `numbers`.
    """

    def __init__(
        self,
        plan: Plan,
        results: list[Node],
        inputs: dict[Node, Node],
        stored: list[Node],
        forward: Forward | None,
        numbers: Sequence[Input] = (),
    ) -> None:
        self.plan, self.results, self.inputs, self.stored = plan, results, inputs, stored
        self.forward = forward
        self._late = {inputs.get(n, n): n for n in numbers}
        self.fed = [n for n in plan.inputs if n not in self._late]
        self._needed: Cache[tuple[Sequence[Node], Sequence[Input]], tuple[Input, ...]] = Cache()

    def numbers(self, given: Feed, engine: Engine) -> dict[Input, Array]:
        """The values of the request's numbers, as the plan is fed with them."""
        if not self._late:
            return {}
        found = given.numbers()
        late = [n for n in self.plan.inputs if n in self._late]
        return {n: engine.to_feed(found[self._late[n]]) for n in late}

    def needed(self, given: Iterable[Node], inputs: Sequence[Input]) -> tuple[Input, ...]:
        """The inputs that the plan reads, and those that determine the lengths of its sequences.

        Args:
            given: the nodes that have a value.
            inputs: the inputs of the function.
        """
        return self._needed.get(((*given,), (*inputs,)), self._find_needed)

    def _find_needed(self, key: tuple[Sequence[Node], Sequence[Input]]) -> tuple[Input, ...]:
        given, inputs = key
        known = [self.inputs.get(n, n) for n in inputs]
        there = {self.inputs.get(n, n) for n in given}
        found: dict[Any, None] = dict.fromkeys([n for n in known if n in there])
        found |= dict.fromkeys(self.fed)
        axes: set[Axis] = {a for n in found for a in n.axes or ()}
        for node in known:
            if self.plan.axes.intersection(node.axes or ()) - axes:
                found[node] = None
        return tuple(found)


class Traits:
    """Properties of a request's graph.

    Attributes:
        flexible: the nodes whose sizes depend on the data.
        learns: whether training mode makes a difference.
    """

    def __init__(self, request: Request) -> None:
        news = [value for _, value in request.updates]
        learned = [of for _, of in request.learned]
        nodes = graph.order([*request.values, *request.roots, *request.wrt, *learned, *news])
        ops = [n for n in nodes if n.op is not None]
        self.flexible = [n for n in nodes if graph.follows_data(n)]
        self.learns = any(n.op.inference_form for n in ops if n.op)
        self._constants = [n for n in nodes if isinstance(n, Constant)]  # they may be set
        random = [n for n in ops if n.op and n.op.random]
        self._settable = [(n.attrs, k) for n in random for k in SETTABLE if k in n.attrs]

    def edition(self) -> tuple[Hashable, ...]:
        """Values that a plan depends on and users may set: if they change, a new plan is needed."""
        changed = [n for n in self._constants if n.edition]
        drawn = [attrs[k] for attrs, k in self._settable]
        if drawn:  # by CNTK's seeds, or by that of `set_seed`
            drawn.append(context().random.initial_seeds is None)
        return (*changed, *drawn)


def assigned(nodes: Sequence[Node]) -> list[tuple[Node, Node]]:
    """The nodes that these nodes set after a run, each with the node of its new value."""
    return [(n.inputs[0], n) for n in nodes if n.op is not None and n.op.assigns]


def shown_to_users(root: Node) -> tuple[Node, ...]:
    """The inputs for whose sake a training step calls the `backward` of user functions.

    As in CNTK: inputs that are declared to need a gradient get one even if nothing learns from it,
        so
    that user functions on the way are called.
    """
    nodes = graph.order([root])
    if not any(n.op is not None and n.op.calls_back for n in nodes):
        return ()
    return tuple(n for n in nodes if isinstance(n, Input) and n.needs_gradient)


def make_job(
    request: Request,
    flexible: Sequence[Node],
    sizes: Sizes,
    engine: Engine,
    training: bool,
    roots_of_all: Sequence[Node] = (),
    observers: Sequence[Observer] = (),
) -> Job:
    fitted = {}
    learned = [of for _, of in request.learned]
    news = [value for _, value in request.updates]
    parts = request.values, request.roots, request.wrt, learned, news, request.shown
    if flexible:
        fitted = graph.fit([n for part in parts for n in part], flexible, sizes)
    values, roots, wrt, learned, news, shown = ([fitted.get(n, n) for n in part] for part in parts)
    inputs: dict[Node, Node] = {n: fitted[n] for n in fitted if isinstance(n, Input)}
    if request.weighted:
        weights: list[Node] = [
            Input(r.shape or (), r.axes or (), r.dtype, "weights") for r in roots
        ]
        inputs.update(zip(request.roots, weights, strict=True))
        seeds = dict(zip(roots, weights, strict=True))
    else:
        seeds = {r: autodiff.seed(r, request.scale) for r in roots}
    assignments = assigned(graph.order([*values, *roots]))
    now = [value for _, value in assignments]
    without = list(passes.PASSES) if any(o.separate for o in observers) else ()
    places = [*roots_of_all, *(n for part in parts for n in part)]

    def planned(nodes: Sequence[Node]) -> Plan:
        outputs = passes.optimize(nodes, without, training)
        _take_places(outputs, places)
        plan = engine.plan(outputs)
        for observer in observers:
            observe(plan, observer)
        return plan

    if request.window:
        later = [*now, *news]
        how = request.window, engine, planned, request.scale
        plan: Any = WindowedPlan(values, seeds, wrt, later, *how)
        forward = None
    else:
        end = len(wrt) + len(learned)
        found = autodiff.pull_back(seeds, [*wrt, *learned, *shown])
        found[:end] = autodiff.unscaled(found[:end], request.scale)
        gradients = dict(zip((g for g, _ in request.learned), found[len(wrt) : end], strict=True))
        news = graph.copy(news, gradients, same_random=True) if gradients else news
        plan = planned([*values, *found[: len(wrt)], *now, *news, *found[end:]])
        only_values = not (roots or now or news or shown or observers)
        forward = forward_of(plan, values, planned) if only_values else None
    stored = [stored for stored, _ in (*assignments, *request.updates)]
    return Job(plan, [*values, *wrt], inputs, stored, forward, request.numbers)


def _take_places(outputs: Sequence[Node], roots: Sequence[Node]) -> None:
    """Number random operations by their position below `roots`, not by when they were made."""
    random = [n.uid for n in graph.order(roots) if n.op is not None and n.op.random]
    places = {uid: place for place, uid in enumerate(random)}
    for node in graph.order(outputs):
        node.uid = places.get(node.uid, node.uid)


def plan(request: Request, device: DeviceDescriptor | None = None) -> Plan:
    """The plan for a request whose sizes are all known."""
    return make_job(request, (), {}, engine_of(device), training=False).plan


def windowed_plan(request: Request, device: DeviceDescriptor | None = None) -> WindowedPlan:
    """The plan for a request with a window."""
    made: object = plan(request, device)
    assert isinstance(made, WindowedPlan)
    return made
