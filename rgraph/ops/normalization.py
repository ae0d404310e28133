"""Batch normalization: with the statistics of the minibatch in training, else running statistics.

It is composed of other operations and two special ones: `running_statistic` selects between the two
kinds of statistics and defines how training updates the running ones; `per_element` reshapes a
vector of parameters so that it broadcasts to the operand.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import INFERRED, Axis, Constant, GraphError, Node, State, Stored, apply
from ..graph.node import Shape, resolve
from ..graph.types import Array, OperandLike
from .arithmetic import element_divide, element_max, element_times, exp, minus, plus, sqrt, square
from .comparison import element_select, equal, not_equal
from .records import as_node, define, operation
from .reductions import over_space, row_count
from .repetition import sum_rows
from .shaping import RESHAPE, reshape_to

if TYPE_CHECKING:
    from ..plan import Run


def _placed(value: Shape, like: Shape, *, spatial: bool) -> Shape:
    shape = (like[0],) + (1,) * (len(like) - 1) if spatial and like else like
    if math.prod(value) != math.prod(shape):
        raise GraphError(
            f"a value of shape {value} can't be broadcast to "
            f"{'the channels' if spatial else 'the elements'} of a value of shape {like}"
        )
    return shape


def _filled_in(value: Shape, like: Shape, *, spatial: bool) -> list[Shape]:
    size = math.prod(like[:1] if spatial else like)
    return [(size,) if value == (INFERRED,) else value, like]


PER_ELEMENT = define(
    "per_element",
    title="batch_normalization",
    shape=_placed,
    infer=_filled_in,
    axes=lambda axes, **_: axes[0],
    align=None,
    kernel=lambda run, value, like, shape: value.reshape(shape),
    arguments=lambda node: {"shape": node.shape},
    gradient=lambda node, g: [reshape_to(g, node.inputs[0].shape or ()), None],
    operands=("value", "like"),
)


def _only_in_training(run: Run, g: Array) -> Array:
    return g if run.training else run.xp.zeros_like(g)


ONLY_IN_TRAINING = define(
    "only_in_training",
    title="batch_normalization",
    shape=lambda s: s,
    kernel=_only_in_training,
    gradient=lambda node, g: [apply(ONLY_IN_TRAINING, g)],
    random=True,  # not folded: the result depends on the run
    inference_form=lambda node: Constant(0, node.shape, node.dtype),
)


def _statistic_axes(axes: Sequence[tuple[Axis, ...] | None], **_: object) -> tuple[Axis, ...]:
    if axes[3] == ():
        raise GraphError("batch normalization needs an operand with a batch axis")
    return ()


def _updates(node: Node, now: Mapping[Node, Node]) -> dict[Node, Node]:
    """CNTK's rule: a minibatch has the weight 1 - exp(-samples / time constant), the first one 1.

    The mean is updated before the variance; the update of the variance also updates the count.
    """
    batch, running, count, x = node.inputs
    time_constant, is_variance = node.attrs["time_constant"], node.attrs["unbiased"]
    before, seen = now.get(running, running), now.get(count, count)
    rows = row_count(x)
    if time_constant < 0:  # the mean of all samples so far
        weight = element_divide(rows, plus(rows, seen))
    elif time_constant == 0 or math.isinf(time_constant):
        weight = as_node(float(time_constant == 0))
    else:
        weight = minus(1.0, exp(element_divide(rows, -float(time_constant))))
    weight = element_select(equal(seen, 0.0), not_equal(rows, 0.0), weight)
    if is_variance:
        each = math.prod(x.shape or ()) // max(math.prod(batch.shape or ()), 1)
        size = element_times(rows, float(each))
        batch = element_times(batch, element_divide(size, element_max(minus(size, 1.0), 1.0)))
    found = {running: plus(before, element_times(weight, minus(batch, before)))}
    if is_variance:
        found[count] = plus(seen, rows)
    return {state: value for state, value in found.items() if isinstance(state, Stored)}


RUNNING_STATISTIC = define(
    "running_statistic",
    title="batch_normalization",
    shape=lambda batch, running, count, x, **_: batch,
    infer=lambda batch, running, count, x, **_: [batch, batch, (), x],
    axes=_statistic_axes,
    align=None,
    kernel=lambda run, batch, running, count, x, **_: batch if run.training else running,
    gradient=lambda node, g: [apply(ONLY_IN_TRAINING, g), None, None, None],
    operands=("batch", "running", "count", "operand"),
    updates=_updates,
    random=True,
    framewise=False,
    instead="normalize the input before the recurrence; in a step function use LayerNormalization",
    inference_form=lambda node: node.inputs[1],
)


def _as_state(value: OperandLike) -> Node:
    """The node of a running statistic; a constant that the user created is replaced by a state."""
    node = resolve(as_node(value))
    if not isinstance(node, Constant) or node.handle is None:
        return node
    first = node.root.given  # the shape may be inferred from the operand
    state = State(
        node.shape or (),
        node.dtype,
        lambda shape, dtype: np.broadcast_to(first, shape).astype(dtype),
        node.name,
        where=node.origin,
    )
    state.handle, node.target = node.handle, state
    return state


def _mean(x: Node, spatial: bool) -> Node:
    """The mean of each element (or channel) over all samples and frames, as a vector."""
    own = apply(RESHAPE, over_space(x, "reduce_mean") if spatial else x, to=(INFERRED,))
    return element_divide(sum_rows(own, ()), row_count(own))


@operation
def batch_normalization(
    operand: OperandLike,
    scale: OperandLike,
    bias: OperandLike,
    running_mean: OperandLike,
    running_inv_std: OperandLike,
    spatial: bool,
    normalization_time_constant: float = 5000,
    blend_time_constant: float = 0,
    epsilon: float = 0.00001,
    use_cudnn_engine: bool = False,
    disable_regularization: bool = False,
    *,
    running_count: OperandLike | None = None,
) -> Node:
    """(operand - mean) / sqrt(variance + epsilon) * scale + bias.

    In training, mean and variance are those of the minibatch, over all samples and frames.
    Otherwise they are running statistics, which are updated by training steps, by `grad`, and by
    `forward` with `keep_for_backward`. If several nodes share running statistics, for example in a
    clone with shared parameters, each of them updates the statistics in turn.

    Args:
        operand: a value of shape (channels, *size) if spatial, otherwise any shape.
        scale, bias: parameters of shape (channels,) if spatial, otherwise one number per element.
            Their size may be `C.InferredDimension`.
        running_mean, running_inv_std: running statistics of the same shape: the mean and, in spite
            of CNTK's name, the variance. A `C.State`, or as in CNTK a `C.constant`, which then
            becomes a state that training changes.
        running_count: the number of samples in the running statistics, in the same way.
        spatial: whether statistics are over the positions of an image too.
        normalization_time_constant: the time constant of the running statistics in samples. 0:
            those of the last minibatch; negative: those of all samples so far.
        epsilon: added to the variance.
        blend_time_constant: must be 0.
        use_cudnn_engine, disable_regularization: accepted for compatibility with CNTK.

    Source: Ioffe and Szegedy, 2015; CNTK's `batch_normalization`.

    >>> x = C.input_variable(2)
    >>> y = C.batch_normalization(x, [1, 1], [0, 0], [1, 2], [1, 4], False, running_count=5)
    >>> y.eval({x: [[2, 4]]}).round(3)
    array([[1., 1.]], dtype=float32)
    """
    if blend_time_constant:
        raise NotImplementedError("batch_normalization: blend_time_constant must be 0")
    x = as_node(operand)
    if running_count is None:
        running_count = 0
        warnings.warn(
            "batch_normalization: without running_count (a State or constant that starts at 0) "
            "the running statistics are never updated",
            stacklevel=3,
        )
    mean, variance, count = map(_as_state, (running_mean, running_inv_std, running_count))

    def placed(value: Node) -> Node:
        return apply(PER_ELEMENT, value, x, spatial=spatial)

    def statistic(batch: Node, running: Node, unbiased: bool) -> Node:
        return apply(
            RUNNING_STATISTIC,
            batch,
            running,
            count,
            x,
            time_constant=normalization_time_constant,
            unbiased=unbiased,
        )

    own_mean = _mean(x, spatial)
    own_variance = _mean(square(minus(x, placed(own_mean))), spatial)
    added = Constant(epsilon)
    added.implied = True
    deviation = sqrt(plus(statistic(own_variance, variance, True), added))
    factor = element_divide(placed(as_node(scale)), placed(deviation))
    centered = minus(x, placed(statistic(own_mean, mean, False)))
    return plus(element_times(centered, factor), placed(as_node(bias)))
