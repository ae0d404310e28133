"""Max and average pooling. Each is linear once its windows are chosen, so each has an adjoint.

POOL_PICK   takes from `value`, in each window, the element where `guide` is largest
POOL_PLACE  puts each element of `value` back to where POOL_PICK took it from
POOL_MEAN   the mean of each window;  POOL_SPREAD is its adjoint
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..graph import INFERRED, GraphError, Node, apply
from ..graph.node import Shape
from .arithmetic import element_divide, element_max
from .convolutions import Flags, Pads, _per_axis, automatic
from .filling import FILL
from .records import as_node, define, operation
from .shaping import as_shape

MAX_POOLING = 0
AVG_POOLING = 1
MAX_UNPOOLING = 0


def _out(size: int, window: int, stride: int, auto: bool, ceil: bool) -> int:
    """How many windows there are along an axis."""
    last = size - 1 if auto else size - window
    return (-(-last // stride) if ceil else last // stride) + 1


def _pooled(
    shape: Shape, *, window: Shape, strides: Shape, auto: Flags, ceil: bool, **_: Any
) -> Shape:
    lead = len(shape) - len(window)
    if lead < 0:
        raise GraphError(
            f"a window of shape {window} needs an operand with at least {len(window)} axes, "
            f"got {shape}",
            mend="images are (channels, height, width)",
        )
    sizes = []
    for n, k, s, a in zip(shape[lead:], window, strides, auto, strict=True):
        if n == INFERRED:
            sizes.append(n)
            continue
        if not a and n < k:
            raise GraphError(
                f"the window spans {k} elements, the operand has only {n} there",
                mend="pad it (auto_padding=[True]) or use a smaller window",
            )
        sizes.append(_out(n, k, s, a, ceil))
    return shape[:lead] + tuple(sizes)


def _windows(
    x: Any, window: Shape, strides: Shape, padding: Pads, out: Shape
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """For each place in the window: the part of `x` there, and the part of the result it is for.

    Places outside `x` are left out, so no padding is ever written.
    """
    shape = x.shape[x.ndim - len(window) :]
    for tap in itertools.product(*map(range, window)):
        source, target = [], []
        for t, n, s, (low, _), m in zip(tap, shape, strides, padding, out, strict=True):
            first = max(0, -((t - low) // s))  # the first result whose place t is inside
            last = min(m, (n - 1 + low - t) // s + 1)
            if last <= first:
                break
            start = first * s + t - low
            source.append(slice(start, start + (last - first - 1) * s + 1, s))
            target.append(slice(first, last))
        else:
            yield (Ellipsis, *source), (Ellipsis, *target)


def _choice(run: Any, guide: Any, at: dict[str, Any]) -> Any:
    """For each window, the number of the place where `guide` is largest (the first such)."""
    xp = run.xp
    lead = guide.shape[: guide.ndim - len(at["window"])]
    best = xp.full(lead + at["out"], -xp.inf, guide.dtype)
    place = xp.zeros(lead + at["out"], xp.int32)
    for i, (source, target) in enumerate(_windows(guide, **at)):
        better = guide[source] > best[target]
        best[target] = xp.where(better, guide[source], best[target])
        place[target] = xp.where(better, i, place[target])
    return place


def _pick(run: Any, value: Any, guide: Any, **at: Any) -> Any:
    xp = run.xp
    lead = guide.shape[: guide.ndim - len(at["window"])]
    if value is guide:
        result = xp.full(lead + at["out"], -xp.inf, guide.dtype)
        for source, target in _windows(guide, **at):
            xp.maximum(result[target], guide[source], out=result[target])
        return result
    place = _choice(run, guide, at)
    result = xp.zeros(lead + at["out"], value.dtype)
    for i, (source, target) in enumerate(_windows(guide, **at)):
        result[target] = xp.where(place[target] == i, value[source], result[target])
    return result


def _place(run: Any, value: Any, guide: Any, **at: Any) -> Any:
    place = _choice(run, guide, at)
    result = run.xp.zeros(guide.shape, value.dtype)
    for i, (source, target) in enumerate(_windows(guide, **at)):
        result[source] += value[target] * (place[target] == i)
    return result


def _divisor(run: Any, x: Any, at: dict[str, Any], include_pad: bool) -> Any:
    """How many elements each window's mean is over."""
    if include_pad:
        return math.prod(at["window"])
    count = run.xp.zeros(at["out"], x.dtype)
    for _, target in _windows(x, **at):
        count[target] += 1
    return run.xp.maximum(count, 1)  # a window may lie outside as a whole


def _mean(run: Any, x: Any, *, include_pad: bool, **at: Any) -> Any:
    lead = x.shape[: x.ndim - len(at["window"])]
    total = run.xp.zeros(lead + at["out"], x.dtype)
    for source, target in _windows(x, **at):
        total[target] += x[source]
    return total / _divisor(run, x, at, include_pad)


def _spread(run: Any, g: Any, *, include_pad: bool, shape: Shape, **at: Any) -> Any:
    lead = g.shape[: g.ndim - len(at["window"])]
    result = run.xp.zeros(lead + shape[len(shape) - len(at["window"]) :], g.dtype)
    g = g / _divisor(run, result, at, include_pad)
    for source, target in _windows(result, **at):
        result[source] += g[target]
    return result


def _windows_of(node: Node, shape: Shape, out: Shape) -> dict[str, Any]:
    """What the kernels are given: the padding itself, which depends on the operand's size."""
    at = node.attrs
    rank = len(at["window"])
    padding = tuple(
        automatic(n, k - 1, s, m) if a else (0, max((m - 1) * s + k - n, 0))
        for n, k, s, a, m in zip(
            shape[-rank:], at["window"], at["strides"], at["auto"], out[-rank:], strict=True
        )
    )
    kept = {k: v for k, v in at.items() if k not in ("auto", "ceil", "shape")}
    return {**kept, "padding": padding, "out": out[-rank:]}


def _arguments(node: Node) -> dict[str, Any]:
    return _windows_of(node, node.inputs[0].shape or (), node.shape or ())


def _adjoint_arguments(node: Node) -> dict[str, Any]:
    return _windows_of(node, node.shape or (), node.inputs[0].shape or ())


_EXAMPLE = {"window": (2, 2), "strides": (2, 1), "auto": (False, True), "ceil": False}

POOL_PICK = define(
    "pool_pick",
    title="pooling",
    shape=lambda value, guide, **at: _pooled(guide, **at),
    kernel=_pick,
    arguments=_arguments,
    gradient=lambda node, g: [apply(POOL_PLACE, g, node.inputs[1], **node.attrs), None],
    operands=("value", "guide"),
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
    cases=(
        lambda rng: ([rng.normal(size=(2, 2, 4, 3))], {"include_pad": False, **_EXAMPLE}),
        lambda rng: ([rng.normal(size=(2, 2, 4, 3))], {"include_pad": True, **_EXAMPLE}),
    ),
)
POOL_SPREAD = define(
    "pool_spread",
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
    operand: Any,
    pooling_type: int,
    pooling_window_shape: int | Sequence[int],
    strides: int | Sequence[int] = (1,),
    auto_padding: bool | Sequence[bool] = (False,),
    ceil_out_dim: bool = False,
    include_pad: bool = False,
) -> Any:
    """The largest or the mean element of each window that slides over the last axes.

    Args:
        operand: shape (…, *size).
        pooling_type: `C.MAX_POOLING` or `C.AVG_POOLING`.
        pooling_window_shape: the window's size, one number per axis that it slides along.
        strides: one number, or one per window axis.
        auto_padding: whether windows may reach over the edge so that with stride 1 the size
            stays; one flag, or one per window axis.
        ceil_out_dim: whether a last window that is not whole counts (it reaches over the edge).
        include_pad: whether a mean counts what is over the edge as zeros.

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


def _moves(window: Any, strides: Any, auto_padding: Any, ceil: bool) -> dict[str, Any]:
    shape = as_shape(window)
    auto = tuple(map(bool, _per_axis(auto_padding, len(shape), "auto_padding")))
    steps = _per_axis(strides, len(shape), "strides")
    return {"window": shape, "strides": steps, "auto": auto, "ceil": ceil}


@operation
def unpooling(
    operand: Any,
    pooling_input: Any,
    unpooling_type: int,
    unpooling_window_shape: int | Sequence[int],
    strides: int | Sequence[int] = (1,),
    auto_padding: bool | Sequence[bool] = (False,),
) -> Any:
    """Puts each element back to where max pooling took it from; zeros everywhere else.

    Where several overlapping windows took the same element it gets the mean of what comes back.

    Args:
        operand: of the shape of the pooled value.
        pooling_input: what was pooled.
        unpooling_type: `C.MAX_UNPOOLING`.
        others: as for `pooling`.

    Source: CNTK's `unpooling`.

    >>> image = C.constant([[[1, 2], [4, 3]]])
    >>> C.unpooling([[[5]]], image, C.MAX_UNPOOLING, (2, 2)).eval()
    array([[[0., 0.],
            [5., 0.]]], dtype=float32)
    """
    if unpooling_type != MAX_UNPOOLING:
        raise ValueError("unpooling_type must be MAX_UNPOOLING")
    at = _moves(unpooling_window_shape, strides, auto_padding, False)
    x, guide = as_node(operand), as_node(pooling_input)
    placed, times = (apply(POOL_PLACE, v, guide, **at) for v in (x, apply(FILL, x, value=1.0)))
    return element_divide(placed, element_max(times, 1.0))
