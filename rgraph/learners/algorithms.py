"""The learners: SGD, Adam and the others."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from ..default_options import bound_to
from ..graph.context import context
from .learner import Learner
from .options import Options
from .schedules import learning_parameter_schedule_per_sample, momentum_schedule_per_sample
from .steps import (
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    FsAdagrad,
    Momentum,
    Nesterov,
    RmsProp,
    Sgd,
    Step,
)

F = TypeVar("F", bound=Callable[..., Learner])
_ANYHOW = inspect.Parameter.POSITIONAL_OR_KEYWORD


def default_unit_gain_value() -> bool:
    """The default of the learners' option `unit_gain`.

    >>> C.default_unit_gain_value()
    True
    """
    return context().unit_gain


def set_default_unit_gain_value(value: bool) -> None:
    """Sets `default_unit_gain_value`.

    >>> C.set_default_unit_gain_value(True)
    """
    context().unit_gain = bool(value)


def _smoothing(
    parameters: Sequence[object],
    lr: object,
    step: Step,
    options: dict[str, Any],
    momentum: object,
    unit_gain: bool | None,
    variance_momentum: object = None,
) -> Learner:
    gain = context().unit_gain if unit_gain is None else unit_gain
    made = Options(**options)
    return Learner(parameters, lr, step, made, momentum, gain, variance_momentum)


def _takes_options(learner: F) -> F:
    """Adds the options that all learners share to a learner's signature, in CNTK's order."""
    own = inspect.signature(learner).parameters.values()
    ordered = [p for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p for p in own if p.kind is p.KEYWORD_ONLY]
    common = [inspect.Parameter(f.name, _ANYHOW, default=f.default) for f in fields(Options)]
    later = [p.replace(kind=_ANYHOW) for p in named]
    signature = inspect.Signature([*ordered, *common[:-2], *later, *common[-2:]])

    @functools.wraps(learner)
    def call(*args: object, **kwargs: object) -> Learner:
        return learner(**bound_to(learner.__name__, signature, args, kwargs).arguments)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


@_takes_options
def sgd(parameters: Sequence[Any], lr: Any, **options: Any) -> Learner:
    """Stochastic gradient descent: subtracts `lr` times the gradient.

    Args:
        parameters: the parameters to learn: `model.parameters`.
        lr: the learning rate: a number, a list, or a schedule such as
            `learning_parameter_schedule(…)`. Gradients are sums over the minibatch; a number, or
            a schedule without a minibatch size, is divided by the number of samples.
        options: `l1_regularization_weight`, `l2_regularization_weight`,
            `gaussian_noise_injection_std_dev`, `gradient_clipping_threshold_per_sample`,
            `gradient_clipping_with_truncation`, `minibatch_size`, `epoch_size`: see
            `learners.Options`.

    Source: CNTK's `sgd`.

    >>> w = C.Parameter(2, init=1)
    >>> C.sgd([w], lr=0.5).update({w: np.array([2.0, -2.0])}, training_sample_count=4)
    True
    >>> w.value
    array([0.75, 1.25], dtype=float32)
    """
    return Learner(parameters, lr, Sgd(), Options(**options))


@_takes_options
def momentum_sgd(
    parameters: Sequence[object],
    lr: object,
    momentum: object,
    unit_gain: bool | None = None,
    **options: object,
) -> Learner:
    """Gradient descent with momentum: along an exponential moving average of the gradient.

    Args:
        parameters, lr, options: as for `sgd`.
        momentum: the decay factor of the smoothed gradient: a number, a list or
            `momentum_schedule(…)`.
        unit_gain: whether new gradients have the factor 1 - momentum, so that the momentum does
            not change the size of the steps, or the factor 1; None: `default_unit_gain_value()`.

    Source: CNTK's `momentum_sgd`.

    >>> w = C.Parameter(1, init=1)
    >>> learner = C.momentum_sgd([w], 1.0, 0.9, unit_gain=False)
    >>> learner.update({w: np.array([0.5])}, 1) and learner.update({w: np.array([0.5])}, 1)
    True
    >>> w.value.round(4)
    array([-0.45], dtype=float32)
    """
    return _smoothing(parameters, lr, Momentum(), options, momentum, unit_gain)


@_takes_options
def nesterov(
    parameters: Sequence[object],
    lr: object,
    momentum: object,
    unit_gain: bool | None = None,
    **options: object,
) -> Learner:
    """Like `momentum_sgd`, with Nesterov's momentum.

    Source: Nesterov, 1983; Sutskever et al., 2013; CNTK's `nesterov`.

    >>> w = C.Parameter(1, init=1)
    >>> C.nesterov([w], 1.0, 0.5, unit_gain=False).update({w: np.array([0.2])}, 1)
    True
    >>> w.value.round(4)
    array([0.7], dtype=float32)
    """
    return _smoothing(parameters, lr, Nesterov(), options, momentum, unit_gain)


@_takes_options
def adagrad(
    parameters: Sequence[Any], lr: Any, need_ave_multiplier: bool = True, **options: Any
) -> Learner:
    """AdaGrad: the gradient divided by the root of the sum of all previous squares.

    Args:
        parameters, lr, options: as for `sgd`.
        need_ave_multiplier: whether the factors of a parameter's elements are divided by their
            mean.

    As in CNTK, a rate without a minibatch size is divided by the number of samples, although the
    steps do not grow with the gradient, a sum over the minibatch. For a rate as in the paper use
    `minibatch_size=C.learners.IGNORE`.

    Source: Duchi, Hazan and Singer, 2011; CNTK's `adagrad`.

    >>> w = C.Parameter(1, init=1)
    >>> C.adagrad([w], 0.1, need_ave_multiplier=False).update({w: np.array([3.0])}, 1)
    True
    >>> w.value.round(4)
    array([0.9], dtype=float32)
    """
    return Learner(parameters, lr, Adagrad(need_ave_multiplier), Options(**options))


@_takes_options
def adadelta(
    parameters: Sequence[Any],
    lr: Any = None,
    rho: float = 0.95,
    epsilon: float = 1e-8,
    **options: Any,
) -> Learner:
    """AdaDelta: scales the gradient by the root mean squares of steps and gradients.

    Args:
        parameters, lr, options: as for `sgd`; `lr=None` is 1 per sample, as in the paper.
        rho: the decay factor of the mean squares of gradients and of steps.
        epsilon: added to both mean squares; it determines the size of the first step.

    Source: Zeiler, 2012; CNTK's `adadelta`.

    >>> w = C.Parameter(1, init=1)
    >>> C.adadelta([w], rho=0.75, epsilon=1.0).update({w: np.array([2.0])}, 1)
    True
    >>> w.value.round(4)
    array([-0.4142], dtype=float32)
    """
    rate = learning_parameter_schedule_per_sample(1.0) if lr is None else lr
    return Learner(parameters, rate, Adadelta(rho, epsilon), Options(**options))


@_takes_options
def rmsprop(
    parameters: Sequence[Any],
    lr: Any,
    gamma: float,
    inc: float,
    dec: float,
    max: float,
    min: float,
    need_ave_multiplier: bool = True,
    **options: Any,
) -> Learner:
    """RMSProp: divides the gradient by its root mean square, with an adaptive factor per element.

    Args:
        parameters, lr, options: as for `sgd`.
        gamma: the decay factor of the mean square, between 0 and 1.
        inc: multiplies an element's factor if the sign of its gradient is unchanged; above 1.
        dec: multiplies it if the sign changes; between 0 and 1.
        max, min: the limits of the factor, which is initially 0.02.
        need_ave_multiplier: whether the factors of a parameter's elements are divided by their
            mean.

    As in CNTK, a rate without a minibatch size is divided by the number of samples, although the
    steps do not grow with the gradient, a sum over the minibatch. For a rate as in the paper use
    `minibatch_size=C.learners.IGNORE`.

    Source: Tieleman and Hinton, 2012; CNTK's `rmsprop`.

    >>> w = C.Parameter(1, init=1)
    >>> learner = C.rmsprop([w], 1.0, 0.9, 1.2, 0.5, 10, 1e-4, need_ave_multiplier=False)
    >>> learner.update({w: np.array([3.0])}, 1)
    True
    >>> w.value.round(4)
    array([0.99], dtype=float32)
    """
    if not (0 < gamma < 1 < inc and 0 < dec < 1 and 0 < min < max):
        raise ValueError(
            "rmsprop needs 0 < gamma < 1, inc > 1, 0 < dec < 1 and 0 < min < max, got "
            f"gamma={gamma}, inc={inc}, dec={dec}, min={min}, max={max}"
        )
    step = RmsProp(gamma, inc, dec, max, min, need_ave_multiplier)
    return Learner(parameters, lr, step, Options(**options))


@_takes_options
def fsadagrad(
    parameters: Sequence[object],
    lr: object,
    momentum: object,
    unit_gain: bool | None = None,
    variance_momentum: object = None,
    **options: object,
) -> Learner:
    """FSAdaGrad, CNTK's predecessor of Adam: smoothed gradients over root mean squares per sample.

    Args:
        parameters, lr, options: as for `sgd`.
        momentum, unit_gain: as for `momentum_sgd`.
        variance_momentum: the decay factor of the mean square; by default 0.9999986111120757 per
            sample, which is 1/e after two hours of speech.

    As in CNTK, a rate without a minibatch size is divided by the number of samples, although the
    steps do not grow with the gradient, a sum over the minibatch. For a rate as in the paper use
    `minibatch_size=C.learners.IGNORE`.

    Source: CNTK's `fsadagrad`.

    >>> w = C.Parameter(1, init=1)
    >>> C.fsadagrad([w], 0.1, 0.0, variance_momentum=0.5).update({w: np.array([3.0])}, 1)
    True
    >>> w.value.round(4)
    array([0.9], dtype=float32)
    """
    decay = _default_decay() if variance_momentum is None else variance_momentum
    return _smoothing(parameters, lr, FsAdagrad(), options, momentum, unit_gain, decay)


@_takes_options
def adam(
    parameters: Sequence[object],
    lr: object,
    momentum: object,
    unit_gain: bool | None = None,
    variance_momentum: object = None,
    *,
    epsilon: float = 1e-8,
    adamax: bool = False,
    **options: object,
) -> Learner:
    """Adam: the mean of the gradient divided by its root mean square, both smoothed.

    Args:
        parameters, lr, options: as for `sgd`.
        momentum, unit_gain: as for `momentum_sgd`; the momentum is the paper's beta1, with unit
            gain.
        variance_momentum: the paper's beta2: a number, a list or a schedule; by default
            0.9999986111120757 per sample.
        epsilon: added to the divisor.
        adamax: whether to use AdaMax, with the decaying maximum in place of the root mean square.

    As in CNTK, a rate without a minibatch size is divided by the number of samples, although the
    steps do not grow with the gradient, a sum over the minibatch. For a rate as in the paper use
    `minibatch_size=C.learners.IGNORE`.

    Source: Kingma and Ba, 2015; CNTK's `adam`.

    >>> w = C.Parameter(1, init=1)
    >>> C.adam([w], 0.1, 0.9, variance_momentum=0.999).update({w: np.array([3.0])}, 1)
    True
    >>> w.value.round(4)
    array([0.9], dtype=float32)
    """
    if epsilon < 0:
        raise ValueError(f"epsilon must not be negative, got {epsilon}")
    decay = _default_decay() if variance_momentum is None else variance_momentum
    step = Adamax(epsilon) if adamax else Adam(epsilon)
    return _smoothing(parameters, lr, step, options, momentum, unit_gain, decay)


def _default_decay() -> Any:
    return momentum_schedule_per_sample(0.9999986111120757)
