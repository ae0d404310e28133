"""Time and memory, measured so that two sides can be compared."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from .programs import Program

REST = 0.03  # seconds in which the other side's waiting threads fall asleep
LEAST = 1.0  # seconds that each side is measured for at least
MOST_ROUNDS = 100


def interleaved(
    runs: Mapping[str, Callable[[], Any]], repeat: int, least: float = LEAST
) -> dict[str, list[float]]:
    """Seconds of each run of each side, taken in turns: what slows the machine slows both.

    Every side runs once before, unmeasured. At least `repeat` rounds, and more of what is short,
    until the first side has run for `least` seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    ours = next(iter(seconds.values()))
    while len(ours) < repeat or (sum(ours) < least and len(ours) < MOST_ROUNDS):
        for name, run in runs.items():
            gc.collect()
            time.sleep(REST)
            start = time.perf_counter()
            result = run()
            seconds[name].append(time.perf_counter() - start)
            del result
    return seconds


class Neighbours:
    """How much of the machine's cores other processes have used since this was made.

    A busy machine slows the two sides by different factors, so what was measured on one is worth
    little. Where the system does not say, this is not a number.
    """

    def __init__(self) -> None:
        self.start = self._times()

    @staticmethod
    def _times() -> tuple[float, float]:
        """Seconds that all cores have had, and seconds that other processes took of them."""
        try:
            with open("/proc/stat") as file:
                ticks = [int(n) for n in file.readline().split()[1:9]]
        except OSError:
            return float("nan"), float("nan")
        total, idle = sum(ticks), ticks[3] + ticks[4]
        own = os.times()
        return (
            total / os.sysconf("SC_CLK_TCK"),
            (total - idle) / os.sysconf("SC_CLK_TCK") - own.user - own.system,
        )

    def share(self) -> float:
        total, others = (b - a for a, b in zip(self.start, self._times(), strict=True))
        return max(others / total, 0.0) if total else 0.0


def matrix_peak(size: int, repeat: int, least: float) -> float:
    """The floating-point operations per second of NumPy's float32 matrix product."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, size), np.float32) for _ in range(2))
    out = np.empty_like(a)
    times = interleaved({"product": lambda: np.matmul(a, b, out=out)}, repeat, least)
    return 2.0 * size**3 / min(times["product"])


def peak_memory(program: Program, side: str, train: bool) -> int:
    """Bytes that a fresh process needs at most for the program, above what importing costs.

    Args:
        side: a name from `sides.NAMES`.
    """
    task = json.dumps({"program": astuple(program), "side": side, "train": train})
    child = subprocess.run(
        [sys.executable, "-m", __name__, task],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(child.stdout)


def _status(field: str) -> int:
    """Bytes from this process's status: `VmRSS`, what it holds now, or `VmHWM`, at most so far.

    `getrusage` will not do: its `ru_maxrss` starts at what the parent process had used.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this system does not say {field}")


def _child(task: str) -> int:
    """Runs a task twice, as a training loop does, and gives the peak above the import's."""
    from .sides import make

    given = json.loads(task)
    name, lengths, image, outputs = given["program"]
    program = Program(name, tuple(lengths), tuple(image), outputs)
    if given["side"] != "rgraph":
        from . import pytorch  # noqa: F401
    gc.collect()
    before = _status("VmRSS")
    side = make(program, given["side"])
    for _ in range(2):
        result = side.train() if given["train"] else side.forward()
        del result
    return _status("VmHWM") - before


if __name__ == "__main__":
    print(_child(sys.argv[1]))
