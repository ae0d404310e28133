"""Two workers under MPI beside one, each with one thread: frames a second, and what a sum costs."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import rgraph as C
from examples import convgru_video
from rgraph.runtime.workers import INSTALL, all_workers

FASTER = 1.8  # times the frames a second of one worker that two must train on
ROUNDS, STEPS = (
    8,
    2,
)  # rounds for each that is asked for, and the steps of one: short, to find quiet
LARGE = 1 << 24  # bytes of a sum in which latency does not count

Rows = list[dict[str, Any]]


def mpirun() -> str | None:
    """The launcher, beside this Python or on the path; None without it or without mpi4py."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("mpirun", path=beside)


def measure(rounds: int, quick: bool = False, real_time: bool = False) -> Rows:
    """The rows; none where there is no MPI.

    Args:
        real_time: whether the system is to run the workers before all other programs, so that the
            clock counts nothing but them. That needs `chrt` and the right to use it.
    """
    launcher = mpirun()
    if launcher is None:
        print(f"left out: it needs MPI ({INSTALL})")
        return []
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    env |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    env |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    program = [sys.executable, "-m", __name__, str(rounds), str(int(quick))]
    before_others = ["chrt", "--fifo", "1"] if real_time else []
    done = subprocess.run(
        [*before_others, launcher, "-n", "2", *program],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return [{"part": "ranks", **row} for row in found]


def step_of(model: Any, film: np.ndarray, wrap: Callable[[Any], Any]) -> Callable[[], Any]:
    """A step of the video example's training, on one minibatch of it."""
    x, t = convgru_video.minibatch(film, np.random.default_rng(1))
    inputs = C.sequence.input_variable(x.shape[2:]), C.sequence.input_variable(t.shape[2:])
    y = model.over_sequences(inputs[0])
    loss = C.reduce_mean(C.square(y - inputs[1]))
    learner = wrap(C.adam(loss.parameters, 1e-4, momentum=0.9, variance_momentum=0.99))
    trainer = C.Trainer(y, loss, [learner])
    data = {inputs[0]: x.astype(np.float32), inputs[1]: t.astype(np.float32)}
    return lambda: trainer.train_minibatch(data)


def seconds(run: Callable[[], Any], times: int) -> tuple[float, float]:
    """How long a run takes, and how much of the processor's time."""
    gc.collect()
    begin = time.perf_counter(), time.process_time()
    for _ in range(times):
        run()
    end = time.perf_counter(), time.process_time()
    return (end[0] - begin[0]) / times, (end[1] - begin[1]) / times


def main(rounds: int, quick: bool) -> None:
    """What each of the two workers does."""
    workers = all_workers()
    film = np.random.default_rng(0).random((24, 3, 54, 96), np.float32)
    model = convgru_video.NextFrame(4 if quick else 16)
    alone = step_of(model, film, lambda learner: learner)
    together = step_of(
        convgru_video.NextFrame(model.hidden), film, C.data_parallel_distributed_learner
    )
    walls, busy, apart = [], [], []
    for i in range(1 + (rounds if quick else ROUNDS * rounds)):
        workers.barrier()
        one = seconds(alone, STEPS) if workers.is_main else (0.0, 0.0)  # the other waits, asleep
        workers.barrier()
        each = seconds(alone, STEPS)  # both at once: what the machine has for two processes
        slower = max(workers.gather(each[0]))
        two = seconds(together, STEPS)
        if i:  # the first is a warm-up
            apart.append(slower)
            walls.append((one[0], two[0]))
            busy.append((one[1], two[1]))
    small, large = np.zeros(1), np.zeros(1 << 10 if quick else LARGE // 8)
    latency = min(seconds(lambda: workers.sum(small), 20)[0] for _ in range(10))
    whole = min(seconds(lambda: workers.sum(large), 2)[0] for _ in range(10))
    if workers.is_main:
        frames = convgru_video.SEQUENCES * convgru_video.LENGTH
        parameters = sum(p.value.size for p in model.over_sequences(_input()).parameters)
        fastest, least = ([min(column) for column in zip(*of, strict=True)] for of in (walls, busy))
        rows = [
            {"what": "frames/s of one worker", "measured": frames / fastest[0]},
            {"what": "frames/s of two workers", "measured": 2 * frames / fastest[1]},
            {
                "what": "two workers' frames/s over one's",
                "measured": 2 * fastest[0] / fastest[1],
                "of rounds": median(2 * one / two for one, two in walls),
                "at least": FASTER,
            },
            {"what": "the same by processor time", "measured": 2 * least[0] / least[1]},
            {
                "what": "two processes apart, frames/s over one's",
                "measured": 2 * fastest[0] / min(apart),
            },
            {"what": "ms of a worker's step", "measured": 1e3 * fastest[0]},
            {"what": "KB of gradients", "measured": 4 * parameters / 1e3},
            {"what": "us of a sum of one number", "measured": 1e6 * latency},
            {"what": "GB/s of a large sum", "measured": large.nbytes / whole / 1e9},
        ]
        print(json.dumps(rows))


def _input() -> Any:
    return C.sequence.input_variable((4, 8, 8))


if __name__ == "__main__":
    main(int(sys.argv[1]), bool(int(sys.argv[2])))
