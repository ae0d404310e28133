"""Copies of functions, with shared, copied or constant parameters."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from .. import graph
from ..graph import Node, Placeholder
from ..operands.operand import Operand
from ..ops import records


class CloneMethod(enum.Enum):
    """How the parameters of a function are copied; see `Function.clone`.

    >>> x = C.input_variable(2)
    >>> (C.Parameter(2) * x).clone(C.CloneMethod.freeze).parameters
    ()
    """

    share = "share"
    clone = "clone"
    freeze = "freeze"


def copy(
    function: Any, method: Any, substitutions: Mapping[Any, Any]
) -> tuple[list[Node], list[Node]]:
    """The outputs and arguments of a copy of a function; see `Function.clone`."""
    changes: dict[str, Callable[[Node], Node | None]] = {
        "share": lambda leaf: None,
        "clone": _own_value,
        "freeze": _frozen_value,
    }
    method = str(getattr(method, "value", method)).rpartition(".")[2]
    if method not in changes:
        raise ValueError(f"method must be one of {', '.join(changes)}, got {method!r}")
    replace = {operand(k): operand(v) for k, v in substitutions.items()}
    kept = set(graph.order(replace.values()))  # substitutions are not copied
    own = {v.node for v in function.signature}  # nor are captured values
    given: dict[Node, Node] = {}

    def change(leaf: Node) -> Node | None:
        if leaf in kept:
            return None
        if not isinstance(leaf, (graph.Input, Placeholder)):
            return changes[method](leaf)
        if leaf not in own:
            return None
        given[leaf] = _own_argument(leaf)
        return given[leaf]

    nodes = graph.copy(function._current(), replace, change)
    return nodes, [given.get(n, n) for n in function._declared() if n not in replace]


def operand(value: object) -> Node:
    if value is None:  # the type of CNTK's error, when find_by_name found nothing
        raise AttributeError("a substitution is None; did find_by_name find nothing?")
    if not isinstance(value, Operand):
        raise TypeError(f"a substitution must be a variable or a function, got {value!r}")
    return records.as_node(value)


def _own_argument(leaf: Node) -> Node:
    new: Any
    if isinstance(leaf, graph.Input):
        new = graph.Input(leaf.shape or (), leaf.axes or (), leaf.dtype, leaf.name)
        new.needs_gradient, new.is_sparse = leaf.needs_gradient, leaf.is_sparse
    else:
        new = Placeholder(leaf.shape, leaf.axes, leaf.dtype, leaf.name)
    new.origin = leaf.origin
    return new


def _own_value(leaf: Node) -> Node | None:
    if isinstance(leaf, graph.Constant):
        return leaf.copy()
    if not isinstance(leaf, graph.Stored):
        return None
    assert leaf.shape is not None
    new = type(leaf)(leaf.shape, leaf.dtype, leaf.initializer, leaf.name, where=leaf.origin)
    if graph.INFERRED not in leaf.shape:
        new.value = leaf.value
    return new


def _frozen_value(leaf: Node) -> Node | None:
    if not isinstance(leaf, graph.Stored):
        return _own_value(leaf)
    constant = graph.Constant(leaf.value, None, leaf.dtype, leaf.name, where=leaf.origin)
    constant.frozen = True
    return constant
