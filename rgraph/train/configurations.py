"""What a training session is told: when to save, validate and test, and how much to read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from enum import Enum, IntEnum
from numbers import Integral
from typing import Any

from ..learners.schedules import Schedule
from .reading import Streams


class DataUnit(IntEnum):
    """What the frequencies of a session count.

    >>> C.train.DataUnit.sweep.name
    'sweep'
    """

    __str__ = Enum.__str__

    sample = 1
    minibatch = 2
    sweep = 0


Frequency = int | tuple[int, DataUnit] | None


def period_of(frequency: Frequency) -> tuple[int, DataUnit]:
    """The period and its unit; a period that never ends for None, and 0 for never."""
    if frequency is None:
        return sys.maxsize, DataUnit.sample
    period, unit = frequency if isinstance(frequency, tuple) else (frequency, DataUnit.sample)
    if period < 0:
        raise ValueError(f"a frequency is a number of samples, minibatches or sweeps, got {period}")
    return int(period), DataUnit(unit)


def minibatch_size_schedule(schedule: Any, epoch_size: int = 1) -> Schedule:
    """A minibatch size that changes as training goes on.

    Args:
        schedule: a number, a list of numbers, each for `epoch_size` samples, or a list of pairs
            (count, number), each for count times `epoch_size` samples.

    Source: CNTK's `minibatch_size_schedule`.

    >>> s = C.minibatch_size_schedule([(12, 32), (15, 64), (1, 128)], 100)
    >>> s[0], s[1199], s[1200], s[5000]
    (32, 32, 64, 128)
    """
    if isinstance(schedule, Integral):
        if epoch_size != 1:
            raise ValueError("one minibatch size holds for all samples; leave out epoch_size")
        schedule = Schedule(schedule)
    elif not isinstance(schedule, Schedule):
        schedule = Schedule(schedule, epoch_size=epoch_size)
    for size in schedule.values:
        if size < 1 or size != int(size):
            raise ValueError(f"a minibatch has 1 sample at least, and a whole number; got {size}")
    return schedule


@dataclass
class CheckpointConfig:
    """Whether and when a session saves checkpoints.

    Args:
        filename: the file; None for no checkpoints.
        frequency: samples between checkpoints, or a pair of a number and a `DataUnit`; None for
            one at the end, 0 for none.
        restore: whether a session that finds the file goes on from there.
        preserve_all: whether to keep all checkpoints, with numbers after the name; the last one
            has the name itself. A session goes on from the newest of them.
        keep: as `preserve_all`, but only so many of the numbered ones are kept, the latest.
        keep_best: whether the one is kept, too, after which cross validation gave the smallest
            mean metric: it has ".best" after the name.

    >>> C.CheckpointConfig("model.checkpoint", frequency=(1, C.train.DataUnit.sweep)).restore
    True
    """

    filename: str | None
    frequency: Frequency = None
    restore: bool = True
    preserve_all: bool = False
    keep: int | None = None
    keep_best: bool = False

    def __post_init__(self) -> None:
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep is a number of checkpoints, at least 1, got {self.keep!r:.60}")

    @property
    def is_numbered(self) -> bool:
        """Whether checkpoints have numbers after the name."""
        return self.preserve_all or self.keep is not None

    def numbered(self) -> list[str]:
        """The numbered ones that are there, the first one first."""
        folder, name = os.path.split(self.filename or "")
        found = [f for f in os.listdir(folder or ".") if f.startswith(name)]
        numbers = sorted(int(n) for f in found if (n := f[len(name) :]).isdigit())
        return [f"{self.filename}{n}" for n in numbers]

    def newest(self) -> str | None:
        """The one that was written last, if there is one."""
        if not self.filename or not os.path.isdir(os.path.dirname(self.filename) or "."):
            return None
        found = [f for f in (*self.numbered(), self.filename) if os.path.exists(f)]
        return max(found, key=lambda f: os.stat(f).st_mtime_ns, default=None)


@dataclass
class CrossValidationConfig:
    """Whether and when a session measures the metric on other data.

    Args:
        minibatch_source: a source that ends, or data as for `Function.train`.
        frequency: samples between measurements, or a pair of a number and a `DataUnit`; None for
            one at the end, 0 for none.
        minibatch_size: of the measurements, a number or a schedule.
        callback: `callback(index, average error, samples, minibatches)`, called after each; if
            it gives False, training ends. Samples are the metric's: sequences, if each has one.
        max_samples: how many samples to take at most, of the metric's too.
        model_inputs_to_streams: which input gets which stream; by default as in training.
        criterion: whose arguments data in arrays is for; by default as in training.
        source, mb_size: older names of `minibatch_source` and `minibatch_size`.

    >>> def stop_when_good(index, average_error, samples, minibatches):
    ...     return average_error > 0.01
    >>> data = np.zeros((10, 2)), np.zeros((10, 1))
    >>> C.CrossValidationConfig(data, frequency=1000, callback=stop_when_good).minibatch_size
    32
    """

    minibatch_source: Any = None
    frequency: Frequency = None
    minibatch_size: Any = 32
    callback: Callable[..., Any] | None = None
    max_samples: int | None = None
    model_inputs_to_streams: Streams | None = None
    criterion: Any = None
    source: InitVar[Any] = None
    mb_size: InitVar[Any] = None

    def __post_init__(self, source: Any, mb_size: Any) -> None:
        _take_older_names(self, source, mb_size)


@dataclass
class TestConfig:
    """Whether a session measures the metric at its end; arguments as `CrossValidationConfig`.

    >>> C.TestConfig((np.zeros((10, 2)), np.zeros((10, 1)))).minibatch_size
    32
    """

    __test__ = False  # it is not a test of pytest's

    minibatch_source: Any = None
    minibatch_size: Any = 32
    model_inputs_to_streams: Streams | None = None
    criterion: Any = None
    source: InitVar[Any] = None
    mb_size: InitVar[Any] = None

    def __post_init__(self, source: Any, mb_size: Any) -> None:
        _take_older_names(self, source, mb_size)


def _take_older_names(config: Any, source: Any, mb_size: Any) -> None:
    """What CNTK called `minibatch_source` and `minibatch_size` before."""
    if source is not None:
        config.minibatch_source = source
    if mb_size is not None:
        config.minibatch_size = mb_size
