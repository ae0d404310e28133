"""Between the batch and a static axis: `unpack_batch` and `to_batch`, each the other's adjoint."""

from __future__ import annotations

from typing import Any

from ..graph import BATCH, FREE, GraphError, apply
from ..graph.node import Shape
from .records import as_node, define, operation


def _batch_order(run: Any) -> Any:
    """Which sample each row of a value with only a batch axis is; None: row i is sample i."""
    return next((layout.batch_order for layout in run.layouts.values()), None)


def _unpack_axes(operands: Any, **_: Any) -> Any:
    (axes,) = operands
    if axes is not None and len(axes) != 1:
        raise GraphError(
            "unpack_batch needs an operand with the batch axis and no time axis",
            mend="sequence.unpack makes a static axis of time",
        )
    return None if axes is None else ()


def _to_batch_axes(operands: Any) -> Any:
    if operands[0]:
        raise GraphError(
            "to_batch needs an operand without dynamic axes, this one has a batch axis"
        )
    return None if operands[0] is None else (BATCH,)


def _first_axis(shape: Shape) -> Shape:
    if not shape:
        raise GraphError("to_batch makes the first static axis the batch; the operand has none")
    return shape[1:]


def _unpack(run: Any, x: Any, *, unpacked: Shape) -> Any:
    order = _batch_order(run)
    if order is None:
        return x
    result = run.empty(x.shape, x.dtype)
    result[order] = x
    return result


def _pack(run: Any, x: Any) -> Any:
    order = _batch_order(run)
    if order is None:
        run.batch = len(x)
        return x
    return x[order]


UNPACK_BATCH = define(
    "unpack_batch",
    shape=lambda s, unpacked: (unpacked[0], *s),
    axes=_unpack_axes,
    align=None,
    kernel=_unpack,
    gradient=lambda node, g: [apply(TO_BATCH, g)],
    framewise=False,
)
TO_BATCH = define(
    "to_batch",
    shape=_first_axis,
    axes=_to_batch_axes,
    align=None,
    kernel=_pack,
    gradient=lambda node, g: [
        apply(UNPACK_BATCH, g, unpacked=(node.inputs[0].shape or (FREE,))[:1])
    ],
    framewise=False,
)


@operation
def unpack_batch(x: Any) -> Any:
    """The batch as a first static axis.

    Args:
        x: shape `shape` per sample; not a sequence.

    Returns:
        shape (samples, *shape), without dynamic axes. The number of samples is free: it follows
        from the minibatch.

    Source: CNTK's `unpack_batch`.

    >>> x = C.input_variable(2)
    >>> y = C.unpack_batch(x)
    >>> C.reduce_sum(y, axis=0).eval({x: [[1, 2], [3, 4]]})
    array([[4., 6.]], dtype=float32)
    """
    return apply(UNPACK_BATCH, as_node(x), unpacked=(FREE,))


@operation
def to_batch(x: Any) -> Any:
    """The first static axis as the batch.

    Args:
        x: shape (samples, *shape), without dynamic axes; as many samples as the minibatch has if
            it meets anything that has the batch axis.

    Returns:
        shape `shape` per sample.

    Source: CNTK's `to_batch`.

    >>> C.to_batch(C.constant([[1, 2], [3, 4]])).shape
    (2,)
    """
    return apply(TO_BATCH, as_node(x))
