"""The interface of engines: everything that plans and runs need from them.

An engine has an array library, memory, and kernels; on a CPU, the kernels of several providers in
order. The kernel of an operation is chosen once, when a plan is made: that of the first provider
that has one. A provider without a kernel returns None.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ..graph import Node, Op, Stored
from ..graph.node import Attributes, Type
from ..graph.types import Array, DTypeLike, Generator, Library
from ..ops.fused import FUSED, Program
from ..plan import Plan, Run

if TYPE_CHECKING:
    from ..plan.program import LoopProgram

Shape = tuple[int, ...]
# kernel(run, *operands, out=None); `out` only where the record has it
Kernel = Callable[..., Array]


Maker = Callable[..., Kernel | None]  # maker(rest, operands, /, **arguments): see `Provider.bind`


class Bound(NamedTuple):
    """A kernel with its arguments.

    Attributes:
        provider: the name of the provider.
        in_place: whether the result may overwrite an operand of the same form: any operand of a
            pointwise operation, or any operand of a tail.
        takes_out: whether it takes `out`, even if its record does not.
    """

    kernel: Kernel
    provider: str
    in_place: bool = False
    takes_out: bool = False


class Provider:
    """The kernels of one library, for some operations.

    Attributes:
        name: its name.
        dtype: the only dtype of operands that it supports; None: any.
        makers: the functions that make the kernels, by operation: see `bind`.
        compiler: runs whole loops, if the provider can.
        matmul: its product of two arrays, if it has one.
    """

    name = ""
    dtype: np.dtype | None = None
    makers: Mapping[str, Maker]
    compiler: Compiler | None = None
    matmul: Callable[[Array, Array], Array] | None = None

    def bind(
        self, op: Op, arguments: Attributes, operands: Sequence[Type], rest: Kernel
    ) -> Kernel | None:
        """The kernel of an operation, with its arguments; None where it has none.

        Args:
            rest: the kernel that the providers after it have. What only a run shows to suit it
                better goes there: few rows, or an array with gaps.
        """
        make = self.makers.get(op.name)
        if make is None or self.dtype and any(t.dtype != self.dtype for t in operands):
            return None
        return make(rest, operands, **arguments)

    def program(self, program: Program, dtype: np.dtype) -> Compute | None:
        """A pointwise program on arrays of a type, as one pass; None where it has none."""
        return None

    def in_place(self, op: Op, rest: bool) -> bool:
        """Whether its kernel of an operation may write where an operand of the same form is that is
        pointwise in it; `rest`: whether the kernel that it leaves work to may."""
        return False

    def takes_out(self, kernel: Kernel) -> bool:
        """Whether a kernel of its own takes `out` in a loop, whatever the record says."""
        return False


# Of a pointwise program: computes its results, the last arrays, from its operands, the first.
# Says whether it could not; nothing has been done then.
Compute = Callable[..., bool]


class Compiler(Protocol):
    """Runs the steps of a loop without Python."""

    def loop(self, program: LoopProgram) -> Callable[..., bool] | None:
        """A function `go(run, arrays, layout, step)` that runs all steps of a loop. It returns
        whether it could; if not, it has done nothing.

        None if an instruction of the loop is not supported.
        """


class Guard(Protocol):
    """Remembers whether any array that it was shown was not finite, until it is cleared."""

    def look(self, array: Array, infinite_too: bool) -> None:
        """Check for NaN, and optionally for infinities."""

    def clear(self) -> None:
        """Forget what was found."""

    def later(self) -> Callable[[], bool]:
        """A function that returns whether something was found up to now; called later, it hardly
        waits."""


class Collective(Protocol):
    """Sums arrays over several processes in the memory of an engine.

    Attributes:
        gpu: the name of this process's GPU, unique on its machine.
    """

    gpu: str

    def new_id(self) -> object:
        """An identifier made by one process, with which all join."""

    def join(self, size: int, unique: object, rank: int) -> Callable[[Array], None]:
        """Join this many processes; returns a function that sums an array over all of them."""


class Engine(ABC):
    """Kernels and memory of one processor.

    Attributes:
        name: its name.
        xp: the array library, with NumPy's API.
        is_gpu: whether its memory is that of a GPU.
        compiler: runs whole loops, if the engine can.
        guard: if set, stored values change only if it has found everything finite.
    """

    name: str
    xp: Library
    is_gpu = False
    compiler: Compiler | None = None
    guard: Guard | None = None

    # Kernels

    @abstractmethod
    def bind(self, op: Op, arguments: Attributes, operands: Sequence[Type]) -> Bound:
        """The kernel of an operation, with its arguments, for operands of these types."""

    @abstractmethod
    def program(self, program: Program, dtype: np.dtype) -> Compute | None:
        """A pointwise program of one or several results, on arrays of a type: what computes the
        results, the last arrays that it is given, from the operands, the first. None where it has
        none."""

    def apart(self, arguments: Attributes, operands: Sequence[Type]) -> Kernel:
        """The kernel of an operation with a tail (`ops.fused.TAILED`), computed one after the
        other."""
        head, program = arguments["head"], arguments["program"]
        count = len(operands) - program.arity + 1
        first = self.bind(head, arguments["arguments"], operands[:count])
        takes_out = head.into or first.takes_out
        between = Type(None, None, operands[0].dtype)
        types = [between, *operands[count:]]
        then = self.bind(FUSED, {"program": program}, types).kernel

        def kernel(run: Run, *arrays: Array, out: Array | None = None) -> Array:
            result = first.kernel(run, *arrays[:count], **({"out": out} if takes_out else {}))
            if out is None and result.ndim:  # a single number may not be an array
                out = result
            return then(run, result, *arrays[count:], out=out)

        return kernel

    @property
    def matmul(self) -> Callable[[Array, Array], Array]:
        """The product of two arrays, like the array library's function of that name."""
        return self.xp.matmul

    # Memory

    @abstractmethod
    def empty(self, shape: Shape, dtype: DTypeLike, like: Array | None = None) -> Array:
        """An uninitialized array.

        It has the memory order of `like`, an array of the same rank; by default, images and volumes
        in rows are channels-last, as convolutions need them.
        """

    def staging(self, shape: Shape, dtype: DTypeLike) -> np.ndarray:
        """An uninitialized array in CPU memory, to be filled and given to `to_feed`."""
        return self.empty(shape, dtype)

    @abstractmethod
    def from_numpy(self, array: np.ndarray) -> Array:
        """The array in the engine's memory; unchanged if it is there already."""

    def to_feed(self, array: np.ndarray) -> Array:
        """The array, as `Plan.run` is fed with it: small arrays may stay in CPU memory until then,
        to be copied together.
        """
        return self.from_numpy(array)

    @abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray:
        """The array in CPU memory, once it has been computed."""

    def assign(self, target: Array, source: Array) -> None:
        """Copy an array into another, broadcast to its shape."""
        target[...] = source

    def copy(self, array: Array, rows: Array | None = None) -> Array:
        """A copy in the same memory order: of all rows, or of those with the given numbers."""
        return array.copy(order="K") if rows is None else array[rows]

    def store(self, node: Stored, array: Array) -> None:
        """Set a stored node to an array of the engine that nothing else writes to."""
        node.take(array)

    # Runs

    def plan(self, outputs: Sequence[Node]) -> Plan:
        """The plan that computes these nodes."""
        return Plan(outputs, self)

    @abstractmethod
    def generator(self, seed: tuple[int, ...], varies: int | None = None) -> Generator:
        """A generator of random numbers, like `numpy.random.Generator`.

        Args:
            varies: the index in `seed` of the number that differs in each run.
        """

    def series(self, seed: int, turn: int) -> Generator:
        """Like `generator`, for numbers that continue from turn to turn; the first turn is 1."""
        return self.generator((seed, turn, 0), varies=1)

    def active(self) -> AbstractContextManager[object]:
        """A context for all work on the engine's arrays."""
        return nullcontext()

    def beside(self, stream: object) -> AbstractContextManager[None]:
        """A context in which runs are ordered with the work on a GPU stream."""
        return nullcontext()

    def finish(self) -> None:  # noqa: B027
        """Mark the end of a run."""

    def synchronize(self) -> None:  # noqa: B027
        """Wait for all work that has been started."""

    def collective(self) -> Collective | None:
        """Sums over processes in this engine's memory; None: they are made on the CPU."""
        return None

    def make_guard(self) -> Guard | None:
        """A guard, if results can be checked without waiting for them."""
        return None
