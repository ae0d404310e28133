"""Setting a parameter from within a graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Axis, Constant, GraphError, Node, Stored, apply
from ..graph.node import Shape
from ..graph.types import OperandLike
from .records import as_node, define, operation


def _same_shape(ref: Shape, value: Shape) -> Shape:
    if ref != value:
        raise GraphError(f"can't assign a value of shape {value} to one of shape {ref}")
    return value


def _same_for_all(axes: Sequence[tuple[Axis, ...] | None]) -> tuple[Axis, ...]:
    if axes[1]:
        raise GraphError(
            "can't assign a value per sample to a parameter, which is the same for all samples",
            hint="reduce it over the batch: C.reduce_mean(…, axis=C.Axis.all_axes())",
        )
    return ()


ASSIGN = define(
    "assign",
    shape=_same_shape,
    axes=_same_for_all,
    align=None,
    kernel=lambda run, ref, value: value,
    gradient=lambda node, g: [None, g],
    operands=("reference", "value"),
    random=True,  # never folded or shared, because of its side effect
    assigns=True,
)


@operation
def assign(ref: OperandLike, input: OperandLike) -> Node:
    """Sets `ref` to `input` at the end of a run that computes this node; returns `input`.

    The run itself uses the old value of `ref`, later runs the new one. In training the assignment
    happens after the gradients are computed and before the learners' updates.

    Args:
        ref: a parameter, or a constant.
        input: a value of its shape, without a batch axis.

    Source: CNTK's `assign`.

    >>> w = C.Parameter(2, init=1)
    >>> C.assign(w, w * 3).eval()
    array([3., 3.], dtype=float32)
    >>> w.value
    array([3., 3.], dtype=float32)
    """
    reference = as_node(ref)
    if not isinstance(reference, (Stored, Constant)):
        raise GraphError(
            f"only a parameter or a constant can be assigned to, got a {reference.kind}"
        )
    return apply(ASSIGN, reference, as_node(input))
