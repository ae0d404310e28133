"""Training by several processes: CNTK's `train.distributed` module.

`mpirun` starts the processes, the workers; each reads its part of the data. With a single
process MPI is not needed, and a distributed learner does the same as the learner it wraps.
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
        workers: the participating workers; by default all that `mpirun` started.

    Source: CNTK's `Communicator`.

    >>> C.Communicator.num_workers(), C.Communicator.rank()
    (1, 0)
    """

    def __init__(self, workers: Workers | None = None) -> None:
        self._workers = workers or all_workers()

    def workers(self) -> list[WorkerDescriptor]:
        """All workers, by rank. A collective call: all workers must make it."""
        return [
            WorkerDescriptor(i, host)
            for i, host in enumerate(self._workers.gather(self._workers.host))
        ]

    def current_worker(self) -> WorkerDescriptor:
        """This process."""
        return WorkerDescriptor(self._workers.rank, self._workers.host)

    def barrier(self) -> None:
        """Waits until all workers have called this."""
        self._workers.barrier()

    def is_main(self) -> bool:
        """Whether this is the worker of rank 0."""
        return self._workers.is_main

    @staticmethod
    def finalize() -> None:
        """Ends communication, which also happens at exit. All workers must call it, or none."""
        all_workers().finalize()

    @staticmethod
    def num_workers() -> int:
        """The number of workers."""
        return all_workers().size

    @staticmethod
    def rank() -> int:
        """The number of this worker, from 0."""
        return all_workers().rank


class DistributedLearner(Learner):
    """The base class of learners for several workers.

    Args:
        learner: the learner of this worker.
        communicator: the participating workers.
        distributed_after: the number of samples after which distributed training starts. Before,
            all workers of a training session read the same data and make the same updates.

    Attributes:
        learner: the learner of this worker.
        distributed_after: as given.
        sums_gradients: whether gradients are summed over all workers before the update.

    >>> learner = C.data_parallel_distributed_learner(C.sgd([C.Parameter(2)], 0.1))
    >>> isinstance(learner, C.DistributedLearner), learner.communicator().is_main()
    (True, True)
    """

    sums_gradients = True

    def __init__(
        self, learner: Learner, communicator: Communicator, distributed_after: int = 0
    ) -> None:
        if not isinstance(learner, Learner) or isinstance(learner, DistributedLearner):
            raise GraphError(f"expected a learner such as C.sgd(…), got {learner!r:.60}")
        if distributed_after < 0:
            raise GraphError(
                f"distributed_after must be a number of samples, got {distributed_after}"
            )
        self.learner, self.distributed_after = learner, int(distributed_after)
        self._communicator = communicator
        self.parameters, self.options = learner.parameters, learner.options
        self.as_numpy = learner.as_numpy

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle, without the workers of this program."""
        return {**vars(self), "_communicator": None}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        vars(self).update(state)
        self._communicator = Communicator()

    def communicator(self) -> Communicator:
        """The participating workers."""
        return self._communicator

    @property
    def workers(self) -> Workers:
        """The participating workers, with their collective operations."""
        return self._communicator._workers

    def update(
        self,
        gradient_values: Mapping[Any, object],
        training_sample_count: int,
        is_sweep_end: bool = False,
    ) -> bool:
        """Same as `Learner.update`, with the gradients of this worker; all workers must call it.

        A trainer does not call it: it sums all values of a step at once.
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
        """Called before parameters are changed."""

    def after_step(self, samples: int, goes_on: bool) -> None:
        """Called after a step.

        Args:
            samples: the number of samples of all workers in the step.
            goes_on: False after the last step.
        """

    def before_checkpoint(self) -> None:
        """Brings all workers into the same state; all must call it."""

    # Delegated to the wrapped learner

    @property
    def tell(self) -> Callable[[str, float], None] | None:
        """The function that reports rates; set by a trainer."""
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
            raise GraphError(f"a time constant must be a number of samples, got {time_constant}")
        self._block_size, self._time_constant = block_size, time_constant
        self._nesterov, self._resets, self._block_rate = nesterov, resets, rate
        self._smoothed = [np.zeros(p.shape, p.dtype) for p in self.parameters]
        self._before: list[np.ndarray] | None = None  # the parameters at the start of the block
        self._seen = self._in_block = 0  # counts the samples of all workers

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
        """Moves the parameters by the smoothed sum of all workers' changes in the block."""
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
            raise ValueError("the checkpoint belongs to a learner without block momentum")
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
        learner: the learner of this worker. Rates apply as if a single worker had all samples of
            the step.
        distributed_after: the number of samples after which distributed training starts.
        num_quantization_bits: accepted for compatibility with CNTK: gradients are not quantized.
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
        raise GraphError("use_async_buffered_parameter_update=True is not supported")
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
    """Block momentum: workers learn separately, and are synchronized after each block of data.

    Each worker learns from its part of a block. At the end of the block the parameters move from
    their values at its start by the sum of all workers' changes, smoothed over blocks. This needs
    less communication than gradients in each step; the result differs from that of one worker.

    Args:
        learner: the learner of this worker; it counts this worker's samples.
        block_size: the smallest number of samples in a block, over all workers.
        block_momentum_as_time_constant: the number of samples after which a change decays to 1/e
            in the smoothed change; None: with n workers the momentum is 1 - 1/n per block.
        use_nestrov_momentum: whether to use Nesterov's momentum between blocks.
        reset_sgd_momentum_after_aggregation: whether to reset the learners' smoothed gradients at
            the end of a block. Otherwise a checkpoint contains those of rank 0.
        block_learning_rate: a factor of the sum of changes.
        distributed_after: the number of samples after which the first block starts.

    Source: Chen and Huo, 2016; CNTK's `block_momentum_distributed_learner`, which counts the
    samples of each worker to end a block, while here those of all workers are counted.

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
