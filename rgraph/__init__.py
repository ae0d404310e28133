"""rgraph: models in which a convolution stands inside a recurrence.

`import rgraph as C` gives Microsoft CNTK's functional API: see README.
"""

from . import debugging, device, initializer, io, layers, logging, ops, testing
from . import eval as eval
from .default_options import *
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
from .losses import (
    binary_cross_entropy,
    cosine_distance,
    cosine_distance_with_negative_samples,
    cross_entropy_with_softmax,
    fmeasure,
    hierarchical_softmax_layer,
    lambda_rank,
    nce_loss,
    squared_error,
    weighted_binary_cross_entropy,
)
from .metrics import classification_error, edit_distance_error, ndcg_at_1
from .ops import *
from .ops import sequence
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
from .values import NDArrayView, Value, asarray, asvalue
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
