"""What each operation is in ONNX, for those that are not pointwise."""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph import GraphError, Node
from ..graph.node import Attributes
from ..ops.contractions import labels_of
from .onnx_graph import Builder, Name

_END = sys.maxsize  # as the end of a slice: all that is left


class At(NamedTuple):
    """An operation where it stands.

    Attributes:
        leads: how many axes of rows each operand has there; `lead`, the result.
        arguments: what the record's kernel is given.
        rows: the sizes of the result's axes of rows, a vector; "" if it has none.
        double: whether numbers are of 64 bits.
    """

    node: Node
    names: Sequence[Name]
    leads: Sequence[int]
    lead: int
    arguments: Attributes
    rows: Name
    build: Builder
    double: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.node.shape or ())

    @property
    def axis(self) -> int:
        """The static axis that it works along, counted from the last."""
        axis: int = self.node.attrs["axis"]
        return axis if axis < 0 else axis - len(self.shape)

    def shape_of(self, operand: int) -> tuple[int, ...]:
        return tuple(self.node.inputs[operand].shape or ())

    def reshaped(self, name: Name, shape: Sequence[int], lead: int | None = None) -> Name:
        """Another sample shape; the axes of rows stay."""
        kept = [0] * (self.lead if lead is None else lead)
        return self.build("Reshape", name, self.build.whole(*kept, *shape))

    def spread(self, operand: int) -> Name:
        """An operand with all axes of rows that the result has."""
        name, shape = self.names[operand], self.shape_of(operand)
        if self.leads[operand] == self.lead:
            return name
        sizes = [self.rows, self.build.whole(*shape)] if shape else [self.rows]
        return self.build("Expand", name, self.build("Concat", *sizes, axis=0))

    def as_batch(self, name: Name, shape: Sequence[int], lead: int) -> Name:
        """With one axis of rows, whatever it has."""
        return name if lead == 1 else self.build("Reshape", name, self.build.whole(-1, *shape))

    def from_batch(self, name: Name) -> Name:
        if self.lead == 1:
            return name
        if not self.lead:
            return self.build("Reshape", name, self.build.whole(*self.shape))
        sizes = self.build("Concat", self.rows, self.build.whole(*self.shape), axis=0)
        return self.build("Reshape", name, sizes)

    def whole(self, name: Name) -> Name:
        return self.build("Cast", name, to=7)

    def number(self, name: Name) -> Name:
        return self.build("Cast", name, to=11 if self.double else 1)

    def refuse(self, why: str) -> GraphError:
        return GraphError(
            f"{self.node.title} can't be exported to ONNX: {why}\n  made at {self.node.origin}"
        )


def _same(at: At) -> Name:
    return at.names[0]


def _reshape(at: At) -> Name:
    return at.reshaped(at.names[0], at.shape, at.leads[0])


def _transpose(at: At) -> Name:
    perm = [p % len(at.shape) for p in at.arguments["perm"]]
    axes = [*range(at.lead), *(p + at.lead for p in perm)]
    return at.build("Transpose", at.names[0], perm=axes)


def _slice(at: At) -> Name:
    _, *parts = at.arguments["where"]
    cut = [(i, p) for i, p in enumerate(parts) if p != slice(None)]
    if not cut:
        return at.names[0]
    steps = [p.step or 1 for _, p in cut]
    begins, ends = [], []
    for _, part in cut:
        forward = (part.step or 1) > 0
        begins.append(part.start if part.start is not None else 0 if forward else _END)
        ends.append(part.stop if part.stop is not None else _END if forward else -_END)
    axes = [i - len(parts) for i, _ in cut]
    where = (at.build.whole(*v) for v in (begins, ends, axes, steps))
    return at.build("Slice", at.names[0], *where)


def _splice(at: At) -> Name:
    names = [at.spread(i) for i in range(len(at.names))]
    if at.arguments["new"]:
        names = [at.reshaped(n, (1, *at.shape_of(i))) for i, n in enumerate(names)]
    return at.build("Concat", *names, axis=at.lead + len(at.shape) + at.arguments["axis"])


def _broadcast(at: At) -> Name:
    own = at.shape_of(0)
    name = at.reshaped(at.names[0], (1,) * (len(at.shape) - len(own)) + own)
    return at.build("Expand", name, at.build.whole(*[1] * at.lead, *at.shape))


def _spread(at: At) -> Name:
    return at.spread(0)


def _reduction(kind: str) -> Callable[[At], Name]:
    def build(at: At) -> Name:
        axes = at.arguments["axis"]
        if not axes:
            return at.reshaped(at.names[0], at.shape)
        return at.reshaped(at.build(kind, at.names[0], at.build.whole(*axes), keepdims=1), at.shape)

    return build


def _index(kind: str) -> Callable[[At], Name]:
    def build(at: At) -> Name:
        axes, name = at.arguments["axis"], at.names[0]
        if len(axes) > 1:
            if len(axes) < len(at.shape_of(0)):
                raise at.refuse("of several axes, but not of all")
            name = at.reshaped(name, (-1,))
        axis = axes[0] if len(axes) == 1 else -1
        found = at.build(kind, name, axis=axis, keepdims=1) if axes else at.build("Sub", name, name)
        return at.reshaped(at.number(found), at.shape)

    return build


def _along(kind: str) -> Callable[[At], Name]:
    def build(at: At) -> Name:
        axes, name = at.arguments["axis"], at.names[0]
        if len(axes) == 1:
            return at.build(kind, name, axis=axes[0])
        if len(axes) < len(at.shape):
            raise at.refuse("along several axes, but not along all")
        return at.reshaped(at.build(kind, at.reshaped(name, (-1,)), axis=-1), at.shape)

    return build


def _product(at: At) -> Name:
    if at.node.attrs.get("over_rows"):
        raise at.refuse("it sums over the minibatch")
    left, right, out = labels_of(at.node)
    matrix = len(left) == 1 and len(right) == 2 and right[0] == left[0] and out == (right[1],)
    if matrix and at.leads[0] and not at.leads[1]:
        return at.build("MatMul", *at.names)
    letters = dict(zip(dict.fromkeys([*left, *right, *out]), string.ascii_letters, strict=False))
    parts = ["".join(letters[n] for n in labels) for labels in (left, right, out)]
    rows = ["..." if lead else "" for lead in (*at.leads, at.lead)]
    a, b, c = (r + p for r, p in zip(rows, parts, strict=True))
    names = [at.spread(i) if at.leads[i] else at.names[i] for i in (0, 1)]
    return at.build("Einsum", *names, equation=f"{a},{b}->{c}")


def _geometry(at: At) -> dict[str, object]:
    g = at.arguments
    return {
        "strides": list(g["strides"]),
        "dilations": list(g["dilation"]),
        "group": g["groups"],
    }


def _convolution(at: At) -> Name:
    x = at.as_batch(at.names[1], at.shape_of(1), at.leads[1])
    padding = at.arguments["padding"]
    cut = [min(p, 0) for side in zip(*padding, strict=True) for p in side]
    if any(cut):  # where strides skip elements at an edge
        rank = len(padding)
        pads = at.build.whole(0, 0, *cut[:rank], 0, 0, *cut[rank:])
        x = at.build("Pad", x, pads)
    outer = [max(p, 0) for side in zip(*padding, strict=True) for p in side]
    return at.from_batch(at.build("Conv", x, at.names[0], pads=outer, **_geometry(at)))


def _transposed(at: At) -> Name:
    x = at.as_batch(at.names[1], at.shape_of(1), at.leads[1])
    kernel, g = at.shape_of(0)[2:], at.arguments
    pads = [max(p, 0) for side in zip(*g["padding"], strict=True) for p in side]
    rank = len(kernel)
    sizes = [
        s * (n - 1) + d * (k - 1) + 1 - pads[i] - pads[rank + i]
        for i, (s, n, d, k) in enumerate(
            zip(g["strides"], at.shape_of(1)[1:], g["dilation"], kernel, strict=True)
        )
    ]
    more = [max(w - s, 0) for w, s in zip(at.shape[1:], sizes, strict=True)]
    if any(w != s + m for w, s, m in zip(at.shape[1:], sizes, more, strict=True)):
        raise at.refuse("its result is cut off")
    result = at.build(
        "ConvTranspose", x, at.names[0], pads=pads, output_padding=more, **_geometry(at)
    )
    return at.from_batch(result)


def _pooled(kind: str, **more: Any) -> Callable[[At], Name]:
    def build(at: At) -> Name:
        g, rank = at.arguments, len(at.arguments["window"])
        lead = at.shape_of(0)[: len(at.shape) - rank]
        spatial = at.shape_of(0)[len(lead) :]
        flat = math.prod(lead), *spatial  # what is pooled over comes behind one axis
        x = at.as_batch(at.names[0], flat, at.leads[0])
        if at.leads[0] == 1 and len(lead) != 1:
            x = at.build("Reshape", x, at.build.whole(0, *flat))
        low = [p[0] for p in g["padding"]]
        sizes = g["counts"], g["strides"], g["window"]
        high = [
            max((m - 1) * s + k - n - b, 0)
            for m, s, k, n, b in zip(*sizes, spatial, low, strict=True)
        ]
        options = {k: int(v(at)) for k, v in more.items()}
        y = at.build(
            kind, x, kernel_shape=list(g["window"]), strides=list(g["strides"]),
            pads=[*low, *high], **options,
        )  # fmt: skip
        if at.lead == 1 and len(lead) != 1:
            return at.build("Reshape", y, at.build.whole(0, *at.shape))
        return at.from_batch(y)

    return build


def _max_pooled(at: At) -> Name:
    if at.node.inputs[0] is not at.node.inputs[1]:
        raise at.refuse("it picks by another value")
    return _pooled("MaxPool")(at)


def _one_hot(at: At) -> Name:
    values = at.build.array(np.array([0, 1], np.float64 if at.double else np.float32))
    depth = at.build.whole(at.node.attrs["num_classes"])
    return at.build("OneHot", at.whole(at.names[0]), depth, values, axis=at.axis)


def _gathered(at: At) -> Name:
    if at.leads[0]:
        raise at.refuse("what is looked up in has rows")
    axis = at.node.attrs["axis"] % len(at.shape_of(0))
    if axis:
        raise at.refuse("it looks up along another axis than the first")
    return at.build("Gather", at.names[0], at.whole(at.names[1]), axis=0)


def _cast(at: At) -> Name:
    return at.number(at.names[0])


def _fill(at: At) -> Name:
    zeros = at.build("Sub", at.names[0], at.names[0])
    return at.build("Add", zeros, at.build.number(at.node.attrs["value"], at.double))


def _pad(at: At) -> Name:
    pattern, mode = at.node.attrs["pattern"], ("constant", "reflect", None)[at.node.attrs["mode"]]
    if mode is None:
        raise at.refuse("symmetric padding is none of ONNX's")
    zeros = [0] * (at.lead + len(at.shape) - len(pattern))
    pads = at.build.whole(*zeros, *(a for a, _ in pattern), *zeros, *(b for _, b in pattern))
    value = [at.build.number(at.node.attrs["value"], at.double)] if mode == "constant" else []
    return at.build("Pad", at.names[0], pads, *value, mode=mode)


def _over_rows(at: At) -> Name:
    axes = range(at.leads[0] - at.lead) if at.leads[0] > 1 or not at.lead else [0]
    return at.build("ReduceSum", at.names[0], at.build.whole(*axes), keepdims=0)


def _end(at: At) -> Name:
    index = at.build.array(np.array(-1 if at.node.attrs["last"] else 0, np.int64))
    return at.build("Gather", at.names[0], index, axis=0)


def _maximum(at: At) -> Name:
    return at.build("ReduceMax", at.names[0], at.build.whole(0), keepdims=0)


def _reversed(at: At) -> Name:
    parts = (at.build.whole(n) for n in (-1, -_END, 0, -1))
    return at.build("Slice", at.names[0], *parts)


def _best(at: At) -> Name:
    k = at.build.whole(at.node.attrs["k"])
    found = at.build.several("TopK", [at.names[0], k], 2, axis=at.axis)[1]
    return at.number(found)


def _taken(at: At) -> Name:
    return at.build("GatherElements", at.names[0], at.whole(at.names[1]), axis=at.axis)


OPERATIONS: dict[str, Callable[[At], Name]] = {
    "alias": _same, "require_vector": _same, "reconcile_dynamic_axes": _same,
    "reshape": _reshape, "squeeze": _reshape, "expand_dims": _reshape, "flatten": _reshape,
    "per_element": _reshape, "transpose": _transpose, "slice": _slice, "crop": _slice,
    "splice": _splice, "pad": _pad, "broadcast_to": _broadcast, "spread": _spread,
    "reduce_sum": _reduction("ReduceSum"), "reduce_mean": _reduction("ReduceMean"),
    "reduce_max": _reduction("ReduceMax"), "reduce_min": _reduction("ReduceMin"),
    "reduce_prod": _reduction("ReduceProd"), "reduce_log_sum_exp": _reduction("ReduceLogSumExp"),
    "argmax": _index("ArgMax"), "argmin": _index("ArgMin"),
    "softmax": _along("Softmax"), "log_softmax": _along("LogSoftmax"), "hardmax": _along("Hardmax"),
    "times": _product, "contract": _product, "convolution": _convolution,
    "convolution_transpose": _transposed, "pool_pick": _max_pooled,
    "pool_mean": _pooled(
        "AveragePool", count_include_pad=lambda at: at.node.attrs["include_pad"]
    ),
    "one_hot": _one_hot, "gather": _gathered, "top_k_indices": _best, "take_along": _taken,
    "cast": _cast, "fill_like": _fill, "sum_rows": _over_rows, "ends": _end,
    "sequence_max": _maximum, "sequence_reverse": _reversed,
}  # fmt: skip
