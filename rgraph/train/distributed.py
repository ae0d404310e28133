"""Training by several processes: CNTK's `train.distributed` module, for the one process there is.

CNTK's programs for several workers run as they do there on one: a communicator of one worker, and
learners that take part in nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..graph import GraphError
from ..learners import Learner


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
    """The processes that train together: this one.

    Source: CNTK's `Communicator`.

    >>> C.Communicator.num_workers(), C.Communicator.rank()
    (1, 0)
    """

    def workers(self) -> list[WorkerDescriptor]:
        """All workers."""
        return [self.current_worker()]

    def current_worker(self) -> WorkerDescriptor:
        """This process."""
        return WorkerDescriptor()

    def barrier(self) -> None:
        """Waits until all workers are here."""

    def is_main(self) -> bool:
        """Whether this is the worker of rank 0."""
        return True

    @staticmethod
    def finalize() -> None:
        """Ends all communication."""

    @staticmethod
    def num_workers() -> int:
        """How many workers there are."""
        return 1

    @staticmethod
    def rank() -> int:
        """The number of this worker."""
        return 0


class DistributedLearner(Learner):
    """A learner that takes part with others.

    >>> learner = C.data_parallel_distributed_learner(C.sgd([C.Parameter(2)], 0.1))
    >>> isinstance(learner, C.DistributedLearner), learner.communicator().is_main()
    (True, True)
    """

    def communicator(self) -> Communicator:
        """The workers that take part."""
        return Communicator()


def mpi_communicator() -> Communicator:
    """The processes that train together.

    >>> C.mpi_communicator().is_main()
    True
    """
    return Communicator()


def data_parallel_distributed_learner(
    learner: Any,
    distributed_after: int = 0,
    num_quantization_bits: int = 32,
    use_async_buffered_parameter_update: bool = False,
) -> Learner:
    """A learner that sums the gradients of all workers in each step.

    Args:
        learner: the learner of one worker.
        distributed_after: the number of samples after which that begins.
        num_quantization_bits: how many bits of each gradient's elements are sent.
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
    return _distributed(learner)


def block_momentum_distributed_learner(
    learner: Any,
    block_size: int,
    block_momentum_as_time_constant: float | None = None,
    use_nestrov_momentum: bool = True,
    reset_sgd_momentum_after_aggregation: bool = True,
    block_learning_rate: float = 1.0,
    distributed_after: int = 0,
) -> Learner:
    """A learner of each worker's own, whose steps over a block are averaged: for one, itself.

    Source: Chen and Huo, 2016; CNTK's `block_momentum_distributed_learner`.

    >>> w = C.Parameter(2)
    >>> C.block_momentum_distributed_learner(C.sgd([w], 0.1), 1000).learning_rate()
    0.1
    """
    return _distributed(learner)


def _distributed(learner: Any) -> Learner:
    if not isinstance(learner, Learner):
        raise GraphError(f"a learner is C.sgd(…) or the like, not {learner!r:.60}")
    if type(learner) is Learner:  # with one worker it is the learner itself that learns
        learner.__class__ = DistributedLearner
    return learner


__all__ = [
    "Communicator",
    "DistributedLearner",
    "WorkerDescriptor",
    "block_momentum_distributed_learner",
    "data_parallel_distributed_learner",
    "mpi_communicator",
]
