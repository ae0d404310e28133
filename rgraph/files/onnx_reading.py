"""What each of ONNX's operations is here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .. import ops
from ..graph import Node, apply
from ..ops.records import TABLE
from . import onnx_layers as layers
from . import onnx_loops
from . import onnx_shapes as shapes
from .onnx_import import At, Known, Value

sequence = ops.sequence
Read = Callable[[At], Known | list[Known]]


def read_operation(at: At, count: int) -> list[Known]:
    """The results of an operation."""
    if at.kind == "Scan":
        return list(onnx_loops.scan(at))
    if at.kind == "Split":
        return list(shapes.split(at, count))
    read = OPERATIONS.get(at.kind)
    if read is None:
        raise at.refused(f"of version {at.version} is not known here")
    found = read(at)
    return found if isinstance(found, list) else [found]


# Pointwise


def _pointwise(make: Callable[..., Node]) -> Read:
    def read(at: At) -> Known:
        given = [i for i in range(len(at.values)) if at.has(i)]
        nodes, lead = shapes.aligned(at, given)
        return Value(make(*nodes), lead)

    return read


def _record(name: str) -> Read:
    """Of an operation that has no name for people."""
    return _pointwise(lambda *nodes: apply(TABLE[name], *nodes))


def _with(make: Callable[..., Node], **defaults: float) -> Read:
    """Of one operand and attributes."""

    def read(at: At) -> Known:
        x = at.value()
        found = make(x.node, **{k: float(at.get(k, v)) for k, v in defaults.items()})
        return Value(found, x.lead)

    return read


def _chain(make: Callable[..., Node]) -> Callable[..., Node]:
    def chained(first: Node, *others: Node) -> Node:
        for other in others:
            first = make(first, other)
        return first

    return chained


def _clip(at: At) -> Known:
    x = at.value()
    node = x.node
    low = at.get("min", at.values[1] if at.has(1) else None)
    high = at.get("max", at.values[2] if at.has(2) else None)
    if low is not None:
        node = ops.element_max(node, float(np.ravel(low)[0]))
    if high is not None:
        node = ops.element_min(node, float(np.ravel(high)[0]))
    return Value(node, x.lead)


def _cast(at: At) -> Known:
    x, to = at.value(), int(at.get("to"))
    types = {1: np.float32, 11: np.float64}
    if to in types:
        wanted = np.dtype(types[to])
        return x if x.node.dtype == wanted else Value(ops.cast(x.node, wanted), x.lead)
    if to in (6, 7):  # whole numbers, by which something is chosen
        whole = ops.element_select(ops.less(x.node, 0), ops.ceil(x.node), ops.floor(x.node))
        return Value(whole, x.lead)
    if to == 9:
        return Value(ops.not_equal(x.node, 0), x.lead)
    raise at.refused(f"to type {to}")


def _same(at: At) -> list[Known]:
    found = at.values[0]
    assert found is not None
    return [found, np.asarray(1.0)]


# Reductions


def _reduction(make: Callable[..., Node], over_time: Callable[..., Node] | None = None) -> Read:
    def read(at: At) -> Known:
        x = at.value()
        axes, keep = at.numbers("axes", 1), bool(at.get("keepdims", 1))
        if axes == [0] and x.lead == 2 and over_time is not None and not keep:
            return Value(over_time(x.node), 1)
        if axes is None or not axes:
            if at.get("noop_with_empty_axes", 0):
                return x
            if x.lead:
                raise at.refused("over all samples")
            chosen = tuple(range(len(x.shape)))
        else:
            chosen = tuple(at.axis(a) for a in axes)
        found = make(x.node, chosen, True) if chosen else x.node
        if not keep:
            found = ops.reshape(found, tuple(n for i, n in enumerate(x.shape) if i not in chosen))
        return Value(found, x.lead)

    return read


def _index(make: Callable[..., Node]) -> Read:
    def read(at: At) -> Known:
        x = at.value()
        axis = at.axis(int(at.get("axis", 0)))
        found = make(x.node, axis)
        if not at.get("keepdims", 1):
            found = ops.reshape(found, (*x.shape[:axis], *x.shape[axis + 1 :]))
        return Value(found, x.lead)

    return read


def _along(make: Callable[..., Node]) -> Read:
    def read(at: At) -> Known:
        x = at.value()
        if at.version >= 13:
            return Value(make(x.node, at.axis(int(at.get("axis", -1)))), x.lead)
        if at.axis(int(at.get("axis", 1))) or len(x.shape) == 1:
            if at.axis(int(at.get("axis", 1))) != len(x.shape) - 1:
                raise at.refused("along several axes, but not all")
            return Value(make(x.node, len(x.shape) - 1), x.lead)
        flat = make(ops.reshape(x.node, (-1,)), 0)
        return Value(ops.reshape(flat, x.shape), x.lead)

    return read


def _top_k(at: At) -> list[Known]:
    x = at.value()
    k = int(np.ravel(at.get("k", at.array(1, 1)))[0])
    if not at.get("largest", 1):
        raise at.refused("of the smallest")
    values, places = ops.top_k(x.node, k, at.axis(int(at.get("axis", -1))))
    return [Value(values, x.lead), Value(places, x.lead)]


def _take(at: At) -> Known:
    x, index = at.value(0), at.value(1)
    axis = at.axis(int(at.get("axis", 0)))
    record = TABLE["take_along"]
    return Value(apply(record, x.node, index.node, axis=axis - len(x.shape)), x.lead)


def _one_hot(at: At) -> Known:
    x = at.value()
    off, on = np.ravel(at.array(2))
    axis = int(at.get("axis", -1))
    rank = len(x.shape) + 1
    found = ops.one_hot(x.node, int(np.ravel(at.array(1))[0]), axis=at.axis(axis, rank, x.lead))
    if (off, on) != (0, 1):
        found = ops.plus(ops.element_times(found, float(on - off)), float(off))
    return Value(found, x.lead)


def _gelu(at: At) -> Known:
    """x times the normal distribution's share below x (Hendrycks and Gimpel, 2016)."""
    x = at.value()
    if at.get("approximate", b"none") == b"tanh":
        inner = ops.element_times(
            x.node, ops.plus(ops.element_times(0.044715, ops.square(x.node)), 1.0)
        )
        share = ops.plus(ops.tanh(ops.element_times(math.sqrt(2 / math.pi), inner)), 1.0)
    else:
        share = ops.plus(apply(TABLE["erf"], ops.element_times(x.node, math.sqrt(0.5))), 1.0)
    return Value(ops.element_times(ops.element_times(x.node, 0.5), share), x.lead)


def _where(condition: Node, yes: Node, no: Node) -> Node:
    return ops.element_select(condition, yes, no)


def _log(x: Node) -> Node:
    """ONNX's, without the least value that ours has: -inf at 0, NaN below."""
    small = 1e-30  # its reciprocal brings what is smaller into the range of ours
    log = ops.minus(ops.log(ops.element_times(x, 1 / small)), -math.log(small))
    log = ops.element_select(ops.less(x, small), log, ops.log(x))
    rest = ops.element_select(ops.equal(x, 0.0), -math.inf, math.nan)
    return ops.element_select(ops.greater(x, 0.0), log, rest)


OPERATIONS: dict[str, Read] = {
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Constant": lambda at: _constant(at),
    "Add": _pointwise(ops.plus),
    "Sub": _pointwise(ops.minus),
    "Mul": _pointwise(ops.element_times),
    "Div": _pointwise(ops.element_divide),
    "Pow": _pointwise(ops.pow),
    "Min": _pointwise(_chain(ops.element_min)),
    "Max": _pointwise(_chain(ops.element_max)),
    "Sum": _pointwise(_chain(ops.plus)),
    "Neg": _pointwise(ops.negate),
    "Abs": _pointwise(ops.abs),
    "Exp": _pointwise(ops.exp),
    "Log": _pointwise(_log),
    "Sqrt": _pointwise(ops.sqrt),
    "Reciprocal": _pointwise(ops.reciprocal),
    "Floor": _pointwise(ops.floor),
    "Ceil": _pointwise(ops.ceil),
    "Sin": _pointwise(ops.sin),
    "Cos": _pointwise(ops.cos),
    "Tan": _pointwise(ops.tan),
    "Asin": _pointwise(ops.asin),
    "Acos": _pointwise(ops.acos),
    "Atan": _pointwise(ops.atan),
    "Sinh": _pointwise(ops.sinh),
    "Cosh": _pointwise(ops.cosh),
    "Asinh": _pointwise(ops.asinh),
    "Atanh": _pointwise(ops.atanh),
    "Tanh": _pointwise(ops.tanh),
    "Sigmoid": _pointwise(ops.sigmoid),
    "Relu": _pointwise(ops.relu),
    "Softplus": _pointwise(ops.softplus),
    "Softsign": _pointwise(ops.softsign),
    "Equal": _pointwise(ops.equal),
    "Less": _pointwise(ops.less),
    "LessOrEqual": _pointwise(ops.less_equal),
    "Greater": _pointwise(ops.greater),
    "GreaterOrEqual": _pointwise(ops.greater_equal),
    "And": _pointwise(ops.element_and),
    "Or": _pointwise(ops.element_or),
    "Not": _pointwise(ops.element_not),
    "Xor": _pointwise(ops.element_xor),
    "Round": _pointwise(ops.round),
    "Sign": _record("sign"),
    "Erf": _record("erf"),
    "Mod": _record("mod"),
    "Where": _pointwise(_where),
    "Clip": _clip,
    "Gelu": _gelu,
    "PRelu": layers.param_relu,
    "LeakyRelu": lambda at: Value(
        ops.leaky_relu(at.node(), float(at.get("alpha", 0.01))), at.value().lead
    ),
    "Elu": _with(ops.elu, alpha=1.0),
    "Selu": lambda at: Value(ops.selu(at.node()), at.value().lead),
    "HardSigmoid": _with(ops.hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": lambda at: Value(
        ops.element_times(at.node(), ops.hard_sigmoid(at.node(), 1 / 6, 0.5)), at.value().lead
    ),
    "Shape": shapes.sizes_of,
    "Reshape": shapes.reshaped,
    "Flatten": shapes.flattened,
    "Transpose": shapes.transposed_axes,
    "Squeeze": shapes.squeezed,
    "Unsqueeze": shapes.unsqueezed,
    "Expand": shapes.expanded,
    "Concat": shapes.joined,
    "Slice": shapes.sliced,
    "Gather": shapes.gathered,
    "GatherElements": _take,
    "Pad": shapes.padded_sample,
    "OneHot": _one_hot,
    "TopK": _top_k,
    "Resize": layers.resized,
    "Upsample": layers.resized,
    "DepthToSpace": layers.blocks(ops.depth_to_space),
    "SpaceToDepth": layers.blocks(ops.space_to_depth),
    "ReduceSum": _reduction(ops.reduce_sum, sequence.reduce_sum),
    "ReduceMean": _reduction(ops.reduce_mean),
    "ReduceMin": _reduction(ops.reduce_min),
    "ReduceMax": _reduction(ops.reduce_max, sequence.reduce_max),
    "ReduceProd": _reduction(ops.reduce_prod),
    "ReduceL1": _reduction(ops.reduce_l1),
    "ReduceL2": _reduction(ops.reduce_l2),
    "ReduceLogSumExp": _reduction(ops.reduce_log_sum_exp),
    "ReduceSumSquare": _reduction(ops.reduce_sum_square),
    "ArgMax": _index(ops.argmax),
    "ArgMin": _index(ops.argmin),
    "Softmax": _along(ops.softmax),
    "LogSoftmax": _along(ops.log_softmax),
    "Hardmax": _along(lambda x, axis: apply(TABLE["hardmax"], x, axis=(axis,))),
    "MatMul": layers.product,
    "Gemm": layers.gemm,
    "Einsum": layers.einsum,
    "Conv": layers.convolved,
    "ConvTranspose": layers.transposed_convolution,
    "MaxPool": layers.pooling("max"),
    "AveragePool": layers.pooling("mean"),
    "GlobalAveragePool": layers.over_all(ops.reduce_mean),
    "GlobalMaxPool": layers.over_all(ops.reduce_max),
    "BatchNormalization": layers.batch_normalization,
    "LayerNormalization": layers.layer_normalization,
    "InstanceNormalization": layers.instance_normalization,
    "LRN": layers.local_response,
}


def _constant(at: At) -> Known:
    tensor = at.get("value")
    if tensor is not None:
        return at.model._array(tensor)
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in at.attributes:
            kind = np.float32 if "float" in name else np.int64
            return np.array(at.attributes[name], kind)
    raise at.refused("holds what is no array of numbers")
