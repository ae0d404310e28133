"""Pickles and deep copies of what people hold, by the saved form of a function.

Leaves (inputs, parameters, constants) are objects of their own in it, so that what shares them goes
on to share them: a function, its parameters and their learner, pickled together, stay together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import INFERRED, Axis, Constant, Input, Node, Placeholder, Stored
from ..graph.node import resolve
from ..model.function import Function
from ..model.user_function import UserFunction
from ..model.variables import Variable
from ..ops.records import hold
from .persistence import LEAVES, Reader, Writer, described, has_value


class _Writer(Writer):
    """Sets leaves and their axes aside, as objects."""

    def __init__(self, roots: Sequence[Node]) -> None:
        super().__init__(roots)
        self.given: list[Any] = []
        self.classes: list[type] = []  # of user functions: whoever unpickles must have them

    def leaf(self, node: Node) -> dict[str, Any]:
        return self._given(hold(node))

    def attribute(self, value: Any, node: Node) -> Any:
        if isinstance(value, UserFunction):
            self.classes.append(type(value))
        return super().attribute(value, node)

    def axis_entries(self) -> list[dict[str, Any]]:
        entries = zip(self.axes, super().axis_entries(), strict=True)
        return [e if e["source"] is not None else self._given(a) for a, e in entries]

    def _given(self, value: Any) -> dict[str, Any]:
        self.given.append(value)
        return {"given": len(self.given) - 1}


class _Reader(Reader):
    def __init__(
        self, saved: Mapping[str, Any], archive: Mapping[str, np.ndarray], given: Sequence[Any]
    ) -> None:
        self.given = given
        super().__init__(saved, archive)

    def _axis(self, entry: Mapping[str, Any]) -> Axis:
        return self.given[entry["given"]] if "given" in entry else super()._axis(entry)

    def _bare(self, entry: Mapping[str, Any]) -> Node:
        return self.given[entry["given"]].node if "given" in entry else super()._bare(entry)


def reduced_function(function: Function) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    writer = _Writer([*function._current(), *function._declared()])
    text = json.dumps(described(function, writer))
    is_user = isinstance(function, UserFunction)
    return _function, (text, writer.arrays, writer.given, is_user, writer.classes)


def _function(
    text: str,
    arrays: Sequence[np.ndarray],
    given: Sequence[Any],
    is_user: bool,
    classes: Sequence[type],
) -> Function:
    named = {f"array{i}": np.asarray(a) for i, a in enumerate(arrays)}
    function = _Reader(json.loads(text), named, given).function()
    return hold(function._nodes[0]) if is_user else function


def reduced_variable(variable: Variable) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    node: Any = resolve(variable.node)
    if node.op is not None:
        return _output, (Function([node]),)
    more: dict[str, Any] = {}
    if isinstance(node, Input):
        more = {"needs_gradient": node.needs_gradient, "is_sparse": node.is_sparse}
    elif isinstance(node, Stored):
        known = INFERRED not in (node.shape or ())
        more = {"value": node.value} if known else {"initializer": node.initializer}
    elif isinstance(node, Constant):
        of = None if node.root is node else hold(node.root)
        more = {"of": of, "given": node.root.given, "weak": node.weak, "frozen": node.frozen}
    return _leaf, (node.kind, node.shape, node.axes, node.dtype, node.name, more)


def _output(function: Function) -> Variable:
    return function.output


def _leaf(kind: str, shape: Any, axes: Any, dtype: Any, name: str, more: dict[str, Any]) -> Any:
    node: Any
    if kind == Constant.__name__ and more["of"] is not None:
        node = more["of"].node.as_dtype(dtype)
    elif kind == Constant.__name__:
        node = Constant(more["given"], shape, dtype, name)
    elif kind in (Input.__name__, Placeholder.__name__):
        node = LEAVES[kind](shape, axes, dtype, name)
    else:
        node = LEAVES[kind](shape, dtype, more.pop("initializer", has_value), name)
    for key in more.keys() - {"of", "given"}:
        setattr(node, key, more[key])
    return hold(node)
