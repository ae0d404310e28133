"""One kernel, with its place in a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from ..graph import GraphError, Node
from ..graph.node import Type, failed
from ..graph.types import Array
from .run import Run

if TYPE_CHECKING:
    from ..engines.base import Engine, Kernel
    from ..ops.fused import Program

Env = list[Array]

_SMALL = 1 << 15  # bytes: kernels allocate smaller results themselves


def values_of(slots: Sequence[int]) -> Callable[[Env], tuple[Array, ...]]:
    """A function that returns the values in these slots."""
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda env: tuple([env[i] for i in slots])


class Call:
    """One kernel, with the slots of its operands and of its result.

    Attributes:
        place: the slot of the operand that the result overwrites, if that is not needed any more;
            None if the result gets new memory.
    """

    def __init__(self, node: Node, engine: Engine, slot: Callable[[Node], int]) -> None:
        assert node.op is not None and node.shape is not None
        arguments = node.op.arguments(node)
        self.node = node
        types = list(map(Type.of, node.inputs))
        bound = engine.bind(node.op, arguments, types)
        self.kernel, self.provider, self.in_place = bound[:3]
        # The fused pointwise operations, the part of its operand that it is, the axis of a splice
        self.program: Program | None = node.attrs.get("program") if node.op.pointwise else None
        self.is_pointwise = node.op.pointwise
        self.part = node.op.part(node)
        self.joins_along = node.op.joins_along(node)
        self.operands = [slot(i) for i in node.inputs]
        self.values = values_of(self.operands)
        self.result = slot(node)
        self.nodes, self.calls, self.reads, self.made = (
            (node,),
            [self],
            {*self.operands},
            {slot(node)},
        )
        self.into = node.op.into
        self.takes_out = node.op.into or bound.takes_out  # in a loop
        # Whether the result has its operands' memory order
        self.follows = node.op.pointwise or self.joins_along is not None
        self.axes = node.axes or ()
        self.shape, self.dtype = node.shape, node.dtype
        # Compiled kernels are given memory for results of any size
        self.is_compiled = engine.compiler is not None and node.op.pointwise
        self.rank = len(self.shape) + bool(self.axes)
        self.in_order = self.rank < 4  # images have their operands' memory order instead
        self.row_bytes = math.prod(self.shape) * node.dtype.itemsize if node.dtype else 0
        self.dead: list[int] = []
        self.place: int | None = None

    @property
    def places(self) -> dict[int, int]:
        """The operand's slot that the result overwrites, by the result's slot."""
        return {} if self.place is None else {self.result: self.place}

    def take_place(self, lone: Sequence[int]) -> None:
        """Let the result overwrite an operand of the same form that is not needed any more.

        Args:
            lone: the slots of such operands whose memory no other value shares.
        """
        if not (self.into and self.is_pointwise and self.in_place):
            return
        own = Type.of(self.node)
        same = (
            i for i, n in zip(self.operands, self.node.inputs, strict=True) if Type.of(n) == own
        )
        self.place = next((i for i in same if i in lone), None)

    def __call__(self, run: Run, env: Env) -> None:
        operands = self.values(env)
        try:
            if not self.into:
                env[self.result] = self.kernel(run, *operands)
                return
            if self.place is None:
                out = self.room(run, operands, self.is_compiled)
            else:
                out = env[self.place][...]  # a new view: kernels cache by an array's identity
            env[self.result] = self.kernel(run, *operands, out=out)
        except GraphError as error:
            raise failed(self.node, error) from None

    def writes_over(self, operand: int | None) -> bool:
        """Whether the result may overwrite an array of the same form that nothing reads later. The
        tail of a convolution or product may if its first step adds that array.

        Args:
            operand: the array's index among the operands; None if it is not an operand.
        """
        if not self.in_place or self.is_pointwise:
            return self.in_place
        if operand is None:
            return False
        tail = self.node.attrs["program"]
        return tail.begins_by_adding(operand - (len(self.operands) - tail.arity))

    def room(self, run: Run, operands: Sequence[Array], of_any_size: bool) -> Array | None:
        """Memory for the result; None if it is small and the kernel allocates it."""
        shape, size = self.shape, self.row_bytes
        if self.axes:
            rows = run.rows(self.axes)
            shape, size = (rows, *shape), size * rows
        if size < _SMALL:
            if not of_any_size:
                return None
            if self.in_order:
                return run.xp.empty(shape, self.dtype)
        like = _model(operands, self.rank) if self.follows else None
        return run.empty(shape, self.dtype, like)

    def observe(self, around: Callable[..., Kernel], separate: bool) -> None:
        """Replace the kernel by `around(kernel, *nodes)`."""
        self.kernel, self.place = around(self.kernel, self.node), None


def _model(operands: Sequence[Array], rank: int) -> Array | None:
    """The operand whose memory order the result takes: the first that is not broadcast."""
    for a in operands:
        if a.ndim == rank and all(s or n == 1 for s, n in zip(a.strides, a.shape, strict=True)):
            return a
    return None
