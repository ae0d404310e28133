"""Max and average pooling. Both are linear once the maxima are selected, so both have adjoints.

POOL_PICK   selects from `value`, in each window, the element where `guide` is largest
POOL_PLACE  its adjoint: puts each element of `value` back where POOL_PICK selected it
POOL_MEAN   the mean of each window;  POOL_SPREAD is its adjoint
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import INFERRED, GraphError, Node, apply
from ..graph.node import Attributes, Shape
from ..graph.types import Array, DTypeLike, Library, OperandLike, ShapeLike
from .arithmetic import element_divide, element_max
from .filling import FILL
from .records import as_node, define, operation
from .shaping import as_size
from .sums import total
from .windows import Flags, Pads, automatic, per_axis, steps

if TYPE_CHECKING:
    from ..plan import Run

LARGE_WINDOW = 256  # sums of more elements are made of partial sums, for accuracy

MAX_POOLING = 0
AVG_POOLING = 1
MAX_UNPOOLING = 0


def _along(size: int, window: int, stride: int, auto: bool, ceil: bool) -> tuple[int, int]:
    """The padding before an axis, and the number of windows along it.

    With `ceil`, a last window that is only partly inside counts. One that is completely outside
    does not, as in PyTorch (CNTK gives -inf or NaN for it); the other windows are where CNTK has
    them.
    """
    last = size - 1 if auto else size - window

    def before(count: int) -> int:
        return automatic(size, window - 1, stride, count)[0] if auto else 0

    count = -(-last // stride) + 1
    if not ceil or before(count) >= window:
        count = last // stride + 1
    low = before(count)
    return low, count - ((count - 1) * stride - low >= size)


def _pooled(
    shape: Shape, *, window: Shape, strides: Shape, auto: Flags, ceil: bool, **_: object
) -> Shape:
    lead = len(shape) - len(window)
    if lead < 0:
        raise GraphError(
            f"a pooling window of shape {window} needs an operand with at least {len(window)} "
            f"axes, got {shape}",
            hint="images must have shape (channels, height, width)",
        )
    sizes = []
    for n, k, s, a in zip(shape[lead:], window, strides, auto, strict=True):
        if n == INFERRED:
            sizes.append(n)
            continue
        if not a and n < k:
            raise GraphError(
                f"the window spans {k} elements, but the operand has only {n} along this axis",
                hint="pad it (auto_padding=[True]) or use a smaller window",
            )
        sizes.append(_along(n, k, s, a, ceil)[1])
    return shape[:lead] + tuple(sizes)


_Part = tuple[EllipsisType | slice, ...]  # of an array


def _windows(
    shape: Shape, window: Shape, strides: Shape, padding: Pads, counts: Shape
) -> Iterator[tuple[_Part, _Part]]:
    """For each position in the window: the elements of the operand there, in all windows, and the
    elements of the result that they belong to.

    Positions outside the operand are left out, so padding is never written to memory.
    """
    for tap in itertools.product(*map(range, window)):
        source, target = [], []
        axes = zip(tap, shape[-len(window) :], strides, padding, counts, strict=True)
        for t, n, s, (low, _), m in axes:
            first = max(0, -((t - low) // s))  # the first result for which position t is inside
            last = min(m, (n - 1 + low - t) // s + 1)
            if last <= first:
                break
            start = first * s + t - low
            source.append(slice(start, start + (last - first - 1) * s + 1, s))
            target.append(slice(first, last))
        else:
            yield (Ellipsis, *source), (Ellipsis, *target)


def _overlap(window: Shape, strides: Shape, **_: object) -> bool:
    return any(k > s for k, s in zip(window, strides, strict=True))


def _result(run: Run, out: Array, sizes: Shape, fill: float, *operands: Array) -> Array:
    """`out`, or an array in the first operand's memory order, with windows of these sizes."""
    if out is None:
        leads = [a.shape[: a.ndim - len(sizes)] for a in operands]
        shape = np.broadcast_shapes(*leads) + sizes
        like = next(a for a in operands if a.ndim == len(shape))
        has_order = max(like.shape[-len(sizes) :]) > 1  # single pixels have no memory order
        out = run.empty(shape, operands[-1].dtype, like if has_order else None)
    out[...] = fill
    return out


def _largest(run: Run, out: Array, x: Array, at: Attributes) -> Array:
    result = _result(run, out, at["counts"], -math.inf, x)
    for source, target in _windows(x.shape, **at):
        run.xp.maximum(result[target], x[source], out=result[target])
    return result


def _choices(run: Run, guide: Array, at: Attributes) -> Iterator[tuple[_Part, _Part, Array]]:
    """Like `_windows`, with a mask of the windows whose (first) maximum of `guide` is there."""
    largest = _largest(run, None, guide, at)
    free = run.empty(largest.shape, np.bool_, largest)
    free[...] = True
    for source, target in _windows(guide.shape, **at):
        chosen = guide[source] == largest[target]
        chosen &= free[target]
        free[target] ^= chosen
        yield source, target, chosen


def _pick(run: Run, value: Array, guide: Array, *, out: Array | None = None, **at: Any) -> Array:
    if value is guide:
        return _largest(run, out, guide, at)
    result = _result(run, out, at["counts"], 0, guide, value)
    for source, target, chosen in _choices(run, guide, at):
        result[target] += value[source] * chosen
    return result


def _place(run: Run, value: Array, guide: Array, *, out: Array | None = None, **at: Any) -> Array:
    result = _result(run, out, guide.shape[guide.ndim - len(at["window"]) :], 0, guide, value)
    overlap = _overlap(**at)
    for source, target, chosen in _choices(run, guide, at):
        if overlap:
            result[source] += value[target] * chosen
        else:
            run.xp.multiply(value[target], chosen, out=result[source])
    return result


def _divisor(run: Run, shape: Shape, dtype: DTypeLike, at: Attributes, include_pad: bool) -> Array:
    """The number of elements in the mean of each window."""
    if include_pad:
        return math.prod(at["window"])
    count = run.xp.zeros(at["counts"], dtype)
    for _, target in _windows(shape, **at):
        count[target] += 1
    return count


def _mean(run: Run, x: Array, *, include_pad: bool, out: Array | None = None, **at: Any) -> Array:
    divisor = _divisor(run, x.shape, x.dtype, at, include_pad)
    if math.prod(at["window"]) > LARGE_WINDOW:
        sums = _window_sums(run.xp, x, **at)
        return run.xp.divide(sums, divisor, out=out)
    result = _result(run, out, at["counts"], 0, x)
    for source, target in _windows(x.shape, **at):
        result[target] += x[source]
    result /= divisor
    return result


def _window_sums(
    xp: Library, x: Array, window: Shape, strides: Shape, padding: Pads, counts: Shape
) -> Array:
    """Sums of a few large windows, computed along one axis after the other."""
    for axis, moves in enumerate(zip(window, strides, padding, counts, strict=True), -len(window)):
        size, stride, (low, _), count = moves
        before = (Ellipsis,)
        after = (slice(None),) * (-1 - axis)
        starts = [i * stride - low for i in range(count)]
        parts = [x[(*before, slice(max(s, 0), s + size), *after)] for s in starts]
        x = xp.concatenate([total(xp, p, (axis,), keepdims=True) for p in parts], axis=axis)
    return x


def _spread(
    run: Run, g: Array, *, include_pad: bool, shape: Shape, out: Array | None = None, **at: Any
) -> Array:
    result = _result(run, out, shape[len(shape) - len(at["window"]) :], 0, g)
    g = g / _divisor(run, shape, g.dtype, at, include_pad)
    overlap = _overlap(**at)
    for source, target in _windows(shape, **at):
        if overlap:
            result[source] += g[target]
        else:
            result[source] = g[target]
    return result


def _windows_of(node: Node, shape: Shape, out: Shape) -> dict[str, object]:
    """The arguments of the kernels: padding in numbers, since it depends on the operand's size."""
    at = node.attrs
    rank = len(at["window"])
    padding = []
    for n, k, s, a in zip(shape[-rank:], at["window"], at["strides"], at["auto"], strict=True):
        low, count = _along(n, k, s, a, at["ceil"])
        padding.append((low, max((count - 1) * s + k - n - low, 0)))
    kept = {k: v for k, v in at.items() if k not in ("auto", "ceil", "shape")}
    return {**kept, "padding": tuple(padding), "counts": out[-rank:]}


def _arguments(node: Node) -> dict[str, object]:
    return _windows_of(node, node.inputs[0].shape or (), node.shape or ())


def _adjoint_arguments(node: Node) -> dict[str, object]:
    return _windows_of(node, node.shape or (), node.inputs[0].shape or ())


def _cntk_attributes(node: Node, kind: int) -> dict[str, object]:
    at = node.attrs
    return {
        "poolingType": kind,
        "poolingWindowShape": at["window"],
        "strides": at["strides"],
        "autoPadding": list(at["auto"]),
        "ceilOutDim": at["ceil"],
        "includePad": at.get("include_pad", False),
        "lowerPad": (0,),
        "upperPad": (0,),
    }


_EXAMPLE = {"window": (2, 2), "strides": (2, 1), "auto": (False, True), "ceil": False}

POOL_PICK = define(
    "pool_pick",
    title="pooling",
    shape=lambda value, guide, **at: _pooled(guide, **at),
    kernel=_pick,
    arguments=_arguments,
    gradient=lambda node, g: [apply(POOL_PLACE, g, node.inputs[1], **node.attrs), None],
    operands=("value", "guide"),
    attributes=lambda node: _cntk_attributes(node, MAX_POOLING),
    cases=(lambda rng: ([rng.normal(size=(2, 2, 4, 3)), rng.normal(size=(2, 2, 4, 3))], _EXAMPLE),),
)
POOL_PLACE = define(
    "pool_place",
    shape=lambda value, guide, **at: guide,
    kernel=_place,
    arguments=_adjoint_arguments,
    gradient=lambda node, g: [apply(POOL_PICK, g, node.inputs[1], **node.attrs), None],
    operands=("value", "guide"),
    cases=(lambda rng: ([rng.normal(size=(2, 2, 2, 3)), rng.normal(size=(2, 2, 4, 3))], _EXAMPLE),),
)
POOL_MEAN = define(
    "pool_mean",
    title="pooling",
    shape=lambda s, include_pad, **at: _pooled(s, **at),
    kernel=_mean,
    arguments=_arguments,
    gradient=lambda node, g: [apply(POOL_SPREAD, g, shape=node.inputs[0].shape, **node.attrs)],
    attributes=lambda node: _cntk_attributes(node, AVG_POOLING),
    cases=(
        lambda rng: ([rng.normal(size=(2, 2, 4, 3))], {"include_pad": False, **_EXAMPLE}),
        lambda rng: ([rng.normal(size=(2, 2, 4, 3))], {"include_pad": True, **_EXAMPLE}),
    ),
)
POOL_SPREAD = define(
    "pool_spread",
    title="gradient of pooling",
    shape=lambda g, shape, **_: shape,
    kernel=_spread,
    arguments=lambda node: {"shape": node.shape, **_adjoint_arguments(node)},
    gradient=lambda node, g: [
        apply(POOL_MEAN, g, **{k: v for k, v in node.attrs.items() if k != "shape"})
    ],
    cases=(
        lambda rng: (
            [rng.normal(size=(2, 2, 2, 3))],
            {"include_pad": False, "shape": (2, 4, 3), **_EXAMPLE},
        ),
    ),
)


@operation
def pooling(
    operand: OperandLike,
    pooling_type: int,
    pooling_window_shape: int | Sequence[int],
    strides: int | Sequence[int] = (1,),
    auto_padding: bool | Sequence[bool] = (False,),
    ceil_out_dim: bool = False,
    include_pad: bool = False,
) -> Node:
    """The maximum or the mean of windows that slide along the last axes.

    If a window has several equal maxima, the first one gets the gradient.

    Args:
        operand: a value of shape (…, *size).
        pooling_type: `C.MAX_POOLING` or `C.AVG_POOLING`.
        pooling_window_shape: the size of the window, for each axis that it slides along.
        strides: one number, or one per window axis.
        auto_padding: whether windows may extend beyond the border, so that a stride of 1 keeps the
            size; one flag, or one per window axis.
        ceil_out_dim: whether to include a last window that is only partly inside; windows that are
            completely outside are never included.
        include_pad: whether a mean includes elements beyond the border as zeros.

    Returns:
        a value of shape (…, *new size).

    Source: CNTK's `pooling`.

    >>> image = C.constant(np.arange(16).reshape(1, 4, 4))
    >>> C.pooling(image, C.MAX_POOLING, (2, 2), strides=2).eval()
    array([[[ 5.,  7.],
            [13., 15.]]], dtype=float32)
    """
    x = as_node(operand)
    at = _moves(pooling_window_shape, strides, auto_padding, ceil_out_dim)
    if pooling_type == AVG_POOLING:
        return apply(POOL_MEAN, x, include_pad=include_pad, **at)
    return apply(POOL_PICK, x, x, **at)


def _moves(
    window: ShapeLike, strides: ShapeLike, auto_padding: bool | Sequence[bool], ceil: bool
) -> Attributes:
    shape = as_size(window, "pooling_window_shape")
    rank = len(shape)
    if not rank:
        raise GraphError("pooling_window_shape must have at least one axis, got ()")
    auto = tuple(map(bool, per_axis(auto_padding, rank, "auto_padding")))
    return {
        "window": shape,
        "strides": steps(strides, rank, "strides"),
        "auto": auto,
        "ceil": ceil,
    }


@operation
def unpooling(
    operand: OperandLike,
    pooling_input: OperandLike,
    unpooling_type: int,
    unpooling_window_shape: int | Sequence[int],
    strides: int | Sequence[int] = (1,),
    auto_padding: bool | Sequence[bool] = (False,),
) -> Node:
    """Puts each element at the position of its maximum in max pooling; zeros everywhere else.

    If overlapping windows have the same maximum, it gets the mean of their elements.

    Args:
        operand: a value of the shape of the pooling result.
        pooling_input: the operand of the pooling.
        unpooling_type: `C.MAX_UNPOOLING`.
        others: as for `pooling`.

    Source: CNTK's `unpooling`.

    >>> image = C.constant([[[1, 2], [4, 3]]])
    >>> C.unpooling([[[5]]], image, C.MAX_UNPOOLING, (2, 2)).eval()
    array([[[0., 0.],
            [5., 0.]]], dtype=float32)
    """
    if unpooling_type != MAX_UNPOOLING:
        raise ValueError("unpooling_type must be C.MAX_UNPOOLING")
    at = _moves(unpooling_window_shape, strides, auto_padding, False)
    x, guide = as_node(operand), as_node(pooling_input)
    placed, times = (apply(POOL_PLACE, v, guide, **at) for v in (x, apply(FILL, x, value=1.0)))
    return element_divide(placed, element_max(times, 1.0))
