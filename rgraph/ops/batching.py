"""Conversion between a batch axis and a static axis: `unpack_batch` and `to_batch`.

Each is the adjoint of the other. If `to_batch` makes as many rows as there are samples, for any
number of samples, the result has the batch axis of the minibatch; otherwise a new one (see
`graph.batch_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from ..graph import FREE, Axis, Free, GraphError, Node, apply, batch_of, trials_of
from ..graph.free import SAMPLES
from ..graph.node import Shape, Type
from ..graph.types import Array, OperandLike
from .records import as_node, define, operation

if TYPE_CHECKING:
    from ..plan import Run


def _unpacked_type(types: Sequence[Type], *, unpacked: Shape) -> Type:
    (x,) = types
    if x.axes is not None and len(x.axes) != 1:
        raise GraphError(
            "unpack_batch needs an operand with a batch axis and without a time axis",
            hint="for sequences use sequence.unpack",
        )
    if x.shape is None or x.axes is None:
        return Type(None, None, x.dtype)
    axis, count = x.axes[0], unpacked[0]
    if count == FREE:
        count = axis.size if axis.size is not None else Free(axis.rows or SAMPLES)
    return Type((count, *x.shape), (), x.dtype)


def _batch_type(types: Sequence[Type], *, rows: tuple[int, int] | None = None) -> Type:
    (x,) = types
    if x.axes:
        raise GraphError(
            "to_batch needs an operand without dynamic axes, got one with a batch axis"
        )
    if x.shape is None or x.axes is None:
        return Type(None, None, x.dtype)
    if not x.shape:
        raise GraphError(
            "to_batch needs an operand with a static axis, which becomes the batch axis"
        )
    first = x.shape[0]
    axis = batch_of(rows or trials_of(first), None if first == FREE else first)
    return Type(x.shape[1:], (axis,), x.dtype)


def _unpack(run: Run, x: Array, *, axis: Axis) -> Array:
    order = run.order(axis)
    if order is None:
        return x
    result = run.empty(x.shape, x.dtype)
    result[run.engine.from_numpy(order)] = x
    return result


def _pack(run: Run, x: Array, *, axis: Axis) -> Array:
    check_count(len(x), run.rows((axis,)))
    return _ordered(run, x, axis)


def _ordered(run: Run, x: Array, axis: Axis) -> Array:
    """Rows given in the order of the minibatch, in the order in which `axis` stores them."""
    order = run.order(axis)
    return x if order is None else x[run.engine.from_numpy(order)]


def check_count(rows: int, samples: int) -> None:
    if rows != samples:
        raise GraphError(
            f"{rows} rows can't be combined with {samples} samples of another operand",
            hint="operands on different batch axes need the same number of rows",
        )


def _carried_axes(
    operands: Sequence[tuple[Axis, ...] | None], axes: tuple[Axis, ...] | None = None
) -> tuple[Axis, ...] | None:
    target = operands[1] if axes is None else axes
    return None if target is None else target[:1]


def _carry(run: Run, x: Array, like: Array = None, *, axis: Axis, source: Axis) -> Array:
    if like is not None:
        check_count(len(x), run.rows((axis,)))
    return _ordered(run, _unpack(run, x, axis=source), axis)


def _unused(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the shape comes from `type`")


UNPACK_BATCH = define(
    "unpack_batch",
    shape=_unused,
    type=_unpacked_type,
    align=None,
    kernel=_unpack,
    arguments=lambda node: {"axis": node.inputs[0].batch_axis},
    gradient=lambda node, g: [apply(TO_BATCH, g, rows=node.inputs[0].batch_axis.rows or SAMPLES)],
    framewise=False,
)
TO_BATCH = define(
    "to_batch",
    shape=_unused,
    type=_batch_type,
    align=None,
    kernel=_pack,
    arguments=lambda node: {"axis": node.batch_axis},
    gradient=lambda node, g: [apply(UNPACK_BATCH, g, unpacked=(node.inputs[0].shape or ())[:1])],
    framewise=False,
)
# Moves rows to the batch axis of `like`, or to that of the attribute `axes`. With `axes`, the
# operation that reads the result must check the number of rows.
CARRY_ROWS = define(
    "carry_rows",
    title="reconcile_dynamic_axes",
    shape=lambda x, *_, **__: x,
    axes=_carried_axes,
    align=None,
    kernel=_carry,
    arguments=lambda node: {"axis": node.batch_axis, "source": node.inputs[0].batch_axis},
    gradient=lambda node, g: [apply(CARRY_ROWS, g, node.inputs[0]), None][: len(node.inputs)],
    operands=("operand", "like"),
    framewise=False,
)


@operation
def unpack_batch(x: OperandLike) -> Node:
    """Makes the batch axis the first static axis.

    Args:
        x: a value of shape `shape` per sample; not a sequence.

    Returns:
        a value of shape (samples, *shape), without dynamic axes. The number of samples is a free
        dimension.

    Source: CNTK's `unpack_batch`.

    >>> x = C.input_variable(2)
    >>> y = C.unpack_batch(x)
    >>> C.reduce_sum(y, axis=0).eval({x: [[1, 2], [3, 4]]})
    array([[4., 6.]], dtype=float32)
    """
    return apply(UNPACK_BATCH, as_node(x), unpacked=(FREE,))


@operation
def to_batch(x: OperandLike) -> Node:
    """Makes the first static axis a batch axis.

    Args:
        x: a value of shape (rows, *shape), without dynamic axes.

    Returns:
        a value of shape `shape` per row. Values with the same number of rows for any number of
        samples have the same batch axis (that of the minibatch, if rows are samples) and can be
        combined. A fixed number of rows can be combined with any other; a run checks that the
        numbers are equal. Otherwise combining them is an error; use `reconcile_dynamic_axes` if
        the numbers of rows are equal.

    Source: CNTK's `to_batch`.

    >>> x = C.input_variable((2, 3))
    >>> rows = C.to_batch(C.reshape(C.unpack_batch(x), (-1, 3)))  # two of each sample
    >>> C.reduce_sum(rows).eval({x: np.ones((2, 2, 3))})
    array([3., 3., 3., 3.], dtype=float32)
    """
    return apply(TO_BATCH, as_node(x), rows=None)
