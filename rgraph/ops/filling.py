"""Constants with the shape of another value (no gradient flows), and type conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Node, apply, number_type
from ..graph.node import Shape
from ..graph.types import Array, DTypeLike, OperandLike
from .records import as_node, define, operation

if TYPE_CHECKING:
    from ..plan import Run

FILL = define(
    "fill_like",
    title="zeros_like or ones_like",
    shape=lambda s, value: s,
    kernel=lambda run, x, value: run.xp.broadcast_to(run.xp.asarray(value, x.dtype), x.shape),
    guess=True,
    cases=(lambda rng: ([rng.normal(size=(2, 3))], {"value": 2.0}),),
)


@operation
def zeros_like(x: OperandLike) -> Node:
    """Zeros with the shape and dynamic axes of `x`.

    >>> C.zeros_like([1, 2]).eval()
    array([0., 0.], dtype=float32)
    """
    return apply(FILL, as_node(x), value=0.0)


@operation
def ones_like(x: OperandLike) -> Node:
    """Ones with the shape and dynamic axes of `x`.

    >>> C.ones_like([1, 2]).eval()
    array([1., 1.], dtype=float32)
    """
    return apply(FILL, as_node(x), value=1.0)


def _eye_axes(
    operands: Sequence[tuple[Axis, ...] | None], sparse_output: bool
) -> tuple[Axis, ...] | None:
    (axes,) = operands
    if axes is not None and len(axes) > 1:
        raise GraphError("eye_like needs a matrix, got a sequence")
    return axes


def _eye(run: Run, x: Array, *, axis: Axis | None, sparse_output: bool) -> Array:
    eye = run.xp.eye(x.shape[0], x.shape[1], dtype=x.dtype)
    order = run.order(axis) if axis else None
    return eye if order is None else eye[run.engine.from_numpy(order)]


EYE = define(
    "eye_like",
    shape=lambda s, sparse_output: s,
    axes=_eye_axes,
    align=None,
    kernel=_eye,
    arguments=lambda node: {"axis": next(iter(node.axes or ()), None), **node.attrs},
    framewise=False,
)


def _check_matrix(shape: Shape | None, axes: tuple[Axis, ...] | None) -> None:
    if shape is not None and axes is not None and len(shape) + len(axes) != 2:
        raise GraphError(
            f"eye_like needs a matrix: two static axes, or one and the batch; got shape "
            f"{shape}" + (" and the batch" if axes else "")
        )


@operation
def eye_like(x: OperandLike, sparse_output: bool = True) -> Node:
    """An identity matrix with the shape of `x`: ones on the diagonal, zeros elsewhere.

    Args:
        x: a value with two axes, one of which may be the batch.
        sparse_output: whether `eval` returns a SciPy sparse matrix (CSR).

    >>> C.eye_like([[1, 2, 3], [4, 5, 6]], sparse_output=False).eval()
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    node = as_node(x)
    _check_matrix(node.shape, node.axes)
    return apply(EYE, node, sparse_output=bool(sparse_output))


CAST = define(
    "cast",
    shape=lambda s, dtype: s,
    dtype=lambda dtypes, dtype: np.dtype(dtype),
    kernel=lambda run, x, dtype: x.astype(dtype),
    gradient=lambda node, g: [apply(CAST, g, dtype=node.inputs[0].dtype)],
    guess=True,
)


@operation
def cast(node_input: OperandLike, dtype: DTypeLike) -> Node:
    """Converts to another dtype; the gradient is converted back.

    Args:
        dtype: np.float16, np.float32 or np.float64.

    >>> C.cast([1, 2], np.float64).eval().dtype
    dtype('float64')
    """
    return apply(CAST, as_node(node_input), dtype=number_type(dtype))
