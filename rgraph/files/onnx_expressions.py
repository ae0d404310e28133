"""Pointwise operations in ONNX: the expression of a record, built of ONNX's operators."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Op
from ..ops.expressions import FUNCTIONS, Call, Smallest, Tree, of
from .onnx_graph import Builder, Name

# Records that ONNX has an operator for: one node instead of several
WHOLE: dict[str, str] = {
    "sigmoid": "Sigmoid", "relu": "Relu", "softplus": "Softplus", "stop_gradient": "Identity",
    "sign": "Sign",
}  # fmt: skip


class Expression:
    """An expression, each part of which becomes a node of the graph.

    Args:
        operands: the names of its operands.
        double: whether numbers are of 64 bits.
    """

    def __init__(self, operands: Sequence[Name], build: Builder, double: bool) -> None:
        self.operands, self.build, self.double = operands, build, double

    def number(self, tree: Tree) -> Name:
        """The name of its value; a truth value is 1 or 0."""
        found = self._built(tree)
        if isinstance(tree, Call) and tree.is_truth:
            return self.build("Cast", found, to=11 if self.double else 1)
        return found

    def _built(self, tree: Tree) -> Name:
        if isinstance(tree, Smallest):
            tree = tree.of(8 if self.double else 4)
        if isinstance(tree, float):
            return self.build.number(tree, self.double)
        if isinstance(tree, int):
            return self.operands[tree]
        truths = tree.takes_truths
        names = [
            (self._built if i in truths else self.number)(part)
            for i, part in enumerate(tree.operands)
        ]
        return self._call(tree.name, names)

    def _call(self, name: str, names: Sequence[Name]) -> Name:
        build = self.build
        if FUNCTIONS[name].onnx:
            return build(FUNCTIONS[name].onnx, *names)
        if name == "not_equal":
            return build("Not", build("Equal", *names))
        if name == "expm1":
            return build("Sub", build("Exp", *names), build.number(1.0, self.double))
        if name == "log1p":
            return build("Log", build("Add", *names, build.number(1.0, self.double)))
        if name == "fmod":
            return build("Mod", *names, fmod=1)
        raise ValueError(f"ONNX has no {name}")


def pointwise(op: Op, names: Sequence[Name], build: Builder, double: bool) -> Name:
    """A pointwise operation on these operands."""
    if op.name in WHOLE:
        return build(WHOLE[op.name], *names)
    return Expression(names, build, double).number(of(op))
