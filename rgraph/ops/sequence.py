"""Operations along time: CNTK's `sequence` module."""

# The records are in `delays`, `along_time`, `frames` and `packing`.

from __future__ import annotations

from typing import TYPE_CHECKING

from ..default_options import default_dtype
from ..graph import BATCH, SEQUENCE, Axis, GraphError, Input, Node, apply, whole
from ..graph.types import DTypeLike, OperandLike, ShapeLike
from .activations import difference
from .along_time import ENDS, MAXIMUM, RECONCILE
from .arithmetic import element_divide, exp
from .comparison import stop_gradient
from .delays import OUTSIDE, delay, future_value, past_value
from .editing import join, length, pad, reduce_mean, reverse, stride, window
from .frames import GATHER, SCATTER, chosen_frames, frames_where, needs_time
from .packing import unpacked
from .records import as_node, hold, operation
from .repetition import SPREAD, over_time
from .shaping import as_shape

if TYPE_CHECKING:
    from ..operands.variables import Variable

Axes = tuple[Axis, ...]


def input_variable(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    needs_gradient: bool = False,
    is_sparse: bool = False,
    sequence_axis: Axis = SEQUENCE,
    name: str = "",
) -> Variable:
    """An input that is a sequence of frames.

    Args:
        shape: the shape of a frame, without batch and time.
        dtype: np.float32 (default) or np.float64.
        needs_gradient: whether `grad` computes the gradient with respect to it by default.
        sequence_axis: the time axis. Inputs with the same axis have sequences of equal lengths.

    >>> C.sequence.input_variable((3, 32, 32)).shape
    (3, 32, 32)
    """
    return new_input(shape, dtype, needs_gradient, is_sparse, (BATCH, sequence_axis), name)


def input(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    needs_gradient: bool = False,
    is_sparse: bool = False,
    sequence_axis: Axis = SEQUENCE,
    name: str = "",
) -> Variable:
    """Same as `sequence.input_variable`.

    >>> C.sequence.input(3).shape
    (3,)
    """
    return input_variable(shape, dtype, needs_gradient, is_sparse, sequence_axis, name)


def new_input(
    shape: ShapeLike, dtype: DTypeLike, needs_gradient: bool, is_sparse: bool, axes: Axes, name: str
) -> Variable:
    dims = as_shape(shape)
    node = Input(dims, axes, dtype or default_dtype(), name)
    node.needs_gradient, node.is_sparse = needs_gradient, is_sparse
    return hold(node)


@operation
def first(seq: OperandLike) -> Node:
    """The first frame of each sequence. An empty sequence raises `GraphError`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.first(x).eval({x: np.array([[1], [2], [3]])})
    array([[1.]], dtype=float32)
    """
    return apply(ENDS, as_node(seq), last=False)


@operation
def last(seq: OperandLike) -> Node:
    """The last frame of each sequence. An empty sequence raises `GraphError`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.last(x).eval({x: np.array([[1], [2], [3]])})
    array([[3.]], dtype=float32)
    """
    return apply(ENDS, as_node(seq), last=True)


@operation
def is_first(seq: OperandLike) -> Node:
    """1 on the first frame of each sequence, 0 on the others.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.is_first(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([1., 0., 0.], dtype=float32)
    """
    return apply(OUTSIDE, as_node(seq), offset=1)


@operation
def is_last(seq: OperandLike) -> Node:
    """1 on the last frame of each sequence, 0 on the others.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.is_last(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([0., 0., 1.], dtype=float32)
    """
    return apply(OUTSIDE, as_node(seq), offset=-1)


@operation
def broadcast_as(operand: OperandLike, broadcast_as_operand: OperandLike) -> Node:
    """Repeats a value per sequence (or one for all) for each frame of another operand.

    >>> x = C.sequence.input_variable(1)
    >>> y = C.sequence.broadcast_as(C.sequence.last(x), x)
    >>> y.eval({x: np.array([[1], [2]])})[0]
    array([[2.],
           [2.]], dtype=float32)
    """
    return apply(SPREAD, as_node(operand), as_node(broadcast_as_operand))


@operation
def reduce_sum(seq: OperandLike) -> Node:
    """The sum over the frames of each sequence.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.reduce_sum(x).eval({x: np.array([[1], [2], [3]])})
    array([[6.]], dtype=float32)
    """
    x = as_node(seq)
    needs_time(x.axes, "sequence.reduce_sum")
    return over_time(x)


@operation
def reduce_max(seq: OperandLike) -> Node:
    """The element-wise maximum over the frames of each sequence.

    If several frames have the maximum, the first one gets the gradient. An empty sequence raises
    `GraphError`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.reduce_max(x).eval({x: np.array([[1], [5], [3]])})
    array([[5.]], dtype=float32)
    """
    return apply(MAXIMUM, as_node(seq), of_none=False)


@operation
def unpack(
    x: OperandLike, padding_value: float, no_mask_output: bool = False
) -> Node | tuple[Node, Node]:
    """Moves the frames of sequences to a new first static axis, padded to the longest sequence.

    Args:
        x: a sequence of frames of shape `shape`.
        padding_value: the value after the end of a sequence.
        no_mask_output: whether to leave out the mask.

    Returns:
        a function with two outputs: the frames, shape (frames, *shape) per sequence, and the
        mask, shape (frames,): 1 for a frame and 0 for padding.

    Source: CNTK's `sequence.unpack`.

    >>> x = C.sequence.input_variable(1)
    >>> y = C.sequence.unpack(x, -1, no_mask_output=True)
    >>> y.eval({x: [[[1], [2]], [[3]]]})[1]
    array([[ 3.],
           [-1.]], dtype=float32)
    """
    x = as_node(x)
    values = unpacked(x, padding_value)
    if no_mask_output:
        return values
    return values, unpacked(apply(SPREAD, as_node(1.0), x), 0.0)


@operation
def softmax(seq: OperandLike) -> Node:
    """Softmax along time, element by element.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.softmax(x).eval({x: np.array([[1], [1]])})[0]
    array([[0.5],
           [0.5]], dtype=float32)
    """
    x = as_node(seq)
    needs_time(x.axes, "sequence.softmax")
    top = apply(SPREAD, apply(MAXIMUM, stop_gradient(x), of_none=True), x)
    share = exp(difference(x, top))
    return element_divide(share, apply(SPREAD, over_time(share), x))


@operation
def where(condition: OperandLike) -> Node:
    """The indices of the frames where `condition` is 1, as a sequence on a new time axis.

    Args:
        condition: a sequence of 1 and 0. Other numbers are repetition counts; for fractions their
            running sum is rounded up: 1.5, 1.5 selects the first frame twice and the second once.

    Source: CNTK's `sequence.where`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.where(x).eval({x: np.array([[1], [0], [2]])})[0]
    array([0., 2., 2.], dtype=float32)
    """
    return frames_where(as_node(condition))


@operation
def gather(
    seq: OperandLike,
    condition: OperandLike,
    new_sequence_axis_typeinfo: tuple[int, int] | None = None,
) -> Node:
    """The frames of `seq` where `condition` is 1.

    Args:
        seq: a sequence.
        condition: a sequence of 1 and 0 on the same time axis (`C.not_equal(x, 0)` converts other
            numbers); see `where` for other numbers.
        new_sequence_axis_typeinfo: (0, 1) if exactly one frame of each sequence is selected; then
            the result has no time axis.

    Returns:
        a sequence on a new time axis, which is the same for all values gathered by this condition.

    Source: CNTK's `sequence.gather`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.gather(x, x > 1).eval({x: np.array([[1], [2], [3]])})[0]
    array([[2.],
           [3.]], dtype=float32)
    """
    frames = apply(GATHER, as_node(seq), frames_where(as_node(condition)))
    one = new_sequence_axis_typeinfo is not None and tuple(new_sequence_axis_typeinfo) == (0, 1)
    return apply(ENDS, frames, last=False) if one else frames


@operation
def scatter(
    seq: OperandLike,
    condition: OperandLike,
    new_sequence_axis_typeinfo: tuple[int, int] | None = None,
) -> Node:
    """Places the frames of `seq` in order where `condition` is 1, with zeros elsewhere.

    Args:
        seq: a sequence with as many frames as `condition` selects; or one value per sequence for
            all these frames.
        condition: a sequence of 1 and 0; for repeated frames (see `where`) the values are summed.
        new_sequence_axis_typeinfo: accepted for compatibility with CNTK.

    Returns:
        a sequence on the time axis of `condition`.

    Source: CNTK's `sequence.scatter`.

    >>> x = C.sequence.input_variable(1)
    >>> y = C.sequence.scatter(C.sequence.last(x), C.sequence.is_first(x))
    >>> y.eval({x: np.array([[1], [2], [3]])})[0]
    array([[3.],
           [0.],
           [0.]], dtype=float32)
    """
    where = as_node(condition)
    index = frames_where(where)
    return apply(SCATTER, apply(RECONCILE, as_node(seq), index), index, where)


@operation
def slice(seq: OperandLike, begin_index: int, end_index: int) -> Node:
    """The frames of each sequence from `begin_index` up to `end_index` (0: to the end).

    Negative numbers count from the end. The result is a sequence on a new time axis.

    Source: CNTK's `sequence.slice`.

    >>> x = C.sequence.input_variable(1)
    >>> C.sequence.slice(x, 1, 0).eval({x: np.array([[1], [2], [3]])})[0]
    array([[2.],
           [3.]], dtype=float32)
    """
    begin_index, end_index = whole(begin_index, "begin_index"), whole(end_index, "end_index")
    if end_index and end_index <= begin_index and (begin_index < 0) == (end_index < 0):
        raise GraphError(f"a slice from {begin_index} to {end_index} is empty")
    frames = chosen_frames(as_node(seq), begin_index, end_index or None)
    one = (end_index == begin_index + 1) if end_index else begin_index == -1
    # As in CNTK, a slice of one frame has no time axis.
    return apply(ENDS, frames, last=False) if one else frames


@operation
def reconcile_dynamic_axes(x: OperandLike, dynamic_axes_as: OperandLike) -> Node:
    """Moves `x` to the dynamic axes of another operand, with sequences of equal lengths.

    >>> x = C.sequence.input_variable(1)
    >>> C.reconcile_dynamic_axes(5, x).eval({x: np.zeros((2, 1))})[0]
    array([5., 5.], dtype=float32)
    """
    x, like = as_node(x), as_node(dynamic_axes_as)
    own = x.axes
    repeated = own is not None and len(own) < 2 and own == (like.axes or own)[: len(own)]
    return apply(SPREAD if repeated else RECONCILE, x, like)


__all__ = [
    "broadcast_as",
    "delay",
    "first",
    "future_value",
    "gather",
    "input",
    "input_variable",
    "is_first",
    "is_last",
    "join",
    "last",
    "length",
    "pad",
    "past_value",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "reverse",
    "scatter",
    "slice",
    "softmax",
    "stride",
    "unpack",
    "where",
    "window",
]
