"""Options of a training session: minibatch sizes, checkpoints, validation and tests."""

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
    """The unit of a session's frequencies.

    >>> C.train.DataUnit.sweep.name
    'sweep'
    """

    __str__ = Enum.__str__

    sample = 1
    minibatch = 2
    sweep = 0


Frequency = int | tuple[int, DataUnit] | None


def period_of(frequency: Frequency) -> tuple[int, DataUnit]:
    """The period and its unit; the period is infinite for None, and 0 for never."""
    if frequency is None:
        return sys.maxsize, DataUnit.sample
    period, unit = frequency if isinstance(frequency, tuple) else (frequency, DataUnit.sample)
    if period < 0:
        raise ValueError(
            f"a frequency must be a number of samples, minibatches or sweeps, got {period}"
        )
    return int(period), DataUnit(unit)


def minibatch_size_schedule(schedule: Any, epoch_size: int = 1) -> Schedule:
    """A schedule for the minibatch size.

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
            raise ValueError("epoch_size has no effect on a single minibatch size; leave it out")
        schedule = Schedule(schedule)
    elif not isinstance(schedule, Schedule):
        schedule = Schedule(schedule, epoch_size=epoch_size)
    for size in schedule.values:
        if size < 1 or size != int(size):
            raise ValueError(f"a minibatch size must be a whole number of at least 1, got {size}")
    return schedule


@dataclass
class CheckpointConfig:
    """Whether and when a session saves checkpoints.

    Args:
        filename: the file; None for no checkpoints.
        frequency: the number of samples between checkpoints, or a pair of a number and a
            `DataUnit`; None for one checkpoint at the end, 0 for none.
        restore: whether a session resumes from the file if it exists.
        preserve_all: whether to keep all checkpoints, with numbers appended to the name; the last
            one has the plain name. A session resumes from the newest.
        keep: same as `preserve_all`, but keeps only this many numbered checkpoints, the latest.
        keep_best: whether to keep another checkpoint, with ".best" appended to the name, at the
            smallest mean metric in cross validation.

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
            raise ValueError(f"keep must be a whole number of at least 1, got {self.keep!r:.60}")

    @property
    def is_numbered(self) -> bool:
        """Whether checkpoints have numbers after the name."""
        return self.preserve_all or self.keep is not None

    def numbered(self) -> list[str]:
        """The numbered checkpoints that exist, oldest first."""
        folder, name = os.path.split(self.filename or "")
        found = [f for f in os.listdir(folder or ".") if f.startswith(name)]
        numbers = sorted(int(n) for f in found if (n := f[len(name) :]).isdigit())
        return [f"{self.filename}{n}" for n in numbers]

    def newest(self) -> str | None:
        """The newest checkpoint, if there is one."""
        if not self.filename or not os.path.isdir(os.path.dirname(self.filename) or "."):
            return None
        found = [f for f in (*self.numbered(), self.filename) if os.path.exists(f)]
        return max(found, key=lambda f: os.stat(f).st_mtime_ns, default=None)


@dataclass
class CrossValidationConfig:
    """Whether and when a session evaluates the metric on other data.

    Args:
        minibatch_source: a source with a limited number of samples, or data as for
            `Function.train`.
        frequency: the number of samples between evaluations, or a pair of a number and a
            `DataUnit`; None for one evaluation at the end, 0 for none.
        minibatch_size: the minibatch size of the evaluations, a number or a schedule.
        callback: `callback(index, average error, samples, minibatches)` is called after each
            evaluation; training ends if it returns False. Samples are counted by the metric: whole
            sequences, if the metric has one value per sequence.
        max_samples: the largest number of samples in an evaluation, counted in the same way.
        model_inputs_to_streams: a dict from inputs to streams; by default as in training.
        criterion: a function whose arguments the arrays are for; by default as in training.
        source, mb_size: former names of `minibatch_source` and `minibatch_size`.

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

    def __post_init__(self, source: object, mb_size: object) -> None:
        _take_older_names(self, source, mb_size)


@dataclass
class TestConfig:
    """Evaluates the metric at the end of a session; arguments as for `CrossValidationConfig`.

    >>> C.TestConfig((np.zeros((10, 2)), np.zeros((10, 1)))).minibatch_size
    32
    """

    __test__ = False  # not a test class for pytest

    minibatch_source: Any = None
    minibatch_size: Any = 32
    model_inputs_to_streams: Streams | None = None
    criterion: Any = None
    source: InitVar[Any] = None
    mb_size: InitVar[Any] = None

    def __post_init__(self, source: object, mb_size: object) -> None:
        _take_older_names(self, source, mb_size)


def _take_older_names(config: Any, source: Any, mb_size: Any) -> None:
    """Accepts the former names of `minibatch_source` and `minibatch_size`."""
    if source is not None:
        config.minibatch_source = source
    if mb_size is not None:
        config.minibatch_size = mb_size
