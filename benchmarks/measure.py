"""Time, measured so that sides can be compared."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

REST = 0.03  # seconds in which the other side's waiting threads fall asleep
LEAST = 3.0  # seconds that all sides together are measured for at least
MOST_ROUNDS = 25


def interleaved(
    runs: Mapping[str, Callable[[], Any]], repeat: int, least: float = LEAST
) -> dict[str, list[float]]:
    """Seconds of each run of each side, taken in turns: what slows the machine slows both.

    Every side runs once before, unmeasured. At least `repeat` rounds, and more of what is short,
    until all have run for `least` seconds together.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    gc.collect()
    gc.freeze()  # what is there by now stays: collecting the rest is quick
    rounds, total = 0, 0.0
    while rounds < repeat or (total < least and rounds < MOST_ROUNDS):
        rounds += 1
        for name, run in runs.items():
            gc.collect()
            time.sleep(REST)
            start = time.perf_counter()
            result = run()
            seconds[name].append(time.perf_counter() - start)
            total += seconds[name][-1]
            del result
    gc.unfreeze()
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
        return min(max(others / total, 0.0), 1.0) if total else 0.0


def matrix_peak(size: int, repeat: int, least: float) -> float:
    """The floating-point operations per second of NumPy's float32 matrix product."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, size), np.float32) for _ in range(2))
    out = np.empty_like(a)
    times = interleaved({"product": lambda: np.matmul(a, b, out=out)}, repeat, least)
    return 2.0 * size**3 / min(times["product"])
