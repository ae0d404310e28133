"""From nodes and what is fed to values: plans are made, kept, and run on minibatches.

A plan is made for shapes that are known. Where the graph leaves a size free (a free static axis
of an input, the longest sequence of a minibatch in `sequence.unpack`), the minibatch decides it,
and a plan is made for each size that comes by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from .. import device as _device
from .. import graph, passes
from ..engines.base import Engine
from ..graph import Axis, Constant, GraphError, Input, Node
from ..graph.context import Count, Random, context
from ..graph.node import describe, resolve
from ..passes import autodiff
from ..passes.windows import divide, time_axis_of
from ..plan import Plan
from ..plan.observe import Observer, observe
from . import minibatch
from .carrying import Carry, Held, sources_of
from .minibatch import Minibatch
from .values import Value
from .windowed import WindowedPlan
from .windows import Window

MOST_PLANS = 32  # that a runner keeps
SETTABLE = ("rate", "seed")  # attributes of random operations that people may set


_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """All runs inside are looked at by an observer."""
    before = _observers.set((*_observers.get(), observer))
    try:
        yield
    finally:
        _observers.reset(before)


def set_observer(observer: Observer, looks: bool) -> None:
    """Has an observer look at all runs from here on, or look no more."""
    own = context()
    others = tuple(o for o in own.observers if o is not observer)
    own.observers = (*others, observer) if looks else others


def _watching() -> tuple[Observer, ...]:
    return context().observers + _observers.get()


def set_seed(seed: int) -> None:
    """Makes everything random (initial values, dropout) from here on the same in every run.

    What an operation draws depends on the seed, on how many evaluations there were since it was
    set, and on the operation's place among the random ones of its function: a clone or a loaded
    copy in its stead draws the same. Each thread has a seed of its own, which this sets.

    >>> C.set_seed(7)
    """
    context().random = Random(int(seed))


class Request(NamedTuple):
    """What a run computes: values, and gradients of the sum of `roots`.

    Attributes:
        values: nodes.
        roots: the nodes to differentiate.
        wrt: what with respect to.
        weighted: whether the elements of `roots` come with weights, which are fed.
        updates: `Stored` nodes, each with the node of the value that it is set to after the run.
        learned: pairs of an input that stands in `updates` for a gradient of the sum of `roots`,
            and the node with respect to which. These gradients are not given.
        window: how much of each sequence is computed at once; None: all.
    """

    values: tuple[Node, ...] = ()
    roots: tuple[Node, ...] = ()
    wrt: tuple[Node, ...] = ()
    weighted: bool = False
    updates: tuple[tuple[Node, Node], ...] = ()
    learned: tuple[tuple[Node, Node], ...] = ()
    window: Window | None = None


class Feed(NamedTuple):
    """What a run is given: enough to go back through it, the same random numbers included.

    Attributes:
        data: what is fed, by input.
        seed: the seed in force.
        run: the number of the run, of all; on it depends what is random.
        turn: the number of the run among its runner's; on it depends what has a seed of its own.
    """

    data: Mapping[Node, Any]
    seed: int
    run: int
    turn: int
    device: Any
    training: bool


class _Job(NamedTuple):
    plan: Plan
    results: list[Node]
    inputs: dict[Node, Node]  # what stands for the inputs, and for the weights of the roots
    stored: list[Node]  # what is set after the run, to the values that the plan gives last


class _Traits(NamedTuple):
    """What follows from a request's graph alone.

    Attributes:
        flexible: the nodes whose sizes follow the data.
        learns: whether training makes a difference.
        constants: those that it reads, which may be set.
        random: the operations that draw, whose attributes may be set.
    """

    flexible: list[Node]
    learns: bool
    constants: list[Constant]
    random: list[Node]

    def edition(self) -> Any:
        """What a plan holds of all that may be set: if it is another now, so must be the plan."""
        changed = [n for n in self.constants if not n.is_fixed]
        drawn = [n.attrs.get(k) for n in self.random for k in SETTABLE]
        return (*changed, *drawn) if changed or drawn else ()


_Made = TypeVar("_Made")


class Latest(Generic[_Made]):
    """The latest of what was made, by key. Threads may share it; they may make a thing twice."""

    def __init__(self) -> None:
        self._found: dict[Any, _Made] = {}

    def get(self, key: Any, make: Callable[[], _Made]) -> _Made:
        found = self._found.get(key)
        if found is None:
            found = self._found.setdefault(key, make())
            for old in list(self._found)[:-MOST_PLANS]:
                self._found.pop(old, None)
        return found

    def discard(self, is_stale: Callable[[Any], bool]) -> None:
        for key in [k for k in list(self._found) if is_stale(k)]:
            self._found.pop(key, None)

    def all(self) -> list[_Made]:
        return list(self._found.values())


class Runner:
    """Runs graphs, and keeps the plans that it made for them.

    Args:
        roots: the nodes of the function that it is for. An operation's place below them says
            what random numbers it draws.
    """

    def __init__(self, roots: Sequence[Node] = ()) -> None:
        self._roots = roots
        self._jobs: Latest[_Job] = Latest()
        self._traits: Latest[_Traits] = Latest()
        self._updates: Latest[tuple[tuple[Node, Node], ...]] = Latest()
        self._layouts: Mapping[Axis, graph.Layout] = {}  # of the last run
        self._held: dict[Request, Held] = {}  # what delays hold of sequences that go on
        self._latest: Held | None = None  # the latest of these
        self._restored: Held | None = None  # from a checkpoint, for the next run
        self._size, self._sizes = 0, dict[Axis, int]()
        self._turns = Random(), Count()  # of the last run, and its count of ours

    def feed(self, data: Mapping[Node, Any], device: Any = None, training: bool = False) -> Feed:
        """A run of its own, with its own random numbers."""
        random = context().random
        of, turns = self._turns
        if of is not random:
            of, turns = self._turns = random, random.turns(self)
        return Feed(data, of.seed, of.runs(), turns(), device, training)

    def random_state(self) -> dict[str, int]:
        """What `set_random_state` must know to have later runs draw as they would here."""
        random = context().random
        return {"seed": random.seed, "runs": random.runs.last, "turns": random.turns(self).last}

    def set_random_state(self, state: Mapping[str, int]) -> None:
        """Goes back to where `random_state` was asked for: the seed, and the runs since."""
        random = Random(state["seed"], state["runs"])
        random.initial = context().random.initial
        random.set_turns(self, state["turns"])
        context().random = random

    def carried(self) -> dict[str, Any] | None:
        """What delays hold of the latest run's sequences, for `set_carried`; None: of none."""
        return None if self._latest is None else self._latest.as_state()

    def set_carried(self, state: Mapping[str, Any] | None) -> None:
        """Has the next run's sequences go on from where `carried` was asked for."""
        self._held.clear()
        self._latest = self._restored = None if state is None else Held.of_state(state)

    def run(
        self,
        request: Request,
        given: Feed,
        inputs: Sequence[Input],
        weights: Sequence[Any] = (),
        as_numpy: bool = True,
        raw_gradients: bool = False,
        later: int = 0,
        accept: Callable[[list[Any]], bool] = lambda rows: True,
    ) -> list[Any]:
        """The values of a request, then its gradients, as people read them.

        Args:
            given: what is fed.
            inputs: those of the function; they may say how long sequences are.
            weights: those of the roots' elements, if the request is weighted.
            as_numpy: whether to give arrays and lists of arrays, not a `Value`, whose arrays stay
                on the device that computed them.
            raw_gradients: whether gradients are given as they are in the engine's memory, in rows
                and to be read before the next run.
            later: how many of the first values stay on the device in any case, so that nobody
                waits for them before they are looked at; numbers, for example.
            accept: is given the rows of all values, gradients and updates, and says whether the
                updates are to be made. It may put others in the place of what is set.
        """
        carry = self._carry(request, given)
        if carry is not None and request.window is None:
            request = request._replace(window=Window())
        traits = self._traits.get(request, lambda: _traits(request))
        flexible = traits.flexible
        sizes = self.sizes(flexible, given, inputs) if flexible else {}
        engine = _device.engine(given.device)
        training = given.training or not traits.learns
        observers = _watching()
        edition = traits.edition()
        key = (engine.name, request, training, tuple(sizes.items()), edition, observers)

        def made() -> _Job:
            self._jobs.discard(lambda old: old[1] == request and old[4] != edition)
            return _job(request, flexible, sizes, engine, training, self._roots, observers)

        job = self._jobs.get(key, made)
        data = {job.inputs.get(n, n): v for n, v in given.data.items()}
        data.update((job.inputs[r], w) for r, w in zip(request.roots, weights, strict=False))
        known = [job.inputs.get(n, n) for n in inputs]
        plan = job.plan
        options: dict[str, Any] = {} if carry is None else {"carry": carry}
        with engine.active():
            batch = Minibatch(_needed(plan, data, known), data, engine, plan.inputs)
            rows = plan.run(
                batch.arrays,
                batch.layouts,
                batch.size,
                given.training,
                (given.seed << 32) + given.run,
                given.turn,
                **options,
            )
            batch.hold(plan.kept())
            raw = rows[len(request.values) : len(job.results)] if raw_gradients else []
            raw = list(map(batch.own, raw))
            read = job.results[: len(job.results) - len(raw)]
            values = [
                batch.read(n, r, as_numpy and i >= later)
                for i, (n, r) in enumerate(zip(read, rows, strict=False))
            ]
            self._layouts, self._size = batch.layouts, batch.size
            self._sizes = plan.sizes
            if accept(rows):
                if carry is not None and carry.after is not None:
                    self._held[carry.request] = self._latest = carry.after
                # Assignments wait until a run of training has been gone back through.
                waits = given.training and not request.roots
                first = len(job.stored) - len(request.updates) if waits else 0
                _store(job.stored[first:], rows[len(job.results) + first :], engine)
            return [*(values if as_numpy else map(Value.of_run, values)), *raw]

    def _carry(self, request: Request, given: Feed) -> Carry | None:
        """Which sequences go on from the last run of this request, where that is said.

        Raises `GraphError` where some do and the graph has what can't go on; it is named.
        """
        sources = sources_of(given.data)
        before = self._held.pop(request, None) or self._restored
        self._restored = None
        if sources is None:
            self._latest = None
            return None
        if before is not None:
            self._held[request] = before  # until this run has been accepted
        while len(self._held) > MOST_PLANS:
            del self._held[next(iter(self._held))]
        nodes = [*request.values, *request.roots]
        try:
            divide(nodes, time_axis_of(nodes))
        except GraphError:
            if any(s is not None for s in sources):
                raise
            return None
        return Carry(request, sources, before)

    def rows(self, axes: Sequence[Axis]) -> int:
        """How many samples or frames values with these axes had in the last run; 1 without axes."""
        if len(axes) == 2:
            return self._layouts[axes[1]].rows
        return self._sizes.get(axes[0], self._size) if axes else 1

    def updates(self, *roots: Node) -> tuple[tuple[Node, Node], ...]:
        """What a step of training below `roots` sets running statistics to, by state."""
        return self._updates.get(roots, lambda: tuple(graph.updates(roots).items()))

    @property
    def plans(self) -> list[Plan]:
        """The plans made so far."""
        return [job.plan for job in self._jobs.all()]

    def sizes(
        self, flexible: Sequence[Node], given: Feed, inputs: Sequence[Input]
    ) -> dict[Any, Any]:
        """The shapes of the inputs, and the most that the minibatch has along each axis."""
        sizes: dict[Any, Any] = {}
        for fed in inputs:
            if fed in given.data:
                shape, count, longest = minibatch.sizes(fed, given.data[fed])
                sizes[fed] = shape
                sizes |= dict(zip(fed.axes or (), (count, longest), strict=False))
        for node in flexible:
            for axis in node.inputs[0].axes or () if node.op else ():
                if axis not in sizes and axis.source is not None:  # it has to be computed first
                    source = Request((axis.source,))
                    (frames,) = self.run(source, given, inputs, accept=lambda rows: False)
                    sizes[axis] = max(map(len, frames), default=0)
        return sizes


def assigned(nodes: Sequence[Node]) -> list[tuple[Node, Node]]:
    """What these nodes set after a run, each with the node of its new value; see `ops.assign`."""
    return [(n.inputs[0], n) for n in nodes if n.op is not None and n.op.assigns]


def _traits(request: Request) -> _Traits:
    news = [value for _, value in request.updates]
    learned = [of for _, of in request.learned]
    nodes = graph.order([*request.values, *request.roots, *request.wrt, *learned, *news])
    flexible = [n for n in nodes if graph.follows_data(n)]
    return _Traits(
        flexible,
        any(n.op is not None and n.op.inference_form for n in nodes),
        [n for n in nodes if isinstance(n, Constant)],
        [
            n
            for n in nodes
            if n.op is not None and n.op.random and not n.attrs.keys().isdisjoint(SETTABLE)
        ],
    )


def _job(
    request: Request,
    flexible: Sequence[Node],
    sizes: Mapping[Any, Any],
    engine: Engine,
    training: bool,
    roots_of_all: Sequence[Node] = (),
    observers: Sequence[Observer] = (),
) -> _Job:
    fitted = {}
    learned = [of for _, of in request.learned]
    news = [value for _, value in request.updates]
    parts = request.values, request.roots, request.wrt, learned, news
    if flexible:
        fitted = graph.fit([n for part in parts for n in part], flexible, sizes)
    values, roots, wrt, learned, news = ([fitted.get(n, n) for n in part] for part in parts)
    inputs: dict[Node, Node] = {n: fitted[n] for n in fitted if isinstance(n, Input)}
    if request.weighted:
        weights: list[Node] = [
            Input(r.shape or (), r.axes or (), r.dtype, "weights") for r in roots
        ]
        inputs.update(zip(request.roots, weights, strict=True))
        seeds = dict(zip(roots, weights, strict=True))
    else:
        seeds = {r: autodiff.filled(r, 1.0) for r in roots}
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
        plan: Any = WindowedPlan(values, seeds, wrt, later, request.window, engine, planned)
    else:
        found = autodiff.pull_back(seeds, [*wrt, *learned])
        gradients = dict(zip((g for g, _ in request.learned), found[len(wrt) :], strict=True))
        news = graph.copy(news, gradients, same_random=True) if gradients else news
        plan = planned([*values, *found[: len(wrt)], *now, *news])
    stored = [stored for stored, _ in (*assignments, *request.updates)]
    return _Job(plan, [*values, *wrt], inputs, stored)


def _take_places(outputs: Sequence[Node], roots: Sequence[Node]) -> None:
    """Has random operations draw by their place below `roots`, not by when they were made."""
    random = [n.uid for n in graph.order(roots) if n.op is not None and n.op.random]
    places = {uid: place for place, uid in enumerate(random)}
    for node in graph.order(outputs):
        node.uid = places.get(node.uid, node.uid)


def _store(nodes: Sequence[Any], rows: Sequence[Any], engine: Engine) -> None:
    """Sets nodes to what a run computed, in the engine's memory if that is not the CPU's."""
    # One may be what another one had before, what was fed, or what is given back.
    for node, row in zip(nodes, [row.copy() for row in rows], strict=True):
        if isinstance(node, Constant):
            node.value = engine.to_numpy(row)
        else:
            engine.store(node, row)


def plan(request: Request, device: Any = None) -> Plan:
    """The plan for a request whose sizes are all known."""
    return _job(request, (), {}, _device.engine(device), training=False).plan


def windowed_plan(request: Request, device: Any = None) -> WindowedPlan:
    """The plan for a request with a window."""
    made: Any = plan(request, device)
    assert isinstance(made, WindowedPlan)
    return made


def is_observed() -> bool:
    """Whether somebody looks on at what runs now."""
    return bool(_watching())


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
        arguments: a dict from inputs or their names to values, or the value of the only input. A
            value, or all this, may be a pair with a list that says of each sequence whether it
            starts anew; see `Value.create`.
        inputs: the function's.
    """
    if arguments is None:
        return {}
    arguments, all_start = _parted(arguments)
    if not isinstance(arguments, Mapping):
        if len(inputs) != 1:
            raise GraphError(
                f"the function has {len(inputs)} inputs "
                f"({', '.join(describe(i.node) for i in inputs)})",
                hint="say which value is whose: {x: …, y: …}",
            )
        arguments = {inputs[0]: arguments}
    known = {a.node: a for a in inputs}
    named = {n.name: n for n in known if n.name}
    found = {}
    for key, value in arguments.items():
        node = named.get(key) if isinstance(key, str) else getattr(key, "node", key)
        if not isinstance(node, Node):
            raise GraphError(f"the function has no input named '{key}'; it has {list(named)}")
        node = resolve(node)
        value, start = _parted(value)
        start = start or all_start
        if start is not None and node in known:
            value = Value.create(known[node], value, start)
        found[node] = value
    return found


def _parted(value: Any) -> tuple[Any, list[bool] | None]:
    """CNTK's pairs of data and whether each sequence starts anew, taken apart."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (list, tuple)):
        data, starts = value
        if starts and all(isinstance(s, (bool, np.bool_)) for s in starts):
            return data, list(starts)
    return value, None
