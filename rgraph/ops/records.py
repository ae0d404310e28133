"""The table of operations, and the decorator of the functions that users call."""

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
    """The type of a function decorated with `operation`, which also takes `name`.

    Called by users it returns a `Function`. Called within the library with nodes, it returns what
    the decorated function returns.
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
    """Create the record of an operation and add it to the table."""
    fields.setdefault("align", follow_axes)
    TABLE[name] = op = Op(name, **fields)
    return op


def follow_axes(inputs: Sequence[Node], axes: tuple[Axis, ...], /, **_: object) -> list[Node]:
    """Bring operands to the dynamic axes of the result.

    Values per sequence are repeated for each frame, and rows are moved to the result's batch axis.
    """
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
    """`x` on the batch axis of `like`, which must have the same number of rows."""
    same = not x.axes or not like.axes or x.axes[0] == like.axes[0]
    return x if same else apply(TABLE["carry_rows"], x, like)


class Sameness(int):
    """The result of `==` between values of a graph: 1 or 0, but not allowed as an operand."""

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
        raise GraphError(f"an operand can't be a ragged list: {error}") from None
    if array.dtype.kind not in "biuf":
        raise GraphError(
            f"an operand must be a variable, a function, a number or an array of numbers, "
            f"got {type(value).__name__} {value!r:.60}"
        )
    return Constant(array if isinstance(value, np.ndarray) else value)


@functools.singledispatch
def hold(node: Any, signature: Sequence[Node] | None = None, name: str = "") -> Any:
    """Return the object that users get for a node, or for a list of nodes.

    `model.function` registers the implementation, so that lower packages can create functions
    without importing it.

    Args:
        signature: for a list of nodes, the arguments of the function, in order.
        name: for a list of nodes, the name of the function.
    """
    return node


def operation(build: Callable[P, Any]) -> Operation[P]:
    """Decorate `build`, a function of nodes, so that users can call it.

    Operands may be variables, functions, numbers and arrays. It gets one more parameter, `name`,
    the last one, which names the result; with a variable number of operands, a string at the end
    is the name. Called with nodes it returns nodes, otherwise the object that users get (`hold`).
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
        if name and not isinstance(result, Node):  # with several values, the function gets the name
            held.name = name
        return held

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _with_name(build: Callable[..., object]) -> tuple[inspect.Signature, int]:
    """The signature with `name` added, and the number of positional parameters before it."""
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
    """`node` with this name, or an alias of it if it is a leaf or already has a name."""
    if node.op is None or node.name:
        node = apply(TABLE["alias"], node)
    node.name = name
    return node
