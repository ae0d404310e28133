"""Private names of CNTK's learners that other projects import."""

from __future__ import annotations

from .schedules import IGNORE, Schedule, as_schedule


def _verify_learning_rate_type(learning_rate: object) -> None:
    """Raises `ValueError` if this is not a schedule."""
    if not isinstance(learning_rate, Schedule):
        raise ValueError(f"expected a schedule, got {type(learning_rate).__name__}")


def _infer_learning_parameter_schedule(
    number_or_schedule: object,
    ref_minibatch_size: int | None,
    epoch_size: int | None,
    use_mean_gradient: bool | None = None,
) -> Schedule:
    """A schedule from a number or a schedule."""
    return as_schedule(number_or_schedule, ref_minibatch_size, epoch_size, bool(use_mean_gradient))


def _infer_learning_rate_schedule_and_ref_minibatch_size(
    use_mean_gradient: bool | None,
    ref_minibatch_size: int | None,
    schedule: object,
    epoch_size: int | None,
) -> tuple[Schedule, int | None]:
    """The schedule of a learner, and the minibatch size it is meant for, if given."""
    if ref_minibatch_size is None and use_mean_gradient:
        ref_minibatch_size = IGNORE
    made = as_schedule(schedule, ref_minibatch_size, epoch_size, bool(use_mean_gradient))
    return made, ref_minibatch_size


_verify_momentum_type = _verify_learning_rate_type
