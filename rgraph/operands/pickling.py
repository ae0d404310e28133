"""Pickles and deep copies of variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..graph import INFERRED, Constant, Input, Placeholder, Stored
from ..graph.leaves import KINDS, has_value
from ..graph.node import Shape, resolve
from ..graph.types import DTypeLike
from ..ops.records import hold

if TYPE_CHECKING:
    from ..model.function import Function
    from .variables import Variable


def reduced_variable(variable: Variable) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    node: Any = resolve(variable.node)
    if node.op is not None:
        return _output, (hold([node]),)
    more: dict[str, Any] = {}
    if isinstance(node, Input):
        more = {"needs_gradient": node.needs_gradient, "is_sparse": node.is_sparse}
    elif isinstance(node, Stored):
        known = INFERRED not in (node.shape or ())
        more = {"value": node.value} if known else {"initializer": node.initializer}
    elif isinstance(node, Constant):
        of = None if node.root is node else hold(node.root)
        kept = {key: getattr(node, key) for key in ("weak", "frozen", "implied")}
        more = {"of": of, "given": node.root.given, **kept}
    return _leaf, (node.kind, node.shape, node.axes, node.dtype, node.name, more)


def _output(function: Function) -> Variable:
    return function.output


def _leaf(
    kind: str, shape: Shape | None, axes: object, dtype: DTypeLike, name: str, more: dict[str, Any]
) -> Any:
    node: Any
    if kind == Constant.__name__ and more["of"] is not None:
        node = more["of"].node.as_dtype(dtype)
    elif kind == Constant.__name__:
        node = Constant(more["given"], shape, dtype, name)
    elif kind in (Input.__name__, Placeholder.__name__):
        node = KINDS[kind](shape, axes, dtype, name)
    else:
        node = KINDS[kind](shape, dtype, more.pop("initializer", has_value), name)
    for key in more.keys() - {"of", "given"}:
        setattr(node, key, more[key])
    return hold(node)
