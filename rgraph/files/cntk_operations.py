"""What the operations of CNTK's files are here, by their numbers there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import losses, metrics, ops
from ..graph import Axis, Constant, GraphError, Node, apply
from ..graph.types import Saved
from ..ops.records import TABLE, as_node, hold
from .cntk_dictionary import AxisIn

sequence = ops.sequence


@dataclass(frozen=True)
class At:
    """An operation of the file.

    Attributes:
        operands: its operands, in the file's order.
        attributes: what it was made with.
    """

    operands: Sequence[Node]
    attributes: Saved

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def axis(self, axis: AxisIn) -> int:
        """A static axis as Python counts: from the last, or else from the first."""
        return -1 - axis.number

    def reverse(self, name: str, rank: int) -> list[Any]:
        """One of these for each of the last axes; the file has the last axis first."""
        values = list(self.attributes[name])
        if not isinstance(self.attributes[name], tuple):  # shapes have been turned round already
            values = values[::-1]
        return (values * rank if len(values) == 1 else values)[-rank:]


def _plain(name: str) -> Callable[[At], Node]:
    """A function of `ops` on the operands as they are."""
    return lambda at: getattr(ops, name)(*at.operands)


def _transpose(at: At) -> Node:
    if "axisVec" in at.attributes:
        perm = [at.axis(a) for a in reversed(at["axisVec"])]
        return ops.transpose(at.operands[0], tuple(perm))
    return ops.swapaxes(at.operands[0], at.axis(at["axis1"]), at.axis(at["axis2"]))


def _slice(at: At) -> Node:
    several = "axisVec" in at.attributes
    names = ("axis", "beginIndex", "endIndex", "sliceStrides")
    parts = [at[n + "Vec"] if several else [at.attributes.get(n, 1)] for n in names]
    axes, begins, ends, steps = parts
    if not all(a.is_static for a in axes):
        (begin,), (end,) = begins, ends
        return sequence.slice(at.operands[0], begin, end)
    x = at.operands[0]
    cuts = [at.axis(a) for a in axes]
    return ops.slice(x, cuts, list(begins), list(ends), list(steps))


def _reshape(at: At) -> Node:
    rank = len(at.operands[0].shape or ())
    shape = tuple(-1 if n < 0 else n for n in at["newShape"])
    first, last = (min(a.number, rank) for a in (at["beginAxis"], at["endAxis"]))
    if first < 0 or last < 0:
        raise GraphError("a reshape with axes counted from the first is not supported")
    return apply(TABLE["reshape"], at.operands[0], to=shape, begin=rank - last, end=rank - first)


def _pooling(at: At) -> Node:
    window = at["poolingWindowShape"]
    rank = len(window)
    _refuse_padding(at)
    return ops.pooling(
        at.operands[0], at["poolingType"], window, tuple(at.reverse("strides", rank)),
        at.reverse("autoPadding", rank), bool(at.attributes.get("ceilOutDim")),
        bool(at.attributes.get("includePad")),
    )  # fmt: skip


def _unpooling(at: At) -> Node:
    window = at["unpoolingWindowShape"]
    rank = len(window)
    _refuse_padding(at)
    return ops.unpooling(
        *at.operands, ops.MAX_UNPOOLING, window, tuple(at.reverse("strides", rank)),
        at.reverse("autoPadding", rank),
    )  # fmt: skip


def _refuse_padding(at: At) -> None:
    if any(any(at.attributes.get(n, ())) for n in ("lowerPad", "upperPad")):
        raise GraphError("padding given as numbers is not supported")


def _frames_after(at: At) -> Node:
    """How many frames a sequence has once a convolution went along time."""
    kernel, x = at.operands
    axis = -len(kernel.shape or ()) + 2  # of time, among the axes of what a filter covers
    stride, padded = (at.reverse(n, -axis + 1)[axis] for n in ("strides", "autoPadding"))
    size, step = (kernel.shape or ())[axis], int(at.reverse("dilation", -axis + 1)[axis])
    frames = sequence.reduce_sum(apply(TABLE["spread"], as_node(1.0), x))
    reach = 0 if padded else (size - 1) * step
    steps = ops.element_divide(ops.minus(frames, 1.0 + reach), float(stride))
    return ops.plus(ops.floor(steps), 1.0)


def _convolution(at: At) -> Node:
    kernel, x = at.operands
    _refuse_padding(at)
    if at.attributes.get("sequential"):
        raise GraphError("a convolution along time is not supported")
    if not all(at.attributes.get("sharing", ())):
        raise GraphError("a convolution with separate weights at each position is not supported")
    spatial = len(kernel.shape or ()) - 2
    options = {
        "strides": tuple(at.reverse("strides", spatial)),
        "auto_padding": at.reverse("autoPadding", spatial),
        "dilation": tuple(at.reverse("dilation", spatial)),
    }
    if at.attributes.get("transpose"):
        shape = at["outputShape"]
        return ops.convolution_transpose(
            kernel, x, output_shape=None if not any(shape) else shape, **options
        )
    return ops.convolution(kernel, x, groups=int(at.attributes.get("groups", 1)), **options)


def _times(at: At) -> Node:
    right, left = at.operands
    mapped = at.attributes.get("inferInputRankToMap", -1)
    mapped = -1 if mapped >= 2**63 else mapped  # negative numbers in two's complement
    return ops.times(left, right, int(at["outputRank"]), int(mapped) if mapped >= 0 else None)


def _times_transpose(at: At) -> Node:
    right, left = at.operands
    return ops.times_transpose(left, right)


_REDUCTIONS: dict[str, Callable[..., Node]] = {
    "Sum": ops.reduce_sum, "Mean": ops.reduce_mean, "Max": ops.reduce_max, "Min": ops.reduce_min,
    "Prod": ops.reduce_prod, "LogSum": ops.reduce_log_sum_exp, "Argmax": ops.argmax,
    "Argmin": ops.argmin,
}  # fmt: skip


def _reduce(at: At) -> Node:
    axes: list[AxisIn] = at.attributes.get("axisVec") or [at["axis"]]
    name, keep = at["reductionOpName"], bool(at.attributes.get("reductionKeepDimensions", True))
    x = at.operands[0]
    if any(a.name == "AllAxes" for a in axes):
        return _REDUCTIONS[name](x, Axis.all_axes())
    dynamic = [a.name for a in axes if not a.is_static]
    if dynamic == ["defaultBatchAxis"]:
        return _REDUCTIONS[name](x, Axis.default_batch_axis())
    if dynamic and (len(axes) > 1 or name != "Sum"):
        raise GraphError(f"a reduction by {name} over {', '.join(dynamic)} is not supported")
    if dynamic:
        return sequence.reduce_sum(x)
    every = any(a.name == "AllStaticAxes" for a in axes)
    chosen = None if every else tuple(at.axis(a) for a in axes)
    if name.startswith("Arg"):
        axis = None if chosen is None else chosen[0]
        return _REDUCTIONS[name](x, axis)
    return _REDUCTIONS[name](x, chosen, keep)


def _batch_normalization(at: At) -> Node:
    x, scale, bias = at.operands[:3]
    mean, variance, *count = map(hold, at.operands[3:])  # what people hold, training changes
    return ops.batch_normalization(
        x, scale, bias, mean, variance, bool(at["spatial"]), float(at["normalizationTimeConstant"]),
        float(at["blendTimeConstant"]), float(at["epsilon"]),
        running_count=count[0] if count else None,
    )  # fmt: skip


def _splice(at: At) -> Node:
    axis: AxisIn = at["axis"]
    shapes = [n.shape for n in at.operands]
    parts = list(at.operands)
    if None not in shapes and axis.number >= max(map(len, shapes)):  # axes that none has
        parts = [
            ops.reshape(n, (1,) * (axis.number + 1 - len(n.shape or ())) + (n.shape or ()))
            for n in parts
        ]
    return ops.splice(*parts, axis=at.axis(axis))


def _one_hot(at: At) -> Node:
    return ops.one_hot(at.operands[0], int(at["numClass"]), axis=at.axis(at["onehotAxis"]))


def _gather(at: At) -> Node:
    axis = at.attributes.get("axis")
    indices, reference = at.operands
    return ops.gather(reference, indices, None if axis is None else at.axis(axis))


def _pad(at: At) -> Node:
    heads, feet = (list(reversed(at[n])) for n in ("paddingHead", "paddingFoot"))
    pattern = [(int(a), int(b)) for a, b in zip(heads, feet, strict=True)]
    mode, value = int(at["paddingMode"]), float(at["paddingConstantValue"])
    return ops.pad(at.operands[0], pattern, mode, value)


def _top_k(at: At) -> Node:
    return ops.top_k(at.operands[0], int(at["numItems"]), at.axis(at["axis"]))


def _squeeze(at: At) -> Node:
    axes = at.attributes.get("axisVec")
    return ops.squeeze(at.operands[0], tuple(at.axis(a) for a in axes) if axes else None)


def _delay(sign: int) -> Callable[[At], Node]:
    def build(at: At) -> Node:
        x, initial = at.operands
        if isinstance(initial, Constant) and initial.value.size == 1:
            initial = Constant(initial.value.reshape(()))  # CNTK takes (1,) for a number
        return sequence.delay(x, initial, sign * int(at["offset"]))

    return build


def _reconcile(at: At) -> Node:
    x, like = at.operands
    if len(x.axes or ()) < len(like.axes or ()):
        return sequence.broadcast_as(x, like)
    return ops.reconcile_dynamic_axes(x, like)


def _unpack(at: At) -> Node:
    padding = float(at["sequenceUnpackPaddingValue"])
    return sequence.unpack(at.operands[0], padding, bool(at["sequenceUnpackSuppressMaskOutput"]))


def _ctc(at: At) -> Node:
    delay = int(at["DelayConstraint"])
    return ops.forward_backward(*at.operands, int(at["BlankTokenId"]), delay)


def _classification_error(at: At) -> Node:
    """The form with `topN`; CNTK writes the others as blocks of plain operations."""
    scores, target, count = at.operands
    if not isinstance(count, Constant):
        raise GraphError("a classification error whose topN is computed is not supported")
    return metrics.classification_error(scores, target, topN=int(count.value.item()))


def _to_sequence(at: At) -> Node:
    x, *lengths = at.operands
    return ops.to_sequence(x, lengths[0] if lengths else None, at["sequenceAxis"])


def _filled(at: At) -> Node:
    value = float(at["fillValue"])
    if value not in (0.0, 1.0):
        raise GraphError(f"an array filled with {value} is not supported")
    return (ops.ones_like if value else ops.zeros_like)(at.operands[0])


_TYPES = {1: np.float32, 2: np.float64}


def _cast(at: At) -> Node:
    if at["newDataType"] not in _TYPES:
        raise GraphError(f"a cast to CNTK's data type {at['newDataType']} is not supported")
    return ops.cast(at.operands[0], _TYPES[at["newDataType"]])


def _random(at: At) -> Node:
    """Numbers of our own, by the seed of the program that reads the file."""
    kind, numbers = at["randomDistributionType"], [float(n) for n in at["randomDistributionArgs"]]
    if kind not in ("uniform", "normal", "gumbel", "bernoulli"):
        raise GraphError(f"random numbers by {kind} are not supported")
    if at.operands:
        return getattr(ops.random, f"{kind}_like")(at.operands[0], *numbers)
    return getattr(ops.random, kind)(at["newShape"], _TYPES[at["newDataType"]], *numbers)


def _sampled(function: Callable[..., Node]) -> Callable[[At], Node]:
    return lambda at: function(at.operands[0], int(at["numSamples"]), bool(at["allowDuplicates"]))


def _with_negative_samples(at: At) -> Node:
    x, y, *numbers = at.operands
    known = [int(n.value.item()) for n in numbers if isinstance(n, Constant)]
    if len(known) < 2:
        raise GraphError("a cosine distance whose shift is computed is not supported")
    return losses.cosine_distance_with_negative_samples(x, y, *known)


def _edit_distance(at: At) -> Node:
    penalties = [float(at[f"{n}Penalty"]) for n in ("Substitution", "Deletion", "Insertion")]
    squash, ignored = bool(at["SquashInputs"]), [int(n) for n in at["TokensToIgnore"]]
    return metrics.edit_distance_error(*at.operands, *penalties, squash, ignored)


def _crop(at: At) -> Node:
    if len(at.operands) == 4:
        return ops.crop_automatic_with_ancestors(*at.operands)
    offset = at.attributes.get("offset")
    return ops.crop_manual(*at.operands, *offset) if offset else ops.crop_automatic(*at.operands)


def _roi(at: At) -> Node:
    kind, scale = at["poolingType"], float(at["spatialScale"])
    return ops.roipooling(*at.operands, kind, at["roiOutputShape"], scale)


OPERATIONS: dict[int, Callable[[At], Node]] = {
    0: _plain("negate"), 1: _plain("sigmoid"), 2: _plain("tanh"), 3: _plain("relu"),
    4: _plain("exp"), 5: _plain("log"), 6: _plain("sqrt"), 7: _plain("floor"), 8: _plain("abs"),
    9: _plain("reciprocal"), 10: _plain("softmax"), 11: _plain("hardmax"), 12: _transpose,
    13: lambda at: sequence.where(at.operands[0]), 14: _slice,
    15: lambda at: ops.dropout(at.operands[0], float(at["dropoutRate"])), 16: _reshape,
    17: _pooling, 18: lambda at: ops.reduce_sum(at.operands[0], Axis.all_axes()),
    19: _plain("plus"), 20: _plain("minus"), 21: _plain("element_times"), 22: _plain("equal"),
    23: _plain("not_equal"), 24: _plain("less"), 25: _plain("less_equal"), 26: _plain("greater"),
    27: _plain("greater_equal"), 31: _times, 32: _times_transpose, 33: _convolution,
    34: lambda at: losses.squared_error(*at.operands),
    35: lambda at: losses.cross_entropy_with_softmax(*at.operands), 36: _classification_error,
    37: _delay(1), 38: _delay(-1), 39: _reduce, 40: _batch_normalization, 41: _plain("clip"),
    42: _plain("element_select"), 43: _splice, 45: _sampled(ops.random_sample),
    46: _sampled(ops.random_sample_inclusion_frequency), 47: _roi,
    48: lambda at: losses.weighted_binary_cross_entropy(*at.operands), 50: _reconcile,
    51: _plain("log_softmax"), 52: _plain("log_add_exp"),
    53: lambda at: losses.cosine_distance(*at.operands), 54: _plain("sin"), 55: _plain("cos"),
    56: _plain("alias"), 58: _unpooling, 60: lambda at: metrics.ndcg_at_1(*at.operands),
    61: _edit_distance, 62: _plain("alias"), 63: _plain("labels_to_graph"),
    64: _plain("stop_gradient"), 65: _plain("elu"), 66: _ctc, 67: _with_negative_samples,
    68: _one_hot, 69: _plain("pow"), 70: _to_sequence, 71: _plain("to_sequence_like"), 72: _unpack,
    73: _plain("assign"), 74: _gather, 75: _plain("sigmoid"), 76: _random, 77: _plain("sinh"),
    78: _plain("cosh"), 79: _plain("unpack_batch"), 80: _plain("to_batch"), 81: _plain("asin"),
    82: _plain("acos"), 83: _pad, 84: _crop, 85: _plain("atanh"), 86: _plain("asinh"), 87: _top_k,
    88: _squeeze, 89: _filled, 91: _cast,
    92: lambda at: ops.eye_like(at.operands[0], bool(at["OutputSparse"])),
    94: _plain("straight_through_impl"), 95: _plain("tan"), 96: _plain("atan"), 97: _frames_after,
}  # fmt: skip
PACKED_INDEX, GATHER_PACKED, SCATTER_PACKED, COMBINE, BLOCK = 28, 29, 30, 44, 57
PAST_VALUE, FUTURE_VALUE = 37, 38
