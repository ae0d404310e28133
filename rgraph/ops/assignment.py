"""Setting a parameter from within a graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Axis, Constant, GraphError, Node, Stored, apply
from ..graph.node import Shape
from ..graph.types import OperandLike
from .records import as_node, define, operation


def _same_shape(ref: Shape, value: Shape) -> Shape:
    if ref != value:
        raise GraphError(f"a value of shape {value} can't be assigned to one of shape {ref}")
    return value


def _same_for_all(axes: Sequence[tuple[Axis, ...] | None]) -> tuple[Axis, ...]:
    if axes[1]:
        raise GraphError(
            "each sample has a value of its own, and a parameter is the same for all",
            hint="reduce it over the batch first: C.reduce_mean(…, axis=C.Axis.all_axes())",
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
    random=True,  # not to be folded or shared: it does something
    assigns=True,
)


@operation
def assign(ref: OperandLike, input: OperandLike) -> Node:
    """`input`, which `ref` is set to when a run that computes this is over.

    What else the run computes from `ref` sees the value before; what comes after it the new one.
    In training that is after the gradients are computed and before learners update.

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
        raise GraphError(f"only a parameter or a constant can be set, not a {reference.kind}")
    return apply(ASSIGN, reference, as_node(input))
