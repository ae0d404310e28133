"""What a Python function of variables computes: it is called once, on placeholders."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .graph import GraphError, Node, Placeholder
from .ops import records
from .types import Type
from .variables import handle


def _argument_names(f: Callable[..., Any]) -> list[str]:
    return [
        p.name
        for p in inspect.signature(f).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def annotated(f: Callable[..., Any], *types: Any, **named: Any) -> Callable[..., Any]:
    """`f` with these types as annotations of its arguments, in their order or by name."""
    names = _argument_names(f)
    given = dict(zip(names, types, strict=False)) | named
    if len(types) + len(named) != len(names) or set(given) != set(names):
        raise TypeError(
            f"{f.__name__} takes the arguments {', '.join(names)}; types were given for "
            f"{', '.join(given)}"
        )
    f.__annotations__ = {n: Type.of(t) for n, t in given.items()}
    return f


def _types(f: Callable[..., Any]) -> dict[str, Any]:
    """What an argument's annotation says, if anything that is a type of a variable."""
    try:
        found = inspect.get_annotations(f, eval_str=True)
    except (NameError, TypeError, SyntaxError):  # annotations for other readers
        return {}
    return {n: t for n, t in found.items() if isinstance(t, Type)}


def trace(f: Callable[..., Any]) -> tuple[list[Node], list[Node]]:
    """Calls a Python function: the nodes that it gives, and those that it was called on.

    These are placeholders; inputs where an annotation gives an argument's type.
    """
    types = _types(f)
    arguments = [types[n].new(n) if n in types else Placeholder(name=n) for n in _argument_names(f)]
    result = f(*map(handle, arguments))
    if result is None:
        raise GraphError(
            f"{getattr(f, '__name__', 'the function')} gives nothing",
            mend="end it with return",
        )
    outputs = result if isinstance(result, (tuple, list)) else [result]
    nodes: list[Node] = []
    for o in outputs:
        nodes += nodes_of(o)
    return nodes, arguments


def nodes_of(value: Any) -> list[Node]:
    """The nodes of a function's outputs, or of one operand."""
    several = getattr(value, "_current", None)
    return several() if several else [records.as_node(value)]
