"""The options that all learners share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .schedules import IGNORE, as_schedule


@dataclass
class Options:
    """The options that all learners share.

    Attributes:
        l1_regularization_weight: moves each weight towards 0 by this times the rate, per sample.
        l2_regularization_weight: adds this times each weight to its gradient, per sample.
        gaussian_noise_injection_std_dev: the standard deviation of noise that is added to the
            weights after each update; a number or a schedule.
        gradient_clipping_threshold_per_sample: the largest gradient per sample.
        gradient_clipping_with_truncation: whether to clip each element of a gradient to the
            threshold, or else the norm of each parameter's gradient.
        use_mean_gradient: CNTK's former name of `minibatch_size=IGNORE`.
        minibatch_size: the minibatch size that rates and momenta without their own are meant for.
            `IGNORE`: they are applied to the mean gradient, unscaled.
        epoch_size: the unit in samples of schedules that are given as lists.

    >>> w = C.Parameter(1, init=1)
    >>> learner = C.sgd([w], 0.5, l2_regularization_weight=0.1)
    >>> learner.update({w: np.array([0.0])}, training_sample_count=4)
    True
    >>> w.value
    array([0.95], dtype=float32)
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
        self.noise = as_schedule(self.gaussian_noise_injection_std_dev, IGNORE, None)

    @property
    def cuts_gradients(self) -> bool:
        """Whether large gradients, including infinite ones, are clipped element by element."""
        limit = self.gradient_clipping_threshold_per_sample
        return self.gradient_clipping_with_truncation and limit < math.inf
