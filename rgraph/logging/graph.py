"""Searching and drawing graphs: CNTK's `logging.graph` module."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..graph import GraphError
from ..inspect.picture import picture
from ..operands import search
from ..operands.tracing import nodes_of
from ..operands.variables import Variable


def depth_first_search(root: Any, visitor: Callable[[Any], bool], depth: int = 0) -> list[Any]:
    """All functions and variables at or below `root` for which `visitor` returns True.

    Args:
        root: a function or variable.
        visitor: called once with each function (with its operands as `inputs`), input, parameter
            and constant.
        depth: the number of levels of nested layers to search in; -1 for all.

    Source: CNTK's `depth_first_search`.

    >>> f = C.input_variable(1, name="x") * 2 + C.Parameter(1, name="p")
    >>> [v.name for v in C.logging.graph.depth_first_search(f, lambda v: bool(v.name))]
    ['x', 'p']
    """
    nodes = nodes_of(root)
    found = [_inner(root)] if len(nodes) > 1 else []
    found += [search.single(n) for n in search.walk(nodes, depth)]
    return [item for item in found if visitor(item)]


def _inner(value: Any) -> Any:
    """A function as a single operation; a computed variable as the function that computes it."""
    if isinstance(value, Variable):
        return value.owner.root_function if value.is_output else value
    return value.root_function


def _operands(function: Any) -> tuple[Any, ...]:
    return function.inputs if function.is_primitive else function.outputs


def find_all_with_name(node: Any, node_name: str, depth: int = 0) -> list[Any]:
    """All functions and variables with this name at or below `node`.

    >>> f = C.plus(C.input_variable(1, name="x"), 2, name="y")
    >>> len(C.logging.graph.find_all_with_name(f * 2, "y"))
    1
    """
    return depth_first_search(node, lambda v: v.name == node_name, depth)


def find_by_name(node: Any, node_name: str, depth: int = 0) -> Any:
    """The function or variable with this name at or below `node`, or None.

    Raises:
        GraphError: there are several with this name.

    >>> f = C.plus(C.input_variable(1, name="x"), 2, name="y")
    >>> C.logging.graph.find_by_name(f * 2, "x").shape
    (1,)
    """
    if not isinstance(node_name, str):
        raise ValueError(f"a name must be a string, got {type(node_name).__name__}")
    found = find_all_with_name(node, node_name, depth)
    if len(found) > 1:
        raise GraphError(
            f"{len(found)} functions or variables are named {node_name!r}",
            hint="use find_all_with_name",
        )
    return found[0] if found else None


def find_by_uid(node: Any, node_uid: str, depth: int = 0) -> Any:
    """The function or variable below `node` with this `uid`, or None.

    >>> x = C.input_variable(1)
    >>> C.logging.graph.find_by_uid(x * 2, x.uid) == x
    True
    """
    if not isinstance(node_uid, str):
        raise ValueError(f"a uid must be a string, got {type(node_uid).__name__}")
    found = depth_first_search(node, lambda v: v.uid == node_uid, depth)
    return found[0] if found else None


def get_node_outputs(node: Any, depth: int = 0) -> list[Any]:
    """The outputs of all functions below `node`.

    >>> x = C.input_variable(2)
    >>> [v.name for v in C.logging.graph.get_node_outputs(C.tanh(C.abs(x, name="a"), name="b"))]
    ['b', 'a']
    """
    functions = depth_first_search(node, lambda v: not isinstance(v, Variable), depth)
    return [output for f in functions for output in f.outputs]


_SHAPES = {"Input": "ellipse", "Parameter": "diamond", "Constant": "plaintext"}


def plot(root: Any, filename: str | os.PathLike[str] | None = None, depth: int = 0) -> str:
    """The graph as text, with a line for each operation, and optionally as a picture.

    Args:
        root: a function or variable.
        filename: a file to write: `.svg`, without further requirements; `.dot` (Graphviz), `.png`
            or `.pdf`, which require Graphviz and the Python package `graphviz`.
        depth: the number of levels of nested layers to open in an `.svg`. Recurrences are always
            opened, with a frame around the operations of a step.

    Returns:
        the operations in the order in which they are computed: `Times(Plus12, Parameter3)`.

    >>> f = C.input_variable(2) + 1
    >>> C.logging.graph.plot(f).partition("(")[0]
    'Plus'
    """
    if filename is not None and os.fspath(filename).lower().endswith(".svg"):
        drawn = picture(nodes_of(root), depth, most=None)
        with open(filename, "w", encoding="utf-8") as file:
            file.write(drawn or "")
        filename = None
    lines, dot = [], ["digraph {", "  node [shape=box]"]
    for item in depth_first_search(root, lambda v: True):
        label = f"{item.name}\\n" if item.name else ""
        if isinstance(item, Variable):
            kind = item.uid.rstrip("0123456789")
            shape = _SHAPES.get(kind, "ellipse")
            dot.append(f'  "{item.uid}" [label="{label}{kind} {item.shape}" shape={shape}]')
            continue
        operands = [_inner(v) for v in _operands(item)]
        lines.append(f"{item.op_name}({', '.join(v.uid for v in operands)})")
        dot.append(f'  "{item.uid}" [label="{label}{item.op_name}"]')
        dot += [f'  "{v.uid}" -> "{item.uid}"' for v in operands]
    if filename is not None:
        _draw("\n".join([*dot, "}"]), os.fspath(filename))
    return "\n".join(reversed(lines))


def _draw(dot: str, filename: str) -> None:
    suffix = os.path.splitext(filename)[1].lower()
    if suffix not in (".dot", ".png", ".pdf"):
        raise ValueError(f"filename must end in .dot, .svg, .png or .pdf, got {filename!r}")
    if suffix == ".dot":
        with open(filename, "w", encoding="utf-8") as file:
            file.write(dot)
        return
    try:
        import graphviz
    except ImportError:
        raise ImportError("drawing needs the package graphviz: pip install graphviz") from None
    graphviz.Source(dot).render(outfile=filename, cleanup=True)


__all__ = [
    "depth_first_search",
    "find_all_with_name",
    "find_by_name",
    "find_by_uid",
    "get_node_outputs",
    "plot",
]
