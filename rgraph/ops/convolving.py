"""The public functions for convolutions and transposed convolutions, with all their options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import GraphError, Node, apply
from ..graph.types import OperandLike
from .convolutions import CONVOLUTION_TRANSPOSE, convolved, full_kernel, with_ones
from .delays import delayed
from .frames import chosen_frames
from .records import as_node, operation
from .shaping import RESHAPE, as_shape
from .slicing import splice
from .windows import geometry, per_axis, readable


@operation
def convolution(
    convolution_map: OperandLike,
    operand: OperandLike,
    strides: int | Sequence[int] = (1,),
    sharing: Sequence[bool] = (True,),
    auto_padding: bool | Sequence[bool] = (True,),
    sequential: bool = False,
    dilation: int | Sequence[int] = (1,),
    reduction_rank: int = 1,
    groups: int = 1,
    max_temp_mem_size_in_samples: int = 0,
) -> Node:
    """The convolution (cross-correlation) of each sample or frame with kernels.

    Args:
        convolution_map: the kernels, shape (output channels, input channels / groups, *kernel),
            with one, two or three spatial axes. The input channels may be `C.InferredDimension`.
        operand: shape (input channels, *size), per sample or per frame.
        strides, dilation: one number, or one per spatial axis (a first one for the channels, as
            in CNTK, is ignored).
        auto_padding: whether to pad with zeros so that a stride of 1 keeps the size; one flag, or
            one per spatial axis (optionally with a first one for the channels).
        reduction_rank: 0 if the operand has no channel axis (then the map has no axis for input
            channels either). A single output channel needs no axis.
        groups: the number of groups of channels that are convolved separately.
        sequential: whether the first axis of *kernel is time, see
            `layers.SequentialConvolution`; the operand is a sequence.
        sharing, max_temp_mem_size_in_samples: accepted for compatibility with CNTK.

    Returns:
        a value of shape (output channels, *size), with size = (size - 1) // stride + 1 if padded.

    Source: CNTK's `convolution`.

    >>> image = C.input_variable((3, 8, 8))
    >>> kernels = C.Parameter((16, C.InferredDimension, 3, 3), init=C.glorot_uniform())
    >>> C.convolution(kernels, image).shape
    (16, 8, 8)
    """
    w, x = as_node(convolution_map), as_node(operand)
    if w.shape is None:
        raise GraphError("the shape of the kernels must be known")
    given = {"strides": strides, "auto_padding": auto_padding, "dilation": dilation}
    plain = {key: np.asarray(value).tolist() for key, value in given.items()}
    make = _along_time if sequential else convolved
    return make(w, x, reduction_rank=reduction_rank, groups=groups, **plain)


def _along_time(w: Node, x: Node, *, reduction_rank: int, groups: int, **given: Any) -> Node:
    """The convolution whose first spatial axis is time: over each frame and its neighbours."""
    if reduction_rank and x.shape is not None and len(w.shape or ()) == len(x.shape) + 1:
        w = with_ones(w, 0)  # one filter
    rank = len(w.shape or ()) - 1 - reduction_rank
    if rank not in (1, 2, 3):
        raise GraphError(
            "kernels along time must have shape (output channels, input channels, frames, "
            f"*kernel), got {readable(w.shape or ())}"
        )
    steps = per_axis(given["strides"], rank, "strides")
    pad = per_axis(given["auto_padding"], rank, "auto_padding")
    dilation = per_axis(given["dilation"], rank, "dilation")
    w, x = (w, x) if reduction_rank else (with_ones(w, 1), with_ones(x, 0))
    x = _windows(x, (w.shape or ())[2], int(steps[0]), bool(pad[0]), int(dilation[0]))
    y = convolved(
        w,
        x,
        groups=groups,
        strides=(1, *steps[1:]),
        auto_padding=(False, *pad[1:]),
        dilation=(1, *dilation[1:]),
    )
    return apply(RESHAPE, y, to=(), begin=1, end=2)


def _windows(x: Node, size: int, stride: int, pad: bool, dilation: int) -> Node:
    """Stack each frame, (channels, *size), with its neighbours: (channels, frames, *size)."""
    reach = (size - 1) * dilation
    before = reach // 2
    x = with_ones(x, 1)
    shifts = [before - i * dilation for i in range(size)]
    stack = splice(*[delayed(x, 0, n) if n else x for n in shifts], axis=1)
    begin, end = (0, None) if pad else (before, before - reach or None)
    if (begin, end, stride) == (0, None, 1):
        return stack
    return chosen_frames(stack, begin, end, stride)


@operation
def convolution_transpose(
    convolution_map: OperandLike,
    operand: OperandLike,
    strides: int | Sequence[int] = (1,),
    sharing: Sequence[bool] = (True,),
    auto_padding: bool | Sequence[bool] = (True,),
    output_shape: Sequence[int] | None = None,
    dilation: int | Sequence[int] = (1,),
    reduction_rank: int = 1,
    max_temp_mem_size_in_samples: int = 0,
) -> Node:
    """The transposed convolution: the adjoint of a convolution with respect to its operand.

    Args:
        convolution_map: shape (input channels, output channels, *kernel).
        operand: shape (input channels, *size).
        output_shape: the size of the output, with or without channels; the convolution must map
            it back to `size`. By default the smallest such size.
        others: as for `convolution`.

    Returns:
        a value of shape (output channels, *output size), with size (size - 1) * stride + 1 if
        padded, and otherwise kernel - 1 more (for a dilation of 1).

    Source: CNTK's `convolution_transpose`.

    >>> image = C.input_variable((16, 4, 4))
    >>> kernels = C.Parameter((16, 3, 3, 3), init=C.glorot_uniform())
    >>> C.convolution_transpose(kernels, image, strides=2, output_shape=(8, 8)).shape
    (3, 8, 8)
    """
    w, x = as_node(convolution_map), as_node(operand)
    if w.shape is not None:
        w = full_kernel(w, x, reduction_rank, transposed=True)
        x = x if reduction_rank else with_ones(x, 0)
    if w.shape is None or not 3 <= len(w.shape) <= 5:
        raise GraphError(
            "transposed kernels must have shape (input channels, output channels, *kernel) with "
            f"1 to 3 spatial axes, got {w.shape}"
        )
    rank = len(w.shape) - 2
    attrs = geometry(rank, strides, auto_padding, dilation, 1)
    wanted = as_shape(output_shape or ())[-rank:]
    return apply(CONVOLUTION_TRANSPOSE, w, x, wanted=wanted if any(wanted) else (), **attrs)
