"""Reductions over static axes, the batch, or everything: sums, maxima and functions of these."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Node, Op, apply, whole
from ..graph.node import Shape
from ..graph.types import Array, Library, OperandLike
from .along_axes import SPACE, Along, Named, Rows, StaticAxes, chosen, chosen_of_some, flattened
from .arithmetic import abs as absolute
from .arithmetic import element_divide, element_times, negate, sqrt, square
from .records import TABLE, as_node, define, operation
from .repetition import broadcast_to, spread
from .shaping import rank_of, reshape_to
from .sums import total

if TYPE_CHECKING:
    from ..plan import Run

Axes = int | Axis | Sequence[int | Axis] | None


def _kept(shape: Shape, axis: Named) -> Shape:
    axes = chosen(axis, len(shape))
    return tuple(1 if i - len(shape) in axes else n for i, n in enumerate(shape))


def reduced(shape: Shape, *, axis: Named, keepdims: bool) -> Shape:
    if axis is None:
        return ()
    if keepdims:
        return _kept(shape, axis)
    axes = chosen(axis, len(shape))
    return tuple(n for i, n in enumerate(shape) if i - len(shape) not in axes)


def _reduced_to_one(shape: Shape, *, axis: Named, keepdims: bool) -> Shape:
    chosen_of_some(shape, axis=axis)
    return reduced(shape, axis=axis, keepdims=keepdims)


def _back(value: Node, node: Node) -> Node:
    """`value`, of the shape of the reduction `node`, broadcast to the shape of its operand."""
    shape = node.inputs[0].shape or ()
    return broadcast_to(reshape_to(value, _kept(shape, node.attrs["axis"])), shape)


# For each reduction: its kernel (array library, array, axes), and its gradient
_FORMULAS: dict[str, tuple[Callable[..., Array], Callable[..., Node] | None]] = {}


def _reduction(
    name: str,
    kernel: Callable[..., Array],
    gradient: Callable[[Node, Node, Along], Node] | None,
    low: float = -2.0,
    shape: Callable[..., Shape] = reduced,
) -> Op:
    """Define a reduction.

    Args:
        kernel: `kernel(xp, array, axes)`.
        gradient: `gradient(g, x, along)`, with the broadcast adjoint, the operand, and a function
            that applies other operations along the same axes.
        low: the least value in the test cases.
    """

    _FORMULAS[name] = kernel, gradient

    def compute(run: Run, x: Array, *, axis: Shape, shape: Shape, rank: int) -> Array:
        result = kernel(run.xp, x, axis) if axis else kernel(run.xp, x[..., None], (-1,))
        return result.reshape(x.shape[: x.ndim - rank] + shape)

    def arguments(node: Node) -> dict[str, object]:
        rank = rank_of(node)
        return {"axis": chosen(node.attrs["axis"], rank), "shape": node.shape, "rank": rank}

    def back(node: Node, g: Node) -> list[Node]:
        assert gradient is not None
        return [gradient(_back(g, node), node.inputs[0], StaticAxes(node.attrs["axis"]))]

    return define(
        name,
        shape=shape,
        kernel=compute,
        arguments=arguments,
        gradient=back if gradient else None,
        cases=(
            lambda rng: ([rng.uniform(low, 2, (2, 3, 4))], {"axis": None, "keepdims": True}),
            lambda rng: ([rng.uniform(low, 2, (2, 3, 4))], {"axis": (1,), "keepdims": True}),
            lambda rng: ([rng.uniform(low, 2, (2, 3, 4))], {"axis": (-2,), "keepdims": False}),
        ),
    )


def distance_from_max(xp: Library, x: Array, axis: Shape) -> tuple[Array, Array]:
    """The maximum along axes, and x minus the maximum; 0 where both are the same infinity."""
    top = x.max(axis=axis, keepdims=True)
    distance = x - top
    if xp is np and np.isfinite(top).all():
        return top, distance
    return top, xp.where(x == top, x.dtype.type(0), distance)


def _log_sum_exp(xp: Library, x: Array, axis: Shape) -> Array:
    top, distance = distance_from_max(xp, x, axis)
    return xp.log(total(xp, xp.exp(distance), axis, keepdims=True)) + top


def _mean(xp: Library, x: Array, axis: Shape) -> Array:
    return total(xp, x, axis) / (math.prod(x.shape[a] for a in axis) or 1)  # 0 for no elements


def _index_of(find: str) -> Callable[..., Array]:
    def kernel(xp: Library, x: Array, axis: Shape) -> Array:
        return getattr(xp, find)(flattened(xp, x, axis), axis=-1).astype(x.dtype)

    return kernel


_SUM = _reduction("reduce_sum", total, lambda g, *_: g)
_MAX = _reduction(
    "reduce_max",
    lambda xp, x, axis: xp.max(x, axis=axis),
    lambda g, x, along: element_times(g, along("hardmax", x)),
    shape=_reduced_to_one,
)
_MIN = _reduction(
    "reduce_min",
    lambda xp, x, axis: xp.min(x, axis=axis),
    lambda g, x, along: element_times(g, along("hardmax", negate(x))),
    shape=_reduced_to_one,
)
_PROD = _reduction(
    "reduce_prod",
    lambda xp, x, axis: xp.prod(x, axis=axis),
    lambda g, x, along: element_times(g, along("product_of_others", x)),
    low=0.5,
)
_LOG_SUM_EXP = _reduction(
    "reduce_log_sum_exp",
    _log_sum_exp,
    lambda g, x, along: element_times(g, along("softmax", x)),
    shape=_reduced_to_one,
)
_ARGMAX = _reduction("argmax", _index_of("argmax"), None, shape=_reduced_to_one)
_ARGMIN = _reduction("argmin", _index_of("argmin"), None, shape=_reduced_to_one)


def _mean_gradient(node: Node, g: Node) -> list[Node]:
    x = node.inputs[0]
    count = 1
    for a in chosen(node.attrs["axis"], len(x.shape or ())):
        count *= (x.shape or ())[a]
    return [element_divide(_back(g, node), float(count))]


_FORMULAS["reduce_mean"] = _mean, lambda g, *_: g
_MEAN = define(
    "reduce_mean",
    shape=reduced,
    kernel=lambda run, x, axis, shape, rank: (_mean(run.xp, x, axis) if axis else x).reshape(
        x.shape[: x.ndim - rank] + shape
    ),
    arguments=_SUM.arguments,
    gradient=_mean_gradient,
    cases=_SUM.cases,
)


def normal_axis(axis: object) -> tuple[int, ...] | None:
    """None for all static axes, or the given axes as a tuple."""
    if axis is None or (isinstance(axis, Axis) and axis.name in ("AllStaticAxes", "AllAxes")):
        return None
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    return tuple(
        a.static_axis_index() if isinstance(a, Axis) else whole(a, "an axis") for a in axes
    )


def _split_axes(axis: Axes) -> tuple[tuple[int, ...] | None, bool]:
    """The static axes, and whether the batch axis is given too (with the frames of sequences)."""
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    static = [a for a in axes if not (isinstance(a, Axis) and a.is_batch_axis)]
    whole = [a for a in axes if isinstance(a, Axis) and a.name == "AllAxes"]
    if static or whole or not axes:
        return normal_axis(None if whole else static if len(axes) > 1 else axis), (
            bool(whole) or len(static) < len(axes)
        )
    return (), True


def reduce(op: Op, x: OperandLike, axis: Axes, keepdims: bool) -> Node:
    """`x` reduced over static axes by `op`, and over its rows if `axis` includes the batch axis."""
    node = as_node(x)
    static, rows = _split_axes(axis)
    if static != ():
        node = apply(op, node, axis=static, keepdims=keepdims)
    return apply(_OVER_ROWS, node, how=op.name, whole=static is None) if rows else node


# Over rows: the same formulas, along the first axis of the array


def _over_rows_axes(
    operands: Sequence[tuple[Axis, ...] | None], *, how: str, whole: bool
) -> tuple[()] | None:
    (axes,) = operands
    if axes and len(axes) > 1 and not whole:
        raise GraphError(
            "a reduction over the batch needs samples, got sequences",
            hint="sum over time first (sequence.reduce_sum), or reduce over Axis.all_axes()",
        )
    return () if axes is not None else None


def _over_rows(run: Run, x: Array, *, how: str, rows: bool) -> Array:
    if not rows:
        return x
    if not len(x) and TABLE[how].shape is _reduced_to_one:
        raise GraphError(f"{how} over an empty minibatch has no value")
    return _FORMULAS[how][0](run.xp, x, (0,)).reshape(x.shape[1:])


def _over_rows_gradient(node: Node, g: Node) -> list[Node]:
    (x,) = node.inputs
    axes = x.axes or ()
    back = _FORMULAS[node.attrs["how"]][1](spread(g, axes), x, Rows())
    if node.attrs["how"] == "reduce_mean" and axes:
        back = element_divide(back, row_count(x))
    return [back]


_OVER_ROWS = define(
    "reduce_over_rows",
    title="reduction over samples",
    shape=lambda s, **_: s,
    axes=_over_rows_axes,
    align=None,
    kernel=_over_rows,
    arguments=lambda node: {"how": node.attrs["how"], "rows": bool(node.inputs[0].axes)},
    gradient=_over_rows_gradient,
    of_windows=lambda node: "sum" if node.attrs["how"] == "reduce_sum" else "",
    framewise=False,
)
_ROW_COUNT = define(
    "row_count",
    title="number of samples",
    shape=lambda s: (),
    axes=lambda _: (),
    align=None,
    kernel=lambda run, x, rows: run.xp.asarray(x.shape[0] if rows else 1, x.dtype),
    arguments=lambda node: {"rows": bool(node.inputs[0].axes)},
    of_windows=lambda node: "sum",
    framewise=False,
)


def row_count(x: Node) -> Node:
    """The number of samples or frames of `x` in the minibatch; 1 if it has no dynamic axes."""
    return apply(_ROW_COUNT, x)


@operation
def over_space(x: OperandLike, op: str) -> Node:
    """Apply the reduction `op` over all static axes but the first, keeping them with size 1."""
    return apply(TABLE[op], as_node(x), axis=SPACE, keepdims=True)


@operation
def reduce_sum(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The sum over static axes.

    Args:
        axis: one axis or several; None for all static axes (the result is a scalar per sample),
            `C.Axis.default_batch_axis()` for the batch (alone or together with static axes),
            `C.Axis.all_axes()` for everything.
        keepdims: whether reduced axes are kept, with size 1.

    >>> C.reduce_sum([[1, 2], [3, 4]], axis=0).eval()
    array([[4., 6.]], dtype=float32)
    """
    return reduce(_SUM, x, axis, keepdims)


@operation
def reduce_mean(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The mean over static axes; arguments as `reduce_sum`.

    >>> C.reduce_mean([[1, 2], [3, 4]], axis=1).eval()
    array([[1.5],
           [3.5]], dtype=float32)
    """
    return reduce(_MEAN, x, axis, keepdims)


@operation
def reduce_max(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The largest element over static axes; arguments as `reduce_sum`.

    If there are several equal maxima, the first one gets the gradient. The same holds for all
    operations that select the largest or smallest element (`element_max`, `clip`, `pooling`,
    `sequence.reduce_max`, …).

    >>> C.reduce_max([[1, 2], [3, 4]], axis=1).eval()
    array([[2.],
           [4.]], dtype=float32)
    """
    return reduce(_MAX, x, axis, keepdims)


@operation
def reduce_min(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The smallest element over static axes; arguments as `reduce_sum`.

    If there are several equal minima, the first one gets the gradient.

    >>> C.reduce_min([[1, 2], [3, 4]], axis=1).eval()
    array([[1.],
           [3.]], dtype=float32)
    """
    return reduce(_MIN, x, axis, keepdims)


@operation
def reduce_prod(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The product over static axes; arguments as `reduce_sum`.

    >>> C.reduce_prod([[1, 2], [3, 4]], axis=1).eval()
    array([[ 2.],
           [12.]], dtype=float32)
    """
    return reduce(_PROD, x, axis, keepdims)


@operation
def reduce_log_sum_exp(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """log of the sum of exp(x) over static axes, without overflow; arguments as `reduce_sum`.

    Its gradient is `softmax`.

    >>> C.reduce_log_sum_exp([1000, 0]).eval()
    array(1000., dtype=float32)
    """
    return reduce(_LOG_SUM_EXP, x, axis, keepdims)


@operation
def reduce_l1(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The sum of absolute values over static axes; arguments as `reduce_sum`.

    >>> C.reduce_l1([1, -2]).eval()
    array(3., dtype=float32)
    """
    return reduce(_SUM, absolute(as_node(x)), axis, keepdims)


@operation
def reduce_sum_square(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The sum of squares over static axes; arguments as `reduce_sum`.

    >>> C.reduce_sum_square([1, -2]).eval()
    array(5., dtype=float32)
    """
    return reduce(_SUM, square(as_node(x)), axis, keepdims)


@operation
def reduce_l2(x: OperandLike, axis: Axes = None, keepdims: bool = True) -> Node:
    """The square root of the sum of squares over static axes; arguments as `reduce_sum`.

    The gradient at a vector of zeros is 0.

    >>> C.reduce_l2([3, -4]).eval()
    array(5., dtype=float32)
    """
    return sqrt(reduce(_SUM, square(as_node(x)), axis, keepdims))


@operation
def argmax(x: OperandLike, axis: int | Axis | None = None) -> Node:
    """The index of the largest element along an axis, which is kept with size 1 (None: of all).

    >>> C.argmax([1, 5, 2]).eval()
    array(1., dtype=float32)
    """
    return reduce(_ARGMAX, x, axis, keepdims=True)


@operation
def argmin(x: OperandLike, axis: int | Axis | None = None) -> Node:
    """The index of the smallest element along an axis, which is kept with size 1 (None: of all).

    >>> C.argmin([4, 5, 2]).eval()
    array(2., dtype=float32)
    """
    return reduce(_ARGMIN, x, axis, keepdims=True)
