"""Layers made of other layers: chains and skip connections."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, overload

from ..graph import GraphError, apply
from ..model.function import Function
from ..model.piping import piped
from ..operands.tracing import trace
from ..ops.records import named
from ..ops.shaping import ALIAS

Layer = Callable[..., Any]


def _composed(f: Layer, name: str) -> Function:
    """A Python function of layers as a layer, whose result bears the name if there is one."""
    nodes, arguments = trace(f)
    if name and len(nodes) == 1:
        nodes = [named(apply(ALIAS, nodes[0]), name)]
    return Function(nodes, arguments, name)


@overload
def Sequential(layers: list[Any], name: str = "") -> Function: ...
@overload
def Sequential(layers: Any, name: str = "") -> Any: ...
def Sequential(layers: Any, name: str = "") -> Any:
    """Layers one after another: `Sequential([f, g, h])(x)` is h(g(f(x))).

    Args:
        layers: functions, layers or Python functions. A tuple in the list applies each of its
            members to the same input, or of as many inputs each to its own; their results are the
            arguments of what follows. A list in the list counts as its members.
        name: the name of the result.

    Source: CNTK's `Sequential`.

    >>> L = C.layers
    >>> model = L.Sequential([L.Dense(8, activation=C.relu), lambda x: x * 2, L.Dense(3)])
    >>> model(C.input_variable(5)).shape
    (3,)
    >>> both = L.Sequential([(L.Dense(2), L.Dense(3)), C.splice])
    >>> both(C.input_variable(5)).shape
    (5,)
    """
    if not isinstance(layers, list):
        if not callable(layers):
            raise GraphError(
                f"Sequential: {layers!r:.60} is no layer",
                hint="give a list: Sequential([Dense(8), relu, Dense(3)])",
            )
        return layers

    def chain(x: Any) -> Any:
        return piped((x,), layers)

    return _composed(chain, name)


def For(what_range: Iterable[Any], constructor: Callable[..., Any], name: str = "") -> Function:
    """A chain of layers, one for each element of a range.

    Args:
        what_range: a range or any iterable.
        constructor: makes a layer, or a list of them, from an element; it may take no argument.

    Source: CNTK's `For`.

    >>> model = C.layers.For(range(3), lambda i: C.layers.Dense(4 - i))
    >>> model(C.input_variable(5)).shape
    (2,)
    """
    if not isinstance(constructor, (FunctionType, functools.partial)):
        raise ValueError(
            "For: the second argument must be a Python function that makes a layer, "
            "write lambda: Dense(…)"
        )
    if not isinstance(what_range, Iterable):
        raise GraphError(
            f"For: the first argument must be a range or a list, got {what_range!r:.60}",
            hint="range(3) makes three layers",
        )
    takes_element = bool(inspect.signature(constructor).parameters)
    made = [constructor(i) if takes_element else constructor() for i in what_range]
    return Sequential(made, name)


def SequentialClique(functions: Iterable[Layer], name: str = "") -> Function:
    """A chain in which each layer gets the sum of the input and all results before it.

    Source: CNTK's `SequentialClique`.

    >>> clique = C.layers.SequentialClique([C.abs, C.sqrt, C.square])
    >>> clique(C.constant([2, 8])).eval()
    array([ 36., 400.], dtype=float32)
    """
    layers = list(functions)

    def clique(x: Any) -> Any:
        for layer in layers:
            out = layer(x)
            x = x + out
        return out

    return _composed(clique, name)


def ResNetBlock(f: Layer, name: str = "") -> Function:
    """f(x) + x.

    Source: He et al., 2016; CNTK's `ResNetBlock`.

    >>> block = C.layers.ResNetBlock(C.square)
    >>> block(C.constant([2, 3])).eval()
    array([ 6., 12.], dtype=float32)
    """

    def skip(x: Any) -> Any:
        return f(x) + x

    return _composed(skip, name)
