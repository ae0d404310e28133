"""Copies of graphs with some nodes replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .axis import Axis
from .inference import bind, complete
from .leaves import Placeholder
from .node import Attributes, Node, resolve
from .traverse import dependents, order


def copy(
    roots: Iterable[Node],
    replace: Mapping[Node, Node],
    change: Callable[[Node], Node | None] = lambda n: None,
    attrs: Mapping[Node, Attributes] | None = None,
    same_random: bool = False,
) -> list[Node]:
    """The graph below `roots` with nodes replaced; parts that don't depend on them are shared.

    Args:
        replace: the replacements, by node.
        change: returns a new leaf for a leaf, or None to keep it.
        attrs: new attributes for the copies of some nodes.
        same_random: whether random operations in the copy draw the same numbers.
    """
    attrs = attrs or {}
    roots = [resolve(r) for r in roots]
    replaced = {resolve(k): resolve(v) for k, v in replace.items()}
    nodes = order(roots, enter=lambda n: n not in replaced)
    for node in nodes:
        if not node.op:
            new = change(node)
            if new is not None:
                replaced[node] = new
    touched = dependents(nodes, {*replaced, *attrs})
    made: dict[Node, Node] = dict(replaced)
    ties: dict[Placeholder, Node] = {}
    axes: dict[Axis, Axis] = {}
    for node in nodes:
        if node not in touched or node in made:
            continue
        new = Node(node.op, (), _renamed(node.attrs, axes), node.name, node.origin)
        new.attrs.update(attrs.get(node, {}))
        new.uid = node.uid if same_random else new.uid
        if node.op is not None and node.op.new_axis:
            old = node.attrs["axis"]
            new.attrs["axis"] = axes[old] = axes.get(old) or Axis.new_unique_dynamic_axis(old.name)
            axes[old].source = new
        inputs = list(node.inputs)
        if node.is_delay:  # its input may not be copied yet
            later = Placeholder(where=node.origin)
            ties[later] = inputs[0]
            inputs[0] = later
        new.inputs = [made.get(i, i) for i in inputs]
        made[node] = new
    bind({later: made.get(node, node) for later, node in ties.items()})
    copies = [made.get(r, r) for r in roots]
    complete([*copies, *(n for o, n in made.items() if o not in replaced)])
    return copies


def _renamed(attrs: Attributes, axes: Mapping[Axis, Axis]) -> dict[str, Any]:
    """Attributes that name a copied time axis, renamed to its copy."""
    if not axes:
        return dict(attrs)
    return {
        k: tuple(axes.get(a, a) for a in v)
        if isinstance(v, tuple) and v and isinstance(v[0], Axis)
        else v
        for k, v in attrs.items()
    }
