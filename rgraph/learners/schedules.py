"""Schedules: numbers that change during training, and the minibatch size they are meant for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import accumulate
from numbers import Integral, Real
from typing import Any

IGNORE = 0  # as a minibatch size: values are per minibatch of any size

Values = float | Real | Sequence[float | tuple[int, float]]


class UnitType(Enum):
    """Whether the values of a schedule are per sample or per minibatch.

    >>> C.UnitType("sample")
    <UnitType.sample: 'sample'>
    """

    sample = "sample"
    minibatch = "minibatch"


def _number(value: Any) -> float:
    """A Python number from one of Python's or NumPy's."""
    number = int(value) if isinstance(value, Integral) else float(value)
    if math.isnan(number):
        raise ValueError("a value of the schedule is NaN")
    return number


class Schedule:
    """A piecewise constant value over the course of training.

    Args:
        values: a number, a list of numbers, each for one unit, or a list of pairs (units, number).
            The last number stays in effect.
        minibatch_size: the minibatch size that the values are meant for; `IGNORE` if they are per
            minibatch of any size; None lets the learner decide.
        epoch_size: the number of samples in a unit; None if a unit is a sweep over the data.

    `schedule[n]` is the value after n samples (or sweeps, without an `epoch_size`).

    >>> C.learners.Schedule([0.1, 0.01], epoch_size=1000)[1000]
    0.01
    """

    def __init__(
        self, values: Values, minibatch_size: int | None = None, epoch_size: int | None = None
    ) -> None:
        if epoch_size is not None and epoch_size < 1:
            raise ValueError(f"epoch_size must be at least 1 sample, got {epoch_size}")
        if isinstance(values, Real):
            if epoch_size is not None:
                warnings.warn(
                    "epoch_size has no effect on a single number",
                    RuntimeWarning,
                    stacklevel=4,
                )
            pairs: list[tuple[int, float]] = [(1, _number(values))]
        elif isinstance(values, (list, tuple)) and values:
            pairs = [
                (int(v[0]), _number(v[1])) if isinstance(v, tuple) else (1, _number(v))
                for v in values
            ]
        else:
            raise ValueError(
                f"a schedule must be a number, or a list of numbers or of pairs (units, number), "
                f"got {values!r:.60}"
            )
        self.is_minibatch_size_explicitly_specified = minibatch_size is not None
        self.minibatch_size = IGNORE if minibatch_size is None else int(minibatch_size)
        self.epoch_size = epoch_size
        self.values = [value for _, value in pairs]
        self.ends = [n * (epoch_size or 1) for n in accumulate(count for count, _ in pairs)]

    @property
    def is_sweep_based(self) -> bool:
        """Whether units are sweeps over the data rather than samples."""
        return self.epoch_size is None

    def __getitem__(self, count: int) -> float:
        for end, value in zip(self.ends, self.values, strict=True):
            if count < end:
                return value
        return self.values[-1]

    def after(self, count: int) -> Schedule:
        """The same schedule, started after this many samples or sweeps."""
        state = self.state()
        return Schedule.restored({**state, "ends": [end + count for end in self.ends]})

    def state(self) -> dict[str, Any]:
        """The schedule as numbers and lists."""
        return dict(vars(self))

    @staticmethod
    def restored(state: Mapping[str, object]) -> Schedule:
        """The schedule from its `state`."""
        schedule = Schedule(1.0)
        if state.keys() != vars(schedule).keys():
            raise ValueError(f"this is not the state of a schedule: {sorted(state)}")
        vars(schedule).update(state)
        return schedule

    def __repr__(self) -> str:
        return f"Schedule({self.values}, minibatch_size={self.minibatch_size})"


def learning_parameter_schedule(
    schedule: Values | Schedule, minibatch_size: int | None = None, epoch_size: int | None = None
) -> Schedule:
    """A schedule for a learning rate, or for another hyperparameter of a learner.

    Args:
        schedule: a number, a list of numbers, each for `epoch_size` samples, or a list of pairs
            (count, number), each for count times `epoch_size` samples.
        minibatch_size: the minibatch size that the numbers are meant for: a learner scales them
            to minibatches of other sizes. By default they are for a minibatch of any size.
        epoch_size: the number of samples in a unit; by default a sweep over the data.

    Source: CNTK's `learning_parameter_schedule`.

    >>> s = C.learning_parameter_schedule([(3, 0.1), (1, 0.01)], minibatch_size=32, epoch_size=100)
    >>> s[0], s[299], s[300], s[10**6]
    (0.1, 0.1, 0.01, 0.01)
    """
    if isinstance(schedule, Schedule):
        return schedule
    return Schedule(schedule, minibatch_size, epoch_size)


def learning_parameter_schedule_per_sample(
    schedule: Values | Schedule, epoch_size: int | None = None
) -> Schedule:
    """Same as `learning_parameter_schedule` with `minibatch_size=1`: a rate per sample.

    >>> C.learning_parameter_schedule_per_sample(0.01).minibatch_size
    1
    """
    return learning_parameter_schedule(schedule, 1, epoch_size)


def momentum_schedule(
    momentum: Values | Schedule, epoch_size: int | None = None, minibatch_size: int | None = None
) -> Schedule:
    """A schedule for a momentum: the decay factor of the smoothed gradient.

    Args:
        minibatch_size: the number of samples that the decay factor is for; by default a minibatch
            of any size.

    >>> C.momentum_schedule([0.99, 0.9], 1000)[1000]
    0.9
    """
    return learning_parameter_schedule(momentum, minibatch_size, epoch_size)


def momentum_schedule_per_sample(
    momentum: Values | Schedule, epoch_size: int | None = None
) -> Schedule:
    """Same as `momentum_schedule` with `minibatch_size=1`: a decay factor per sample.

    >>> C.momentum_schedule_per_sample(0.999).minibatch_size
    1
    """
    return momentum_schedule(momentum, epoch_size, 1)


def momentum_as_time_constant_schedule(
    momentum: Values | Schedule, epoch_size: int | None = None
) -> Schedule:
    """A momentum as a time constant: the number of samples after which a gradient decays to 1/e.

    >>> round(C.momentum_as_time_constant_schedule(1100)[0], 6)
    0.999091
    """
    if isinstance(momentum, Schedule):
        return momentum
    schedule = Schedule(momentum, 1, epoch_size)
    schedule.values = [math.exp(-1.0 / n) if n else 0.0 for n in schedule.values]
    return schedule


def training_parameter_schedule(
    schedule: Values | Schedule,
    unit: UnitType | str = UnitType.minibatch,
    epoch_size: int | None = None,
) -> Schedule:
    """CNTK's former `learning_parameter_schedule`, for values per sample or per minibatch.

    >>> C.training_parameter_schedule(0.01, "sample").minibatch_size
    1
    """
    size = 1 if UnitType(unit) is UnitType.sample else IGNORE
    return learning_parameter_schedule(schedule, size, epoch_size)


def learning_rate_schedule(
    lr: Values | Schedule, unit: UnitType | str, epoch_size: int | None = None
) -> Schedule:
    """CNTK's former `learning_parameter_schedule`; same as `training_parameter_schedule`.

    >>> C.learning_rate_schedule(0.01, C.UnitType.minibatch)[0]
    0.01
    """
    return training_parameter_schedule(lr, unit, epoch_size)


def as_schedule(
    value: object,
    minibatch_size: int | None,
    epoch_size: int | None,
    use_mean_gradient: bool = False,
) -> Schedule:
    """A schedule from a number, list or schedule.

    A schedule without a minibatch size gets the learner's, in a copy: another learner may share the
    schedule.
    """
    if not isinstance(value, Schedule):
        if isinstance(value, (Real, list, tuple)):
            return Schedule(value, minibatch_size or IGNORE, epoch_size)
        raise ValueError(
            f"a learning rate or momentum must be a number, a list or a schedule "
            f"(C.learning_parameter_schedule), got {type(value).__name__}"
        )
    size = value.minibatch_size
    if not value.is_minibatch_size_explicitly_specified and minibatch_size is not None:
        size = minibatch_size
    if use_mean_gradient and size == 1:
        size = IGNORE  # the gradient is already a mean: it must not be divided twice
    return Schedule.restored({**value.state(), "minibatch_size": size})
