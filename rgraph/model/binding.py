"""Binds a function's arguments in calls, and its placeholders permanently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from .. import graph
from ..graph import GraphError, Input, Node, Placeholder
from ..graph.node import describe
from ..operands.operand import Operand
from ..operands.tracing import is_outer
from ..operands.variables import Variable, leaf
from ..ops.records import as_node

if TYPE_CHECKING:
    from .function import Function


def match(
    function: Function, args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[Variable, Any]:
    """The value of each argument in a call, by position or name.

    Raises:
        GraphError: there are too many arguments, or an unknown name.
    """
    parameters = [a for a in function.arguments if not is_outer(a.node)]
    if len(args) > len(parameters):
        raise GraphError(
            f"{function.name or 'the function'} takes {len(parameters)} arguments "
            f"({', '.join(describe(p.node) for p in parameters)}), got {len(args)}"
        )
    given: dict[Variable, Any] = dict(zip(parameters, args, strict=False))
    for name, value in kwargs.items():
        named = [p for p in parameters if p.name == name]
        if not named or named[0] in given:
            raise GraphError(
                f"{function.name or 'the function'} has no free argument '{name}'; it has "
                f"{', '.join(describe(p.node) for p in parameters)}"
            )
        given[named[0]] = value
    return given


def applied(
    function: Function, given: Mapping[Variable, Any]
) -> tuple[list[Node], list[Node] | None]:
    """The nodes of a function applied to operands, and the arguments that are still unbound."""
    replace = {k.node: as_node(v) for k, v in given.items()}
    for argument, value in replace.items():
        own = None if isinstance(argument, Placeholder) else argument.shape
        other = value.shape
        fits = graph.stands_for(own, other)
        if isinstance(argument, Input) and own is not None and other is not None:
            # New leading axes would shift the axes that operations refer to, unless of size 1.
            fits = fits and all(n == 1 for n in other[: len(other) - len(own)])
        if not fits:
            raise GraphError(
                f"argument {argument.name or '?'} has shape {argument.shape}, but got a value "
                f"of shape {value.shape}"
            )
    return graph.copy(function._current(), replace), _left_open(function, given)


def _left_open(function: Function, given: Mapping[Variable, object]) -> list[Node] | None:
    """The signature after a call; the arguments of a function given for one replace it."""
    declared = given if function._signature is None else map(leaf, function._declared())
    found: list[Node] = []
    for argument in declared:
        value = given.get(argument, argument)
        if isinstance(value, Operand) and not isinstance(value, Variable):
            found += cast("Function", value)._declared()
        elif value is argument:
            found.append(argument.node)
    return list(dict.fromkeys(found)) or None


def replace_placeholders(function: Function, substitutions: Mapping[Any, Any]) -> None:
    """See `Function.replace_placeholders`; nothing is bound if there is an error."""
    bindings = {as_node(k): as_node(v) for k, v in substitutions.items()}
    for node in bindings:
        if not isinstance(node, Placeholder):
            raise GraphError(f"{describe(node)} is not an unbound placeholder")
    try:
        graph.bind(bindings)  # type: ignore[arg-type]
        function._current()
    except GraphError:
        for node in bindings:
            node.target = None
        raise
    for node in bindings:
        if isinstance(node.handle, Variable):
            node.handle.stand_anew()


def only_placeholder(function: Function) -> Variable:
    """The placeholder that `replace_placeholder` binds."""
    own = [p for p in function.placeholders if not is_outer(p.node)]
    if len(own) != 1:
        raise GraphError(f"{function!r} must have exactly one placeholder, it has {len(own)}")
    return own[0]
