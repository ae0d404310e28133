"""Traces Python functions of variables: calls them once with placeholders."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from ..graph import GraphError, Node, Placeholder
from ..ops import records
from ..ops.records import hold
from .types import Type


def _arguments(f: Callable[..., object]) -> list[inspect.Parameter]:
    """The parameters of a function without a default value."""
    try:
        parameters = inspect.signature(f).parameters.values()
        any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    except ValueError:  # some functions in C have no signature
        parameters, any_number = {}.values(), True
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = [p for p in parameters if p.default is p.empty and p.kind not in variable]
    if any_number and not found:
        raise GraphError(
            f"{_name(f)} does not say how many arguments it takes",
            hint="wrap it in a function with named arguments: lambda x, y: …",
        )
    return found


def _name(f: Callable[..., object]) -> str:
    return getattr(f, "__name__", "the function")


def annotated(f: Callable[..., object], *types: object, **named: object) -> Callable[..., Any]:
    """Annotates the arguments of `f` with types, in order or by name."""
    names = [p.name for p in _arguments(f)]
    given = dict(zip(names, types, strict=False)) | named
    if len(types) + len(named) != len(names) or set(given) != set(names):
        raise TypeError(
            f"{_name(f)} takes the arguments {', '.join(names)}; types were given for "
            f"{', '.join(given)}"
        )
    f.__annotations__ = {n: Type.of(t) for n, t in given.items()}
    return f


def _types(f: Callable[..., object]) -> dict[str, Any]:
    """The annotations of `f` that are types of variables."""
    try:
        found = inspect.get_annotations(f, eval_str=True)
    except (NameError, TypeError, SyntaxError):  # annotations for other purposes
        return {}
    return {n: t for n, t in found.items() if isinstance(t, Type)}


def trace(f: Callable[..., object]) -> tuple[list[Node], list[Node]]:
    """Calls a Python function; returns its result and its arguments, as nodes.

    The arguments are placeholders, or inputs if an annotation gives the type.
    """
    if getattr(f, "makes_layer", False):
        raise GraphError(
            f"{_name(f)} makes layers, it is not a layer itself",
            hint=f"call it and pass the result: {_name(f)}(…)",
        )
    types = _types(f)
    made = {
        p: types[p.name].new(p.name) if p.name in types else Placeholder(name=p.name)
        for p in _arguments(f)
    }
    by_name = {p.name: hold(n) for p, n in made.items() if p.kind is p.KEYWORD_ONLY}
    arguments = list(made.values())
    with _open(arguments):
        result = f(*map(hold, arguments[: len(arguments) - len(by_name)]), **by_name)
    if result is None:
        raise GraphError(
            f"{_name(f)} returns None",
            hint="return a variable, or a tuple of several, at its end",
        )
    outputs = result if isinstance(result, (tuple, list)) else [result]
    nodes: list[Node] = []
    for o in outputs:
        nodes += nodes_of(o)
    return nodes, arguments


# The arguments of the functions that are being traced.
_outer: ContextVar[frozenset[Node]] = ContextVar("outer", default=frozenset())


@contextlib.contextmanager
def _open(arguments: Iterable[Node]) -> Iterator[None]:
    before = _outer.set(_outer.get().union(arguments))
    try:
        yield
    finally:
        _outer.reset(before)


def is_outer(node: Node) -> bool:
    """Whether it is an argument of a function that is being traced.

    A function that is made in the meantime captures it; it is not an argument of that function.
    """
    return node in _outer.get()


def nodes_of(value: Any) -> list[Node]:
    """The nodes of a function's outputs, or of one operand."""
    several = getattr(value, "_current", None)
    return several() if several else [records.as_node(value)]
