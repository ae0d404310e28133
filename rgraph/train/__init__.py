"""Training: CNTK's `train` module."""

from . import distributed
from .distributed import (
    Communicator,
    DistributedLearner,
    WorkerDescriptor,
    block_momentum_distributed_learner,
    data_parallel_distributed_learner,
    mpi_communicator,
)
from .scaling import DynamicLossScale
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

__all__ = [
    "Communicator",
    "DistributedLearner",
    "WorkerDescriptor",
    "block_momentum_distributed_learner",
    "data_parallel_distributed_learner",
    "distributed",
    "mpi_communicator",
    "CheckpointConfig",
    "CrossValidationConfig",
    "DataUnit",
    "DynamicLossScale",
    "TestConfig",
    "Trainer",
    "TrainingSession",
    "minibatch_size_schedule",
    "training_session",
]
