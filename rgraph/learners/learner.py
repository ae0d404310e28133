"""What all learners share: schedules, clipping, regularization, noise, their state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import GraphError
from ..variables import Parameter
from .schedules import IGNORE, Schedule, as_schedule

Array = np.ndarray
State = dict[str, Any]


@dataclass
class Options:
    """What any learner can be told besides its own numbers.

    Attributes:
        l1_regularization_weight: pulls every weight towards 0 by this times the rate, per sample.
        l2_regularization_weight: this part of every weight is added to its gradient, per sample.
        gaussian_noise_injection_std_dev: of noise added to the weights after each update; a
            number or a schedule.
        gradient_clipping_threshold_per_sample: the largest gradient of a sample.
        gradient_clipping_with_truncation: whether each element of a gradient is held below that,
            or the norm of the whole gradient of a parameter.
        use_mean_gradient: whether to divide gradients by the number of samples; None: no.
            CNTK's older form of `minibatch_size=IGNORE`.
        minibatch_size: the minibatch size that all rates and momenta are meant for that don't
            say one themselves. `IGNORE`: apply them to the mean gradient as they are.
        epoch_size: the unit of schedules that are given as lists, in samples.
    """

    l1_regularization_weight: float = 0.0
    l2_regularization_weight: float = 0.0
    gaussian_noise_injection_std_dev: Any = 0.0
    gradient_clipping_threshold_per_sample: float = math.inf
    gradient_clipping_with_truncation: bool = True
    use_mean_gradient: bool | None = None
    minibatch_size: int | None = None
    epoch_size: int | None = None

    def __post_init__(self) -> None:
        if self.minibatch_size is None and self.use_mean_gradient:
            self.minibatch_size = IGNORE
        noise = self.gaussian_noise_injection_std_dev
        self.noise = as_schedule(noise, IGNORE, self.epoch_size)

    def schedule(self, value: Any) -> Schedule:
        return as_schedule(value, self.minibatch_size, self.epoch_size)


class Learner:
    """Changes parameters by their gradients. The functions of this module make learners.

    Args:
        parameters: what it learns.
        lr: the learning rate, a number or a schedule.
        options: see `Options`.

    Attributes:
        parameters: what it learns.
        minibatch_size: the minibatch size that its numbers are meant for.
    """

    def __init__(self, parameters: Iterable[Any], lr: Any, options: Options | None = None) -> None:
        self.parameters = tuple(parameters)
        if not self.parameters:
            raise ValueError("a learner needs parameters to learn: it was given an empty list")
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise ValueError(f"a learner learns parameters, it was given {p!r:.60}")
            p.value  # noqa: B018  raises if its shape is not known yet
        self.options = options = options or Options()
        self._rate = as_schedule(
            lr, options.minibatch_size, options.epoch_size, bool(options.use_mean_gradient)
        )
        self._size = options.minibatch_size
        self._samples = self._sweeps = 0  # since the learning rate was set
        self._state: dict[Parameter, State] = {p: {} for p in self.parameters}
        self._noise = np.random.default_rng(np.random.SeedSequence().entropy)

    # The minibatch size that rates are meant for

    @property
    def minibatch_size(self) -> int:
        return self._rate.minibatch_size if self._size is None else self._size

    @minibatch_size.setter
    def minibatch_size(self, size: int) -> None:
        self._size = size

    def is_compatible_mode(self) -> bool:
        """Whether it takes the mean gradient of a minibatch and applies its numbers as they are."""
        return self._size == IGNORE

    # Schedules

    def learning_rate(self) -> float:
        """The rate that is in force now."""
        return self._now(self._rate)

    def reset_learning_rate(self, learning_rate: Schedule) -> None:
        """Sets another rate; its schedule begins now."""
        self._rate = as_schedule(learning_rate, self._size or None, None)
        self._samples = self._sweeps = 0

    @property
    def _learning_rate_schedule(self) -> Schedule:
        return self._rate

    def _now(self, schedule: Schedule) -> float:
        return schedule.at(self._samples, self._sweeps)

    def _rate_for(self, samples: int) -> float:
        """The factor of the gradient of a minibatch of so many samples."""
        if self.is_compatible_mode():
            return self.learning_rate()
        return self.learning_rate() / (self._rate.minibatch_size or samples)

    def _momentum_for(self, schedule: Schedule, samples: int) -> float:
        """The part that is left of what was before the minibatch."""
        value = self._now(schedule)
        if self.is_compatible_mode() or schedule.minibatch_size == IGNORE:
            return value
        return value ** (samples / schedule.minibatch_size)

    # Updates

    def update(
        self,
        gradient_values: Mapping[Any, Any],
        training_sample_count: int,
        is_sweep_end: bool = False,
    ) -> bool:
        """Changes the parameters.

        Args:
            gradient_values: for each parameter its gradient, summed over the minibatch.
            training_sample_count: how many samples that were.
            is_sweep_end: whether a sweep over the data ends with this minibatch.

        Returns:
            whether learning goes on.
        """
        samples = int(training_sample_count)
        rate = self._rate_for(samples)
        numbers = self._numbers(samples)
        for p in self.parameters:
            if p not in gradient_values:
                raise GraphError(f"{p!r} has no gradient in this update")
            array = p.node.value
            g = np.asarray(gradient_values[p], array.dtype).reshape(array.shape)
            self._step(array, self._prepared(array, g, samples), self._state[p], rate, **numbers)
            self._finish(array, rate, samples)
        self._samples += samples
        self._sweeps += bool(is_sweep_end)
        return True

    def _numbers(self, samples: int) -> dict[str, float]:
        """What `_step` takes besides, the same for all parameters of a minibatch."""
        return {}

    def _step(self, p: Array, g: Array, state: State, rate: float, **numbers: float) -> None:
        """Changes the array `p` by the gradient `g`, which may be written over."""
        raise NotImplementedError(f"{type(self).__name__} must define update")

    def _prepared(self, p: Array, g: Array, samples: int) -> Array:
        """The gradient as the options want it, in an array that may be written over."""
        options = self.options
        mean = self.is_compatible_mode()
        g = np.multiply(g, 1 / samples, dtype=p.dtype) if mean else g.astype(p.dtype, copy=True)
        size = 1 if mean else samples
        limit = options.gradient_clipping_threshold_per_sample * size
        if limit < math.inf:
            if options.gradient_clipping_with_truncation:
                np.clip(g, -limit, limit, out=g)
            elif (norm := float(np.linalg.norm(g))) > limit:
                g *= limit / norm
        if options.l2_regularization_weight > 0:
            g += options.l2_regularization_weight * size * p
        return g

    def _finish(self, p: Array, rate: float, samples: int) -> None:
        deviation = self._now(self.options.noise)
        if deviation > 0:
            p += self._noise.normal(0, deviation, p.shape).astype(p.dtype)
        if self.options.l1_regularization_weight > 0:
            size = 1 if self.is_compatible_mode() else samples
            threshold = rate * self.options.l1_regularization_weight * size
            p[...] = np.sign(p) * np.maximum(np.abs(p) - threshold, 0)


class UserLearner(Learner):
    """The base of learners that people write: derive from it and define `update`.

    Args:
        parameters: what it learns.
        lr_schedule: its learning rate: `self.learning_rate()` gives the present value.
        as_numpy: must be True: gradients come as arrays.

    >>> class Plain(C.UserLearner):
    ...     def update(self, gradient_values, training_sample_count, sweep_end):
    ...         rate = self.learning_rate() / training_sample_count
    ...         for p, g in gradient_values.items():
    ...             p.value = p.value - rate * g
    ...         return True
    >>> w = C.Parameter(1, init=1)
    >>> Plain([w], C.learning_parameter_schedule(0.5)).update({w: np.array([2.0])}, 4, False)
    True
    >>> w.value
    array([0.75], dtype=float32)
    """

    def __init__(
        self, parameters: Iterable[Any], lr_schedule: Any, as_numpy: bool = True
    ) -> None:
        super().__init__(parameters, lr_schedule)

    def update(
        self, gradient_values: Any, training_sample_count: int, sweep_end: bool = False
    ) -> bool:
        raise NotImplementedError("a UserLearner must define update")
