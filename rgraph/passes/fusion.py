"""Pointwise operations that only feed one another become one, evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..graph import Node, Op, components, order
from .rewriting import substitute, twin

OUT = 0  # the register that is the result's own array


class Program:
    """A straight line of pointwise kernels over a few registers.

    It becomes a Python function, written out: on small arrays an interpreter of it would cost
    more than the kernels do.

    Attributes:
        names: the operations, in order.
        steps: each operation with what it reads: an operand's number, or `arity` plus that of
            an earlier operation.
        registers: how many arrays of the result's size it needs besides its operands.
    """

    def __init__(self, members: Sequence[Node], inputs: Sequence[Node]) -> None:
        self.names = tuple(n.op.name for n in members if n.op)
        self.dtype = members[-1].dtype
        self.members = [n.op for n in members if n.op]
        self.arity = len(inputs)
        number = {n: i for i, n in enumerate([*inputs, *members])}
        self.steps = [
            (name, tuple(number[i] for i in m.inputs))
            for name, m in zip(self.names, members, strict=True)
        ]
        self.registers = 1
        self._lines: list[tuple[list[str], int, bool]] = []  # operands, target, whether it is new
        self._functions: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._allocate(members, {n: f"a{i}" for i, n in enumerate(inputs)})

    def _allocate(self, members: Sequence[Node], outer: dict[Node, str]) -> None:
        last = {i: m for m in members for i in m.inputs}
        register: dict[Node, int] = {}
        free: list[int] = []
        for m in members:
            operands = [outer.get(i) or f"r{register[i]}" for i in m.inputs]
            free += [register[i] for i in dict.fromkeys(m.inputs) if i in register and last[i] is m]
            new = not free
            if m is members[-1]:
                target = OUT
            elif new:
                target, self.registers = self.registers, self.registers + 1
            else:
                target = free.pop()
            register[m] = target
            self._lines.append((operands, target, new))

    def on(self, xp: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The program as two functions for an array library.

        `small(arrays, out)` makes the registers as it goes, and `out` too if that is None;
        `piece(arrays, registers)` has all its registers given, the first is the result.
        """
        if xp not in self._functions:
            names = {
                f"f{i}": op.kernel.on_library(xp)  # type: ignore[attr-defined]
                for i, op in enumerate(self.members)
            }
            operands = "".join(f"a{i}, " for i in range(self.arity))
            registers = "".join(f"r{i}, " for i in range(self.registers))
            small = [f"def small(arrays, r0):\n    {operands} = arrays"]
            piece = [
                f"def piece(arrays, registers):\n    {operands} = arrays; {registers} = registers"
            ]
            for i, (values, target, new) in enumerate(self._lines):
                call = f"    r{target} = f{i}({', '.join(values)}"
                to_new = new and target != OUT
                small.append(f"{call})" if to_new else f"{call}, out=r{target})")
                piece.append(f"{call}, out=r{target})")
            exec("\n".join([*small, "    return r0", *piece]), names)
            self._functions[xp] = names["small"], names["piece"]
        return self._functions[xp]


def _fused(run: Any, *arrays: Any, program: Program, out: Any = None) -> Any:
    return program.on(run.xp)[0](arrays, out)


FUSED = Op(
    "fused",
    shape=lambda *shapes, **_: max(shapes, key=len),
    kernel=_fused,
    pointwise=True,
    into=True,
)


def fuse(outputs: Sequence[Node]) -> list[Node]:
    """Makes one operation of each group of pointwise ones that only feed the group's last."""
    nodes = order(outputs)
    loop = {n: i for i, c in enumerate(components(outputs)) if len(c) > 1 for n in c}
    readers: dict[Node, list[Node]] = {n: [] for n in nodes}
    for node in nodes:
        for operand in node.inputs:
            readers[operand].append(node)
    head: dict[Node, Node] = {}  # the last operation of each one's group
    ends = set(outputs)
    for node in reversed(nodes):
        if node.op is None or not node.op.pointwise:
            continue
        heads = {head.get(r) for r in readers[node]}
        joined = heads.pop() if len(heads) == 1 and node not in ends else None
        fits = joined is not None and _fits(node, joined, loop)
        head[node] = joined if joined is not None and fits else node
    groups: dict[Node, list[Node]] = {}
    for node in nodes:
        if node in head:
            groups.setdefault(head[node], []).append(node)
    instead = {last: _as_one(members) for last, members in groups.items()}
    return substitute(outputs, instead)


def _fits(node: Node, last: Node, loop: dict[Node, int]) -> bool:
    """Whether `node` may be computed together with the last operation of a group.

    What stands before a loop may move into it: each frame is still computed once, and what it
    gives need not be kept for all frames.
    """
    type_ = node.axes, node.shape, node.dtype
    same_loop = loop.get(node) in (None, loop.get(last)) if node.axes else False
    return type_ == (last.axes, last.shape, last.dtype) and (
        same_loop or loop.get(node) == loop.get(last)
    )


def _as_one(members: Sequence[Node]) -> Node:
    inside = set(members)
    inputs = list(dict.fromkeys(i for m in members for i in m.inputs if i not in inside))
    node = twin(members[-1])
    node.op = FUSED
    node.attrs = {"program": Program(members, inputs)}
    node.inputs = inputs
    return node
