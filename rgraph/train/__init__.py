"""Training: CNTK's `train` module."""

from ..function import Function
from .functions import measure, train
from .trainer import Trainer
from .training_session import (
    CheckpointConfig,
    CrossValidationConfig,
    DataUnit,
    TestConfig,
    TrainingSession,
    minibatch_size_schedule,
    training_session,
)

# A function can train itself, and its floor below knows nothing of training.
Function.train = train  # type: ignore[attr-defined]
Function.test = measure  # type: ignore[attr-defined]

__all__ = [
    "CheckpointConfig",
    "CrossValidationConfig",
    "DataUnit",
    "TestConfig",
    "Trainer",
    "TrainingSession",
    "minibatch_size_schedule",
    "training_session",
]
