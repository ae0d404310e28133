"""Settings of a program: seed, device, modes. One object, in a context variable.

- The main thread has one object for the whole program: what a notebook cell or an asyncio task sets
holds
  for everything after it.
- Any other thread has its own, a copy of the main thread's at the time of its first use, except for
  random numbers: its seed is derived from the main thread's seed and from how many threads came
      before,
  so that no two threads draw the same numbers. `set_seed` in a thread affects only that thread, and
  makes its numbers independent of the order in which threads started.
- Asyncio tasks, and functions run by `asyncio.to_thread`, share their thread's object, since a task
can't
  be distinguished from a notebook cell. Use `with separate():` to give a task its own.

Settings of a `with` block are stored in context variables of their own, not here.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from ..device import DeviceDescriptor
    from ..engines.cuda.options import Options
    from ..inspect.profile import Stopwatch
    from ..ops.user import UserOperation
    from ..plan.observe import Observer


class Count:
    """Consecutive numbers, for all threads.

    Attributes:
        last: the latest of them.
    """

    def __init__(self, last: int = 0) -> None:
        self.last, self._rest = last, itertools.count(last + 1)

    def __call__(self) -> int:
        number = self.last = next(self._rest)
        return number


class Random:
    """A source of random numbers: a seed, and how much has been drawn since it was set.

    Attributes:
        runs: counts runs.
        initial: the seeds of initial values of parameters, unless there are `initial_seeds`.
        initial_seeds: CNTK's seeds: every parameter, dropout or other random operation that is
            created without a seed gets the next of 0, 1, 2, …, counted from the start of the
            program.
    """

    def __init__(
        self, seed: int = 0, runs: int = 0, initial_seeds: Iterator[int] | None = None
    ) -> None:
        self.seed, self.runs, self.initial_seeds = seed, Count(runs), initial_seeds
        self.initial = np.random.SeedSequence(seed)
        self._turns: WeakKeyDictionary[object, Count] = WeakKeyDictionary()
        self._branches = itertools.count()

    def turns(self, runner: object) -> Count:
        """The counter of the runs of one runner."""
        found = self._turns.get(runner)
        if found is None:
            found = self._turns.setdefault(runner, Count())
        return found

    def set_turns(self, runner: object, last: int) -> None:
        self._turns[runner] = Count(last)

    def branch(self) -> Random:
        """Another, whose numbers are independent of these and of other branches'."""
        key = (self.seed & (1 << 64) - 1, next(self._branches))
        return Random(int(np.random.SeedSequence(0, spawn_key=key).generate_state(1)[0]))

    def next_seed(self) -> int | None:
        """CNTK's seed for a new operation; None if `set_seed` determines what is drawn."""
        return None if self.initial_seeds is None else next(self.initial_seeds)

    def next_generator(self) -> np.random.Generator:
        """A new generator for each parameter, in the order of the calls."""
        return np.random.default_rng(self.initial.spawn(1)[0])


class Context:
    """Settings of a thread.

    Attributes:
        random: the source of random numbers.
        seed_is_set: whether the program chose the seed.
        device: the default device; None: not chosen yet.
        excluded_devices: devices that are never chosen by default.
        gpu_options: how convolutions on a GPU are computed; None: the defaults.
        cpu_engine: the name of the CPU engine; "": not chosen yet.
        observers: the observers of all runs.
        profiler, timing: the active profiler, and that of `set_node_timing`.
        options: the options of `set_global_option`.
        unit_gain: the default of `unit_gain` in learners with momentum.
        renaming: whether a function that has a name may be renamed.
        user_loaders: constructors of user functions in files, by name.
        trace_level: the amount of trace output of programs that ask for it.
    """

    def __init__(self) -> None:
        self.random = Random(initial_seeds=itertools.count())
        self.seed_is_set = False
        self.device: DeviceDescriptor | None = None
        self.excluded_devices: frozenset[DeviceDescriptor] = frozenset()
        self.gpu_options: Options | None = None
        self.cpu_engine = ""
        self.observers: tuple[Observer, ...] = ()
        self.profiler: Any = None
        self.timing: Stopwatch | None = None
        self.options: dict[str, object] = {}
        self.unit_gain = True
        self.renaming = False
        self.user_loaders: dict[str, Callable[..., UserOperation]] = {}
        self.trace_level = 1

    def branch(self) -> Context:
        """A copy with random numbers of its own, which nobody looks on at."""
        new = copy.copy(self)
        new.random, new.options = self.random.branch(), dict(self.options)
        new.user_loaders = dict(self.user_loaders)
        new.observers, new.profiler, new.timing = (), None, None
        return new


_main = Context()
_own: ContextVar[Context | None] = ContextVar("context", default=None)
if threading.current_thread() is threading.main_thread():
    _own.set(_main)  # what the main thread's code, its tasks and their threads find at once


def context() -> Context:
    """The context of this thread, or of the enclosing `separate` block."""
    own = _own.get()
    if own is None:
        if threading.current_thread() is threading.main_thread():
            return _main  # in a cell of a notebook, say, where another cell imported this
        own = _main.branch()
        _own.set(own)
    return own


@contextmanager
def separate() -> Iterator[Context]:
    """Inside, this thread or asyncio task has a context of its own: a copy of what it had.

    >>> from rgraph.graph.context import context, separate
    >>> with separate():
    ...     C.set_global_option("mine", True)
    >>> C.get_global_option("mine", False)
    False
    """
    before = _own.set(context().branch())
    try:
        yield context()
    finally:
        _own.reset(before)
