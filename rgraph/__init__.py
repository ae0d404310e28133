"""rgraph: models in which a convolution stands inside a recurrence.

`import rgraph as C` gives Microsoft CNTK's functional API: see README.
"""

from . import (
    debugging,
    device,
    eval,
    initializer,
    io,
    layers,
    learners,
    logging,
    losses,
    metrics,
    ops,
    pickling,
    random,
    testing,
    train,
)
from .arrays import NDArrayView
from .default_options import (
    default_options,
    default_options_for,
    default_override_or,
    get_default_override,
    is_default_override,
)
from .device import (
    DeviceDescriptor,
    all_devices,
    cpu,
    gpu,
    try_set_default_device,
    use_default_device,
)
from .function import BlockFunction, CloneMethod, Function, as_block, combine, set_seed
from .graph import FREE as FreeDimension
from .graph import INFERRED as InferredDimension
from .graph import Axis, GraphError
from .initializer import *
from .learners import (
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
from .ops import *
from .persistence import load_model, register_udf_deserialize_callback
from .structure import allow_renaming_functions
from .train import (
    CheckpointConfig,
    CrossValidationConfig,
    TestConfig,
    Trainer,
    minibatch_size_schedule,
    training_session,
)
from .user_function import UserFunction, as_composite, output_variable, user_function
from .values import Value, asarray, asvalue
from .variables import (
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

__version__ = "0.1.0"

__all__ = [
    "debugging",
    "device",
    "eval",
    "initializer",
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
