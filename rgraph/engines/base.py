"""What an engine is: all that plans and runs ask of what computes.

An engine has an array library, memory, and kernels, on a CPU those of several providers in order.
Which kernel an operation gets is decided once, when a plan is made: the first provider's that has
one. Who has none says so there and then, with None.
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
        provider: the name of who has it.
        in_place: whether it may write where an operand of the same form is that is pointwise in it:
            any of a pointwise operation's, or of a tail's.
        takes_out: whether it takes `out`, even if its record does not.
    """

    kernel: Kernel
    provider: str
    in_place: bool = False
    takes_out: bool = False


class Provider:
    """One library's kernels for some operations.

    Attributes:
        name: what people call it.
        dtype: the only type of operands that it takes; None: any.
        makers: by operation, what `bind` goes to.
        compiler: what it does of loops in one piece.
        matmul: its product of two arrays, where it has one.
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
    """What does the work of a loop's steps without Python."""

    def loop(self, program: LoopProgram) -> Callable[..., bool] | None:
        """All steps of a loop: `go(run, arrays, layout, step)`, which says whether it could;
        nothing has been done where it could not.

        None where it has no form of its own for an instruction.
        """


class Guard(Protocol):
    """Remembers whether something that it was shown was not finite, until it is cleared."""

    def look(self, array: Array, infinite_too: bool) -> None:
        """Looks for NaN, and for infinities too."""

    def clear(self) -> None:
        """Forgets."""

    def later(self) -> Callable[[], bool]:
        """What tells whether it is set now: called later, it hardly waits."""


class Collective(Protocol):
    """What sums arrays over several processes in an engine's own memory.

    Attributes:
        gpu: a name of this process's GPU that no other of its machine has.
    """

    gpu: str

    def new_id(self) -> object:
        """What one process makes and all then join by."""

    def join(self, size: int, unique: object, rank: int) -> Callable[[Array], None]:
        """Joins so many processes; what sets an array to its sum over all of them."""


class Engine(ABC):
    """Kernels and memory of one processor.

    Attributes:
        name: what people call it.
        xp: the array library, with NumPy's API.
        is_gpu: whether its memory is a GPU's.
        compiler: what does a loop's steps in one piece, where there is such.
        guard: while there is one, what stays is changed only if it has found all finite.
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
        """The kernel of an operation and its tail (`ops.fused.TAILED`), one after the other."""
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
        """The product of two arrays, as the array library's function of that name."""
        return self.xp.matmul

    # Memory

    @abstractmethod
    def empty(self, shape: Shape, dtype: DTypeLike, like: Array | None = None) -> Array:
        """An array to be written.

        Its memory order is that of `like`, an array of as many axes; without that, images and
        volumes in rows are channels-last, as convolutions want them.
        """

    def staging(self, shape: Shape, dtype: DTypeLike) -> np.ndarray:
        """An array of the CPU's, to be written and then given to `to_feed`."""
        return self.empty(shape, dtype)

    @abstractmethod
    def from_numpy(self, array: np.ndarray) -> Array:
        """The array in the engine's memory; one that is there already stays where it is."""

    def to_feed(self, array: np.ndarray) -> Array:
        """The array as `Plan.run` is fed with it: what is small may stay in the CPU's memory until
        then, and be copied with the others."""
        return self.from_numpy(array)

    @abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray:
        """The array in the CPU's memory, once it is computed."""

    def assign(self, target: Array, source: Array) -> None:
        """Sets an array to another, or to what is repeated to its shape."""
        target[...] = source

    def copy(self, array: Array, rows: Array | None = None) -> Array:
        """A copy in the same order of memory: of all, or of rows by their numbers."""
        return array.copy(order="K") if rows is None else array[rows]

    def store(self, node: Stored, array: Array) -> None:
        """Sets what stays from run to run to an array of the engine's, which nobody else writes."""
        node.take(array)

    # Runs

    def plan(self, outputs: Sequence[Node]) -> Plan:
        """The plan that computes these nodes."""
        return Plan(outputs, self)

    @abstractmethod
    def generator(self, seed: tuple[int, ...], varies: int | None = None) -> Generator:
        """A generator of random numbers, as `numpy.random.Generator`.

        Args:
            varies: the number in `seed` that is another in each run.
        """

    def series(self, seed: int, turn: int) -> Generator:
        """As `generator`, of numbers that go on from turn to turn; turns begin with 1."""
        return self.generator((seed, turn, 0), varies=1)

    def active(self) -> AbstractContextManager[object]:
        """What is entered around all work on the engine's arrays."""
        return nullcontext()

    def beside(self, stream: object) -> AbstractContextManager[None]:
        """While this lasts, runs are in order with what is done on a stream of a GPU's."""
        return nullcontext()

    def finish(self) -> None:  # noqa: B027
        """Marks the end of a run."""

    def synchronize(self) -> None:  # noqa: B027
        """Waits until everything that was begun is done."""

    def collective(self) -> Collective | None:
        """What sums arrays over processes in this engine's memory; None: it is done on the CPU."""
        return None

    def make_guard(self) -> Guard | None:
        """A guard, where results are looked at without waiting for them."""
        return None
