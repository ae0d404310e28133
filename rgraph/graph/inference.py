"""Type inference: shape, dynamic axes and dtype of a node, from those of its operands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from . import axis as _axis
from .context import Count
from .errors import GraphError
from .free import FREE, is_free, tried
from .leaves import INFERRED, Constant, Placeholder, Stored
from .node import Node, Op, Shape, Type, failed, resolve
from .traverse import dependents, order


def _common_dtype(node: Node, types: Sequence[Type]) -> np.dtype | None:
    strong = {
        t.dtype
        for i, t in zip(node.inputs, types, strict=True)
        if not (isinstance(i, Constant) and i.weak)
    }
    if not strong:  # constants among themselves
        return np.result_type(*[t.dtype for t in types if t.dtype is not None])
    known = {d for d in strong if d is not None}
    if len(known) > 1:
        raise GraphError(
            "the operands have different types, " + " and ".join(sorted(map(str, known))),
            hint="give input_variable, Parameter and layers the same dtype "
            "(with C.default_options(dtype=np.float64): …), or cast one operand",
        )
    return known.pop() if known and None not in strong else None


def infer(node: Node, types: Sequence[Type]) -> Type:
    """The type that follows from the types of the operands, as far as they are known."""
    op = node.op
    assert op is not None
    if op.type:
        return op.type(types, **node.attrs)
    axes = [t.axes for t in types]
    result_axes = op.axes(axes, **node.attrs) if op.axes else _axis.union(axes)
    if op.dtype:
        dtype = op.dtype([t.dtype for t in types], **node.attrs)
    else:
        dtype = _common_dtype(node, types)
    shapes: Sequence[Shape | None] = [t.shape for t in types]
    known = all(s is not None for s in shapes)
    if any(map(is_free, shapes)):
        shape = tried(partial(op.shape, **node.attrs), shapes, FREE) if known or op.guess else None
        if shape is None and op.guess and not op.pointwise:  # a definite reshape says it itself
            shape = op.shape(*[None if is_free(s) else s for s in shapes], **node.attrs)
        return Type(shape, result_axes, dtype)
    if known and op.infer and any(INFERRED in s for s in shapes if s):
        shapes = op.infer(*shapes, **node.attrs)
    shape = op.shape(*shapes, **node.attrs) if known or op.guess else None
    return Type(shape, result_axes, dtype)


def type_ahead(node: Node, seen: dict[Node, Type] | None = None, guessing: bool = False) -> Type:
    """The type that follows from the shapes and axes of placeholders, before they are bound.

    Guessing goes through recurrences: a value that depends on itself is taken to agree with what is
        known.
    A value that depends on a placeholder of unknown shape stays unknown.
    """
    delay = node.is_delay
    if node.shape is not None or node.op is None or delay and not guessing:
        return Type.of(node)
    seen = {} if seen is None else seen
    if node not in seen:
        seen[node] = _UNKNOWN
        types = [type_ahead(i, seen, guessing) for i in node.inputs]
        known = [t.shape is not None for t in types]
        said = [
            k and not getattr(i, "weak", False) for i, k in zip(node.inputs, known, strict=True)
        ]
        if any(t.shape is None and t is not _UNKNOWN for t in types):
            seen[node] = _OPEN
            return _OPEN
        with suppress(GraphError):
            if all(known):
                seen[node] = infer(node, types)
            elif guessing and (said[0] if delay else node.op.guess and any(said)):
                seen[node] = _guess(node, types, True)
    return seen[node]


def _settle(node: Node, changed: _Filled) -> None:
    """Give `node` its final type; all its operands have theirs."""
    op = node.op
    assert op is not None
    before = len(changed)
    try:
        if (other := op.fitted(node)) is not None:
            node.target = other
            node.shape, node.axes, node.dtype = other.shape, other.axes, other.dtype
            return
        _fill(node, [i.shape for i in node.inputs], changed)
        result = infer(node, [Type.of(i) for i in node.inputs])
        node.shape, node.axes, node.dtype = result.shape, result.axes, result.dtype
        if node.is_complete and not any(is_free(n.shape) for n in (node, *node.inputs)):
            assert node.axes is not None and node.dtype is not None
            inputs = [
                i.as_dtype(node.dtype) if isinstance(i, Constant) and i.weak else i
                for i in node.inputs
            ]
            node.inputs = op.align(inputs, node.axes, **node.attrs) if op.align else inputs
    except GraphError as error:
        node.shape = node.axes = node.dtype = None
        _empty(changed, before)
        raise failed(node, error) from None


def _fill(node: Node, shapes: Sequence[Shape | None], changed: _Filled) -> None:
    """Infer the open dimensions of parameters among the operands from the shapes of the others."""
    op = node.op
    assert op is not None
    if not op.infer or not any(i.shape and INFERRED in i.shape for i in node.inputs):
        return
    filled = (
        tried(partial(op.infer, **node.attrs), shapes, INFERRED) or shapes
        if any(map(is_free, shapes))
        else op.infer(*shapes, **node.attrs)
    )
    for operand, shape in zip(node.inputs, filled, strict=True):
        if operand.shape != tuple(shape) and isinstance(operand, (Constant, Stored)):
            changed.append((operand, operand.shape, operand._value))
            operand.shape = tuple(shape)
            if isinstance(operand, Constant) and INFERRED not in shape:
                operand._value = np.broadcast_to(operand.value, shape)


def _fill_ahead(nodes: Sequence[Node], changed: _Filled) -> None:
    """Infer the open dimensions of parameters from the declared shapes of placeholders."""
    if not any(isinstance(n, Placeholder) and n.shape is not None for n in nodes):
        return
    seen: dict[Node, Type] = {}
    for node in nodes:
        if node.op is not None:
            shapes = [type_ahead(i, seen).shape for i in node.inputs]
            if None not in shapes:
                _fill(node, shapes, changed)


# Leaves whose inferred dimensions were filled in, and what they were: a mistake takes it back, so
# that a layer that was applied to something wrong can be applied to something right.
_Filled = list[tuple[Any, Shape | None, np.ndarray | None]]


def _empty(filled: _Filled, size: int = 0) -> None:
    while len(filled) > size:
        leaf, leaf.shape, leaf._value = filled.pop()


def apply(op: Op, *inputs: Node, name: str = "", **attrs: Any) -> Node:
    """The node of `op` applied to `inputs`; its type is inferred at once if theirs are known."""
    node = Node(op, inputs, attrs, name)
    if all(i.is_complete for i in node.inputs):
        _settle(node, [])
    elif any(map(_is_open, node.inputs)):
        node.open_since = _bindings.last
    return node


_bindings = Count(1)  # how often placeholders were bound


def _is_open(node: Node) -> bool:
    """Whether its type is unknown and no placeholder was bound since that was found."""
    unbound = isinstance(node, Placeholder) or node.open_since == _bindings.last
    return unbound and not node.is_complete


def stands_for(declared: Shape | None, given: Shape | None) -> bool:
    """Whether a value of a shape may be given where another shape was declared.

    As in CNTK it may have more leading axes; declared dimensions may be open.
    """
    if declared is None or given is None:
        return True
    last = given[len(given) - len(declared) :] if len(given) >= len(declared) else ()
    alike = (a == b or a < 0 or b < 0 for a, b in zip(declared, last, strict=False))
    return len(last) == len(declared) and all(alike)


def bind(placeholders: Mapping[Placeholder, Node]) -> None:
    """Replace each placeholder by its node from now on."""
    if placeholders:
        _bindings()
    for placeholder, target in placeholders.items():
        target = resolve(target)
        if target is placeholder:
            raise GraphError(
                f"placeholder '{placeholder.name}' is bound to itself\n  at {placeholder.origin}"
            )
        placeholder.target = target


def complete(roots: Iterable[Node]) -> None:
    """Infer the type of every node below `roots` that has none yet.

    The types on a cycle depend on themselves: they are guessed in rounds, an unknown operand being
        taken to
    agree with the others, until nothing changes, and then checked. Raises `GraphError` for a cycle
    without a delay.
    """
    roots = [r for r in map(resolve, roots) if not r.is_complete and not _is_open(r)]
    if not roots:
        return
    open_nodes = order(roots, enter=lambda n: not n.is_complete)
    inputs = [n._inputs for n in open_nodes]
    filled: _Filled = []
    try:
        _complete(open_nodes, filled)
    except GraphError:
        _empty(filled)
        for node, before in zip(open_nodes, inputs, strict=True):
            if node.op:
                node._inputs = before
                node.shape = node.axes = node.dtype = None
        raise


def _complete(open_nodes: list[Node], filled: _Filled) -> None:
    for node in open_nodes:
        if node.op and all(i.is_complete for i in node.inputs):
            _settle(node, filled)
    open_nodes = [n for n in open_nodes if not n.is_complete]
    unbound = dependents(open_nodes, [n for n in open_nodes if n.op is None])
    for node in unbound:
        node.open_since = _bindings.last
    _fill_ahead([n for n in open_nodes if n in unbound], filled)
    open_nodes = [n for n in open_nodes if n not in unbound]
    below = {i for n in open_nodes for i in n.inputs}.difference(open_nodes)
    guesses: dict[Node, Type] = {}
    states: dict[Node, list[Shape]] = {n: [] for n in open_nodes if n.is_delay}  # shapes guessed

    def type_of(node: Node) -> Type:
        return Type.of(node) if node.is_complete or not node.op else guesses.get(node, _UNKNOWN)

    mistakes: dict[Node, GraphError] = {}  # or due to a guess that was not right yet
    for numbers_count in (False, True):  # only where nothing else decides
        for _ in range(len(open_nodes) + 2):
            changed = False
            for node in open_nodes:
                types = [type_of(i) for i in node.inputs]
                try:
                    guess = _guess(node, types, numbers_count)
                except GraphError as error:
                    mistakes.setdefault(node, failed(node, error, types))
                    continue
                mistakes.pop(node, None)
                if guess != guesses.get(node):
                    guesses[node], changed = guess, True
                    if node.is_delay and guess.shape not in (seen := states[node]):
                        seen.append(guess.shape)
            if not changed:
                break
    for mistake in mistakes.values():
        raise mistake
    for node in open_nodes:  # a delay may be read before what it delays is settled
        if node.is_delay and INFERRED not in (guesses[node].shape or ()):
            _adopt(node, guesses[node])
    for node in open_nodes:
        if not node.is_delay and all(i.is_complete for i in node.inputs):
            _settle(node, filled)
    for node in open_nodes:
        if node.is_delay and all(i.is_complete for i in node.inputs):
            assumed = node.shape
            _settle(node, filled)
            if node.shape != assumed:
                raise failed(node, _changing([*states[node], assumed, node.shape]))
    whole = [n for n in reversed(open_nodes) if n.op and not n.op.framewise]
    check_loop([n for n in whole if n in order(n.inputs, enter=lambda i: i not in below)])
    follows_data = any(is_free(i.shape) for n in open_nodes for i in n.inputs)
    for node in sorted(open_nodes, key=lambda n: not n.is_delay):
        if not node.is_complete and not follows_data:
            raise failed(node, _unknowable(node, guesses[node]))


def check_loop(nodes: Iterable[Node]) -> None:
    """Raise `GraphError` if a node on a cycle can't be computed frame by frame."""
    for node in nodes:
        if node.op is not None and not node.op.framewise:
            problem = (
                "it needs all frames of a sequence, and stands in a recurrence that computes them "
                "one by one"
            )
            raise failed(node, GraphError(problem, hint=node.op.instead))


def _changing(shapes: Sequence[Shape | None]) -> GraphError:
    first = [str(s) for s in dict.fromkeys(shapes) if s is not None][:3]
    return GraphError(
        f"the state's shape changes in every step: {', then '.join(first)} …",
        hint="return a state of the shape of the previous one",
    )


def _unknowable(node: Node, guess: Type) -> GraphError:
    if guess.shape is None or INFERRED in guess.shape:
        return GraphError(
            "its shape can't be known, it depends on itself alone",
            hint="give the recurrence's initial_state the state's shape: np.zeros(shape)",
        )
    return GraphError(
        "nothing says how many frames it has, no sequence flows into it",
        hint="declare the input with sequence.input_variable(shape of one frame), and use it; "
        "reconcile_dynamic_axes(state, x) gives a state as many frames as x has",
    )


_UNKNOWN = Type(None, None, None)  # depends on itself
_OPEN = Type(None, None, None)  # depends on a placeholder


def _adopt(node: Node, guess: Type) -> None:
    node.shape, node.axes, node.dtype = guess.shape, guess.axes, guess.dtype


def _guess(node: Node, types: Sequence[Type], numbers_count: bool) -> Type:
    """Like `infer`, but unknown operands are taken to agree with known ones.

    Weak constants affect the dtype, and single elements (which broadcast to any shape) affect the
    shape, only if `numbers_count`.
    """
    assert node.op is not None
    known_axes = [t.axes for t in types if t.axes is not None]
    known_dtypes = [
        t.dtype
        for i, t in zip(node.inputs, types, strict=True)
        if t.dtype is not None and (numbers_count or not (isinstance(i, Constant) and i.weak))
    ]
    own_rule = node.op.axes is not None
    axes = max(known_axes, key=len, default=None)
    if own_rule or axes is not None and len(axes) < 2:
        axes = None  # an unknown operand may well be a sequence
    agreeing = [
        Type(
            t.shape,
            t.axes if t.axes is not None else axes,
            t.dtype if t.dtype is not None else next(iter(known_dtypes), None),
        )
        for t in types
    ]
    guess = infer(node, agreeing)
    open_shape = any(t.shape is None for t in types) and (node.op.pointwise or node.is_delay)
    if open_shape and not numbers_count and math.prod(guess.shape or ()) == 1:
        guess.shape = None
    return guess
