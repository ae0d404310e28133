"""Pointwise operations that only feed one another become one, evaluated piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import Node, Op, components, order
from .rewriting import substitute, twin

OUT = 0  # the register that is the result's own array


class Program:
    """A straight line of pointwise kernels over a few registers.

    Attributes:
        names: the operations, in order.
    """

    def __init__(self, members: Sequence[Node], inputs: Sequence[Node]) -> None:
        self.names = tuple(n.op.name for n in members if n.op)
        self.dtype = members[-1].dtype
        place = {n: i for i, n in enumerate(inputs)}
        last = {i: m for m in members for i in m.inputs}
        register: dict[Node, int] = {}
        free: list[int] = [OUT]
        count = 1
        self.lines: list[tuple[Callable[..., Any], list[tuple[bool, int]], int]] = []
        for m in members:
            operands = [(i in place, place[i] if i in place else register[i]) for i in m.inputs]
            for i in dict.fromkeys(m.inputs):
                if i in register and last[i] is m:
                    free.append(register[i])
            if m is members[-1]:
                target = OUT
            elif free:
                free.sort(reverse=True)
                target = free.pop()
            else:
                target, count = count, count + 1
            register[m] = target
            assert m.op is not None
            self.lines.append((m.op.kernel, operands, target))

    def run(
        self,
        context: Any,
        arrays: Sequence[Any],
        out: Any,
        register: Callable[[int, tuple[int, ...], np.dtype], Any] | None = None,
    ) -> Any:
        """Computes `out` from arrays of its shape.

        Args:
            register: gives memory for a register; by default new memory.
        """
        registers = {OUT: out}
        for kernel, operands, target in self.lines:
            memory = registers.get(target)
            if memory is None:
                if register is None:
                    memory = context.xp.empty_like(out)
                else:
                    memory = register(target, out.shape, out.dtype)
                registers[target] = memory
            values = [arrays[i] if outer else registers[i] for outer, i in operands]
            kernel(context, *values, out=memory)
        return out


def _fused(run: Any, *arrays: Any, program: Program, out: Any = None) -> Any:
    if out is None:
        out = run.xp.empty(np.broadcast_shapes(*(a.shape for a in arrays)), program.dtype)
    return program.run(run, arrays, out)


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
