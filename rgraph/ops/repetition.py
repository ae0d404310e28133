"""Repeating a value along axes that it lacks, and the adjoint of that: summing over them.

Dynamic axes: `spread` and `sum_rows`. Static axes: `broadcast_to` and `sum_to`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Axis, GraphError, Node, apply
from ..graph.axis import is_fixed
from ..graph.node import Shape
from ..graph.types import Array
from .records import carried, define
from .sums import MAX_SEQUENTIAL, total

if TYPE_CHECKING:
    from ..plan import Run


def _spread_axes(
    operands: Sequence[tuple[Axis, ...] | None], axes: tuple[Axis, ...] | None = None
) -> tuple[Axis, ...] | None:
    own, target = operands[0], operands[1] if axes is None else axes
    if own is None or target is None:
        return target
    if own != target[: len(own)] and not (is_fixed(own) and target and axes is None):
        what = "sequences" if len(own) == 2 else "values of samples"
        raise GraphError(
            f"{what} can't be repeated along the axes of an operand that does not have theirs",
            hint="reconcile_dynamic_axes moves sequences to a time axis with the same lengths, "
            "and rows to a batch axis with the same number of rows",
        )
    return target if is_fixed(own) else (*own, *target[len(own) :])


def _gathered_axes(
    operands: Sequence[tuple[Axis, ...] | None], axes: tuple[Axis, ...] | None
) -> tuple[Axis, ...] | None:
    own = operands[0]
    return axes if axes is not None else None if own is None else own[:1]


def _spread(run: Run, x: Array, like: Array = None, *, axes: tuple[Axis, ...], own: int) -> Array:
    if own == len(axes):
        return x
    if not own:
        return run.xp.broadcast_to(x, (run.rows(axes), *x.shape))
    layout = run.layouts[axes[1]]
    if len(layout) == 1:
        return run.xp.broadcast_to(x, (run.rows(axes), *x.shape[1:]))
    return x[run.index(layout, "batch_row_of_row")[run.block(axes[1])]]


def _sum_rows(run: Run, x: Array, *, axes: tuple[Axis, ...], over: tuple[Axis, ...]) -> Array:
    if axes == over:
        return x
    if not axes:
        return total(run.xp, x, (0,))
    layout = run.layouts[over[1]]
    steps = list(zip(layout.offsets, layout.counts, strict=False))
    parts = run.xp.zeros(
        (max(1, -(-len(steps) // MAX_SEQUENTIAL)), len(layout), *x.shape[1:]), x.dtype
    )
    for step, (start, count) in enumerate(steps):
        parts[step // MAX_SEQUENTIAL, :count] += x[start : start + count]
    sums = total(run.xp, parts, (0,)) if len(parts) > 1 else parts[0]
    return sums if layout.sorted_as_batch else sums[run.index(layout, "sorted_rows")]


SPREAD = define(
    "spread",
    title="sequence.broadcast_as",
    shape=lambda s, *_, **__: s,
    axes=_spread_axes,
    align=lambda inputs, axes, /, **_: [carried(inputs[0], inputs[-1]), *inputs[1:]],
    kernel=_spread,
    arguments=lambda node: {"axes": node.axes, "own": len(node.inputs[0].axes or ())},
    operands=("operand", "like"),
    guess=True,
    gradient=lambda node, g: [sum_rows(g, node.inputs[0].axes or ()), None],
    on_one_frame=lambda node, operands, count: spread(operands[0], (node.batch_axis,)),
)
SUM_ROWS = define(
    "sum_rows",
    title="sum over samples or frames",
    shape=lambda s, **_: s,
    axes=_gathered_axes,
    align=None,
    kernel=_sum_rows,
    arguments=lambda node: {"axes": node.axes, "over": node.inputs[0].axes},
    gradient=lambda node, g: [spread(g, node.inputs[0].axes or ())],
    of_windows=lambda node: "sum",
    framewise=False,
)


def spread(x: Node, axes: tuple[Axis, ...]) -> Node:
    """`x` repeated along the dynamic axes of `axes` that it lacks."""
    return x if x.axes == axes else apply(SPREAD, x, axes=axes)


def sum_rows(x: Node, axes: tuple[Axis, ...]) -> Node:
    """The sum of `x` over its dynamic axes that are not in `axes`."""
    return x if x.axes == axes else apply(SUM_ROWS, x, axes=axes)


def over_time(x: Node) -> Node:
    """The sum of each sequence's frames."""
    return apply(SUM_ROWS, x, axes=None)


def _broadcast_to(run: Run, x: Array, *, shape: Shape, rank: int) -> Array:
    rows = x.shape[: x.ndim - rank]
    ones = (1,) * (len(shape) - rank)
    return run.xp.broadcast_to(x.reshape(rows + ones + x.shape[x.ndim - rank :]), rows + shape)


def _sum_to(run: Run, x: Array, *, shape: Shape, rank: int) -> Array:
    rows = x.shape[: x.ndim - rank]
    own = x.shape[x.ndim - rank :]
    padded = (1,) * (rank - len(shape)) + shape
    axes = tuple(i - rank for i in range(rank) if padded[i] == 1 != own[i])
    return total(run.xp, x, axes, keepdims=True).reshape(rows + shape)


def _shape_and_rank(node: Node) -> dict[str, object]:
    return {"shape": node.shape, "rank": len(node.inputs[0].shape or ())}


def _broadcast_shape(own: Shape, *, shape: Shape) -> Shape:
    fits = len(own) <= len(shape) and all(
        a in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise GraphError(f"a value of shape {own} can't be repeated to shape {shape}")
    return shape


BROADCAST_TO = define(
    "broadcast_to",
    title="broadcasting",
    shape=_broadcast_shape,
    kernel=_broadcast_to,
    arguments=_shape_and_rank,
    gradient=lambda node, g: [sum_to(g, node.inputs[0].shape or ())],
    cases=(lambda rng: ([rng.normal(size=(2, 3, 1))], {"shape": (4, 3, 2)}),),
)
SUM_TO = define(
    "sum_to",
    title="sum over what was broadcast",
    shape=lambda own, shape: shape,
    kernel=_sum_to,
    arguments=_shape_and_rank,
    gradient=lambda node, g: [broadcast_to(g, node.inputs[0].shape or ())],
    cases=(
        lambda rng: ([rng.normal(size=(2, 4, 3, 2))], {"shape": (3, 1)}),
        lambda rng: ([rng.normal(size=(2, 4, 3))], {"shape": ()}),
    ),
)


def broadcast_to(x: Node, shape: Shape) -> Node:
    """`x` repeated to the static shape `shape`, as NumPy's `broadcast_to`."""
    return x if x.shape == shape else apply(BROADCAST_TO, x, shape=shape)


def sum_to(x: Node, shape: Shape) -> Node:
    """`x` summed to `shape`: over axes where `shape` has size 1, and leading axes that it lacks."""
    return x if x.shape == shape else apply(SUM_TO, x, shape=shape)
