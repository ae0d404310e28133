"""Learners that people write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .learner import Learner


class _Parameters(tuple):
    """A user's own learner calls its parameters, as in CNTK; a trainer reads them."""

    def __call__(self) -> _Parameters:
        return self


class UserLearner(Learner):
    """The base of learners that people write: derive from it and define `update`.

    Args:
        parameters: what it learns.
        lr_schedule: its learning rate; `self.learning_rate()` gives the present value.
        as_numpy: whether gradients come as NumPy's arrays wherever they were computed.

    Source: CNTK's `UserLearner`.

    >>> class Plain(C.UserLearner):
    ...     def update(self, gradient_values, training_sample_count, sweep_end):
    ...         rate = self.learning_rate() / training_sample_count
    ...         for p, g in gradient_values.items():
    ...             p.value = p.value - rate * g
    ...         return True
    >>> w = C.Parameter(1, init=1)
    >>> learner = Plain([w], C.learning_parameter_schedule(0.5))
    >>> learner.update({w: np.array([2.0])}, 4, False), learner.parameters() == (w,)
    (True, True)
    >>> w.value
    array([0.75], dtype=float32)
    """

    def __init__(self, parameters: Iterable[Any], lr_schedule: Any, as_numpy: bool = True) -> None:
        super().__init__(parameters, lr_schedule)
        self.parameters = _Parameters(self.parameters)
        self.as_numpy = as_numpy
