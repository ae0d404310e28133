"""ONNX's products, convolutions, poolings and normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .. import ops
from ..graph import Constant, Node
from ..ops.windows import automatic
from .onnx_import import At, Known, Value
from .onnx_shapes import aligned, padded

Read = Callable[[At], Known]


def product(at: At) -> Known:
    a, b = at.value(0), at.value(1)
    if b.lead and a.lead != b.lead or len(b.shape) > 2 or b.lead and len(a.shape) != 2:
        raise at.refused(f"of {a.shape} and {b.shape}")
    return Value(ops.times(a.node, b.node), max(a.lead, b.lead))


def gemm(at: At) -> Known:
    a, b = at.value(0), at.value(1)
    if b.lead or at.get("transA", 0) and a.lead:
        raise at.refused("of rows with rows")
    left = ops.transpose(a.node) if at.get("transA", 0) else a.node
    right = ops.transpose(b.node) if at.get("transB", 0) else b.node
    node = ops.times(left, right)
    if at.get("alpha", 1.0) != 1:
        node = ops.element_times(node, float(at.get("alpha")))
    if at.has(2):
        bias = at.value(2)
        extra = len(bias.shape) - len(node.shape or ())
        added = ops.reshape(bias.node, bias.shape[extra:]) if extra > 0 else bias.node
        if at.get("beta", 1.0) != 1:
            added = ops.element_times(added, float(at.get("beta")))
        node = ops.plus(node, added)
    return Value(node, a.lead)


def einsum(at: At) -> Known:
    """Sums over axes that two operands share, as rgraph writes products."""
    equation = at.get("equation").decode().replace(" ", "")
    left, _, out = equation.partition("->")
    a, b = (part.replace("...", "") for part in left.split(","))
    out = out.replace("...", "")
    x, w = at.value(0), at.value(1)
    shared = [c for c in a if c in b and c not in out]
    both = [c for c in a if c in b and c in out]
    if both or len(set(a)) < len(a) or len(set(b)) < len(b):
        raise at.refused(f"'{equation}'")
    own_a, own_b = [c for c in a if c not in shared], [c for c in b if c not in shared]
    left_node = ops.transpose(x.node, tuple(a.index(c) for c in (*own_a, *shared)))
    right_node = ops.transpose(w.node, tuple(b.index(c) for c in (*shared, *own_b)))
    node = ops.times(left_node, right_node, len(own_b), len(own_a) if x.lead or own_a else None)
    order = [*own_a, *own_b]
    if order != list(out):
        node = ops.transpose(node, tuple(order.index(c) for c in out))
    return Value(node, max(x.lead, w.lead))


def pads_of(
    at: At,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[int, int]]:
    """The zeros before and after each axis."""
    auto = at.get("auto_pad", b"NOTSET").decode()
    if auto == "VALID":
        return [(0, 0)] * len(kernel)
    if auto == "NOTSET":
        pads = list(at.get("pads", [0] * (2 * len(kernel))))
        return list(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    found = []
    for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        low, high = total // 2, total - total // 2
        found.append((low, high) if auto == "SAME_UPPER" else (high, low))
    return found


def prepared(
    x: Node,
    pads: Sequence[tuple[int, int]],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    value: float = 0.0,
) -> tuple[Node, list[bool]]:
    """An operand, padded where CNTK's own padding is another, and where it is that one."""
    size = (x.shape or ())[-len(kernel) :]
    auto = []
    for n, (low, high), k, s, d in zip(size, pads, kernel, strides, dilation, strict=True):
        reach = (k - 1) * d
        count = (n + low + high - reach - 1) // s + 1
        own = automatic(n, reach, s, (n - 1) // s + 1)
        needed = (count - 1) * s + reach + 1 - n - low  # what is read of the padding behind
        auto.append(n > 0 and count == (n - 1) // s + 1 and own == (low, needed) and reach > 0)
    more = [(0, 0) if a else p for a, p in zip(auto, pads, strict=True)]
    front = [(0, 0)] * (len(x.shape or ()) - len(kernel))
    return padded(x, [*front, *more], value), auto


def convolved(at: At) -> Known:
    x, w = at.value(0), at.value(1)
    kernel, rank = w.shape[2:], len(w.shape) - 2
    strides = list(at.get("strides", [1] * rank))
    dilation = list(at.get("dilations", [1] * rank))
    pads = pads_of(at, x.shape[1:], kernel, strides, dilation)
    operand, auto = prepared(x.node, pads, kernel, strides, dilation)
    node = ops.convolution(
        w.node, operand, strides, auto_padding=auto, dilation=dilation,
        groups=int(at.get("group", 1)),
    )  # fmt: skip
    return Value(biased(at, node, rank), x.lead)


def biased(at: At, node: Node, rank: int) -> Node:
    if not at.has(2):
        return node
    bias = at.value(2)
    return ops.plus(node, ops.reshape(bias.node, (*bias.shape, *[1] * rank)))


def transposed_convolution(at: At) -> Known:
    x, w = at.value(0), at.value(1)
    kernel, rank = w.shape[2:], len(w.shape) - 2
    strides = list(at.get("strides", [1] * rank))
    dilation = list(at.get("dilations", [1] * rank))
    more = list(at.get("output_padding", [0] * rank))
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[1:], strides, kernel, dilation, strict=True)
    ]
    wanted = at.get("output_shape")
    auto = at.get("auto_pad", b"NOTSET").decode()
    if wanted is None and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[1:], strides, strict=True)]
    if wanted is None:
        pads = pads_of(at, x.shape[1:], kernel, strides, dilation)
        ends = [(low, high - m) for (low, high), m in zip(pads, more, strict=True)]
    else:
        total = [f + m - w_ for f, m, w_ in zip(full, more, wanted[-rank:], strict=True)]
        half = [(t // 2, t - t // 2) for t in total]
        ends = [(b, a) if auto == "SAME_LOWER" else (a, b) for a, b in half]
        ends = [(low, high - m) for (low, high), m in zip(ends, more, strict=True)]
    groups = int(at.get("group", 1))
    each = x.shape[0] // groups
    parts = []
    for i in range(groups):
        own = x.node if groups == 1 else ops.slice(x.node, 0, i * each, (i + 1) * each)
        k = w.node if groups == 1 else ops.slice(w.node, 0, i * each, (i + 1) * each)
        parts.append(
            ops.convolution_transpose(
                k, own, strides, auto_padding=[False] * rank, dilation=dilation
            )
        )
    node = ops.splice(*parts, axis=0) if groups > 1 else parts[0]
    node = padded(node, [(0, 0), *((-low, -high) for low, high in ends)])
    return Value(biased(at, node, rank), x.lead)


def pooling(kind: str) -> Read:
    def read(at: At) -> Known:
        x = at.value()
        kernel = list(at.get("kernel_shape"))
        strides = list(at.get("strides", [1] * len(kernel)))
        dilation = list(at.get("dilations", [1] * len(kernel)))
        ceil, rank = bool(at.get("ceil_mode", 0)), len(kernel)
        if any(d != 1 for d in dilation):
            raise at.refused("with dilation")
        size = x.shape[-rank:]
        pads = pads_of(at, size, kernel, strides, dilation)
        if ceil and all(
            (n + a + b - k) % s == 0
            for n, (a, b), k, s in zip(size, pads, kernel, strides, strict=True)
        ):
            ceil = False
        if ceil and any(map(any, pads)) or ceil and kind == "mean":
            raise at.refused("with ceil_mode, padding and windows that are not whole")
        if kind == "max":
            operand, auto = prepared(x.node, pads, kernel, strides, dilation, -math.inf)
            found = ops.pooling(operand, ops.MAX_POOLING, kernel, strides, auto, ceil)
            return Value(found, x.lead)
        whole = bool(at.get("count_include_pad", 0))
        operand, auto = prepared(x.node, pads, kernel, strides, dilation)
        explicit = any(any(p) and not a for p, a in zip(pads, auto, strict=True))
        options = kernel, strides, auto, False, whole
        found = ops.pooling(operand, ops.AVG_POOLING, *options)
        if explicit and not whole:  # zeros that were added are no elements
            ones = np.pad(np.ones(size, np.float32), [
                p if not a else (0, 0) for p, a in zip(pads, auto, strict=True)
            ])  # fmt: skip
            share = ops.pooling(Constant(ones[None]), ops.AVG_POOLING, *options)
            found = ops.element_divide(found, share)
        return Value(found, x.lead)

    return read


def over_all(make: Callable[..., Node]) -> Read:
    def read(at: At) -> Known:
        x = at.value()
        return Value(make(x.node, tuple(range(1, len(x.shape))), True), x.lead)

    return read


def batch_normalization(at: At) -> Known:
    x = at.value(0)
    rank = len(x.shape) - 1
    scale, bias = (at.node(i) for i in (1, 2))
    mean, variance = (np.asarray(at.array(i), np.float64) for i in (3, 4))
    epsilon = float(at.get("epsilon", 1e-5))
    one = (-1, *[1] * rank)
    dtype = x.node.dtype or np.float32
    centred = ops.minus(x.node, mean.reshape(one).astype(dtype))
    spread = (1 / np.sqrt(variance + epsilon)).reshape(one).astype(dtype)
    scaled = ops.element_times(ops.element_times(centred, spread), ops.reshape(scale, one))
    return Value(ops.plus(scaled, ops.reshape(bias, one)), x.lead)


def normalized(node: Node, axes: tuple[int, ...], epsilon: float) -> Node:
    centred = ops.minus(node, ops.reduce_mean(node, axes, True))
    variance = ops.reduce_mean(ops.square(centred), axes, True)
    return ops.element_divide(centred, ops.sqrt(ops.plus(variance, epsilon)))


def layer_normalization(at: At) -> Known:
    x = at.value()
    first = at.axis(int(at.get("axis", -1)))
    axes = tuple(range(first, len(x.shape)))
    node = ops.element_times(normalized(x.node, axes, float(at.get("epsilon", 1e-5))), at.node(1))
    return Value(ops.plus(node, at.node(2)) if at.has(2) else node, x.lead)


def instance_normalization(at: At) -> Known:
    x = at.value()
    rank = len(x.shape) - 1
    node = normalized(x.node, tuple(range(1, rank + 1)), float(at.get("epsilon", 1e-5)))
    one = (-1, *[1] * rank)
    node = ops.element_times(node, ops.reshape(at.node(1), one))
    return Value(ops.plus(node, ops.reshape(at.node(2), one)), x.lead)


def resized(at: At) -> Known:
    """Whole factors, each element repeated."""
    x = at.value()
    mode = at.get("mode", b"nearest").decode()
    scales = at.array(2 if at.kind == "Resize" else 1, []) if at.kind == "Resize" else None
    if at.kind == "Upsample":
        scales = np.asarray(at.get("scales", at.array(1, [])))
    if at.has(3):
        wanted = at.array(3)
        scales = np.array(
            [1.0] * x.lead + [w / n for w, n in zip(wanted[x.lead :], x.shape, strict=True)]
        )
    factors = [float(f) for f in np.ravel(scales)][x.lead :]
    transform = at.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = at.get("nearest_mode", b"round_prefer_floor").decode()
    plain = transform == "asymmetric" and rounding == "floor" or transform == "half_pixel"
    if mode != "nearest" or any(f != int(f) or f < 1 for f in factors) or not plain:
        raise at.refused(f"by {factors} with mode {mode}, {transform}")
    node = x.node
    for axis, factor in enumerate(factors):
        if factor > 1:
            size = list(node.shape or ())
            apart = ops.reshape(node, (*size[: axis + 1], 1, *size[axis + 1 :]))
            many = ops.splice(*[apart] * int(factor), axis=axis + 1)
            size[axis] *= int(factor)
            node = ops.reshape(many, tuple(size))
    return Value(node, x.lead)


def blocks(make: Callable[..., Node]) -> Read:
    def read(at: At) -> Known:
        if at.get("mode", b"DCR").decode() != "DCR":
            raise at.refused("with mode CRD")
        x = at.value()
        return Value(make(x.node, int(at.get("blocksize"))), x.lead)

    return read


def local_response(at: At) -> Known:
    x, size = at.value(), int(at.get("size"))
    if size % 2 == 0:
        raise at.refused("over an even number of channels")
    found = ops.local_response_normalization(
        x.node, size // 2, float(at.get("bias", 1.0)), float(at.get("alpha", 1e-4)) / size,
        float(at.get("beta", 0.75)),
    )  # fmt: skip
    return Value(found, x.lead)


def param_relu(at: At) -> Known:
    (x, slope), lead = aligned(at, (0, 1))
    return Value(ops.param_relu(slope, x), lead)
