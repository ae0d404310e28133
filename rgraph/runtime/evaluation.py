"""Evaluation of nodes: plans are made, cached, and run on minibatches.

A plan is made for known shapes. If the graph leaves a size free (a free static axis of an input,
the longest sequence of a minibatch in `sequence.unpack`), the minibatch determines it, and a plan
is made for each size that occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import device as _device
from .. import graph
from ..engines.base import Engine
from ..graph import Axis, Constant, GraphError, Input, Node
from ..graph.context import Count, Random, context
from ..graph.types import Array, Data, Saved
from ..passes.windows import divide, time_axis_of
from ..plan import Plan
from . import minibatch
from .cache import MAX_ENTRIES, Cache
from .carrying import Carry, Held, sources_of
from .jobs import Feed, Job, Request, Traits, make_job
from .minibatch import Minibatch
from .repeats import Decided, Repeat
from .values import Value
from .watching import watching
from .windows import Window

if TYPE_CHECKING:
    from ..device import DeviceDescriptor
    from ..graph.fitting import Sizes


def set_seed(seed: int) -> None:
    """Makes everything random (initial values, dropout) from here on the same in every run.

    What an operation draws depends on the seed, on how many evaluations there were since it was
    set, and on the operation's place among the random ones of its function: a clone or a loaded
    copy in its stead draws the same. Each thread has a seed of its own, which this sets.

    >>> C.set_seed(7)
    """
    context().random = Random(int(seed))


class Runner:
    """Runs graphs, and caches the plans made for them.

    Args:
        roots: the nodes of the function that it belongs to. The position of a random operation
            below them determines the numbers that it draws.
    """

    def __init__(self, roots: Sequence[Node] = ()) -> None:
        self._roots = roots
        self._jobs: Cache[tuple[Hashable, ...], Job] = Cache()
        self._traits: Cache[Request, Traits] = Cache()
        self._updates: Cache[tuple[Node, ...], tuple[tuple[Node, Node], ...]] = Cache()
        self._layouts: Mapping[Axis, graph.Layout] = {}  # of the last run
        self._held: dict[Request, Held] = {}  # what delays hold of sequences that go on
        self._latest: Held | None = None  # the latest of these
        self._restored: Held | None = None  # from a checkpoint, for the next run
        self._size, self._sizes = 0, dict[Axis, int]()
        self._turns = Random(), Count()  # of the last run, and its count of ours
        self.decided: Decided | None = None  # by the last run, if it was of values alone
        self.repeat: Repeat | None = None  # what that makes of runs that are fed alike

    def feed(
        self,
        data: Mapping[Node, Data],
        device: DeviceDescriptor | None = None,
        training: bool = False,
    ) -> Feed:
        """Data for a new run, with its own random numbers."""
        random = context().random
        of, turns = self._turns
        if of is not random:
            of, turns = self._turns = random, random.turns(self)
        return Feed(data, of.seed, of.runs(), turns(), device, training)

    def random_state(self) -> dict[str, int]:
        """The random state, for `set_random_state`."""
        random = context().random
        return {"seed": random.seed, "runs": random.runs.last, "turns": random.turns(self).last}

    def set_random_state(self, state: Mapping[str, int]) -> None:
        """Restore a random state: the seed, and the number of runs since it was set."""
        random = Random(state["seed"], state["runs"], context().random.initial_seeds)
        random.initial = context().random.initial
        random.set_turns(self, state["turns"])
        context().random = random

    def carried(self) -> dict[str, object] | None:
        """The delays' state after the latest run, for `set_carried`; None if there is none."""
        return None if self._latest is None else self._latest.as_state()

    def set_carried(self, state: Saved | None) -> None:
        """Let the next run's sequences continue from a state that `carried` returned."""
        self._held.clear()
        self._latest = self._restored = None if state is None else Held.of_state(state)

    def run(
        self,
        request: Request,
        given: Feed,
        inputs: Sequence[Input],
        weights: Sequence[Array] = (),
        as_numpy: bool = True,
        raw_gradients: bool = False,
        later: int = 0,
        accept: Callable[[list[Array]], bool] = lambda rows: True,
        ready: Callable[[int, Array], None] | None = None,
    ) -> list[Data]:
        """The values of a request, then its gradients, as the user reads them.

        Args:
            given: the data.
            inputs: the inputs of the function; they may determine the lengths of sequences.
            weights: the weights of the roots' elements, if the request is weighted.
            as_numpy: whether to return arrays and lists of arrays rather than `Value` objects,
                whose arrays stay on the device that computed them.
            raw_gradients: whether to return gradients in the engine's memory, in packed rows, to be
                read before the next run.
            later: how many of the first values stay on the device in any case, so that nothing
                waits for them before they are read.
            accept: is given the rows of all values, gradients and updates, and returns whether to
                apply the updates. It may replace the new values.
            ready: called with the number and the rows of each value and gradient as soon as it is
                computed; only if the CPU computes all frames at once.
        """
        carry = self._carry(request, given)
        if carry is not None and request.window is None:
            request = request._replace(window=Window())
        traits = self._traits.get(request, Traits)
        flexible = traits.flexible
        sizes = self.sizes(flexible, given, inputs) if flexible else {}
        engine = _device.engine(given.device)
        training = given.training or not traits.learns
        observers = watching()
        key = (traits, traits.edition(), engine.name, training, (*sizes.items(),), observers)
        job = self._jobs.get(key, partial(self._job, request, sizes, engine))
        plan: Any = job.plan
        data = given.data
        needed = job.needed(data, inputs)
        if job.inputs:
            data = {job.inputs.get(n, n): v for n, v in data.items()}
            data.update((job.inputs[r], w) for r, w in zip(request.roots, weights, strict=False))
        options: dict[str, Any] = {} if carry is None else {"carry": carry}
        if ready is not None and request.window is None and not engine.is_gpu:
            options["ready"] = ready
        in_order = [False] * len(job.results)
        with engine.active():
            batch = Minibatch(needed, data, engine, job.fed)
            if job.forward is not None:
                plan = job.forward.plan(batch.layouts)
                if plan is not job.plan and batch.layouts[plan.axis].is_ragged:
                    options["in_order"], in_order = True, plan.along
            self.note(batch.layouts, batch.size, plan.sizes)
            batch.arrays.update(job.numbers(given, engine))
            rows = plan.run(
                batch.arrays,
                batch.layouts,
                batch.size,
                given.training,
                (given.seed << 32) + given.run,
                given.turn,
                **options,
            )
            if plan.lends:
                batch.hold(plan.kept())
            end = len(request.values) if raw_gradients else len(job.results)
            raw = list(map(batch.own, rows[end : len(job.results) - request.looked_at]))
            values = [
                batch.read(job.results[i], rows[i], as_numpy and i >= later, in_order[i])
                for i in range(end)
            ]
        only_values = not (request.roots or request.updates or flexible or given.training)
        self.decided = Decided(traits, key[1], engine, job) if only_values else None
        computed = list(rows)
        if accept(rows):
            if carry is not None and carry.after is not None:
                self._held[carry.request] = self._latest = carry.after
            if job.stored:
                # Assignments wait until a run of training has been gone back through.
                waits = given.training and not request.roots
                first = len(job.stored) - len(request.updates) if waits else 0
                numbers = range(len(job.results) + first, len(job.results) + len(job.stored))
                own = {n for n in plan.alone.intersection(numbers) if rows[n] is computed[n]}
                with engine.active():
                    news = [_kept(rows[n], engine, n in own) for n in numbers]
                    _store(job.stored[first:], news, engine)
        return [*(values if as_numpy else map(Value.of_run, values)), *raw]

    def _job(self, request: Request, sizes: Sizes, engine: Engine, key: tuple[Any, ...]) -> Job:
        traits, edition, _, training, _, observers = key
        self._jobs.discard(lambda old: old[0] is traits and old[1] != edition)
        return make_job(request, traits.flexible, sizes, engine, training, self._roots, observers)

    def _carry(self, request: Request, given: Feed) -> Carry | None:
        """Which sequences continue from the last run of this request, if the data says so.

        Raises `GraphError` if some do and the graph has an operation for which that is impossible.
        """
        sources = sources_of(given.data)
        before = self._held.pop(request, None) or self._restored
        self._restored = None
        if sources is None:
            self._latest = None
            return None
        if before is not None:
            self._held[request] = before  # until this run has been accepted
        while len(self._held) > MAX_ENTRIES:
            del self._held[next(iter(self._held))]
        nodes = [*request.values, *request.roots]
        try:
            divide(nodes, time_axis_of(nodes))
        except GraphError:
            if any(s is not None for s in sources):
                raise
            return None
        return Carry(request, sources, before)

    def note(self, layouts: Mapping[Axis, graph.Layout], size: int, sizes: dict[Axis, int]) -> None:
        """Remember how many samples and frames a run has."""
        self._layouts, self._size, self._sizes = layouts, size, sizes

    def rows(self, axes: Sequence[Axis]) -> int:
        """How many samples or frames values with these axes had in the last run; 1 without axes."""
        if len(axes) == 2:
            return self._layouts[axes[1]].rows
        return self._sizes.get(axes[0], self._size) if axes else 1

    def updates(self, *roots: Node) -> tuple[tuple[Node, Node], ...]:
        """The new values of running statistics in a training step below `roots`, by state."""
        return self._updates.get(roots, lambda roots: tuple(graph.updates(roots).items()))

    @property
    def plans(self) -> list[Plan]:
        """The plans made so far."""
        return [job.plan for job in self._jobs.all()]

    def sizes(self, flexible: Sequence[Node], given: Feed, inputs: Sequence[Input]) -> Sizes:
        """The shapes of the inputs, and the largest size of the minibatch along each axis."""
        sizes: dict[Input | Axis, Any] = {}
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


def _kept(row: Array, engine: Engine, is_own: bool) -> Array:
    """A result of a run, in a form that may be kept: in C order, except on a GPU.

    Args:
        is_own: whether nothing else uses its memory. Other results may share memory with a
            parameter's previous value, with an input, or with a returned value.
    """
    return row if is_own and (engine.is_gpu or row.flags.c_contiguous) else row.copy()


def _store(nodes: Sequence[Any], rows: Sequence[Array], engine: Engine) -> None:
    """Set nodes to results of a run, in the memory of the engine if that is not the CPU."""
    for node, row in zip(nodes, rows, strict=True):
        if isinstance(node, Constant):
            node.value = engine.to_numpy(row)
        else:
            engine.store(node, row)
