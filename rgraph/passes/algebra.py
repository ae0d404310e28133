"""What an operation does not change need not be computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph import Constant, Node, order
from ..ops.records import TABLE
from .rewriting import readers_of, same_type, substitute, twin

# Operations that only meant something while the graph was built
_IDENTITIES = {"alias", "require_vector", "stop_gradient"}

_MOST_PARTS = 512  # that a value is looked at as taken apart into; the search is quadratic

# For each operation: the number that, as left or right operand, leaves the other as it is
_NEUTRAL: dict[str, tuple[float | None, float | None]] = {
    "plus": (0, 0),
    "minus": (None, 0),
    "element_times": (1, 1),
    "adjoint_times": (1, 1),
    "element_divide": (None, 1),
}


def filling(node: Node) -> float | None:
    """The number that a constant consists of, if it is one number throughout, for good."""
    if not isinstance(node, Constant) or not node.is_fixed:
        return None
    value = node.value
    if value.size == 1 or value.size and not any(value.strides):
        return float(value.flat[0])
    return None


def simplify(outputs: Sequence[Node]) -> list[Node]:
    """Takes out identities, and lets pointwise operations do the repeating of constants."""
    outputs = substitute(outputs, {n: n.inputs[0] for n in order(outputs) if _is_identity(n)})
    nodes = order(outputs)
    for node in nodes:
        if node.op is not None and node.op.pointwise:
            node.inputs = _unrepeated(node)
    outputs = substitute(outputs, {n: kept for n in nodes if (kept := _unchanged(n)) is not None})
    outputs = substitute(outputs, {n: whole for n in order(outputs) if (whole := _joined(n))})
    for rule in (_subtracted, _blended, _factored):
        outputs = _rewritten(outputs, rule)
    return outputs


Readers = dict[Node, int]


def _rewritten(outputs: Sequence[Node], rule: Callable[[Node, Readers], Node | None]) -> list[Node]:
    """`rule` on every node; it gets how often each is read, too."""
    nodes = order(outputs)
    ends = set(outputs)
    readers = {n: len(found) + (n in ends) for n, found in readers_of(nodes).items()}
    return substitute(outputs, {n: new for n in nodes if (new := rule(n, readers)) is not None})


def _is(node: Node, name: str) -> bool:
    return node.op is not None and node.op.name == name


def _like(node: Node, name: str, *inputs: Node) -> Node:
    """Another operation, whose result is of the type of `node`'s."""
    new = twin(node)
    new.op, new.attrs, new.inputs = TABLE[name], {}, list(inputs)
    return new


def _subtracted(node: Node, readers: Readers) -> Node | None:
    """a + (-b) is a - b."""
    if not _is(node, "plus"):
        return None
    left, right = node.inputs
    for a, b in ((left, right), (right, left)):
        if _is(b, "negate") and same_type(node, b):
            return _like(node, "minus", a, b.inputs[0])
    return None


def _blended(node: Node, readers: Readers) -> Node | None:
    """z * a + (1 - z) * b, as in a GRU, is b + z * (a - b).

    Or a + (1 - z) * (b - a), if nothing else reads b: then b need not be kept. Either is exact but
    for what the larger of a and b is rounded by; so only where z is rounded too, not a mask that
    chooses what must come out as it is.
    """
    if not _is(node, "plus") or not all(_is(i, "element_times") for i in node.inputs):
        return None
    left, right = node.inputs
    for first, second in ((left, right), (right, left)):
        for z, a in (first.inputs, first.inputs[::-1]):
            for rest, b in (second.inputs, second.inputs[::-1]):
                if not _is(rest, "minus") or rest.inputs[1] is not z:
                    continue
                rounded = _is(z, "sigmoid") and filling(rest.inputs[0]) == 1
                if not rounded or not same_type(node, z, a, b):
                    continue
                start, share, end = (a, rest, b) if readers[b] == 1 else (b, z, a)
                change = _like(node, "element_times", share, _like(node, "minus", end, start))
                return _like(node, "plus", start, change)
    return None


def _factored(node: Node, readers: Readers) -> Node | None:
    """a * b - a * c is a * (b - c)."""
    if not _is(node, "minus") or not all(_is(i, "element_times") for i in node.inputs):
        return None
    left, right = node.inputs
    if readers[left] > 1 or readers[right] > 1:
        return None
    for a, b in (left.inputs, left.inputs[::-1]):
        for other, c in (right.inputs, right.inputs[::-1]):
            if a is other and same_type(node, a, b, c):
                return _like(node, "element_times", a, _like(node, "minus", b, c))
    return None


def _is_identity(node: Node) -> bool:
    name = node.op.name if node.op else ""
    same_axes = name == "reconcile_dynamic_axes" and node.axes == node.inputs[0].axes
    return same_axes or name in _IDENTITIES


def _unrepeated(node: Node) -> list[Node]:
    """The operands, without what only repeats them along rows and axes that others have."""
    inputs = list(node.inputs)
    for i, operand in enumerate(inputs):
        if operand.op is None or operand.op.name != "spread":
            continue
        source = operand.inputs[0]
        others = inputs[:i] + inputs[i + 1 :]
        if not source.axes and any(o.axes == node.axes for o in others):
            inputs[i] = source
    for i, operand in enumerate(inputs):
        number = filling(operand)
        others = inputs[:i] + inputs[i + 1 :]
        if number is not None and operand.shape and any(o.shape == node.shape for o in others):
            inputs[i] = Constant(np.asarray(number, operand.dtype), (), operand.dtype)
    return inputs


def _unchanged(node: Node) -> Node | None:
    """The operand that the operation gives back as it is."""
    neutral = _NEUTRAL.get(node.op.name if node.op else "")
    if neutral is None or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    for number, constant, other in ((neutral[0], left, right), (neutral[1], right, left)):
        same = other.shape == node.shape and other.axes == node.axes
        if number is not None and filling(constant) == number and same:
            return other
    return None


def _joined(node: Node) -> Node | None:
    """A sum of parts put each in its own place, as the parts joined; or None.

    That is what comes back to a value that was taken apart with `slice`, as an LSTM's gates are.
    """
    places = _placed(node)
    if len(places) < 2:
        return None
    cuts = [p.attrs["cuts"] for p in places]
    axis = cuts[0][0][0] if len(cuts[0]) == 1 else None
    if axis is None or any(len(c) != 1 or c[0][0] != axis or c[0][3] != 1 for c in cuts):
        return None
    parts = sorted(places, key=lambda p: p.attrs["cuts"][0][1])
    ends = [p.attrs["cuts"][0][1:3] for p in parts]
    size = (node.shape or ())[axis]
    tiled = ends[0][0] == 0 and ends[-1][1] == size
    if not tiled or any(a[1] != b[0] for a, b in zip(ends, ends[1:], strict=False)):
        return None
    whole = twin(node)
    whole.op, whole.attrs = TABLE["splice"], {"axis": axis}
    whole.inputs = [p.inputs[0] for p in parts]
    return whole


def _placed(node: Node) -> list[Node]:
    """The summands of a sum, in their order, if all of them are parts put in a place."""
    found: list[Node] = []
    pending = [node]
    while pending:
        summand = pending.pop()
        name = summand.op.name if summand.op else ""
        same = all(i.shape == summand.shape and i.axes == summand.axes for i in summand.inputs)
        if name == "plus" and same:
            pending += reversed(summand.inputs)
        elif name == "place":
            found.append(summand)
        else:
            return []
        if len(found) + len(pending) > _MOST_PARTS:
            return []
    return found
