"""Makes functions from Python functions, and from several functions: layers, blocks, tuples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import graph, ops
from ..graph import Node
from ..graph.node import resolve
from ..operands.tracing import nodes_of, trace
from .cloning import operand
from .function import Function


def BlockFunction(op_name: str, name: str = "") -> Callable[[Callable[..., Any]], Function]:
    """A decorator that makes a layer: a `Function` that error messages and `summary` show as one.

    Args:
        op_name: the kind of layer.
        name: the name of this layer, for `find_by_name`.

    Source: CNTK's `BlockFunction`.

    >>> @C.BlockFunction("Twice", "my_twice")
    ... def twice(x):
    ...     return x * 2
    >>> twice.name
    'my_twice'
    """

    def decorate(f: Callable[..., object]) -> Function:
        with graph.errors.layer(f"{op_name} '{name}'" if name else op_name):
            nodes, arguments = trace(f)
            used = set(graph.order(nodes))
            ends = [a for a in arguments if a in used]
            nodes = ops.shaping.mark_block(nodes, op_name, name, ends)
        return Function(nodes, arguments, name)

    return decorate


def as_block(
    composite: object,
    block_arguments_map: Sequence[tuple[object, object]],
    block_op_name: str,
    block_instance_name: str = "",
) -> Function:
    """Applies a function to operands, as one block with a name, like a layer.

    Args:
        composite: a function of placeholders.
        block_arguments_map: pairs of a placeholder and the operand that replaces it.
        block_op_name: the kind of block.
        block_instance_name: the name of this block.

    Source: CNTK's `as_block`.

    >>> p, x = C.placeholder(), C.input_variable(1)
    >>> C.as_block(p * p, [(p, x)], "Square").eval({x: [[3]]})
    array([[9.]], dtype=float32)
    """
    pairs = {operand(k): operand(v) for k, v in block_arguments_map}
    operands = [resolve(v) for v in pairs.values()]
    inner = graph.copy(nodes_of(composite), pairs)
    kind, name = block_op_name, block_instance_name
    return Function(ops.shaping.mark_block(inner, kind, name, operands), None, name)


def combine(*operands: Any, name: str = "") -> Function:
    """Combines functions or variables into one function with all their outputs.

    >>> x = C.input_variable(1)
    >>> len(C.combine(x + 1, x + 2).outputs)
    2
    """
    listed = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    flat = operands[0] if listed else operands
    nodes: list[Node] = []
    for o in flat:
        nodes += nodes_of(o)
    return Function(nodes, None, name)
