"""ONNX's operations on shapes: axes of rows are kept apart from those of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import ops
from ..graph import Node
from ..ops.repetition import spread
from .onnx_import import At, Frames, Known, Value, is_size
from .onnx_loops import beside, delayed

sequence = ops.sequence


def aligned(at: At, operands: Sequence[int]) -> tuple[list[Node], int]:
    """Operands whose samples have as many axes, and the most axes of rows."""
    values = [at.value(i) for i in operands]
    lead = max(v.lead for v in values)
    rank = max((len(v.shape) for v in values if v.lead == lead), default=0)
    nodes = []
    for v in values:
        extra = len(v.shape) - rank
        if v.lead and extra:
            raise at.refused(f"of samples with {len(v.shape)} and with {rank} axes")
        if extra > 0:  # ones that stand for rows
            if any(n != 1 for n in v.shape[:extra]):
                raise at.refused(f"of an array of shape {v.shape} with rows of its own")
            v = Value(ops.reshape(v.node, v.shape[extra:]), 0)
        nodes.append(v.node)
    return nodes, lead


def sizes_of(at: At) -> Known:
    found = at.values[0]
    if isinstance(found, np.ndarray):
        sizes = list(found.shape)
    else:
        x = at.value()
        axes = x.node.axes or ()
        rows = [at.model.size_of(axes[: i + 1]) for i in range(x.lead)]
        if x.lead == 2:  # frames come first
            rows = [at.model.size_of(axes), at.model.size_of(axes[:1])]
        sizes = [*rows, *x.shape]
    return np.array(sizes[at.get("start", 0) : at.get("end", len(sizes))], np.int64)


def reshaped(at: At) -> Known:
    """Another shape of the samples. Frames may be told apart or put in one row with the others."""
    x = at.value()
    sizes = at.numbers("shape", 1) or []
    known = sum(map(is_size, sizes))
    leads = [known] if known else [x.lead, 1][: 1 + (x.lead == 2)]
    for lead in leads:
        front, rest = sizes[:lead], sizes[lead:]
        if any(map(is_size, rest)) or any(n > 0 and not is_size(n) and n != 1 for n in front):
            continue
        at_zero = x.shape if lead == x.lead and not at.get("allowzero", 0) else ()
        shape = [at_zero[i] if n == 0 and i < len(at_zero) else n for i, n in enumerate(rest)]
        if -1 in shape and -1 not in front:
            others = math.prod(n for n in shape if n != -1)
            shape[shape.index(-1)] = math.prod(x.shape) // max(others, 1)
        if -1 not in shape and math.prod(shape) == math.prod(x.shape):
            return Value(ops.reshape(x.node, tuple(shape)), lead)
    raise at.refused(f"of {x.shape} to {sizes} takes samples apart")


def flattened(at: At) -> Known:
    x = at.value()
    axis = int(at.get("axis", 1))
    axis = axis + x.lead + len(x.shape) if axis < 0 else axis
    if axis != x.lead:
        raise at.refused(f"from axis {axis} on")
    return Value(ops.reshape(x.node, (math.prod(x.shape),)), x.lead)


def transposed_axes(at: At) -> Known:
    x = at.value()
    rank = x.lead + len(x.shape)
    perm = list(at.get("perm", range(rank)[::-1]))
    if perm[: x.lead] != list(range(x.lead)):
        raise at.refused(f"by {perm} moves the axes of rows")
    return Value(ops.transpose(x.node, tuple(p - x.lead for p in perm[x.lead :])), x.lead)


def squeezed(at: At) -> Known:
    x = at.value()
    axes = at.numbers("axes", 1)
    if axes is None:
        chosen = [i for i, n in enumerate(x.shape) if n == 1]
    else:
        chosen = [at.axis(a) for a in axes]
    shape = tuple(n for i, n in enumerate(x.shape) if i not in chosen)
    return Value(ops.reshape(x.node, shape), x.lead)


def unsqueezed(at: At) -> Known:
    x = at.value()
    axes = at.numbers("axes", 1) or []
    rank = x.lead + len(x.shape) + len(axes)
    axes = sorted(a + rank if a < 0 else a for a in axes)
    if axes == [0] and x.lead == 1:  # a frame of each sequence
        return Frames([x.node], x.node, [])
    if any(a < x.lead for a in axes):
        raise at.refused(f"at {axes} puts an axis before the samples")
    shape = list(x.shape)
    for a in axes:
        shape.insert(a - x.lead, 1)
    return Value(ops.reshape(x.node, tuple(shape)), x.lead)


def expanded(at: At) -> Known:
    x = at.value()
    sizes = [int(n) for n in at.array(1)]
    rows = at.model.rows(sizes)
    count = sum(map(is_size, sizes))
    wanted = sizes[count:] if count else sizes[x.lead :]
    if any(map(is_size, wanted)):
        raise at.refused(f"to {sizes}")
    shape = np.broadcast_shapes(x.shape, tuple(max(n, 1) for n in wanted))
    node = x.node
    if shape != x.shape:
        node = ops.plus(node, np.zeros(shape, node.dtype))
    if count > x.lead:
        node = spread(node, rows)
    return Value(node, max(count, x.lead))


def joined(at: At) -> Known:
    axis = int(at.get("axis", 0))
    if axis == 0 and any(isinstance(v, Frames) for v in at.values):
        return beside(at)
    if all(isinstance(v, np.ndarray) for v in at.values):
        return np.concatenate([v for v in at.values if isinstance(v, np.ndarray)], axis)
    nodes, lead = aligned(at, range(len(at.values)))
    rank = max(len(n.shape or ()) for n in nodes)
    return Value(ops.splice(*nodes, axis=at.axis(axis, rank, lead)), lead)


def split(at: At, count: int) -> Sequence[Known]:
    x = at.value()
    axis = at.axis(int(at.get("axis", 0)))
    size = x.shape[axis]
    sizes = at.numbers("split", 1)
    if sizes is None:
        each = -(-size // count)
        sizes = [min(each, size - i * each) for i in range(count)]
    ends = np.cumsum(sizes).tolist()
    return [
        Value(ops.slice(x.node, axis, end - n, end), x.lead)
        for n, end in zip(sizes, ends, strict=True)
    ]


def sliced(at: At) -> Known:
    begins, ends = at.numbers("starts", 1) or [], at.numbers("ends", 2) or []
    axes = at.numbers("axes", 3) or list(range(len(begins)))
    steps = at.numbers("steps", 4) or [1] * len(begins)
    found = at.values[0]
    if isinstance(found, Frames):
        return delayed(at, found, begins[0], axes)
    x = at.value()
    if x.lead == 2 and axes == [0] and steps == [-1]:
        return Value(sequence.reverse(x.node), 2)
    node = x.node
    for begin, end, axis, step in zip(begins, ends, axes, steps, strict=True):
        none = step < 0 and end < -(x.shape[at.axis(axis)])  # to the very first
        node = part_of(node, at.axis(axis), slice(begin, None if none else end, step))
    return Value(node, x.lead)


def part_of(node: Node, axis: int, cut: slice) -> Node:
    """A part of a sample along an axis, as Python cuts it."""
    first, last, step = cut.indices((node.shape or ())[axis])
    if step < 0:  # here a range goes up, and is gone through backwards
        first, last = last + 1, first + 1
    return ops.slice(node, axis, first, last, step)


def gathered(at: At) -> Known:
    axis = int(at.get("axis", 0))
    source, index = at.values[0], at.values[1]
    if isinstance(source, Value) and isinstance(index, np.ndarray):
        x = at.value()
        if axis == 0 and x.lead == 2 and index.ndim == 0 and int(index) in (0, -1):
            end = sequence.last if int(index) else sequence.first
            return Value(end(x.node), 1)
        place = at.axis(axis)
        numbers = [int(n) % x.shape[place] for n in np.ravel(index)]
        parts = [ops.slice(x.node, place, n, n + 1) for n in numbers]
        joined = ops.splice(*parts, axis=place) if len(parts) > 1 else parts[0]
        shape = (*x.shape[:place], *index.shape, *x.shape[place + 1 :])
        return Value(ops.reshape(joined, shape), x.lead)
    table, which = at.value(0), at.value(1)
    if table.lead or axis:
        raise at.refused("of a table that is computed from data, or along another axis")
    return Value(ops.gather(table.node, which.node), which.lead)


def padded_sample(at: At) -> Known:
    x = at.value()
    mode = at.get("mode", b"constant").decode()
    pads = at.numbers("pads", 1) or []
    rank = len(pads) // 2
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    if any(any(p) for p in pairs[: x.lead]):
        raise at.refused("adds samples")
    value = float(at.get("value", at.array(2, 0.0)))
    modes = {"constant": ops.CONSTANT_PAD, "reflect": ops.REFLECT_PAD}
    if mode not in modes:
        raise at.refused(f"with mode {mode}")
    return Value(padded(x.node, pairs[x.lead :], value, modes[mode]), x.lead)


def padded(
    node: Node, pairs: Sequence[tuple[int, int]], value: float = 0.0, mode: int = ops.CONSTANT_PAD
) -> Node:
    """Elements added, or taken away where there are fewer than none."""
    for axis, (a, b) in enumerate(pairs):
        if a < 0 or b < 0:
            node = part_of(node, axis, slice(max(-a, 0), b if b < 0 else None))
    added = [(max(a, 0), max(b, 0)) for a, b in pairs]
    return ops.pad(node, added, mode, value) if any(map(any, added)) else node
