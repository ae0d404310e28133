"""The processes of one program started by MPI, and their communication.

All collective operations, sums and gathers, must be called by every worker in the same order. A
worker that waits in one checks whether others have ended; a worker that ends with an error ends
all.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import platform
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..engines.base import Engine
from ..graph import GraphError
from ..graph.types import Array

if TYPE_CHECKING:
    from types import TracebackType


# What MPI's launchers tell a process: how many there are.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
INSTALL = "pip install 'rgraph-cntk[mpi]'"
PATIENCE = 1.0  # seconds of waiting after which a worker looks whether others have ended

# Of mpi4py, which has no types here
Module: TypeAlias = Any
Communicator: TypeAlias = Any
Communication: TypeAlias = Any


class Workers:
    """The workers that take part: by default this process alone.

    Attributes:
        rank: the rank of this worker, from 0.
        size: the number of workers.
        host: the name of the machine.
    """

    rank, size, host = 0, 1, ""

    @property
    def is_main(self) -> bool:
        """Whether this is the worker of rank 0."""
        return self.rank == 0

    def sum(self, *buffers: np.ndarray) -> None:
        """Replace contiguous arrays, of equal sizes everywhere, by their sums over all workers."""
        for one in [self.start_sum(buffer) for buffer in buffers]:
            one.wait()

    def start_sum(self, buffer: np.ndarray) -> Sum:
        """Start a sum. The array must not be touched until it has been waited for."""
        return Sum()

    def gpu_sum(self, engine: Engine) -> Callable[[Array], None] | None:
        """A function that replaces an array on the GPU by its sum over all workers, without using
        the CPU's memory.

        All workers must call this. None if a worker does not compute on a GPU, if two share one
        (NCCL does not support that), or if NCCL is not installed.
        """
        own = engine.collective()
        found = self.gather(None if own is None else (self.host, own.gpu))
        if own is None or None in found or len(set(found)) < self.size:
            return None
        unique = self.of_main(own.new_id() if self.is_main else None)
        with engine.active():
            return own.join(self.size, unique, self.rank)

    def gather(self, value: Any) -> list[Any]:
        """The values of all workers, by rank."""
        return [value]

    def of_main(self, value: Any) -> Any:
        """Rank 0's value."""
        return self.gather(value if self.is_main else None)[0]

    def barrier(self) -> None:
        """Wait until all workers are here."""
        self.gather(None)

    def finalize(self) -> None:
        """End all communication."""


class Sum:
    """A sum over all workers that has been started; with one worker it is done at once."""

    def advance(self) -> None:
        """Let the sum make progress: MPI may only do its part while it is called."""

    def wait(self) -> None:
        """Waits until the array has the sum."""


class _MPISum(Sum):
    def __init__(self, workers: MPIWorkers, request: Communication) -> None:
        self._workers, self._request = workers, request

    def advance(self) -> None:
        self._request.Test()

    def wait(self) -> None:
        self._workers.wait(self._request)


class MPIWorkers(Workers):
    """The workers that `mpirun` started, connected by mpi4py."""

    def __init__(self, mpi: Module) -> None:
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD.Dup()
        self._ends = mpi.COMM_WORLD.Dup()  # on which a worker says that it ends
        self.rank, self.size, self.host = self._comm.rank, self._comm.size, platform.node()
        self._has_ended = False
        sys.excepthook = functools.partial(self._end_all, sys.excepthook)
        atexit.register(self._say_goodbye)  # comes before the end of MPI, which waits for all

    def start_sum(self, buffer: np.ndarray) -> Sum:
        return _MPISum(self, self._may_talk().Iallreduce(self._mpi.IN_PLACE, buffer))

    def gather(self, value: Any) -> list[Any]:
        comm = self._may_talk()
        own = np.frombuffer(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), np.uint8)
        sizes = np.zeros(self.size, np.int64)
        self.wait(comm.Iallgather(np.array([own.size]), sizes))
        ends = np.cumsum(sizes)
        found = np.empty(ends[-1], np.uint8)
        self.wait(comm.Iallgatherv(own, [found, sizes, ends - sizes, self._mpi.BYTE]))
        return [pickle.loads(part.tobytes()) for part in np.split(found, ends[:-1])]

    def finalize(self) -> None:
        if not self._has_ended:
            self.barrier()
            self._say_goodbye()
            self._mpi.Finalize()

    def _may_talk(self) -> Communicator:
        if self._has_ended:
            raise GraphError("the workers have ended their communication: finalize was called")
        return self._comm

    def wait(self, request: Communication) -> None:
        """Waits for all workers, letting others have the processor the longer it takes."""
        begin = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - begin
            time.sleep(min(waited / 20, 1e-4))
            if waited > PATIENCE:
                self._look_for_the_ended(begin)

    def _look_for_the_ended(self, begin: float) -> None:
        """Raise an error if a worker has ended that this one waits for."""
        status = self._mpi.Status()
        if self._ends.Iprobe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, status):
            raise GraphError(
                f"worker {status.Get_source()} of {self.size} has ended, and worker {self.rank} "
                "waits for it",
                hint="all workers must train, save and test the same number of times: a training "
                "session sees to that, and train_minibatch({}) takes part without data",
            )

    def _say_goodbye(self) -> None:
        if self._has_ended or self._mpi.Is_finalized():
            return
        self._has_ended = True
        for other in range(self.size):
            if other != self.rank:
                self._ends.Isend(np.zeros(0, np.uint8), other).Free()

    def _end_all(
        self,
        before: Callable[..., object],
        kind: type[BaseException],
        error: BaseException,
        where: TracebackType | None,
    ) -> None:
        """Report an error that ends this program, and end the other workers."""
        if self.size > 1 and not self._mpi.Is_finalized():
            if not self.is_main:
                time.sleep(1 + self.rank / 10)  # what is wrong with all, rank 0 tells and ends all
            print(f"worker {self.rank} of {self.size} ends all:", file=sys.stderr)
        before(kind, error, where)
        sys.stderr.flush()
        if self.size > 1 and not self._mpi.Is_finalized():
            self._mpi.COMM_WORLD.Abort(1)


def launched() -> int:
    """How many processes an MPI launcher says it started; 1 without a launcher."""
    return max((int(os.environ.get(name) or 1) for name in SIZES), default=1)


@functools.cache
def all_workers() -> Workers:
    """The workers of this program. A program without a launcher has one, and needs no MPI.

    Raises:
        GraphError: there are several workers, and mpi4py is not installed.
    """
    if launched() == 1 and "mpi4py.MPI" not in sys.modules:
        return Workers()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # no mpi4py; or no library of MPI for it
        raise GraphError(
            f"{launched()} processes were started to train together, which needs mpi4py: {error}",
            hint=INSTALL,
        ) from None
    return MPIWorkers(MPI) if MPI.COMM_WORLD.size > 1 else Workers()


def another_prints() -> bool:
    """Whether output is left to another worker of the same training run."""
    return all_workers.cache_info().currsize > 0 and not all_workers().is_main


def checksums(arrays: Sequence[np.ndarray]) -> list[int]:
    """A checksum of each array."""
    return [zlib.crc32(np.ascontiguousarray(a).tobytes()) for a in arrays]
