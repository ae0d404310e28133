"""rgraph: models in which a convolution stands inside a recurrence.

`import rgraph as C` gives Microsoft CNTK's functional API: see README.
"""

import sys

from . import (
    cntk_py,
    debugging,
    device,
    eval,
    initializer,
    internal,
    io,
    layers,
    learners,
    logging,
    losses,
    metrics,
    ops,
    random,
    surface,
    testing,
    train,
)
from .default_options import (
    default_options,
    default_options_for,
    default_override_or,
    get_default_override,
    get_global_option,
    is_default_override,
    set_global_option,
)
from .device import (
    DeviceDescriptor,
    DeviceKind,
    all_devices,
    cpu,
    get_gpu_properties,
    gpu,
    set_excluded_devices,
    try_set_default_device,
    use_default_device,
)
from .eval import Evaluator
from .files import weights
from .files.persistence import ModelFormat, load_model, register_udf_deserialize_callback
from .graph import FREE as FreeDimension
from .graph import INFERRED as InferredDimension
from .graph import Axis, GraphError
from .initializer import *
from .io import INFINITELY_REPEAT, MinibatchData
from .layers.rnn_stack import optimized_rnnstack
from .learners import (
    IGNORE,
    Learner,
    UnitType,
    UserLearner,
    adadelta,
    adagrad,
    adam,
    default_unit_gain_value,
    fsadagrad,
    learning_parameter_schedule,
    learning_parameter_schedule_per_sample,
    learning_rate_schedule,
    momentum_as_time_constant_schedule,
    momentum_schedule,
    momentum_schedule_per_sample,
    momentum_sgd,
    nesterov,
    rmsprop,
    set_default_unit_gain_value,
    sgd,
    training_parameter_schedule,
    universal,
)
from .losses import *
from .metrics import *
from .model.building import BlockFunction, as_block, combine
from .model.cloning import CloneMethod
from .model.function import Function, allow_renaming_functions
from .model.user_function import UserFunction, as_composite, output_variable, user_function
from .operands.variables import (
    Constant,
    Parameter,
    State,
    Variable,
    constant,
    input,
    input_variable,
    parameter,
    placeholder,
)
from .ops import *
from .runtime.arrays import NDArrayView
from .runtime.evaluation import set_seed
from .runtime.values import Value, asarray, asvalue
from .train import (
    CheckpointConfig,
    Communicator,
    CrossValidationConfig,
    DataUnit,
    DistributedLearner,
    TestConfig,
    Trainer,
    TrainingSession,
    WorkerDescriptor,
    block_momentum_distributed_learner,
    data_parallel_distributed_learner,
    distributed,
    minibatch_size_schedule,
    mpi_communicator,
    training_session,
)

__version__ = "0.1.0"

__all__ = [
    "cntk_py",
    "debugging",
    "device",
    "eval",
    "initializer",
    "internal",
    "io",
    "layers",
    "learners",
    "logging",
    "losses",
    "metrics",
    "ops",
    "random",
    "testing",
    "train",
    "weights",
    "DeviceKind",
    "get_gpu_properties",
    "set_excluded_devices",
    "get_global_option",
    "set_global_option",
    "Evaluator",
    "INFINITELY_REPEAT",
    "MinibatchData",
    "IGNORE",
    "Communicator",
    "DataUnit",
    "DistributedLearner",
    "TrainingSession",
    "WorkerDescriptor",
    "block_momentum_distributed_learner",
    "data_parallel_distributed_learner",
    "distributed",
    "mpi_communicator",
    "ModelFormat",
    "Axis",
    "BlockFunction",
    "CheckpointConfig",
    "CloneMethod",
    "Constant",
    "CrossValidationConfig",
    "DeviceDescriptor",
    "FreeDimension",
    "Function",
    "GraphError",
    "InferredDimension",
    "Learner",
    "NDArrayView",
    "Parameter",
    "State",
    "TestConfig",
    "Trainer",
    "UnitType",
    "UserFunction",
    "UserLearner",
    "Value",
    "Variable",
    "adadelta",
    "adagrad",
    "adam",
    "all_devices",
    "allow_renaming_functions",
    "as_block",
    "as_composite",
    "asarray",
    "asvalue",
    "combine",
    "constant",
    "cpu",
    "default_options",
    "default_options_for",
    "default_override_or",
    "default_unit_gain_value",
    "fsadagrad",
    "get_default_override",
    "gpu",
    "input",
    "input_variable",
    "is_default_override",
    "learning_parameter_schedule",
    "learning_parameter_schedule_per_sample",
    "learning_rate_schedule",
    "load_model",
    "minibatch_size_schedule",
    "momentum_as_time_constant_schedule",
    "momentum_schedule",
    "momentum_schedule_per_sample",
    "momentum_sgd",
    "nesterov",
    "optimized_rnnstack",
    "output_variable",
    "parameter",
    "placeholder",
    "register_udf_deserialize_callback",
    "rmsprop",
    "set_default_unit_gain_value",
    "set_seed",
    "sgd",
    "training_parameter_schedule",
    "training_session",
    "try_set_default_device",
    "universal",
    "use_default_device",
    "user_function",
]
__all__ += initializer.__all__
__all__ += losses.__all__
__all__ += metrics.__all__
__all__ += ops.__all__

surface.install(sys.modules)
