"""Convolutions in one, two and three dimensions: three records, each other's gradients.

    CONVOLUTION            kernel, operand -> result
    CONVOLUTION_TRANSPOSE  kernel, result -> operand
    CONVOLUTION_WEIGHTS    operand, result -> kernel, summed over all rows

The kernels here are the reference implementation, a product per element of the kernel; engines
have faster ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import INFERRED, Axis, GraphError, Node, apply
from ..graph.free import elements
from ..graph.node import Attributes, Case, Shape
from ..graph.types import Array
from .records import define
from .shaping import RESHAPE
from .windows import (
    Pads,
    check_fit,
    cntk_attributes,
    convolved_shape,
    geometry,
    padding_of,
    per_axis,
    readable,
    transposed_shape,
)

if TYPE_CHECKING:
    from ..plan import Run

Axes = tuple[Axis, ...]


def _infer(kernel: Shape, operand: Shape, *, groups: int, **_: object) -> list[Shape]:
    check_fit(kernel, operand, groups)
    return [(kernel[0], operand[0] // groups, *kernel[2:]), operand]


def _taps(
    spatial: Shape, out: Shape, strides: Shape, dilation: Shape
) -> Iterator[tuple[Shape, tuple[slice, ...]]]:
    """For each element of the kernel: its index, and the part of the padded operand it meets."""
    for tap in itertools.product(*map(range, spatial)):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, dilation, out, strides, strict=True)
            ),
        )


def _stored(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def _padded(run: Run, x: Array, padding: Pads) -> Array:
    added = [(max(low, 0), max(high, 0)) for low, high in padding]
    x = run.xp.pad(x, ((0, 0), (0, 0), *added)) if any(map(any, added)) else x
    kept = (slice(max(-low, 0), min(high, 0) or None) for low, high in padding)
    return x[(slice(None), slice(None), *kept)]


def _groups(count: int, *sizes: int) -> Iterator[tuple[slice, ...]]:
    for i in range(count):
        yield tuple(slice(i * n // count, (i + 1) * n // count) for n in sizes)


def _forward(
    run: Run,
    w: Array,
    x: Array,
    *,
    strides: Shape,
    padding: Pads,
    dilation: Shape,
    groups: int,
    out: Array | None = None,
) -> Array:
    xp = run.xp
    x, single = (x, False) if x.ndim == w.ndim else (x[None], True)
    x = _padded(run, x, padding)
    size = tuple(
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(x.shape[2:], w.shape[2:], dilation, strides, strict=True)
    )
    y = xp.zeros((x.shape[0], *size, w.shape[0]), x.dtype)
    for of_in, of_out in _groups(groups, x.shape[1], w.shape[0]):
        for tap, part in _taps(w.shape[2:], size, strides, dilation):
            met = x[(slice(None), of_in, *part)]
            y[..., of_out] += xp.tensordot(met, w[(of_out, slice(None), *tap)], ((1,), (1,)))
    y = xp.moveaxis(y, -1, 1)
    return _stored(y[0] if single else y, out)


def _data(
    run: Run,
    w: Array,
    g: Array,
    *,
    spatial: Shape,
    strides: Shape,
    padding: Pads,
    dilation: Shape,
    groups: int,
    out: Array | None = None,
) -> Array:
    xp = run.xp
    g, single = (g, False) if g.ndim == w.ndim else (g[None], True)
    padded = tuple(n + low + high for n, (low, high) in zip(spatial, padding, strict=True))
    x = xp.zeros((g.shape[0], w.shape[1] * groups, *padded), g.dtype)
    for of_in, of_out in _groups(groups, x.shape[1], w.shape[0]):
        for tap, part in _taps(w.shape[2:], g.shape[2:], strides, dilation):
            step = xp.tensordot(g[:, of_out], w[(of_out, slice(None), *tap)], ((1,), (0,)))
            x[(slice(None), of_in, *part)] += xp.moveaxis(step, -1, 1)
    x = _padded(run, x, tuple((-low, -high) for low, high in padding))
    return _stored(x[0] if single else x, out)


def _weights(
    run: Run,
    x: Array,
    g: Array,
    *,
    kernel: Shape,
    strides: Shape,
    padding: Pads,
    dilation: Shape,
    groups: int,
    out: Array | None = None,
) -> Array:
    xp = run.xp
    if x.ndim == len(kernel) + 1:
        x, g = x[None], g[None]
    x = _padded(run, x, padding)
    w = xp.zeros((g.shape[1], x.shape[1] // groups, *kernel), g.dtype)
    rows = (0, *range(2, g.ndim))
    for of_in, of_out in _groups(groups, x.shape[1], w.shape[0]):
        for tap, part in _taps(kernel, g.shape[2:], strides, dilation):
            met = x[(slice(None), of_in, *part)]
            w[(of_out, slice(None), *tap)] = xp.tensordot(g[:, of_out], met, (rows, rows))
    return _stored(w, out)


def _geometry_of(node: Node) -> dict[str, Any]:
    return {k: node.attrs[k] for k in ("strides", "auto", "dilation", "groups")}


def _arguments(node: Node, kernel: Shape, spatial: Shape) -> dict[str, object]:
    """The arguments of the kernels: padding in numbers, since it depends on the operand's size."""
    at = _geometry_of(node)
    auto = at.pop("auto")
    return {**at, "padding": padding_of(kernel, spatial, at["strides"], auto, at["dilation"])}


def _shape_of(node: Node, operand: int) -> Shape:
    return node.inputs[operand].shape or ()


def _operand_axes(axes: Sequence[Axes | None], **_: object) -> Axes | None:
    if axes[0]:
        raise GraphError(
            "the kernels of a convolution can't have a batch axis",
            hint="use a Parameter or a constant, or a sum over the batch",
        )
    return None if axes[0] is None else axes[1]


def _weights_for(node: Node, x: Node, g: Node) -> Node:
    kernel = (node.inputs[0].shape or ())[2:]
    return apply(CONVOLUTION_WEIGHTS, x, g, kernel=kernel, **_geometry_of(node))


def _data_for(node: Node, w: Node, g: Node, like: Node) -> Node:
    spatial = (like.shape or ())[1:]
    return apply(CONVOLUTION_TRANSPOSE, w, g, wanted=spatial, **_geometry_of(node))


def _weights_gradient(node: Node, g: Node) -> list[Node]:
    x, out = node.inputs
    return [_data_for(node, g, out, x), apply(CONVOLUTION, g, x, **_geometry_of(node))]


def _case(kernel: Shape, operand: Shape, **options: Any) -> Case:
    options = {"strides": 1, "auto_padding": True, "dilation": 1, "groups": 1} | options
    attrs = geometry(len(kernel) - 2, **options)
    return lambda rng: ([rng.normal(size=kernel), rng.normal(size=(2, *operand))], attrs)


def _adjoint_cases(operands: str) -> tuple[Case, ...]:
    """Test cases of the two adjoints, derived from those of the convolution."""

    def turned(forward: Case) -> Case:
        def case(rng: np.random.Generator) -> tuple[list[np.ndarray], Attributes]:
            (w, x), attrs = forward(rng)
            out = convolved_shape(w.shape, x.shape[1:], **attrs) or ()
            g = rng.normal(size=(2, *out))
            if operands == "kernel":
                return [w, g], {"wanted": x.shape[2:], **attrs}
            return [x, g], {"kernel": w.shape[2:], **attrs}

        return case

    return tuple(map(turned, CONVOLUTION.cases))


def _work(kernel: Node, values: Node) -> int:
    """Two operations for each weight at each element of a channel."""
    return 2 * elements(kernel.shape or ()) * elements((values.shape or ())[1:])


def _fitted(node: Node) -> Node | None:
    """The convolution once the operand is known, if it was not when the node was created."""
    w, x = node.inputs
    given = node.attrs.get("given")
    no_outputs = given is not None and len(w.shape or ()) == len(x.shape or ())
    return convolved(w, x, **given) if no_outputs else None


CONVOLUTION = define(
    "convolution",
    shape=convolved_shape,
    fitted=_fitted,
    axes=_operand_axes,
    infer=_infer,
    kernel=_forward,
    arguments=lambda node: _arguments(node, _shape_of(node, 0)[2:], _shape_of(node, 1)[1:]),
    gradient=lambda node, g: [
        _weights_for(node, node.inputs[1], g),
        _data_for(node, node.inputs[0], g, node.inputs[1]),
    ],
    operands=("kernel", "operand"),
    guess=True,
    into=True,
    takes_tail=True,
    work=lambda node: _work(node.inputs[0], node),
    attributes=lambda node: cntk_attributes(node, transpose=False),
    cases=(
        _case((3, 2, 3, 3), (2, 4, 5)),
        _case((3, 2, 2, 3), (2, 5, 5), strides=2, auto_padding=False),
        _case((2, 2, 2), (2, 5), dilation=2),
        _case((4, 1, 3, 2), (2, 4, 3), groups=2),
        _case((2, 1, 2, 2, 2), (1, 3, 3, 2), strides=(1, 2, 1)),
        _case((2, 1, 1, 3), (1, 6, 9), strides=(3, 4)),
    ),
)
CONVOLUTION_TRANSPOSE = define(
    "convolution_transpose",
    shape=transposed_shape,
    axes=_operand_axes,
    infer=lambda w, x, **_: [(x[0], *w[1:]), x],
    kernel=_data,
    arguments=lambda node: {
        "spatial": (node.shape or ())[1:],
        **_arguments(node, _shape_of(node, 0)[2:], (node.shape or ())[1:]),
    },
    gradient=lambda node, g: [
        _weights_for(node, g, node.inputs[1]),
        apply(CONVOLUTION, node.inputs[0], g, **_geometry_of(node)),
    ],
    operands=("kernel", "operand"),
    guess=True,
    into=True,
    takes_tail=True,
    work=lambda node: _work(*node.inputs),
    attributes=lambda node: cntk_attributes(node, transpose=True),
    cases=_adjoint_cases("kernel"),
)
CONVOLUTION_WEIGHTS = define(
    "convolution_weights",
    title="gradient of convolution",
    shape=lambda x, g, kernel, groups, **_: (g[0], x[0] // groups, *kernel),
    axes=lambda axes, **_: (),
    align=None,
    kernel=_weights,
    arguments=lambda node: {
        "kernel": node.attrs["kernel"],
        **_arguments(node, node.attrs["kernel"], _shape_of(node, 0)[1:]),
    },
    gradient=_weights_gradient,
    operands=("operand", "result"),
    into=True,
    work=lambda node: _work(node, node.inputs[1]),
    cases=_adjoint_cases("operand"),
)


def with_ones(x: Node, at: int, count: int = 1) -> Node:
    """`x` with `count` static axes of size 1 inserted at `at`."""
    return apply(RESHAPE, x, to=(1,) * count, begin=at, end=at)


def full_kernel(w: Node, x: Node, reduction_rank: int, transposed: bool = False) -> Node:
    """The kernels with their axes for output and input channels, inserting those left out."""
    kernel, operand = w.shape or (), x.shape or ()
    if not reduction_rank:
        one_output = x.shape is None or len(kernel) == len(operand)
    else:
        one_output = len(kernel) == len(operand) and kernel[:1] in (operand[:1], (INFERRED,))
    if not reduction_rank:
        w = with_ones(w, 0 if one_output or transposed else 1)
    return with_ones(w, 1 if transposed else 0) if one_output else w


def convolved(w: Node, x: Node, *, reduction_rank: int = 1, **given: Any) -> Node:
    """The convolution with kernels whose channel axes may be left out.

    A kernel with as many axes as the operand is a single filter. As in CNTK, if it is padded along
    its first axis it moves along that axis too, which is then a spatial axis, not the channels.

    Args:
        given: strides, auto_padding, dilation and groups, as the user gave them.
    """
    kernel, operand = w.shape or (), x.shape or ()
    if reduction_rank and len(kernel) == len(operand):
        padded = per_axis(given["auto_padding"], len(kernel), "auto_padding")[0]
        moves = padded and kernel[0] not in (1, INFERRED)
        if moves and len(kernel) > 3 and kernel[0] == operand[0]:
            raise GraphError(
                f"a filter of shape {readable(kernel)} with padding along its first axis would "
                "move along more than three axes",
                hint="use auto_padding=[False, True, …] if the first axis is channels",
            )
        if moves and len(kernel) <= 3:
            moved = _apply(with_ones(w, 0, 2), with_ones(x, 0), given)
            return apply(RESHAPE, moved, to=(), begin=0, end=1)
    w = full_kernel(w, x, reduction_rank)
    return _apply(w, x if reduction_rank else with_ones(x, 0), given)


def _apply(w: Node, x: Node, given: Attributes) -> Node:
    assert w.shape is not None
    rank = len(w.shape) - 2
    if x.shape is None and rank in (0, 1, 2, 3):  # the axis of output channels may be left out
        several = max(np.size(given[k]) for k in ("strides", "auto_padding", "dilation"))
        attrs = geometry(max(rank, several - 1, 1), **given)
        return apply(CONVOLUTION, w, x, **attrs, given=given)
    if rank not in (1, 2, 3):
        raise GraphError(
            "kernels must have shape (output channels, input channels, *kernel) with 1 to 3 "
            f"spatial axes, got {readable(w.shape)}"
        )
    return apply(CONVOLUTION, w, x, **geometry(rank, **given))
