"""Sliding windows: strides, padding, sizes, and errors for windows that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import INFERRED, GraphError, Node
from ..graph.node import Attributes, Shape
from ..graph.types import ShapeLike
from .shaping import as_size

Pads = tuple[tuple[int, int], ...]
Flags = tuple[bool, ...]


def per_axis(value: Any, rank: int, what: str) -> tuple[Any, ...]:
    """One value for each spatial axis.

    Args:
        value: one value for all axes, one per axis, or as in CNTK with one more for the channels in
            front, which is dropped.
        what: the name of the argument, for error messages.
    """
    values = tuple(value) if np.ndim(value) else (value,)
    if len(values) == 1:
        return values * rank
    if len(values) == rank + 1:
        return values[1:]
    if not 0 < len(values) <= rank:
        raise GraphError(f"{what} {values} should have 1 or {rank} values, one per spatial axis")
    return (
        values[:1] * (rank - len(values)) + values
    )  # as in CNTK: the first value is used for the missing ones


def steps(value: Any, rank: int, what: str) -> Shape:
    """Strides or dilations, one for each spatial axis."""
    return as_size(per_axis(value, rank, what), what)


def geometry(
    rank: int,
    strides: ShapeLike,
    auto_padding: bool | Sequence[bool],
    dilation: ShapeLike,
    groups: int,
) -> Attributes:
    """Attributes of a convolution: strides, automatic padding and dilation for each spatial axis.
    Values given for the channel axis have no effect; they are kept only so that they can be
    reported.
    """
    return {
        "channels": tuple(np.ravel(v)[0].item() for v in (strides, auto_padding, dilation)),
        "strides": steps(strides, rank, "strides"),
        "auto": tuple(map(bool, per_axis(auto_padding, rank, "auto_padding"))),
        "dilation": steps(dilation, rank, "dilation"),
        "groups": as_size(groups, "groups")[0],
    }


def cntk_attributes(node: Node, transpose: bool) -> dict[str, object]:
    """Attributes of a convolution under CNTK's names, with values for the channel axis first."""
    kernel, at = node.inputs[0].shape or (), node.attrs
    rank = max(len(kernel) - 1, len(at["strides"]) + 1)
    own = ("strides", "auto", "dilation")
    stride, auto, dilation = at.get("channels") or [at[k][0] for k in own]
    return {
        "kernelShape": kernel[1:],
        "strides": (stride, *at["strides"]),
        "autoPadding": [bool(auto), *at["auto"]],
        "dilation": (dilation, *at["dilation"]),
        "groups": at["groups"],
        "transpose": transpose,
        "outputShape": at.get("wanted") or (0,),
        "sharing": [True] * rank,
        "lowerPad": (0,) * rank,
        "upperPad": (0,) * rank,
        "sequential": False,
        "maxTempMemSizeInSamples": 0,
    }


def automatic(size: int, reach: int, stride: int, out: int) -> tuple[int, int]:
    """CNTK's automatic padding of an axis: zeros before and after it; negative numbers crop it.

    The windows are centred on the operand. An even kernel reaches one further at the end.

    Args:
        size: the number of elements of the operand.
        reach: the distance between the first and the last tap of the kernel.
        out: the number of windows.
    """
    low = reach // 2 - int((size - 1 - (out - 1) * stride) / 2)
    return low, (out - 1) * stride + reach + 1 - size - low


def padding_of(kernel: Shape, spatial: Shape, strides: Shape, auto: Flags, dilation: Shape) -> Pads:
    """Zeros before and after each axis of the operand of a convolution."""
    return tuple(
        automatic(n, (k - 1) * d, s, (n - 1) // s + 1) if a else (0, 0)
        for n, k, s, a, d in zip(spatial, kernel, strides, auto, dilation, strict=True)
    )


def check_fit(kernel: Shape, operand: Shape, groups: int) -> None:
    rank = len(kernel) - 2
    if len(operand) != rank + 1:
        axes = ("channels", *("depth", "height", "width")[3 - rank :])
        raise GraphError(
            f"a kernel of shape {readable(kernel)} needs an operand with {rank + 1} axes "
            f"({', '.join(axes)}), got {operand}",
            hint=_rank_hint(kernel, operand),
        )
    if 0 in kernel[2:]:
        raise GraphError(f"a kernel of shape {readable(kernel)} has no elements")
    if operand[0] == INFERRED:
        return
    if kernel[1] != INFERRED and kernel[1] * groups != operand[0]:
        raise GraphError(
            f"the kernel is for {kernel[1] * groups} input channels, the operand has {operand[0]}",
            hint=_channels_hint(kernel, operand, kernel[1] * groups),
        )
    if kernel[0] % groups or operand[0] % groups:
        raise GraphError(
            f"can't split {operand[0]} input and {kernel[0]} output channels into {groups} groups"
        )


def _channels_hint(kernel: Shape, operand: Shape, wanted: int) -> str:
    if wanted == operand[-1]:
        return "shapes are channels first, (channels, height, width)"
    if kernel[-2] == operand[0] and kernel[0] == kernel[1] < kernel[-1]:
        moved = (kernel[-1], kernel[-2], *kernel[:-2])
        return f"a kernel is (filters, channels, height, width): {moved}, not {kernel}"
    if wanted == 1 and len(operand) == 3:
        return (
            f"to run single-channel filters over each of {operand[0]} channels separately, make "
            f"the channels frames, sequence.input_variable({(1, *operand[1:])}), or slices of a "
            f"volume: reshape the operand to {(1, *operand)} and the kernel to "
            f"{(*kernel[:2], 1, *kernel[2:])}"
        )
    return (
        "channels are the first axis (splice joins them along axis=0); a kernel with "
        "C.InferredDimension as its second dimension adapts to the operand"
    )


def _size_hint(operand: Shape) -> str:
    if operand[-1] in (1, 3, 4) and operand[-1] < operand[0]:
        moved = (operand[-1], *operand[:-1])
        return f"channels come first: an image is {moved}, not {operand}"
    return "pad it (auto_padding=[True]) or use a smaller kernel"


def readable(kernel: Shape) -> str:
    return str(kernel).replace(str(INFERRED), "inferred")


def _rank_hint(kernel: Shape, operand: Shape) -> str:
    rank = len(kernel) - 2
    if len(operand) == rank:
        return f"a single channel is an axis too: reshape the operand to {(1, *operand)}"
    if len(operand) == rank + 2:
        if operand[0] == 1 and rank == 2:
            frames = (operand[1], 1, *operand[2:])
            return (
                "a volume with one channel needs filters with three spatial axes; to treat its "
                f"slices as the frames of a sequence use to_sequence(reshape(x, {frames}))"
            )
        return (
            "shapes do not include batch or time: leave out the first axis; declare sequences as "
            f"sequence.input_variable({operand[1:]}), and the convolution runs on every frame"
        )
    if len(operand) == 1:
        return (
            "a vector has no spatial axes: reshape it to (channels, …), or have the layer before "
            "it return that shape, Dense((channels, …))"
        )
    return ""


def out_spatial(
    kernel: Shape, operand: Shape, strides: Shape, auto: Flags, dilation: Shape
) -> Shape:
    sizes = []
    for k, n, s, a, d in zip(kernel[2:], operand[1:], strides, auto, dilation, strict=True):
        reach = 0 if a else (k - 1) * d
        if n == INFERRED:
            sizes.append(n)
            continue
        if n <= reach:
            raise GraphError(
                f"the kernel spans {reach + 1} elements, but the operand has only {n} "
                "along this axis",
                hint=_size_hint(operand),
            )
        sizes.append((n - 1 - reach) // s + 1)
    return tuple(sizes)


def convolved_shape(
    kernel: Shape | None,
    operand: Shape | None,
    *,
    strides: Shape,
    auto: Flags,
    dilation: Shape,
    groups: int,
    **_: object,
) -> Shape | None:
    if kernel is None or operand is None:
        return None
    check_fit(kernel, operand, groups)
    return (kernel[0], *out_spatial(kernel, operand, strides, auto, dilation))


def transposed_shape(
    kernel: Shape | None, operand: Shape | None, *, wanted: Shape, groups: int, **attrs: Any
) -> Shape | None:
    if kernel is None or operand is None:
        return None
    fits = len(operand) == len(kernel) - 1 and (
        kernel[0] == operand[0] or INFERRED in (kernel[0], operand[0])
    )
    if not fits:
        raise GraphError(
            f"kernels of shape {readable(kernel)} need an operand of shape "
            f"({kernel[0]}, *size) with {len(kernel) - 2} spatial axes, got {operand}"
        )
    smallest = tuple(
        n if n == INFERRED else (n - 1) * s + 1 + (0 if a else (k - 1) * d)
        for n, s, k, d, a in zip(
            operand[1:], attrs["strides"], kernel[2:], attrs["dilation"], attrs["auto"], strict=True
        )
    )
    if not wanted:
        return (kernel[1] * groups, *smallest)
    for want, least, s in zip(wanted, smallest, attrs["strides"], strict=True):
        if least != INFERRED and not least <= want < least + s:
            most = tuple(n + s - 1 for n, s in zip(smallest, attrs["strides"], strict=True))
            raise GraphError(
                f"output size {wanted} does not fit: with these strides and kernels it must be "
                f"from {smallest} to {most}"
            )
    return (kernel[1] * groups, *wanted)
