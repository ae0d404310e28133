"""What passes make of several operations: a group of pointwise ones, and one with a tail.

They are records, but none that people write: they are not in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

from ..graph import Node, Op
from ..graph.free import elements

OUT = 0  # the register that is the result's own array

Name = tuple[str, int]  # "a" and the number of an operand, or "r" and that of a register


class Program:
    """A straight line of pointwise kernels over a few registers.

    It becomes a Python function, written out: on small arrays an interpreter of it would cost
    more than the kernels do.

    Attributes:
        names, titles: the operations, in order, and what people call them.
        steps: each operation with what it reads: an operand's number, or `arity` plus that of
            an earlier operation.
        registers: how many arrays of the result's size it needs besides its operands.
    """

    def __init__(self, members: Sequence[Node], inputs: Sequence[Node]) -> None:
        self.names = tuple(n.op.name for n in members if n.op)
        self.titles = tuple(n.title for n in members)
        self.dtype = members[-1].dtype
        self.members = [n.op for n in members if n.op]
        self.arity = len(inputs)
        number = {n: i for i, n in enumerate([*inputs, *members])}
        self.steps = [
            (name, tuple(number[i] for i in m.inputs))
            for name, m in zip(self.names, members, strict=True)
        ]
        self.registers = 1
        self._lines: list[tuple[list[Name], int, bool]] = []  # operands, target, whether it is new
        self._functions: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._allocate(members, {n: i for i, n in enumerate(inputs)})

    def work(self, node: Node) -> int:
        """One floating-point operation for each of its own and each element of `node`'s row."""
        return len(self.names) * elements(node.shape or ())

    def _allocate(self, members: Sequence[Node], outer: dict[Node, int]) -> None:
        last = {i: m for m in members for i in m.inputs}
        register: dict[Node, int] = {}
        free: list[int] = []
        for m in members:
            operands = [("a", outer[i]) if i in outer else ("r", register[i]) for i in m.inputs]
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

    def source(self, name: Callable[[str, int], str], ready: Container[int]) -> Iterator[str]:
        """The program as lines of Python.

        Args:
            name: gives the names of operands ("a", number), registers ("r", number) and the
                functions of the operations ("f", number).
            ready: registers that are arrays to be written, from the start.
        """
        for i, (operands, target, new) in enumerate(self._lines):
            values = ", ".join(name(*operand) for operand in operands)
            result = name("r", target)
            there = target in ready or (not new and target != OUT)
            out = f", out={result}" if there else ""
            yield f"{result} = {name('f', i)}({values}{out})"

    def functions(self, xp: Any) -> list[Callable[..., Any]]:
        """The functions of the operations, for an array library."""
        return [op.kernel.on_library(xp) for op in self.members]  # type: ignore[attr-defined]

    def on(self, xp: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The program as two functions for an array library.

        `small(arrays, out)` makes the registers as it goes, and `out` too if that is None;
        `piece(arrays, registers)` has all its registers given, the first is the result.
        """
        if xp not in self._functions:
            names: dict[str, Any] = {f"f{i}": f for i, f in enumerate(self.functions(xp))}
            operands = "".join(f"a{i}, " for i in range(self.arity))
            registers = "".join(f"r{i}, " for i in range(self.registers))
            name = "{}{}".format
            small = [
                "def small(arrays, r0):", f"{operands} = arrays",
                *self.source(name, {OUT}), "return r0",
            ]  # fmt: skip
            piece = [
                "def piece(arrays, registers):", f"{operands} = arrays", f"{registers} = registers",
                *self.source(name, range(self.registers)),
            ]  # fmt: skip
            for lines in small, piece:
                exec("\n    ".join(lines), names)
            self._functions[xp] = names["small"], names["piece"]
        return self._functions[xp]


def evaluate(run: Any, *arrays: Any, program: Program, out: Any = None) -> Any:
    """Runs a program on whole arrays; the kernel of `FUSED`."""
    small, _ = program.on(run.xp)
    if arrays[0].ndim or any(a.ndim for a in arrays):
        return small(arrays, out)
    # NumPy would make numbers of the registers
    return small([a.reshape(1) for a in arrays], out if out is None else out[None]).reshape(())


FUSED = Op(
    "fused",
    shape=lambda *shapes, **_: max(shapes, key=len),
    kernel=evaluate,
    title=lambda node: " ".join(node.attrs["program"].titles),
    work=lambda node: node.attrs["program"].work(node),
    pointwise=True,
    into=True,
)


def _tailed(
    run: Any, *arrays: Any, head: Op, arguments: Any, program: Program, out: Any = None
) -> Any:
    count = len(arrays) - program.arity + 1
    result = head.kernel(run, *arrays[:count], **arguments)
    return evaluate(run, result, *arrays[count:], program=program, out=out)


# A convolution or product and then, on its result, a program of pointwise operations. Its operands
# are the head's, and those of the program but for the first, which is that result.
TAILED = Op(
    "tailed",
    shape=lambda *shapes, **_: shapes[-1],
    kernel=_tailed,
    arguments=lambda node: {k: node.attrs[k] for k in ("head", "arguments", "program")},
    title=lambda node: node.attrs["title"],
    work=lambda node: node.attrs["work"],
    into=True,
)
