"""Work done in a background thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from .chunks import Chunk


Result = TypeVar("Result")


class Work(Generic[Result]):
    """A function that runs in its own thread, in a copy of the caller's context.

    The interpreter waits for the thread when it exits. A process forked in the meantime has no such
    thread; it computes the result again.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function, self._process = function, os.getpid()
        self._result: list[Result] = []
        self._error: BaseException | None = None
        own = copy_context()  # user-written deserializers see the caller's defaults
        self._thread = threading.Thread(target=own.run, args=(self._run,), name="rgraph reader")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:  # raised again by `result`
            self._error = error

    def result(self) -> Result:
        """Waits for the function; returns its result or raises its exception."""
        if os.getpid() != self._process:
            return self._function()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def wait(self) -> None:
        """Waits for the function to end and discards its result."""
        if os.getpid() == self._process:
            self._thread.join()


class Chunks:
    """The chunks in memory, and the one being read in the background."""

    def __init__(self, read: Callable[[int], Chunk]) -> None:
        self._read = read
        self._there: dict[int, Chunk] = {}
        self._coming: dict[int, Work[Chunk]] = {}

    def get(self, numbers: Iterable[int], window: frozenset[int]) -> dict[int, Chunk]:
        """Returns these chunks; drops all others that are not in the window."""
        wanted = set(map(int, numbers))
        for number in wanted - self._there.keys():
            work = self._coming.pop(number, None)
            self._there[number] = work.result() if work else self._read(number)
        found = {number: self._there[number] for number in wanted}
        self._there = {n: chunk for n, chunk in self._there.items() if n in window}
        self._coming = {n: work for n, work in self._coming.items() if n in window}
        return found

    def expect(self, numbers: Iterable[int]) -> None:
        """Starts to read the first of these chunks that is not in memory."""
        missing = [n for n in numbers if n not in self._there]
        if missing and not self._coming:
            number = missing[0]
            self._coming = {number: Work(lambda: self._read(number))}
