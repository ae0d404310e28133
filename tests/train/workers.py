"""Workers that are threads of one process, for what needs no MPI."""

import pickle
import threading

import numpy as np

import rgraph as C
from rgraph.runtime.workers import Sum, Workers
from rgraph.train.distributed import BlockMomentumLearner, Communicator, DistributedLearner


class Meeting:
    """Where the threads meet to exchange values."""

    def __init__(self, size):
        self.barrier, self.values = threading.Barrier(size, timeout=20), [None] * size

    def exchange(self, rank, value):
        self.values[rank] = pickle.dumps(value)
        self.barrier.wait()
        found = list(map(pickle.loads, self.values))
        self.barrier.wait()
        return found


class Threads(Workers):
    """One of several threads that train together."""

    def __init__(self, rank, size, meeting):
        self.rank, self.size, self._meeting = rank, size, meeting
        self.sums, self.sizes = 0, []

    def start_sum(self, buffer):
        self.sums += 1
        total = sum(self._meeting.exchange(self.rank, buffer.copy()))
        buffer[...] = total
        self.sizes.append(buffer.size)
        return Sum()

    def gather(self, value):
        return self._meeting.exchange(self.rank, value)


def together(size, work):
    """What `work(workers)` gives in each of so many threads; the first error is raised."""
    meeting, found, errors = Meeting(size), [None] * size, []

    def run(rank):
        C.set_seed(1)
        try:
            found[rank] = work(Threads(rank, size, meeting))
        except BaseException as error:
            errors.append((isinstance(error, threading.BrokenBarrierError), rank, error))
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise min(errors, key=lambda e: e[:2])[2]
    return found


def data_parallel(learner, workers, after=0):
    return DistributedLearner(learner, Communicator(workers), after)


def block_momentum(learner, workers, size, constant=None, nesterov=True, resets=True, rate=1.0):
    communicator = Communicator(workers)
    return BlockMomentumLearner(learner, communicator, 0, size, constant, nesterov, resets, rate)


def films(count, seed=0, longest=6):
    """Ragged films of 1x4x4 pixels."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 1, 4, 4)) for n in rng.integers(1, longest + 1, count)]
