"""A graph of ONNX while it is made: nodes, constants, and the names of values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..graph.types import ArrayLike

Name = str

Proto: TypeAlias = Any  # a message of ONNX's, which has no types


class Builder:
    """Adds nodes to a graph: `build("Add", a, b)` gives the name of the result.

    Args:
        outer: the builder of the graph around it, whose values can be read here.
    """

    def __init__(self, outer: Builder | None = None) -> None:
        import onnx

        self.onnx, self.outer = onnx, outer
        self.nodes: list[Proto] = []
        self.arrays: list[Proto] = []  # initializers
        self._known: dict[tuple[object, ...], Name] = {}
        self._names = outer._names if outer else itertools.count(1)
        self._root: Builder = outer._root if outer else self

    def __call__(self, kind: str, *inputs: Name, **attributes: Any) -> Name:
        return self.several(kind, inputs, 1, **attributes)[0]

    def several(
        self, kind: str, inputs: Sequence[Name], count: int, **attributes: Any
    ) -> list[Name]:
        """The names of the `count` results of a node."""
        key = (kind, *inputs, count, repr(sorted(attributes.items())))
        if kind == "Scan" or key not in self._known:
            outputs = [self.new(kind.lower()) for _ in range(count)]
            self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), outputs, **attributes))
            self._known[key] = " ".join(outputs)
        return self._known[key].split(" ")

    def new(self, what: str) -> Name:
        return f"{what}_{next(self._names)}"

    def array(self, value: ArrayLike, name: str = "") -> Name:
        """A constant, or with a name a parameter, which is nobody else's; it stands in the
        outermost graph."""
        root = self._root
        value = np.array(value, order="C", copy=None)
        small = not name and value.size < 64  # axes and sizes are asked for again and again
        key = ("array", value.tobytes() if small else b"", value.shape, value.dtype.str)
        if small and key in root._known:
            return root._known[key]
        name = root.new(name or "constant")
        root.arrays.append(root.onnx.numpy_helper.from_array(value, name))
        if small:
            root._known[key] = name
        return name

    def number(self, value: float, double: bool) -> Name:
        return self.array(np.array(value, np.float64 if double else np.float32))

    def whole(self, *values: int) -> Name:
        """A vector of integers: axes, sizes."""
        return self.array(np.array(values, np.int64))
