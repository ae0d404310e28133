"""Operations: one record each, by family. Called on variables they build graphs.

The names are CNTK's, as `C.plus` or `C.ops.plus`; those of sequences are in `ops.sequence`.
"""

from . import (
    activations,
    along_time,
    arithmetic,
    assignment,
    batching,
    comparison,
    composed,
    contractions,
    convolutions,
    delays,
    filling,
    lookup,
    normalization,
    pointwise,
    poolings,
    random,
    records,
    reductions,
    repetition,
    sampling,
    sequence,
    shaping,
)
from .activations import (
    elu,
    hard_sigmoid,
    leaky_relu,
    param_relu,
    relu,
    selu,
    sigmoid,
    softplus,
    softsign,
)
from .arithmetic import (
    abs,
    acos,
    asin,
    asinh,
    atan,
    atanh,
    clip,
    cos,
    cosh,
    element_divide,
    element_max,
    element_min,
    element_times,
    exp,
    log,
    log_add_exp,
    minus,
    negate,
    plus,
    pow,
    reciprocal,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
)
from .assignment import assign
from .batching import to_batch, unpack_batch
from .comparison import (
    ceil,
    element_and,
    element_not,
    element_or,
    element_select,
    element_xor,
    equal,
    floor,
    greater,
    greater_equal,
    less,
    less_equal,
    not_equal,
    round,
    sign,
    stop_gradient,
)
from .composed import (
    image_scaler,
    local_response_normalization,
    mean,
    mean_variance_normalization,
    per_dim_mean_variance_normalize,
    sum,
)
from .contractions import (
    TIMES_NO_INFERRED_INPUT_RANK,
    TIMES_REDUCE_SEQUENCE_AXIS_WITHOUT_INFERRED_INPUT_RANK,
    times,
    times_transpose,
)
from .convolutions import convolution, convolution_transpose
from .cropping import crop_automatic, crop_automatic_with_ancestors, crop_manual
from .filling import cast, eye_like, ones_like, zeros_like
from .lookup import gather, one_hot, top_k
from .normalization import batch_normalization
from .packing import to_sequence, to_sequence_like
from .poolings import AVG_POOLING, MAX_POOLING, MAX_UNPOOLING, pooling, unpooling
from .random import dropout
from .rearranging import (
    CONSTANT_PAD,
    REFLECT_PAD,
    SYMMETRIC_PAD,
    depth_to_space,
    expand_dims,
    flatten,
    pad,
    space_to_depth,
    squeeze,
)
from .reductions import (
    argmax,
    argmin,
    reduce_l1,
    reduce_l2,
    reduce_log_sum_exp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
    reduce_sum_square,
)
from .regions import roipooling
from .sampling import random_sample, random_sample_inclusion_frequency
from .sequence import future_value, past_value, reconcile_dynamic_axes
from .shaping import alias, reshape, slice, splice, swapaxes, transpose
from .softmax import hardmax, log_softmax, softmax
