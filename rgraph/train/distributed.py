"""Training by several processes: CNTK's `train.distributed` module.

`mpirun` starts the processes, the workers; each reads its part of the data. Where there is one
process, MPI is not needed, and a distributed learner does what its own learner does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import GraphError
from ..learners import Learner, Schedule
from ..runtime.arrays import on_cpu
from ..runtime.workers import Workers, all_workers


@dataclass(frozen=True)
class WorkerDescriptor:
    """One of the processes that train together.

    >>> C.train.distributed.Communicator().current_worker()
    WorkerDescriptor(global_rank=0, host_id='')
    """

    global_rank: int = 0
    host_id: str = ""

    def is_main(self) -> bool:
        """Whether it is the worker of rank 0."""
        return self.global_rank == 0


class Communicator:
    """The processes that train together.

    Args:
        workers: those that take part; by default all that `mpirun` started.

    Source: CNTK's `Communicator`.

    >>> C.Communicator.num_workers(), C.Communicator.rank()
    (1, 0)
    """

    def __init__(self, workers: Workers | None = None) -> None:
        self._workers = workers or all_workers()

    def workers(self) -> list[WorkerDescriptor]:
        """All workers, by rank. They must all ask."""
        return [
            WorkerDescriptor(i, host)
            for i, host in enumerate(self._workers.gather(self._workers.host))
        ]

    def current_worker(self) -> WorkerDescriptor:
        """This process."""
        return WorkerDescriptor(self._workers.rank, self._workers.host)

    def barrier(self) -> None:
        """Waits until all workers are here."""
        self._workers.barrier()

    def is_main(self) -> bool:
        """Whether this is the worker of rank 0."""
        return self._workers.is_main

    @staticmethod
    def finalize() -> None:
        """Ends all communication. All workers must call it, or none: it happens at their end."""
        all_workers().finalize()

    @staticmethod
    def num_workers() -> int:
        """How many workers there are."""
        return all_workers().size

    @staticmethod
    def rank() -> int:
        """The number of this worker, from 0."""
        return all_workers().rank


class DistributedLearner(Learner):
    """A learner that takes part with others.

    Args:
        learner: the learner of this worker.
        communicator: the workers that take part.
        distributed_after: the number of samples after which that begins. Until then a training
            session has all workers read the same data and do the same.

    Attributes:
        learner: the learner of this worker.
        distributed_after: as given.
        sums_gradients: whether it is given gradients that are summed over all workers.

    >>> learner = C.data_parallel_distributed_learner(C.sgd([C.Parameter(2)], 0.1))
    >>> isinstance(learner, C.DistributedLearner), learner.communicator().is_main()
    (True, True)
    """

    sums_gradients = True

    def __init__(
        self, learner: Learner, communicator: Communicator, distributed_after: int = 0
    ) -> None:
        if not isinstance(learner, Learner) or isinstance(learner, DistributedLearner):
            raise GraphError(f"a learner is C.sgd(…) or the like, not {learner!r:.60}")
        if distributed_after < 0:
            raise GraphError(f"distributed_after is a number of samples, got {distributed_after}")
        self.learner, self.distributed_after = learner, int(distributed_after)
        self._communicator = communicator
        self.parameters, self.options = learner.parameters, learner.options
        self.as_numpy = learner.as_numpy

    def __getstate__(self) -> dict[str, Any]:
        """A pickle is for a program of one's own, with its own workers."""
        return {**vars(self), "_communicator": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._communicator = Communicator()

    def communicator(self) -> Communicator:
        """The workers that take part."""
        return self._communicator

    @property
    def workers(self) -> Workers:
        """The workers that take part, for what they tell each other."""
        return self._communicator._workers

    def update(
        self,
        gradient_values: Mapping[Any, Any],
        training_sample_count: int,
        is_sweep_end: bool = False,
    ) -> bool:
        """As `Learner.update`, of this worker's gradients; all workers must call it.

        A trainer, which sums all that there is to sum at once, does not.
        """
        samples = np.array([float(training_sample_count)])
        given = {p: np.array(on_cpu(gradient_values[p])) for p in self.parameters}
        self.workers.sum(samples, *(given.values() if self.sums_gradients else ()))
        own = int(samples[0]) if self.sums_gradients else training_sample_count
        self.before_step()
        goes_on = self.learner.update(given, own, is_sweep_end)
        self.after_step(int(samples[0]), goes_on=True)
        return goes_on

    def before_step(self) -> None:
        """What there is to do before parameters are changed."""

    def after_step(self, samples: int, goes_on: bool) -> None:
        """What there is to do after a step of all workers, with so many samples together.

        Args:
            goes_on: False after the last step.
        """

    def before_checkpoint(self) -> None:
        """Has all workers be in the same state; all must call it."""

    # What it has of its learner

    @property
    def tell(self) -> Callable[[str, float], None] | None:
        """What it tells numbers that change; set by a trainer."""
        return self.learner.tell

    @tell.setter
    def tell(self, tell: Callable[[str, float], None] | None) -> None:
        self.learner.tell = tell

    @property
    def is_by_step(self) -> bool:
        return self.learner.is_by_step

    @property
    def minibatch_size(self) -> int:
        return self.learner.minibatch_size

    @minibatch_size.setter
    def minibatch_size(self, size: int) -> None:
        self.learner.minibatch_size = size

    def is_compatible_mode(self) -> bool:
        return self.learner.is_compatible_mode()

    def learning_rate(self) -> float:
        return self.learner.learning_rate()

    def reset_learning_rate(self, learning_rate: Schedule) -> None:
        self.learner.reset_learning_rate(learning_rate)

    @property
    def _learning_rate_schedule(self) -> Schedule:
        return self.learner._learning_rate_schedule

    def total_number_of_samples_seen(self) -> int:
        return self.learner.total_number_of_samples_seen()

    def total_number_of_minibatches_seen(self) -> int:
        return self.learner.total_number_of_minibatches_seen()

    def total_number_of_sweeps_seen(self) -> int:
        return self.learner.total_number_of_sweeps_seen()

    def position(self) -> Callable[[], None]:
        return self.learner.position()

    def create_checkpoint(self) -> dict[str, Any]:
        return self.learner.create_checkpoint()

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self.learner.restore_from_checkpoint(checkpoint)


class BlockMomentumLearner(DistributedLearner):
    """See `block_momentum_distributed_learner`."""

    sums_gradients = False

    def __init__(
        self,
        learner: Learner,
        communicator: Communicator,
        distributed_after: int,
        block_size: int,
        time_constant: float | None,
        nesterov: bool,
        resets: bool,
        rate: float,
    ) -> None:
        super().__init__(learner, communicator, distributed_after)
        count = self.workers.size
        if block_size < count:
            raise GraphError(f"a block of {block_size} samples is too small for {count} workers")
        if time_constant is None:
            time_constant = -block_size / math.log(1 - 1 / count) if count > 1 else 0.0
        if time_constant < 0:
            raise GraphError(f"a time constant is a number of samples, got {time_constant}")
        self._block_size, self._time_constant = block_size, time_constant
        self._nesterov, self._resets, self._block_rate = nesterov, resets, rate
        self._smoothed = [np.zeros(p.shape, p.dtype) for p in self.parameters]
        self._before: list[np.ndarray] | None = None  # the parameters when the block began
        self._seen = self._in_block = 0  # of all workers

    def before_step(self) -> None:
        if self._before is None and self._seen >= self.distributed_after:
            self._before = [np.array(p.value) for p in self.parameters]

    def after_step(self, samples: int, goes_on: bool) -> None:
        self._seen += samples
        if self._before is not None:
            self._in_block += samples
            if self._in_block >= self._block_size or not goes_on:
                self._end_block()

    def before_checkpoint(self) -> None:
        self._end_block()

    def _end_block(self) -> None:
        """Sets the parameters to a step along what all workers' steps of the block come to."""
        if self._before is None or not self._in_block:
            return
        steps = [b - p.value for b, p in zip(self._before, self.parameters, strict=True)]
        self.workers.sum(*steps)
        momentum = 0.0
        if self._time_constant:
            momentum = math.exp(-self._in_block / self._time_constant)
        for i, (p, step) in enumerate(zip(self.parameters, steps, strict=True)):
            smoothed = momentum * self._smoothed[i] + (1 - momentum) * self._block_rate * step
            ahead = 1 + momentum if self._nesterov else 1
            self._smoothed[i] = smoothed.astype(p.dtype)
            self._before[i] = (self._before[i] - ahead * smoothed).astype(p.dtype)
            p.value = self._before[i].copy()
        self._in_block = 0
        if self._resets:
            self.learner.reset_smoothed_gradients()

    def total_number_of_samples_seen(self) -> int:
        return self._seen

    def create_checkpoint(self) -> dict[str, Any]:
        own = {"smoothed": [s.copy() for s in self._smoothed], "samples of all": self._seen}
        return {**super().create_checkpoint(), "blocks": own}

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        own = checkpoint.get("blocks")
        if own is None:
            raise ValueError("the checkpoint is of a learner without block momentum")
        super().restore_from_checkpoint(checkpoint)
        self._smoothed = [np.array(s) for s in own["smoothed"]]
        self._seen, self._in_block, self._before = own["samples of all"], 0, None


def mpi_communicator() -> Communicator:
    """The processes that train together.

    >>> C.mpi_communicator().is_main()
    True
    """
    return Communicator()


def data_parallel_distributed_learner(
    learner: Learner,
    distributed_after: int = 0,
    num_quantization_bits: int = 32,
    use_async_buffered_parameter_update: bool = False,
) -> DistributedLearner:
    """A learner that sums the gradients of all workers in each step.

    Args:
        learner: the learner of one worker. What it learns, and at what rate, is as if one worker
            had all samples of the step.
        distributed_after: the number of samples after which that begins.
        num_quantization_bits: accepted for CNTK's sake: all bits are sent.
        use_async_buffered_parameter_update: must be False.

    Source: CNTK's `data_parallel_distributed_learner`.

    >>> w = C.Parameter(1, init=1)
    >>> learner = C.data_parallel_distributed_learner(C.sgd([w], 0.5))
    >>> learner.update({w: np.array([1.0])}, 1)
    True
    >>> w.value
    array([0.5], dtype=float32)
    """
    if use_async_buffered_parameter_update:
        raise GraphError("parameters are not updated while gradients are still on their way")
    return DistributedLearner(learner, mpi_communicator(), distributed_after)


def block_momentum_distributed_learner(
    learner: Learner,
    block_size: int,
    block_momentum_as_time_constant: float | None = None,
    use_nestrov_momentum: bool = True,
    reset_sgd_momentum_after_aggregation: bool = True,
    block_learning_rate: float = 1.0,
    distributed_after: int = 0,
) -> DistributedLearner:
    """A learner of each worker's own, whose steps over a block of data are joined at its end.

    Each worker learns by itself from its part of a block. Then the parameters go on from where they
    were when the block began, by what the workers' changes come to, smoothed over blocks. Less is
    sent than gradients of each step; the result is not that of one worker.

    Args:
        learner: the learner of one worker; it counts that worker's samples.
        block_size: how many samples of all workers a block has, at least.
        block_momentum_as_time_constant: the number of samples after which 1/e of a change is left
            in the smoothed one; None: such that with n workers 1 - 1/n is left after a block.
        use_nestrov_momentum: whether blocks begin a step ahead, along the smoothed change.
        reset_sgd_momentum_after_aggregation: whether what the learners smoothed is forgotten when a
            block ends. Where it is not, a checkpoint has rank 0's.
        block_learning_rate: a factor of the changes.
        distributed_after: the number of samples after which the first block begins.

    Source: Chen and Huo, 2016; CNTK's `block_momentum_distributed_learner`, whose workers end a
    block by their own samples, where here all workers' are counted.

    >>> w = C.Parameter(2)
    >>> C.block_momentum_distributed_learner(C.sgd([w], 0.1), 1000).learning_rate()
    0.1
    """
    return BlockMomentumLearner(
        learner,
        mpi_communicator(),
        distributed_after,
        block_size,
        block_momentum_as_time_constant,
        use_nestrov_momentum,
        reset_sgd_momentum_after_aggregation,
        block_learning_rate,
    )


__all__ = [
    "Communicator",
    "DistributedLearner",
    "WorkerDescriptor",
    "block_momentum_distributed_learner",
    "data_parallel_distributed_learner",
    "mpi_communicator",
]
