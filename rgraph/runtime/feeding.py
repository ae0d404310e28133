"""Data that the user feeds, by input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph import GraphError, Node
from ..graph.node import describe, resolve
from ..graph.types import Data
from .values import Value

if TYPE_CHECKING:
    from ..operands.variables import Variable


def as_feed(
    arguments: Mapping[object, Data] | Data, inputs: Sequence[Variable]
) -> dict[Node, Data]:
    """The data that the user feeds, by node.

    Args:
        arguments: a dict from inputs or their names to values, or the value of the only input. A
            value, or the whole, may be a pair with a list that says for each sequence whether it
            starts anew; see `Value.create`.
        inputs: the inputs of the function.
    """
    if arguments is None:
        return {}
    arguments, all_start = _parted(arguments)
    if not isinstance(arguments, (dict, Mapping)):
        if len(inputs) != 1:
            raise GraphError(
                f"the function has {len(inputs)} inputs "
                f"({', '.join(describe(i.node) for i in inputs)})",
                hint="say which value is whose: {x: …, y: …}",
            )
        arguments = {inputs[0]: arguments}
    found = {}
    for key, value in arguments.items():
        node = _node_of(key, inputs)
        value, start = _parted(value)
        start = start or all_start
        if start is not None:
            declared = next((a for a in inputs if a.node is node), None)
            value = value if declared is None else Value.create(declared, value, start)
        found[node] = value
    return found


def _node_of(key: object, inputs: Sequence[Variable]) -> Node:
    """The input that a key stands for."""
    node = getattr(key, "node", key)
    if isinstance(node, Node):
        return resolve(node)
    named = {a.node.name: a.node for a in inputs if a.node.name}
    if key not in named:
        raise GraphError(f"the function has no input named '{key}'; it has {list(named)}")
    return resolve(named[key])


def _parted(value: Data) -> tuple[Data, list[bool] | None]:
    """Split CNTK's pairs of data and a list of whether each sequence starts anew."""
    if not isinstance(value, tuple):
        return value, None
    if len(value) == 2 and isinstance(value[1], (list, tuple)):
        data, starts = value
        if starts and all(isinstance(s, (bool, np.bool_)) for s in starts):
            return data, list(starts)
    return value, None
