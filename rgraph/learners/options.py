"""What any learner can be told besides its own numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .schedules import IGNORE, as_schedule


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
            or the norm of a parameter's whole gradient.
        use_mean_gradient: CNTK's older form of `minibatch_size=IGNORE`.
        minibatch_size: the minibatch size that all rates and momenta are meant for that don't
            say one themselves. `IGNORE`: they are applied to the mean gradient as they are.
        epoch_size: the unit of schedules that are given as lists, in samples.

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
        """Whether gradients that are too large are cut off, infinite ones too."""
        limit = self.gradient_clipping_threshold_per_sample
        return self.gradient_clipping_with_truncation and limit < math.inf
