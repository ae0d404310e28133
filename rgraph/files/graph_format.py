"""The graph of a saved function, as JSON can hold it. No code.

What a file names is looked up: operations in the table of records, user functions among those that
the program has defined or has given a callback for. Nothing is imported, nothing unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import (
    FREE,
    Axis,
    Constant,
    Free,
    GraphError,
    Input,
    Node,
    Stored,
    batch_of,
    complete,
    order,
    trials_of,
)
from ..graph.context import context
from ..graph.leaves import KINDS, has_value
from ..graph.node import resolve
from ..graph.types import ArrayLike, Saved
from ..ops.records import TABLE, hold
from ..ops.user import CALL, OUTPUT, UserOperation

if TYPE_CHECKING:
    from ..model.function import Function

FORMAT = 1
RENAMED = {"gather_up": "sum_rows"}  # operations that older files have by their former names


class Writer:
    """Gives every node, axis and array of a graph its number."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.nodes = order(roots)
        self.number = {n: i for i, n in enumerate(self.nodes)}
        self.axes: list[Axis] = []
        self._places: dict[tuple[Axis, Node | None], int] = {}
        self.arrays: list[np.ndarray] = []
        self.names: list[str] = []  # of the arrays

    def node(self, node: Node) -> dict[str, object]:
        if node.op is None:
            return self.leaf(node)
        return self.type(node) | {
            "op": node.op.name,
            "inputs": [self.number[i] for i in node.inputs],
            "attrs": {k: self.attribute(v, node) for k, v in node.attrs.items()},
        }

    def type(self, node: Node) -> dict[str, object]:
        return {
            "name": node.name,
            "shape": None if node.shape is None else list(map(_size, node.shape)),
            "axes": None if node.axes is None else [self.axis(a) for a in node.axes],
            "dtype": None if node.dtype is None else node.dtype.name,
        }

    def leaf(self, node: Node) -> dict[str, object]:
        entry: dict[str, object] = self.type(node) | {"leaf": node.kind}
        if isinstance(node, Stored):
            entry["array"] = self.array(node.value, node.name)
        elif isinstance(node, Constant):
            entry |= {"array": self.array(node.value, node.name), "weak": node.weak}
            entry |= {"implied": True} if node.implied else {}
        elif isinstance(node, Input):
            entry |= {"needs_gradient": node.needs_gradient, "is_sparse": node.is_sparse}
        return entry

    def array(self, array: ArrayLike, name: str = "") -> int:
        self.arrays.append(np.asarray(array))
        self.names.append(name)
        return len(self.arrays) - 1

    def axis(self, axis: Axis) -> int:
        key = axis, axis.source  # equal axes may be made in several places
        if key not in self._places:
            self._places[key] = len(self.axes)
            self.axes.append(axis)
        return self._places[key]

    def attribute(self, value: object, node: Node) -> object:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, (tuple, list)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [self.attribute(v, node) for v in value]}
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return {"slice": [self.attribute(v, node) for v in parts]}
        if isinstance(value, Axis):
            return {"axis": self.axis(value)}
        if isinstance(value, np.dtype) or isinstance(value, type) and issubclass(value, np.generic):
            return {"dtype": np.dtype(value).name}
        if isinstance(value, np.ndarray):
            return {"array": self.array(value)}
        if isinstance(value, Mapping):
            return {"dict": {k: self.attribute(v, node) for k, v in value.items()}}
        if isinstance(value, UserOperation):
            state = self.attribute(value.serialize(), node)
            return {"user": value.op_name, "name": value.instance_name, "values": state}
        raise GraphError(
            f"{node.title} can't be saved: it holds a "
            f"{type(value).__name__}\n  made at {node.origin}"
        )

    def axis_entries(self) -> list[dict[str, object]]:
        return [
            {
                "name": a.name,
                "index": a.index,
                "is_ordered": a.is_ordered,
                "source": None if a.source is None else self.number[a.source],
                "rows": a.rows,
                "size": a.size,
            }
            for a in self.axes
        ]


def described(function: Function, writer: Writer) -> dict[str, object]:
    """What is saved of a function besides arrays, by a writer of its outputs and its signature."""
    roots = function._current()
    return {
        "format": FORMAT,
        "nodes": [writer.node(n) for n in writer.nodes],
        "outputs": [writer.number[resolve(n)] for n in roots],
        "signature": [writer.number[resolve(n)] for n in function._declared()],
        "name": function.name,
        "custom_attributes": writer.attribute(function.custom_attributes, roots[0]),
        "axes": writer.axis_entries(),
    }


class Reader:
    """Makes the nodes of a saved graph."""

    def __init__(self, saved: Saved, archive: Mapping[str, np.ndarray]) -> None:
        self.archive, self.graph = archive, saved
        if self.graph["format"] > FORMAT:
            raise GraphError("the file was saved by a newer version of rgraph")
        self.axes = [self._axis(a) for a in self.graph["axes"]]
        self.users: dict[str, UserOperation] = {}
        entries = self.graph["nodes"]
        self.nodes = [self._bare(e) for e in entries]
        for axis, entry in zip(self.axes, self.graph["axes"], strict=True):
            if entry.get("source") is not None:
                axis.source = self.nodes[entry["source"]]
        for i, entry in enumerate(entries):
            if "op" in entry:
                self.nodes[i].inputs = [self.nodes[k] for k in entry["inputs"]]
        for node in self.nodes:  # an axis may be named for another that has a new name here
            if node.op is not None and node.op.new_axis and node.op.axes and node.axes:
                found = node.op.axes([i.axes for i in node.inputs], **node.attrs)
                node.time_axis.name = found[-1].name
        self.outputs = [self.nodes[i] for i in self.graph["outputs"]]
        self.signature = [self.nodes[i] for i in self.graph["signature"]]
        self.name = self.graph["name"]
        self.custom_attributes = self._attribute(self.graph["custom_attributes"])

    def _axis(self, entry: Saved) -> Axis:
        if entry.get("rows") is not None:
            return batch_of(tuple(entry["rows"]), entry.get("size"))
        if entry["source"] is not None:
            return Axis.new_unique_dynamic_axis(entry["name"])
        if entry["index"] is not None:
            return Axis(entry["index"])
        return Axis.known_as(entry["name"], entry["is_ordered"])

    def _array(self, number: int) -> np.ndarray:
        return self.archive[f"array{number}"]

    def _bare(self, entry: Saved) -> Node:
        """The node, without its inputs if it is an operation."""
        shape = None if entry["shape"] is None else tuple(map(_as_size, entry["shape"]))
        axes = None if entry["axes"] is None else tuple(self.axes[i] for i in entry["axes"])
        dtype = None if entry["dtype"] is None else np.dtype(entry["dtype"])
        if "op" in entry:
            op = RENAMED.get(entry["op"], entry["op"])
            if op not in TABLE:
                raise GraphError(f"the file has an operation {entry['op']!r}, unknown here")
            attrs = {k: self._attribute(v) for k, v in entry["attrs"].items()}
            node = Node(TABLE[op], (), attrs, entry["name"])
            node.shape, node.axes, node.dtype = shape, axes, dtype
            return node
        kind, name = KINDS[entry["leaf"]], entry["name"]
        if kind is Constant:
            value = self._array(entry["array"])
            constant = Constant(value, shape, dtype, name)
            constant.weak, constant.implied = entry["weak"], entry.get("implied", False)
            return constant
        if issubclass(kind, Stored):
            stored: Any = kind(shape or (), dtype, has_value, name)
            stored.value = self._array(entry["array"])
            return stored
        leaf = kind(shape, axes, dtype, name)
        if isinstance(leaf, Input):
            leaf.needs_gradient, leaf.is_sparse = entry["needs_gradient"], entry["is_sparse"]
        return leaf

    def _attribute(self, value: object) -> Any:
        if not isinstance(value, dict):
            return value
        if "user" in value:  # made once its operands are; older files have its state as it is
            state = self._attribute(value["values"]) if "values" in value else value["state"]
            return {**value, "state": state}
        ((kind, inner),) = value.items()
        if kind in ("tuple", "list"):
            return (tuple if kind == "tuple" else list)(map(self._attribute, inner))
        make: dict[str, Callable[[Any], object]] = {
            "slice": lambda v: slice(*map(self._attribute, v)),
            "axis": lambda v: self.axes[v],
            "dtype": np.dtype,
            "array": self._array,
            "dict": lambda v: {k: self._attribute(x) for k, x in v.items()},
        }
        return make[kind](inner)

    def function(self) -> Function:
        calls: dict[Node, UserOperation] = {}
        for node in self.nodes:
            saved = node.attrs.get("function")
            if node.op is CALL:
                calls[node] = _user(
                    saved, [hold(i) if i.op is None else hold([i]) for i in node.inputs]
                )
                node.attrs["function"] = calls[node]
            elif node.op is OUTPUT:
                node.attrs["function"] = calls[node.inputs[0]]
                calls[node.inputs[0]].set_output(node.attrs["index"], node)
        complete(self.outputs)
        function: Function = hold(self.outputs, self.signature or None, self.name)
        function.custom_attributes = self.custom_attributes
        return function


def _size(size: int) -> int | list[int]:
    """A dimension as it is saved: a free one by its trial sizes, which tell what it follows."""
    return list(trials_of(size)) if size == FREE else size


def _as_size(saved: Any) -> int:
    return Free(tuple(saved)) if isinstance(saved, list) else saved


def _user(saved: Saved, operands: Sequence[Function]) -> UserOperation:
    name = saved["user"]
    if name in context().user_loaders:
        return context().user_loaders[name](operands, saved["name"], saved["state"])
    pending = [UserOperation]
    while pending:
        kind = pending.pop()
        if kind is not UserOperation and kind.known_as() == name:
            return kind.deserialize(operands, saved["name"], saved["state"])
        pending += kind.__subclasses__()
    raise GraphError(
        f"the file has a user function {name!r}, which this program has not defined",
        hint="import the module that defines it before loading, or give a callback: "
        "Function.register_udf_deserialize_callback(name, callback)",
    )
