"""The table of operations, and what turns a function over nodes into one that people call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, overload

import numpy as np

from ..graph import Axis, Constant, GraphError, Node, Op, apply
from ..graph.types import OperandLike

if TYPE_CHECKING:
    from ..model.function import Function

TABLE: dict[str, Op] = {}

P = ParamSpec("P")


class Operation(Protocol[P]):
    """What `operation` gives: a function as it was written, that also takes a name.

    Of people's operands it makes a `Function`. Of a node, as the library itself calls it, it gives
    what the function gave.
    """

    @overload
    def __call__(self, operand: Node, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    def __call__(self, operand: Any, other: Node, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Function: ...
    @overload
    def __call__(self, *args: Any, name: str, **kwargs: Any) -> Function: ...


def define(name: str, **fields: Any) -> Op:
    """Makes the record of an operation and enters it into the table."""
    fields.setdefault("align", follow_axes)
    TABLE[name] = op = Op(name, **fields)
    return op


def follow_axes(inputs: Sequence[Node], axes: tuple[Axis, ...], /, **_: object) -> list[Node]:
    """What is the same for a whole sequence is given to each of its frames; rows are put on the
    batch axis that they meet."""
    inputs = list(inputs)
    for n, i in enumerate(inputs):
        if not i.axes or i.axes == axes:
            continue
        if axes and i.axes[0] != axes[0]:
            inputs[n] = i = carried(i, next(other for other in inputs if other.axes == axes))
        if i.axes and len(i.axes) == 1 and len(axes) == 2:
            inputs[n] = apply(TABLE["spread"], i, axes=axes)
    return inputs


def carried(x: Node, like: Node) -> Node:
    """`x` on the batch axis of another operand, which must have as many rows."""
    same = not x.axes or not like.axes or x.axes[0] == like.axes[0]
    return x if same else apply(TABLE["carry_rows"], x, like)


class Sameness(int):
    """What `==` between values of a graph gives: 1 or 0, and nothing to compute with."""

    def __repr__(self) -> str:
        return repr(bool(self))


def as_node(value: OperandLike) -> Node:
    """The node of a variable, function, number or array."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Sameness):
        raise GraphError(
            "the operand is a bool: == and != compare identity",
            hint="use C.equal and C.not_equal to compare elements",
        )
    node = getattr(value, "node", None)
    if isinstance(node, Node):
        return node
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise GraphError(f"a ragged list can't be an operand: {error}") from None
    if array.dtype.kind not in "biuf":
        raise GraphError(
            f"an operand must be a variable, a function, a number or an array of numbers, "
            f"got {type(value).__name__} {value!r:.60}"
        )
    return Constant(array if isinstance(value, np.ndarray) else value)


@functools.singledispatch
def hold(node: Any, signature: Sequence[Node] | None = None, name: str = "") -> Any:
    """What people hold for a node, or for several.

    `model.function` says what that is, by registering it: all rooms below make functions by this.

    Args:
        signature: of a list of nodes: the function's arguments, in their order.
        name: of a list of nodes: the function's name.
    """
    return node


def operation(build: Callable[P, Any]) -> Operation[P]:
    """Lets `build`, a function over nodes, be called by people.

    Operands may be variables, functions, numbers and arrays. `name`, the last parameter, names
    the result; after any number of operands a string is the name. Called with nodes it gives a
    node, called by a person it gives what people hold.
    """
    signature, at = _with_name(build)

    @functools.wraps(build)
    def call(*args: Any, name: str = "", **kwargs: Any) -> Any:
        if len(args) > max(at, 1) and isinstance(args[-1], str):
            *args, name = args  # type: ignore[assignment]
        result = build(*args, **kwargs)
        if name and isinstance(result, Node):
            result = named(result, name)
        if any(isinstance(a, Node) for a in args):
            return result
        held = hold(result)
        if name and not isinstance(result, Node):  # several values: the name is the function's
            held.name = name
        return held

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _with_name(build: Callable[..., object]) -> tuple[inspect.Signature, int]:
    """The signature of an operation with its `name`, and how many operands come before that."""
    signature = inspect.signature(build)
    parameters = list(signature.parameters.values())
    kinds = [p.kind for p in parameters]
    ordered = sum(k is inspect.Parameter.POSITIONAL_OR_KEYWORD for k in kinds)
    several = inspect.Parameter.VAR_POSITIONAL in kinds
    kind = inspect.Parameter.KEYWORD_ONLY if several else inspect.Parameter.POSITIONAL_OR_KEYWORD
    name = inspect.Parameter("name", kind, default="")
    parameters.insert(len(parameters) if several else ordered, name)
    return signature.replace(parameters=parameters), ordered


def named(node: Node, name: str) -> Node:
    """`node` under this name; a node that has a name of its own keeps it."""
    if node.op is None or node.name:
        node = apply(TABLE["alias"], node)
    node.name = name
    return node
