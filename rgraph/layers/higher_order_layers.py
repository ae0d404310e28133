"""Layers made of other layers: chains and skip connections."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, overload

from ..graph import GraphError, apply
from ..graph.types import OperandLike
from ..model.function import Function
from ..model.piping import piped
from ..operands.tracing import trace
from ..ops.records import named
from ..ops.shaping import ALIAS

Layer = Callable[..., Any]


def _composed(f: Layer, name: str) -> Function:
    """A layer from a Python function, with `name` given to its result."""
    nodes, arguments = trace(f)
    if name and len(nodes) == 1:
        nodes = [named(apply(ALIAS, nodes[0]), name)]
    return Function(nodes, arguments, name)


@overload
def Sequential(layers: list[Any], name: str = "") -> Function: ...
@overload
def Sequential(layers: object, name: str = "") -> Any: ...
def Sequential(layers: object, name: str = "") -> Any:
    """Composes layers: `Sequential([f, g, h])(x)` is h(g(f(x))).

    Args:
        layers: a list of layers, functions or Python functions. A tuple in the list applies its
            members to the same input, or each to its own if there are as many inputs; their results
            are the arguments of the next layer. A nested list is flattened.
        name: the name of the result.

    Source: CNTK's `Sequential`.

    >>> L = C.layers
    >>> model = L.Sequential([L.Dense(8, activation=C.relu), lambda x: x * 2, L.Dense(3)])
    >>> model(C.input_variable(5)).shape
    (3,)
    >>> spliced = L.Sequential([(L.Dense(2), L.Dense(3)), C.splice])
    >>> spliced(C.input_variable(5)).shape
    (5,)
    """
    if not isinstance(layers, list):
        if not callable(layers):
            raise GraphError(
                f"Sequential: expected a list of layers, got {layers!r:.60}",
                hint="write Sequential([Dense(8), relu, Dense(3)])",
            )
        return layers

    def chain(x: OperandLike) -> Any:
        return piped((x,), layers)

    return _composed(chain, name)


def For(
    what_range: Iterable[object], constructor: Callable[..., object], name: str = ""
) -> Function:
    """Composes layers made in a loop, one for each element of a range.

    Args:
        what_range: a range or any iterable.
        constructor: a function from an element to a layer or list of layers; or of no argument.

    Source: CNTK's `For`.

    >>> model = C.layers.For(range(3), lambda i: C.layers.Dense(4 - i))
    >>> model(C.input_variable(5)).shape
    (2,)
    """
    if not isinstance(constructor, (FunctionType, functools.partial)):
        raise ValueError(
            "For: the second argument must be a Python function that returns a layer, "
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
    """Composes layers so that each gets the sum of the input and all previous results.

    Source: CNTK's `SequentialClique`.

    >>> clique = C.layers.SequentialClique([C.abs, C.sqrt, C.square])
    >>> clique(C.constant([2, 8])).eval()
    array([ 36., 400.], dtype=float32)
    """
    layers = list(functions)

    def clique(x: OperandLike) -> Any:
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

    def skip(x: OperandLike) -> Any:
        return f(x) + x

    return _composed(skip, name)
