"""User-written learners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .learner import Learner


class _Parameters(tuple):
    """A tuple that is also callable: in CNTK `parameters` is a method of user-written learners."""

    def __call__(self) -> _Parameters:
        return self


class UserLearner(Learner):
    """The base class of user-written learners: derive from it and define `update`.

    Args:
        parameters: the parameters to learn.
        lr_schedule: the learning rate; `self.learning_rate()` returns its current value.
        as_numpy: whether gradients are passed as NumPy arrays even if computed on a GPU.

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
