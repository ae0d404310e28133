"""Operations that only passes create: groups of pointwise operations, and operations with a tail.

Their records are not in the table of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..graph import Node, Op
from ..graph.free import elements
from ..graph.node import Attributes
from ..graph.types import Array, Library
from .records import TABLE

if TYPE_CHECKING:
    from ..plan import Run

Steps = tuple[tuple[str, tuple[int, ...]], ...]


class Line(NamedTuple):
    """A step of a program after register allocation.

    Attributes:
        reads: the places of its operands.
        target: the place of its value.
    """

    name: str
    reads: tuple[int, ...]
    target: int


class Program(NamedTuple):
    """A sequence of pointwise operations, on one element of each array.

    Values are numbered: first the arrays that are read, then the values of the steps. The C engine
    interprets programs, CUDA kernels are generated from them, and NumPy runs them step by step.

    Attributes:
        steps: the name of each operation, with the numbers of the values that it reads.
        arity: the number of arrays that are read.
        results: the numbers of the values that are needed; -1 is the value of the last step.
    """

    steps: Steps
    arity: int
    results: tuple[int, ...] = (-1,)

    @classmethod
    def of(cls, members: Sequence[Node], inputs: Sequence[Node]) -> Program:
        """The program that computes the value of the last of these operations from these inputs."""
        number = {n: i for i, n in enumerate([*inputs, *members])}
        steps = [
            (m.op.name, tuple(number[i] for i in m.inputs)) for m in members if m.op is not None
        ]
        return cls(tuple(steps), len(inputs))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the operations, in order."""
        return tuple(name for name, _ in self.steps)

    @property
    def titles(self) -> str:
        """The titles of the operations, for reports."""
        titles = ((name, TABLE[name].title) for name in self.names)
        return " ".join(t if isinstance(t, str) else name for name, t in titles)

    def work(self, node: Node) -> int:
        """One floating-point operation for each step and each element of `node`'s row."""
        return len(self.steps) * elements(node.shape or ())

    def begins_by_adding(self, value: int) -> bool:
        """Whether its first step adds this value to another, and nothing else reads it."""
        name, reads = self.steps[0]
        readers = [r for _, r in self.steps if value in r]
        return value > 0 and name == "plus" and value in reads and len(readers) == 1

    def allocated(self) -> tuple[list[Line], int]:
        """The steps with a place for each value, and the number of registers needed.

        Places are numbered: first the arrays that are read, then the results, then the registers.
        """
        count = self.arity + len(self.steps)
        last = {i: step for step, (_, reads) in enumerate(self.steps) for i in reads}
        place = {i: i for i in range(self.arity)}
        place |= {r % count: self.arity + i for i, r in enumerate(self.results)}
        first = self.arity + len(self.results)
        free: list[int] = []
        registers = 0
        lines = []
        for step, (name, reads) in enumerate(self.steps):
            operands = tuple(place[i] for i in reads)
            free += {place[i] for i in reads if last[i] == step and place[i] >= first}
            value = self.arity + step
            if value not in place:
                if not free:
                    free.append(first + registers)
                    registers += 1
                place[value] = free.pop()
            lines.append(Line(name, operands, place[value]))
        return lines, registers


_NONE = -1  # no operand


class OnArrays:
    """A program run as a sequence of calls of an array library's functions.

    Attributes:
        registers: the number of temporary arrays it needs, each of the shape of the result.
    """

    def __init__(self, program: Program, xp: Library) -> None:
        lines, self.registers = program.allocated()
        self._result, self._none = program.arity, [None] * self.registers
        self._lines: list[tuple[Callable[..., Array], int, int, int, int]] = []
        for name, reads, target in lines:
            function = TABLE[name].function
            assert function is not None
            a, b, c = (*reads, _NONE, _NONE)[:3]
            self._lines.append((function(xp), a, b, c, target))

    def __call__(
        self, arrays: Sequence[Array], out: Array | None = None, registers: Sequence[Array] = ()
    ) -> Array:
        """Compute the result of a program that has only one, in `out` if that is given."""
        values = [*arrays, out, *(registers or self._none)]
        self.fill(values)
        return values[self._result]

    def fill(self, values: list[Array | None]) -> None:
        """Compute all values except the operands, in the given arrays.

        Args:
            values: the operands, the results and the registers; None to allocate an array.
        """
        for function, a, b, c, target in self._lines:
            into = values[target]
            if b == _NONE:
                values[target] = function(values[a], out=into)
            elif c == _NONE:
                values[target] = function(values[a], values[b], out=into)
            else:
                values[target] = function(values[a], values[b], values[c], out=into)


on_arrays = lru_cache(maxsize=1024)(OnArrays)


def evaluate(run: Run, *arrays: Array, program: Program, out: Array | None = None) -> Array:
    """Run a program on whole arrays; the kernel of `FUSED`."""
    small = on_arrays(program, run.xp)
    if arrays[0].ndim or any(a.ndim for a in arrays):
        return small(arrays, out)
    # NumPy would return scalars, not arrays
    return small([a.reshape(1) for a in arrays], out if out is None else out[None]).reshape(())


FUSED = Op(
    "fused",
    shape=lambda *shapes, **_: max(shapes, key=len),
    kernel=evaluate,
    title=lambda node: node.attrs["program"].titles,
    work=lambda node: node.attrs["program"].work(node),
    pointwise=True,
    into=True,
)


def _tailed(
    run: Run,
    *arrays: Array,
    head: Op,
    arguments: Attributes,
    program: Program,
    out: Array | None = None,
) -> Array:
    count = len(arrays) - program.arity + 1
    result = head.kernel(run, *arrays[:count], **arguments)
    return evaluate(run, result, *arrays[count:], program=program, out=out)


# A convolution or product (the head) followed by a program of pointwise operations on its result.
# The operands are those of the head, then those of the program except for the first, which is
# that result.
TAILED = Op(
    "tailed",
    shape=lambda *shapes, **_: shapes[-1],
    kernel=_tailed,
    arguments=lambda node: {k: node.attrs[k] for k in ("head", "arguments", "program")},
    title=lambda node: node.attrs["title"],
    work=lambda node: node.attrs["work"],
    into=True,
)
