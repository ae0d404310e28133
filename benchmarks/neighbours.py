"""Beside busy processes: the default number of threads against one thread."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rgraph as C

from .measure import interleaved
from .programs import PROGRAMS, Program
from .programs.convgru import ConvGRU
from .programs.lstm import LSTM
from .sides import Rgraph

SMALL, LARGE = 1.3, 1.0  # what the default's time over one thread's is to be at most
AT_ONCE = 0.1  # seconds of a round at least: many of the system's slices
COUNTS = (0, 1, 2)  # of busy processes

# What is run, forward or train, and the ratio that it is held to beside busy processes
BESIDE: list[tuple[Program, str, float]] = [
    (ConvGRU("frame", (1,), (16, 32, 32), 16), "forward", SMALL),
    (ConvGRU("frame", (1,), (16, 32, 32), 16), "train", SMALL),
    (LSTM("small LSTM", (32,) * 16, 64, 64), "train", SMALL),
    (PROGRAMS["W3"], "train", SMALL),
    (PROGRAMS["LSTM"], "train", LARGE),
    (PROGRAMS["quadrants"], "train", LARGE),
    (PROGRAMS["slices"], "train", LARGE),
    (PROGRAMS["W2"], "forward", LARGE),
    (PROGRAMS["W2"], "train", LARGE),
]

# It ends with this process, whose end of the pipe is closed then.
_BUSY = """
import sys, threading
threading.Thread(target=lambda: sys.stdin.read() or __import__("os")._exit(0), daemon=True).start()
print(flush=True)
while True:
    pass
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """As many processes that compute all the time."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


def beside(repeat: int, least: float, quick: bool = False) -> Iterator[dict[str, Any]]:
    """A row for each program and number of busy processes.

    Args:
        repeat, least: as for `measure.interleaved`.
        quick: whether tiny sizes will do, and rounds of one run.
    """
    for program, mode, most in BESIDE:
        run = getattr(Rgraph(program.quick() if quick else program), mode)
        for count in COUNTS:
            with busy(count):
                times = _times(run, repeat, least, 0.0 if quick else AT_ONCE)
            default, one = times["default"], times["one thread"]
            yield {
                "program": str(program),
                "run": mode,
                "busy": str(count),
                "ms": 1e3 * statistics.mean(default),
                "one thread's": 1e3 * statistics.mean(one),
                "over one's": statistics.mean(default) / statistics.mean(one),
                "at most, of one's": most if count else None,
            }


def _times(run: Any, repeat: int, least: float, at_once: float) -> dict[str, list[float]]:
    """Seconds of a run in each round, of `at_once` seconds or more."""
    run()
    start = time.perf_counter()
    run()
    times = max(1, round(at_once / (time.perf_counter() - start)))
    default = C.device.get_num_threads()

    def in_threads(number: int) -> Any:
        def go() -> None:
            C.device.set_num_threads(number)
            for _ in range(times):
                run()

        return go

    try:
        found = interleaved(
            {"default": in_threads(default), "one thread": in_threads(1)}, repeat, least
        )
    finally:
        C.device.set_num_threads(default)
    return {name: [s / times for s in seconds] for name, seconds in found.items()}
