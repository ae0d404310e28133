"""What programs reach for in CNTK's C++ library: seeds, switches and numbers of kinds.

Most of CNTK's `cntk_py` is what its own Python is made of; of that there are the operations, as
Python has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import losses, metrics, ops
from .device import DeviceDescriptor, DeviceKind, gpu_convolutions
from .eval import Evaluator
from .graph import FREE as FreeDimension
from .graph import INFERRED as InferredDimension
from .graph import Axis
from .graph.context import Random, context
from .graph.node import AUTO_SEED
from .initializer import UNSAID_RANK
from .io import MinibatchData
from .io.base import Source as MinibatchSource
from .learners import Learner, universal
from .logging import ProgressWriter
from .model.function import Function
from .operands.variables import Constant, Parameter, Variable
from .runtime.arrays import NDArrayView
from .runtime.values import Value
from .train import CheckpointConfig, CrossValidationConfig, TestConfig, Trainer, TrainingSession

# CNTK numbers its types; here they are NumPy's, which whatever takes a dtype takes.
DataType_Unknown = None
DataType_Float, DataType_Double, DataType_Float16 = np.float32, np.float64, np.float16
DataType_Int8, DataType_Int16, DataType_UChar = np.int8, np.int16, np.uint8

Dictionary = dict  # of configurations, whose values are of any type

DeviceKind_CPU, DeviceKind_GPU = DeviceKind.CPU, DeviceKind.GPU
TraceLevel_Error, TraceLevel_Warning, TraceLevel_Info = 0, 1, 2
PoolingType_Max, PoolingType_Average = 0, 1
sentinel_value_for_auto_select_random_seed = AUTO_SEED
sentinel_value_for_infer_param_init_rank = UNSAID_RANK
default_param_init_scale = 1
# The same under the names that CNTK's Python has for them
SentinelValueForAutoSelectRandomSeed = auto_select = AUTO_SEED
SentinelValueForInferParamInitRank = UNSAID_RANK
DefaultParamInitScale = default_param_init_scale


def set_fixed_random_seed(value: int) -> None:
    """As `set_seed`, with one seed for all initial values: parameters of one shape begin alike.

    >>> C.cntk_py.set_fixed_random_seed(1)
    >>> C.cntk_py.is_random_seed_fixed()
    True
    """
    context().random = Random(value, initial_seeds=itertools.repeat(value))
    context().seed_is_set = True


def reset_random_seed(value: int = 0) -> None:
    """As at a program's start, where the number is 0: what is made next gets this seed, what is
    made then the number after it.

    >>> C.cntk_py.reset_random_seed(0)
    >>> C.cntk_py.is_random_seed_fixed()
    False
    """
    context().random = Random(value, initial_seeds=itertools.count(value))
    context().seed_is_set = False


def is_random_seed_fixed() -> bool:
    """Whether `set_fixed_random_seed` has set a seed.

    >>> C.cntk_py.set_fixed_random_seed(1)
    >>> C.cntk_py.is_random_seed_fixed()
    True
    """
    return context().seed_is_set


def force_deterministic_algorithms() -> None:
    """Has a GPU's convolutions give the same to the last bit; CPUs' do.

    >>> C.cntk_py.force_deterministic_algorithms()
    """
    gpu_convolutions(deterministic=True)


def should_force_deterministic_algorithms() -> bool:
    """Whether `force_deterministic_algorithms` was called.

    >>> C.cntk_py.force_deterministic_algorithms()
    >>> C.cntk_py.should_force_deterministic_algorithms()
    True
    """
    return bool(gpu_convolutions()["deterministic"])


def universal_learner(
    parameters: Sequence[object], gradients: Sequence[object], update_func: Function
) -> Learner:
    """As `learners.universal`, with an update that was made beforehand.

    Args:
        gradients: what stands for each parameter's gradient in the update.

    >>> w, g = C.Parameter(1, init=1), C.constant(0, (1,))
    >>> learner = C.cntk_py.universal_learner([w], [g], C.assign(w, w - 0.5 * g))
    >>> learner.update({w: np.array([1.0])}, 1)
    True
    >>> w.value
    array([0.5], dtype=float32)
    """

    def rule(_: Sequence[object], given: Sequence[object]) -> Any:
        return update_func.clone("share", dict(zip(gradients, given, strict=True)))

    return universal(rule, parameters)


def constant_initializer(value: float = 0.0) -> float:
    """The number itself, which stands for an initializer.

    >>> C.Parameter(2, init=C.cntk_py.constant_initializer(0.1)).value
    array([0.1, 0.1], dtype=float32)
    """
    return value


def _without_effect(*args: object) -> None:
    """Accepted for CNTK's sake: it says how CNTK's own engine works or what it prints."""


always_allow_setting_default_device = _without_effect
disable_cpueval_optimization = enable_cpueval_optimization = _without_effect
disable_forward_values_sharing = enable_forward_values_sharing = _without_effect
disable_gradient_accumulation_optimization = _without_effect
enable_gradient_accumulation_optimization = _without_effect
enable_synchronous_gpukernel_execution = _without_effect
enable_reversing_tensor_shapes_in_error_messages = _without_effect
print_built_info = print_gpu_info = _without_effect
set_computation_network_trace_level = _without_effect
set_gpumemory_allocation_trace_level = set_math_lib_trace_level = _without_effect
set_mpipack_threshold = _without_effect
use_sparse_gradient_aggregation_in_data_parallel_sgd = _without_effect


def __getattr__(name: str) -> Any:
    """An operation under its own name."""
    for module in (ops, losses, metrics):
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Axis",
    "CheckpointConfig",
    "Constant",
    "CrossValidationConfig",
    "DeviceDescriptor",
    "Evaluator",
    "Function",
    "Learner",
    "MinibatchData",
    "MinibatchSource",
    "NDArrayView",
    "Parameter",
    "ProgressWriter",
    "TestConfig",
    "Trainer",
    "TrainingSession",
    "Value",
    "Variable",
    "DataType_Double",
    "DataType_Float",
    "DataType_Float16",
    "DataType_Int16",
    "DataType_Int8",
    "DataType_UChar",
    "DataType_Unknown",
    "DeviceKind_CPU",
    "DeviceKind_GPU",
    "FreeDimension",
    "InferredDimension",
    "PoolingType_Average",
    "PoolingType_Max",
    "constant_initializer",
    "force_deterministic_algorithms",
    "is_random_seed_fixed",
    "reset_random_seed",
    "set_fixed_random_seed",
    "should_force_deterministic_algorithms",
    "universal_learner",
]
