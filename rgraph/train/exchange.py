"""Communication between the workers of a trainer in each step: sums of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..engines.base import Engine
from ..graph import GraphError, Node, order
from ..graph.types import Array
from ..io.base import Source
from ..learners import Learner
from ..runtime.arrays import on_cpu
from ..runtime.evaluation import Feed
from ..runtime.jobs import assigned
from ..runtime.workers import Sum, checksums
from .distributed import DistributedLearner
from .steps import in_order

SAME = (
    "what sets parameters between steps must do so for all workers alike; all machines must have "
    "processors of one type"
)
_ENDS_SWEEP, _HAS_FAILED = 4, 6  # places of two flags among the numbers that are summed
CHECK_EVERY = 100  # steps between two looks whether the workers' parameters are the same
BUCKET = 1 << 20  # bytes of gradients that are worth a sum of their own, started early


class Found(NamedTuple):
    """The result of a step: of one worker, or of all of them.

    Attributes:
        loss, metric: sums over the samples.
        samples: the number of samples.
        gradients: sums over the samples, by parameter; for all workers, only those that are summed.
        statistics: the new running statistics; for all workers, the mean weighted by their samples.
        has_data: whether there was a minibatch.
        ends_sweep: whether it ends a sweep over the data; rank 0 decides.
        overflows: whether gradients are not finite because the loss is scaled too much, on any
            worker.
    """

    loss: float = 0.0
    metric: float = 0.0
    samples: int = 0
    gradients: Mapping[Any, Any] = MappingProxyType({})
    statistics: Sequence[Any] = ()
    has_data: bool = False
    ends_sweep: bool = False
    overflows: bool = False


class Exchange:
    """Combines the results of a trainer's workers.

    Args:
        learners: the trainer's learners, all of them distributed.
        statistics: the holders of running statistics.
        loss: the loss.

    Before the learners' `distributed_after` all workers do the same, and rank 0 counts. Sums are
    made in CPU memory, or on the GPUs if every worker has one and NCCL is installed.
    """

    def __init__(
        self, learners: Sequence[DistributedLearner], statistics: Sequence[Any], loss: Node
    ) -> None:
        self.workers = learners[0].workers
        self.learners, self._statistics = learners, statistics
        summed = [p for k in learners if k.sums_gradients for p in k.parameters]
        self._parameters = in_order(summed, loss)
        self._all_parameters = [p for k in learners for p in k.parameters]
        self._after = max(k.distributed_after for k in learners)
        self._begun = False
        self._steps = 0
        self._engine: Engine | None = None  # whose sums are made
        self._add_up: Callable[[Any], None] | None = None  # sums on its GPU
        self._buckets: list[Bucket] = []
        self._views: list[Any] = []
        self._packed: set[int] = set()  # the views that have this step's numbers already
        self._sums: list[list[Sum]] = []  # of the first buckets, that have been started

    def parallel_at(self, samples: int) -> bool:
        """Whether the workers share the work after this many samples."""
        return samples >= self._after

    def begin(self, samples: int) -> None:
        """Before a step: when the workers start to share work, copy the state of rank 0 to all."""
        if self._begun or not self.parallel_at(samples):
            return
        self._begun = True
        holders = [*self._all_parameters, *self._statistics]
        own = [(np.shape(h.value), str(h.dtype)) for h in holders]
        self._agree(own, [f"the shape or type of {h!r}" for h in holders])
        values = self.workers.of_main([np.asarray(h.value) for h in holders])
        learned = self.workers.of_main([k.create_checkpoint() for k in self.learners])
        if not self.workers.is_main:
            for holder, value in zip(holders, values, strict=True):
                holder.value = value
            for learner, state in zip(self.learners, learned, strict=True):
                learner.restore_from_checkpoint(state)

    def restart(self) -> None:
        """Copy the state of rank 0 to all workers again before the next step."""
        self._begun = False

    def of_its_own(self, given: Feed) -> Feed:
        """The same data, with this worker's own random numbers."""
        rank, size = self.workers.rank, self.workers.size
        if not self._begun:
            return given
        seed = _seed(given.seed, rank) if rank else given.seed
        return given._replace(seed=seed, turn=given.turn * size + rank)

    def early(
        self, given: Sequence[Any], first: int, samples: Callable[[], int], engine: Engine
    ) -> Callable[[int, Array], None] | None:
        """A callback for the gradients of a step, so that they are summed while back-propagation
        goes on. None if a single sum at the end is enough.

        Args:
            given: the parameters whose gradients are passed.
            first: the number of the first of these gradients.
            samples: returns the number of samples of the step.
        """
        if not self._begun:
            return None
        self._prepare(engine)
        if len(self._buckets) == 1:
            return None
        order = {p: i for i, p in enumerate(self._parameters)}
        places = {first + i: order[p] for i, p in enumerate(given) if p in order}

        def ready(number: int, gradient: Array) -> None:
            place = places.get(number)
            if place is None or not samples():
                return
            self._views[place][...] = gradient
            self._packed.add(place)
            self._start_sums()

        return ready

    def _start_sums(self) -> None:
        """Start the sums of full buckets, except the last one. All workers start them in the same
        order, that of the buckets, whatever order their gradients come in.
        """
        for sums in self._sums:
            for one in sums:
                one.advance()
        for bucket in self._buckets[len(self._sums) : -1]:
            if not self._packed.issuperset(bucket.places):
                return
            self._sums.append([self.workers.start_sum(b) for b in bucket.buffers])

    def fail(self, engine: Engine) -> None:
        """After an error in the middle of a step: if sums have been started, let `join` raise an
        error on all other workers.
        """
        if self._sums:
            self._join(Found(), engine, True)

    def join(self, own: Found, engine: Engine) -> Found:
        """Combine the results of all workers, on an engine. The arrays are valid until the next
        step.

        Raises:
            GraphError: another worker has failed in the middle of the step.
        """
        return self._join(own, engine, False)

    def _join(self, own: Found, engine: Engine, has_failed: bool) -> Found:
        flags = own.has_data, own.ends_sweep, own.overflows, has_failed
        numbers = np.array([*own[:3], *flags], float)
        if not self.workers.is_main:
            numbers[_ENDS_SWEEP] = 0
            numbers *= self._begun
        self._steps += 1
        if not self._begun:
            self.workers.sum(numbers)
            return _read(numbers, own.gradients, own.statistics)
        self._prepare(engine)
        count = len(self._parameters)
        with engine.active():
            self._pack(own)
        # Who waits for other workers keeps nobody from the GPU.
        if self._add_up is None:
            for bucket in self._buckets[len(self._sums) :]:
                self._sums.append([self.workers.start_sum(b) for b in bucket.buffers])
        started = [one for sums in self._sums for one in sums]
        self._packed, self._sums = set(), []
        self.workers.sum(numbers)  # who waits here hears of workers that have ended
        for one in started:
            one.wait()
        if numbers[_HAS_FAILED] and not has_failed:
            raise GraphError(
                "another worker has failed in the middle of this step; nothing was changed",
                hint="its own message says why",
            )
        with engine.active():
            if self._add_up is not None:
                for bucket in self._buckets:
                    for buffer in bucket.buffers:
                        self._add_up(buffer)
            for view in self._views[count:]:
                view /= max(numbers[2], 1)
        summed = dict(zip(self._parameters, self._views, strict=False))
        if self._steps % CHECK_EVERY == 0:
            self.check()
        return _read(numbers, {**own.gradients, **summed}, self._views[count:])

    def _prepare(self, engine: Engine) -> None:
        """Allocate the buffers for this engine."""
        if self._engine is engine:
            return
        self._engine, self._add_up = engine, self.workers.gpu_sum(engine)
        limit = BUCKET if self._add_up is None else None
        holders, count = [*self._parameters, *self._statistics], len(self._parameters)
        self._buckets = list(_buckets(holders, count, limit, self._zeros))
        self._views = [view for bucket in self._buckets for view in bucket.views]

    def _zeros(self, size: int, dtype: Any) -> Any:
        zeros = np.zeros(size, dtype)
        if self._add_up is None or self._engine is None:
            return zeros
        with self._engine.active():
            return self._engine.from_numpy(zeros)

    def _pack(self, own: Found) -> None:
        """Copy this worker's arrays into the buffers, or fill them with zeros."""
        if not own.samples:
            for bucket in self._buckets[len(self._sums) :]:
                for buffer in bucket.buffers:
                    buffer.fill(0)
            return
        arrays = [*(own.gradients[p] for p in self._parameters), *own.statistics]
        for i, (view, array) in enumerate(zip(self._views, arrays, strict=True)):
            if i not in self._packed:
                view[...] = on_cpu(array) if self._add_up is None else array
        for view in self._views[len(self._parameters) :]:
            view *= own.samples

    def set_statistics(self, values: Sequence[Any]) -> None:
        """Set running statistics to their new values."""
        for holder, value in zip(self._statistics, values, strict=False):
            holder.value = on_cpu(value)

    # What must be the same everywhere

    def check(self) -> None:
        """Check that all workers have the same parameters.

        Raises:
            GraphError: they have drifted apart; the message names the first such parameter.
        """
        if self._begun:
            values = [np.asarray(p.value) for p in self._all_parameters]
            self._agree(checksums(values), [repr(p) for p in self._all_parameters])

    def check_data(self, source: Source) -> None:
        """Check that all workers read the same data, as far as a source can tell.

        Raises:
            GraphError: they don't.
        """
        self._agree(
            [source.checksum()],
            ["what the source reads"],
            "all workers must read the same files, or shuffle arrays by one seed; the source "
            "deals them",
        )

    def _agree(self, own: Sequence[Any], names: Sequence[str], hint: str = SAME) -> None:
        """Raise an error that names the first of these values that differs between workers."""
        found = self.workers.gather(list(own))
        if len({len(f) for f in found}) > 1:
            raise GraphError(
                f"the workers train different models: of {[len(f) for f in found]} parameters"
            )
        for i, name in enumerate(names):
            others = [r for r, one in enumerate(found) if one[i] != found[0][i]]
            if others:
                raise GraphError(
                    f"the workers have drifted apart: {name} of rank "
                    f"{', '.join(map(str, others))} is not rank 0's, in step {self._steps}",
                    hint=hint,
                )


def _read(numbers: np.ndarray, gradients: Mapping[Any, Any], statistics: Sequence[Any]) -> Found:
    loss, metric, samples, *flags, _ = numbers.tolist()
    found = loss, metric, int(samples), gradients, statistics
    return Found(*found, *(flag > 0 for flag in flags))


@lru_cache
def _seed(seed: int, rank: int) -> int:
    """The seed of one worker."""
    key = seed & (1 << 64) - 1
    return int(np.random.SeedSequence(key, spawn_key=(rank,)).generate_state(1)[0])


def exchange_of(
    learners: Sequence[Learner], statistics: Sequence[Any], loss: Node
) -> Exchange | None:
    """The exchange for these learners; None for a single worker.

    Raises:
        GraphError: only some of several workers' learners are distributed, or the loss assigns
            values.
    """
    distributed = [k for k in learners if isinstance(k, DistributedLearner)]
    if not distributed or distributed[0].workers.size == 1:
        return None
    if len(distributed) < len(learners):
        raise GraphError(
            "some of the learners are distributed and some are not",
            hint="data_parallel_distributed_learner(…) around each of them",
        )
    if len({k.distributed_after for k in distributed}) > 1:
        raise GraphError("the learners of a trainer must have the same distributed_after")
    if assigned(order([loss])):
        raise GraphError(
            "the loss assigns values, which each worker would do by itself",
            hint="assign them outside of the loss, on all workers alike",
        )
    return Exchange(distributed, statistics, loss)


class Bucket(NamedTuple):
    """Arrays that are summed together.

    Attributes:
        buffers: a flat buffer for each type.
        views: the arrays, as views of these.
        places: their numbers among the arrays of all buckets.
    """

    buffers: list[Any]
    views: list[Any]
    places: range


def _buckets(
    holders: Sequence[Any], early: int, limit: int | None, zeros: Callable[[int, Any], Any]
) -> Iterator[Bucket]:
    """Divide the arrays of holders into buckets, in order.

    Args:
        early: how many of the first arrays may be summed before the others are known.
        limit: the size of a bucket in bytes; None: a single bucket.
    """
    begin, size = 0, 0
    for i, holder in enumerate(holders[:early], 1):
        size += math.prod(holder.shape) * np.dtype(holder.dtype).itemsize
        if limit is not None and size >= limit and i < len(holders):
            yield _bucket(holders, range(begin, i), zeros)
            begin, size = i, 0
    yield _bucket(holders, range(begin, len(holders)), zeros)


def _bucket(holders: Sequence[Any], places: range, zeros: Callable[[int, Any], Any]) -> Bucket:
    own = holders[places.start : places.stop]
    sizes: dict[Any, int] = {}
    for holder in own:
        sizes[holder.dtype] = sizes.get(holder.dtype, 0) + math.prod(holder.shape)
    buffers = {dtype: zeros(size, dtype) for dtype, size in sizes.items()}
    begins = dict.fromkeys(buffers, 0)
    views = []
    for holder in own:
        begin, end = begins[holder.dtype], begins[holder.dtype] + math.prod(holder.shape)
        views.append(buffers[holder.dtype][begin:end].reshape(holder.shape))
        begins[holder.dtype] = end
    return Bucket(list(buffers.values()), views, places)
