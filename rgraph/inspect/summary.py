"""A table of the layers of a function: shapes, parameters, connections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..graph import Constant, Input, Node, Parameter, Placeholder
from ..graph.free import is_free
from ..graph.node import resolve
from ..operands import search
from .explain import operations
from .tables import Line, as_html, as_text

_RECURRENT = {
    "Recurrence",
    "RecurrenceFrom",
    "Fold",
    "UnfoldFrom",
}  # the step function is shown inside


@dataclass
class Row:
    """One layer, operation or input.

    Attributes:
        nodes: its results that are used.
        depth: the number of recurrences around it.
        parameters: its parameters, including those of inner layers.
        sources: the rows of its operands.
        operations: floating-point operations for one sample, or one frame of a sequence.
    """

    title: str
    nodes: list[Node]
    depth: int
    parameters: list[Node] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    operations: int = 0

    @property
    def shape(self) -> str:
        return ", ".join(dict.fromkeys(map(_shape, self.nodes)))

    @property
    def count(self) -> int:
        return sum(map(_size, self.parameters))


class Summary:
    """The result of `Function.summary`: prints as a table, also in a notebook.

    Attributes:
        rows: the rows of the table, from the inputs to the outputs.
        trainable, frozen: the numbers of elements of parameters, each counted once; frozen ones
            are constants that `clone("freeze")` made from parameters.
        operations: floating-point operations for one sample, or one frame of a sequence.
        memory: bytes of the results of all rows for one sample or frame.
    """

    columns = ("layer", "output shape", "parameters", "MFLOP", "connected to")

    def __init__(self, outputs: Sequence[Node]) -> None:
        self.rows = list(_rows([resolve(o) for o in outputs]))
        nodes = list(_below([resolve(o) for o in outputs], set()))
        self.trainable = sum(_size(n) for n in nodes if isinstance(n, Parameter))
        self.frozen = sum(_size(n) for n in nodes if isinstance(n, Constant) and n.frozen)
        self.operations = sum(map(_work, nodes))
        self.memory = sum(_size(n) * _item(n) for r in self.rows for n in r.nodes)

    @property
    def total(self) -> int:
        return self.trainable + self.frozen

    def _lines(self) -> list[Line]:
        lines = []
        for row in self.rows:
            work = f"{row.operations / 1e6:.3g}" if row.operations else ""
            cells = row.title, row.shape, f"{row.count:,}", work, ", ".join(row.sources)
            lines.append(Line(cells, row.depth))
        return lines

    def _totals(self) -> list[str]:
        return [
            f"parameters: {self.total:,} (trainable {self.trainable:,}, frozen {self.frozen:,})",
            f"for a sample or frame: {self.operations / 1e6:.4g} MFLOP, "
            f"{self.memory / 1e6:.3g} MB of results",
        ]

    def __str__(self) -> str:
        return "\n".join([as_text(self.columns, self._lines(), {2, 3}), *self._totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.columns, self._lines(), self._totals())


def _shape(node: Node) -> str:
    frames = "frames × " if len(node.axes or ()) == 2 else ""
    return frames + ("?" if node.shape is None else str(node.shape))


def _size(node: Node) -> int:
    return math.prod(n for n in node.shape or (0,) if n > 0) if node.shape != () else 1


def _item(node: Node) -> int:
    return node.dtype.itemsize if node.dtype is not None else 4


def _work(node: Node) -> int:
    types = (node, *node.inputs)
    known = all(n.is_complete and not is_free(n.shape) for n in types)
    return operations(node) if known else 0


def _below(roots: Sequence[Node], ends: set[Node]) -> Iterator[Node]:
    """All nodes below `roots` and above `ends`; cycles are visited once."""
    seen = set(ends)
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        pending.extend(node.inputs)


def _feeds(node: Node) -> tuple[Node, ...]:
    """The operands of a row; for a layer, its arguments."""
    return node.inputs[1:] if search.is_block(node) else node.inputs


def _outline(roots: Sequence[Node], ends: set[Node]) -> list[Node]:
    """The nodes with a row: layers, operations outside of layers, inputs; operands first."""
    found: dict[Node, None] = {}
    entered = set(ends)
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        node, done = stack.pop()
        if done:
            found[node] = None
        elif node not in entered:
            entered.add(node)
            stack.append((node, True))
            stack.extend((i, False) for i in reversed(_feeds(node)))
    return [n for n in found if not isinstance(n, (Parameter, Constant))]


def _rows(outputs: Sequence[Node]) -> Iterator[Row]:
    titles: dict[Node, str] = {}
    shown: dict[Any, str] = {}
    numbers: dict[str, int] = {}

    def level(roots: Sequence[Node], ends: set[Node], depth: int) -> Iterator[Row]:
        layers: dict[Any, list[Node]] = {}  # one row for all outputs of a layer
        for node in _outline(roots, ends):
            whole = search.layer(node) if search.is_block(node) else node
            if whole in shown:  # inside another recurrence
                titles[node] = shown[whole]
            else:
                layers.setdefault(whole, []).append(node)
        for whole, outputs in layers.items():
            node = outputs[0]
            kind = node.attrs.get("block") or node.title
            numbers[kind] = numbers.get(kind, 0) + 1
            named = f"{node.name} ({kind})" if node.name else f"{kind} {numbers[kind]}"
            shown[whole] = named
            titles.update(dict.fromkeys(outputs, named))
            if isinstance(node, (Input, Placeholder)):
                yield Row(named, outputs, depth)
                continue
            bodies = [n.inputs[0] for n in outputs if search.is_block(n)]
            stop = {*node.inputs[1:], *ends}
            inside = list(_below(bodies, stop)) if bodies else outputs
            yield Row(
                named,
                outputs,
                depth,
                [n for n in dict.fromkeys([*inside, *node.inputs]) if isinstance(n, Parameter)],
                [titles[i] for i in _feeds(node) if i in titles],
                sum(map(_work, inside)),
            )
            if kind in _RECURRENT:
                yield from level(bodies, stop, depth + 1)

    yield from level(outputs, set(), 0)
