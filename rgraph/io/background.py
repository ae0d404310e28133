"""Work that goes on in a thread while the caller does other things."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Work(Generic[Result]):
    """A function that runs in a thread of its own, in the caller's context.

    Python waits for it at its end.

    In a process that was forked meanwhile there is no such thread: what it was to give is
    computed anew.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function, self._process = function, os.getpid()
        self._result: list[Result] = []
        self._error: BaseException | None = None
        own = copy_context()  # a deserializer of a user's sees the defaults that the caller has
        self._thread = threading.Thread(target=own.run, args=(self._run,), name="rgraph reader")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:  # it is the caller's, who hears of it
            self._error = error

    def result(self) -> Result:
        """What it gave, when it is there. Raises what it raised."""
        if os.getpid() != self._process:
            return self._function()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def wait(self) -> None:
        """Waits for its end, and lets go of the result."""
        if os.getpid() == self._process:
            self._thread.join()


class Chunks:
    """The chunks that are in memory, and the one that is being read."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read
        self._there: dict[int, Any] = {}
        self._coming: dict[int, Work[Any]] = {}

    def get(self, numbers: Iterable[int], window: frozenset[int]) -> dict[int, Any]:
        """These chunks; of the others only those in the window are kept."""
        wanted = set(map(int, numbers))
        for number in wanted - self._there.keys():
            work = self._coming.pop(number, None)
            self._there[number] = work.result() if work else self._read(number)
        found = {number: self._there[number] for number in wanted}
        self._there = {n: chunk for n, chunk in self._there.items() if n in window}
        self._coming = {n: work for n, work in self._coming.items() if n in window}
        return found

    def expect(self, numbers: Iterable[int]) -> None:
        """Begins to read the first of these that isn't there."""
        missing = [n for n in numbers if n not in self._there]
        if missing and not self._coming:
            number = missing[0]
            self._coming = {number: Work(lambda: self._read(number))}
