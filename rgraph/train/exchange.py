"""What the workers of a trainer tell each other in each step: sums, in one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..engines.base import Engine
from ..graph import GraphError, Node, order
from ..io.base import Source
from ..learners import Learner
from ..runtime.arrays import on_cpu
from ..runtime.evaluation import Feed
from ..runtime.jobs import assigned
from ..runtime.workers import checksums
from .distributed import DistributedLearner

SAME = (
    "what sets parameters between steps must do so for all workers alike; all machines must have "
    "processors of one type"
)
CHECK_EVERY = 100  # steps between two looks whether the workers' parameters are the same


class Found(NamedTuple):
    """What a step found: a worker's own, then that of all.

    Attributes:
        loss, metric: summed over the samples.
        samples: how many.
        gradients: summed over the samples, by parameter; of all workers those that are summed.
        statistics: what running statistics become; of all workers the mean, by their samples.
        has_data: whether there was a minibatch.
        ends_sweep: whether a sweep over the data ends with it; rank 0's word counts.
        overflows: whether gradients are not finite, for the loss is scaled too much; of all
            workers, whether one's are.
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
    """Joins what the workers of a trainer found.

    Args:
        learners: the trainer's, all of them distributed.
        statistics: holders of running statistics.

    Until the learners' `distributed_after` all workers do the same, and rank 0 counts. Sums are
    made in the CPU's memory, or on the GPUs where each worker has one and NCCL is there.
    """

    def __init__(self, learners: Sequence[DistributedLearner], statistics: Sequence[Any]) -> None:
        self.workers = learners[0].workers
        self.learners, self._statistics = learners, statistics
        self._parameters = [p for k in learners if k.sums_gradients for p in k.parameters]
        self._all_parameters = [p for k in learners for p in k.parameters]
        self._after = max(k.distributed_after for k in learners)
        self._begun = False
        self._steps = 0
        self._engine: Engine | None = None  # whose sums are made
        self._add_up: Callable[[Any], None] | None = None  # sums on its GPU
        self._buffers: list[Any] = []
        self._views: list[Any] = []

    def parallel_at(self, samples: int) -> bool:
        """Whether the workers share the work once so many samples were seen."""
        return samples >= self._after

    def begin(self, samples: int) -> None:
        """Before a step: when the workers begin to share the work, all get what rank 0 has."""
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
        """Has all get what rank 0 has once more, before the next step."""
        self._begun = False

    def of_its_own(self, given: Feed) -> Feed:
        """A run with this worker's own random numbers."""
        rank, size = self.workers.rank, self.workers.size
        if not self._begun:
            return given
        seed = _seed(given.seed, rank) if rank else given.seed
        return given._replace(seed=seed, turn=given.turn * size + rank)

    def join(self, own: Found, engine: Engine) -> Found:
        """What all workers found, on an engine. Its arrays are good until the next step."""
        numbers = np.array([*own[:3], own.has_data, own.ends_sweep, own.overflows], float)
        if not self.workers.is_main:
            numbers[-2] = 0
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
            self.workers.sum(numbers, *self._buffers)
        else:
            self.workers.sum(numbers)  # first: who waits here hears of workers that have ended
        with engine.active():
            if self._add_up is not None:
                for buffer in self._buffers:
                    self._add_up(buffer)
            for view in self._views[count:]:
                view /= max(numbers[2], 1)
        summed = dict(zip(self._parameters, self._views, strict=False))
        if self._steps % CHECK_EVERY == 0:
            self.check()
        return _read(numbers, {**own.gradients, **summed}, self._views[count:])

    def _prepare(self, engine: Engine) -> None:
        """Makes the buffers where sums are made for this engine."""
        if self._engine is engine:
            return
        self._engine, self._add_up = engine, self.workers.gpu_sum(engine)
        buffers, self._views = _buffers([*self._parameters, *self._statistics], self._zeros)
        self._buffers = buffers

    def _zeros(self, size: int, dtype: Any) -> Any:
        zeros = np.zeros(size, dtype)
        if self._add_up is None or self._engine is None:
            return zeros
        with self._engine.active():
            return self._engine.from_numpy(zeros)

    def _pack(self, own: Found) -> None:
        """Puts this worker's arrays into the buffers, or zeros."""
        if not own.samples:
            for buffer in self._buffers:
                buffer.fill(0)
            return
        arrays = [*(own.gradients[p] for p in self._parameters), *own.statistics]
        for view, array in zip(self._views, arrays, strict=True):
            view[...] = on_cpu(array) if self._add_up is None else array
        for view in self._views[len(self._parameters) :]:
            view *= own.samples

    def set_statistics(self, values: Sequence[Any]) -> None:
        """Sets running statistics to what they become."""
        for holder, value in zip(self._statistics, values, strict=False):
            holder.value = on_cpu(value)

    # What must be the same everywhere

    def check(self) -> None:
        """Looks whether all workers have the same parameters.

        Raises:
            GraphError: they have drifted apart; the first parameter that has is named.
        """
        if self._begun:
            values = [np.asarray(p.value) for p in self._all_parameters]
            self._agree(checksums(values), [repr(p) for p in self._all_parameters])

    def check_data(self, source: Source) -> None:
        """Looks whether all workers deal the same data, as far as a source can tell.

        Raises:
            GraphError: they do not.
        """
        self._agree(
            [source.checksum()],
            ["what the source reads"],
            "all workers must read the same files, or shuffle arrays by one seed; the source "
            "deals them",
        )

    def _agree(self, own: Sequence[Any], names: Sequence[str], hint: str = SAME) -> None:
        """Raises an error that names the first of these things that is not rank 0's everywhere."""
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
    loss, metric, samples, *flags = numbers.tolist()
    found = loss, metric, int(samples), gradients, statistics
    return Found(*found, *(flag > 0 for flag in flags))


@lru_cache
def _seed(seed: int, rank: int) -> int:
    """A worker's own seed."""
    key = seed & (1 << 64) - 1
    return int(np.random.SeedSequence(key, spawn_key=(rank,)).generate_state(1)[0])


def exchange_of(
    learners: Sequence[Learner], statistics: Sequence[Any], loss: Node
) -> Exchange | None:
    """What joins the steps of these learners; None for a single worker.

    Raises:
        GraphError: some of several workers' learners are distributed, some are not; or the loss
            assigns values.
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
    return Exchange(distributed, statistics)


def _buffers(
    holders: Sequence[Any], zeros: Callable[[int, Any], Any]
) -> tuple[list[Any], list[Any]]:
    """A flat buffer for each type, and in them an array for each holder."""
    sizes: dict[Any, int] = {}
    for holder in holders:
        sizes[holder.dtype] = sizes.get(holder.dtype, 0) + math.prod(holder.shape)
    buffers = {dtype: zeros(size, dtype) for dtype, size in sizes.items()}
    begins = dict.fromkeys(buffers, 0)
    views = []
    for holder in holders:
        begin, end = begins[holder.dtype], begins[holder.dtype] + math.prod(holder.shape)
        views.append(buffers[holder.dtype][begin:end].reshape(holder.shape))
        begins[holder.dtype] = end
    return list(buffers.values()), views
