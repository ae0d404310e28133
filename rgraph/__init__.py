"""rgraph: models in which a convolution stands inside a recurrence.

`import rgraph as C` gives Microsoft CNTK's functional API: see README.
"""

from . import device, initializer, layers, ops
from .function import BlockFunction, Function, combine, set_seed
from .graph import INFERRED as InferredDimension
from .graph import Axis, GraphError
from .initializer import glorot_uniform
from .ops import *  # noqa: F403
from .ops import sequence
from .variables import (
    Constant,
    Parameter,
    Variable,
    constant,
    input_variable,
    parameter,
    placeholder,
)

__version__ = "0.1.0"
