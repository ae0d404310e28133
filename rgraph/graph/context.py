"""What programs set for all that follows: seed, device, modes. One object, in a context variable.

- The main thread has one for the whole program: what a cell of a notebook, or an asyncio task, sets
  holds for what comes after it.
- Any other thread has one of its own. When it first asks, it gets a copy of the main thread's as
  that is then, but for random numbers: its seed is made of the main thread's seed and of how many
  threads asked before, so that no two threads draw the same. `set_seed` in a thread holds for that
  thread alone, and makes what it draws independent of the order in which threads asked.
- Asyncio tasks, and what they run by `asyncio.to_thread`, share their thread's: nothing tells a
  task from a cell of a notebook. One that is to have its own is run `with separate():`.

What holds inside a `with` block alone is none of this: it stands in context variables of its own.
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
    """Numbers, one after the other, for all threads.

    Attributes:
        last: the latest of them.
    """

    def __init__(self, last: int = 0) -> None:
        self.last, self._rest = last, itertools.count(last + 1)

    def __call__(self) -> int:
        number = self.last = next(self._rest)
        return number


class Random:
    """Where what is drawn comes from: a seed, and what was drawn since it was set.

    Attributes:
        runs: counts runs.
        initial: for the initial values of parameters; but where there are
        initial_seeds: CNTK's, which gives one to each parameter, dropout or other operation that
            is made without a seed: 0, 1, 2, … from a program's start on.
    """

    def __init__(
        self, seed: int = 0, runs: int = 0, initial_seeds: Iterator[int] | None = None
    ) -> None:
        self.seed, self.runs, self.initial_seeds = seed, Count(runs), initial_seeds
        self.initial = np.random.SeedSequence(seed)
        self._turns: WeakKeyDictionary[object, Count] = WeakKeyDictionary()
        self._branches = itertools.count()

    def turns(self, runner: object) -> Count:
        """Counts the runs of one runner."""
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
        """CNTK's seed for what is made now; None where `set_seed` says what is drawn."""
        return None if self.initial_seeds is None else next(self.initial_seeds)

    def next_generator(self) -> np.random.Generator:
        """A generator of its own for each parameter, in the order in which they ask."""
        return np.random.default_rng(self.initial.spawn(1)[0])


class Context:
    """What holds for all that follows in a thread.

    Attributes:
        random: the source of random numbers.
        seed_is_set: whether a program chose the seed.
        device: the default device; None: not chosen yet.
        excluded_devices: those that are never chosen by themselves.
        gpu_options: how a GPU's convolutions are computed; None: as by default.
        cpu_engine: the name of the CPU's engine; "": not chosen yet.
        observers: what looks on at all runs.
        profiler, timing: of these, the one that was started, and that of `set_node_timing`.
        options: what `set_global_option` keeps.
        unit_gain: whether momentum has unit gain where a learner isn't told.
        renaming: whether a function that has a name may be given another.
        user_loaders: what makes user functions that a file names, by their names.
        trace_level: how much programs that ask for it print.
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
    """The context of this thread, or of what `separate` is around."""
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
