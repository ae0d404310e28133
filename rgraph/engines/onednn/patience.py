"""When to go on in one thread: OpenMP waits for all, however long another program holds one up."""

from __future__ import annotations

from time import perf_counter, thread_time

_HELD_UP = 2e-4  # seconds that may be lost
_SLOW = 1.5  # times the shortest time: so much differs by itself
_ALONE = 8  # seconds in one thread for each that was lost


class Patience:
    """Lost where a primitive takes much longer than it can, waiting; it comes back."""

    def __init__(self) -> None:
        self._back = 0.0

    def is_gone(self) -> bool:
        return self._back > 0 and perf_counter() < self._back

    def lose(self, seconds: float) -> None:
        if seconds > _HELD_UP:
            self._back = perf_counter() + _ALONE * seconds


class Watch:
    """The times of one primitive.

    Args:
        patience: that of all.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience, self._shortest = patience, float("inf")

    def start(self) -> None:
        self._start, self._worked = perf_counter(), thread_time()

    def stop(self) -> None:
        took = perf_counter() - self._start
        waited = took - (thread_time() - self._worked)
        self._shortest = min(self._shortest, took)
        self._patience.lose(min(waited, took - _SLOW * self._shortest))
