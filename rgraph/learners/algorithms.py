"""The learners: how each turns a gradient into a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .learner import Array, Learner, Options, State
from .schedules import Schedule, momentum_schedule_per_sample

_unit_gain = True


def default_unit_gain_value() -> bool:
    """Whether momentum is applied with unit gain where a learner isn't told.

    >>> C.default_unit_gain_value()
    True
    """
    return _unit_gain


def set_default_unit_gain_value(value: bool) -> None:
    """Sets `default_unit_gain_value`.

    >>> C.set_default_unit_gain_value(True)
    """
    global _unit_gain
    _unit_gain = bool(value)


class _Sgd(Learner):
    def _step(self, p: Array, g: Array, state: State, rate: float, **_: float) -> None:
        g *= rate
        p -= g


class _Momentum(Learner):
    """Learners that smooth gradients: v = momentum * v + gain * g."""

    def __init__(
        self, parameters: Any, lr: Any, momentum: Any, unit_gain: bool | None, options: Options
    ) -> None:
        super().__init__(parameters, lr, options)
        self.momentum = options.schedule(momentum)
        self.unit_gain = _unit_gain if unit_gain is None else bool(unit_gain)

    def _numbers(self, samples: int) -> dict[str, float]:
        momentum = self._momentum_for(self.momentum, samples)
        return {"momentum": momentum, "gain": 1 - momentum if self.unit_gain else 1.0}

    def _step(
        self, p: Array, g: Array, state: State, rate: float, *, momentum: float, gain: float
    ) -> None:
        v = _smoothed(p, g, state, momentum, gain)
        np.multiply(v, rate, out=g)
        p -= g


def _kept(state: State, name: str, p: Array) -> Array:
    """An array of the learner's for a parameter, 0 at first."""
    if name not in state:
        state[name] = np.zeros_like(p)
    return state[name]


def _smoothed(p: Array, g: Array, state: State, momentum: float, gain: float) -> Array:
    v = _kept(state, "v", p)
    v *= momentum
    g *= gain
    v += g
    return v


class _Adam(_Momentum):
    def __init__(
        self, *args: Any, variance_momentum: Any, epsilon: float, adamax: bool, options: Options
    ) -> None:
        super().__init__(*args, options)
        self.variance_momentum = options.schedule(variance_momentum)
        self.epsilon, self.adamax = epsilon, adamax

    def _numbers(self, samples: int) -> dict[str, float]:
        decay = self._momentum_for(self.variance_momentum, samples)
        return {**super()._numbers(samples), "decay": decay}

    def _step(  # type: ignore[override]
        self,
        p: Array,
        g: Array,
        state: State,
        rate: float,
        *,
        momentum: float,
        gain: float,
        decay: float,
    ) -> None:
        s = _kept(state, "s", p)
        state["count"] = count = state.get("count", 0) + 1
        s *= decay
        if self.adamax:
            np.maximum(s, np.abs(g), out=s)
            scale = s + self.epsilon
            correction = 1.0
        else:
            scale = g * g
            scale *= 1 - decay
            s += scale
            np.sqrt(s, out=scale)
            scale += self.epsilon
            correction = math.sqrt(1 - decay**count)
        v = _smoothed(p, g, state, momentum, gain)
        np.divide(v, scale, out=g)
        g *= rate * correction / (1 - momentum**count)
        p -= g


def sgd(parameters: Sequence[Any], lr: Any, **options: Any) -> Learner:
    """Stochastic gradient descent: each step goes `lr` times the gradient downhill.

    Args:
        parameters: what to learn: `model.parameters`.
        lr: the learning rate: a number, a list or `learning_parameter_schedule(…)`. A number
            is for a minibatch's mean gradient.
        options: `l1_regularization_weight`, `l2_regularization_weight`,
            `gaussian_noise_injection_std_dev`, `gradient_clipping_threshold_per_sample`,
            `gradient_clipping_with_truncation`, `minibatch_size`, `epoch_size`: see `Options`.

    Source: CNTK's `sgd`.

    >>> w = C.Parameter(2, init=1)
    >>> C.sgd([w], lr=0.5).update({w: np.array([2.0, -2.0])}, training_sample_count=4)
    True
    >>> w.value
    array([0.75, 1.25], dtype=float32)
    """
    return _Sgd(parameters, lr, Options(**options))


def momentum_sgd(
    parameters: Sequence[Any],
    lr: Any,
    momentum: Any,
    unit_gain: bool | None = None,
    **options: Any,
) -> Learner:
    """Gradient descent along a gradient smoothed over minibatches.

    Args:
        parameters, lr, options: as for `sgd`.
        momentum: the part of the smoothed gradient that stays: a number, a list or
            `momentum_schedule(…)`.
        unit_gain: whether the gradient comes in with the factor 1 - momentum, so that the steps'
            size does not depend on the momentum, or with 1; None: `default_unit_gain_value()`.

    Source: CNTK's `momentum_sgd`.

    >>> w = C.Parameter(1, init=1)
    >>> learner = C.momentum_sgd([w], 1.0, 0.9, unit_gain=False)
    >>> learner.update({w: np.array([0.5])}, 1) and learner.update({w: np.array([0.5])}, 1)
    True
    >>> w.value.round(4)
    array([-0.45], dtype=float32)
    """
    return _Momentum(parameters, lr, momentum, unit_gain, Options(**options))


def adam(
    parameters: Sequence[Any],
    lr: Any,
    momentum: Any,
    unit_gain: bool | None = None,
    variance_momentum: Any = None,
    *,
    epsilon: float = 1e-8,
    adamax: bool = False,
    **options: Any,
) -> Learner:
    """Adam: the smoothed gradient divided by the root of the smoothed square of it.

    Args:
        parameters, lr, options: as for `sgd`.
        momentum, unit_gain: as for `momentum_sgd`; the momentum is the paper's beta1. The
            paper has unit gain.
        variance_momentum: the paper's beta2, a number, a list or a schedule; by default
            0.9999986111120757 per sample.
        epsilon: what keeps the divisor from 0.
        adamax: whether the largest gradient stands in the place of the root mean square.

    Source: Kingma and Ba, 2015; CNTK's `adam`.

    >>> w = C.Parameter(1, init=1)
    >>> C.adam([w], 0.1, 0.9, variance_momentum=0.999).update({w: np.array([3.0])}, 1)
    True
    >>> w.value.round(4)
    array([0.9], dtype=float32)
    """
    if variance_momentum is None:
        variance_momentum = _default_variance_momentum()
    made = Options(**options)
    return _Adam(
        parameters,
        lr,
        momentum,
        unit_gain,
        variance_momentum=variance_momentum,
        epsilon=epsilon,
        adamax=adamax,
        options=made,
    )


def _default_variance_momentum() -> Schedule:
    return momentum_schedule_per_sample(0.9999986111120757)
