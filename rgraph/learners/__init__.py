"""Learners, which update parameters from their gradients. CNTK's `learners` module."""

from .algorithms import (
    adadelta,
    adagrad,
    adam,
    default_unit_gain_value,
    fsadagrad,
    momentum_sgd,
    nesterov,
    rmsprop,
    set_default_unit_gain_value,
    sgd,
)
from .flat import FlatObjective
from .learner import Learner
from .options import Options
from .schedules import (
    IGNORE,
    Schedule,
    UnitType,
    learning_parameter_schedule,
    learning_parameter_schedule_per_sample,
    learning_rate_schedule,
    momentum_as_time_constant_schedule,
    momentum_schedule,
    momentum_schedule_per_sample,
    training_parameter_schedule,
)
from .universal import universal
from .user import UserLearner

__all__ = [
    "IGNORE",
    "FlatObjective",
    "Learner",
    "Options",
    "Schedule",
    "UnitType",
    "UserLearner",
    "adadelta",
    "adagrad",
    "adam",
    "default_unit_gain_value",
    "fsadagrad",
    "learning_parameter_schedule",
    "learning_parameter_schedule_per_sample",
    "learning_rate_schedule",
    "momentum_as_time_constant_schedule",
    "momentum_schedule",
    "momentum_schedule_per_sample",
    "momentum_sgd",
    "nesterov",
    "rmsprop",
    "set_default_unit_gain_value",
    "sgd",
    "training_parameter_schedule",
    "universal",
]
