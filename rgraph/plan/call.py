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

_SMALL = 1 << 15  # bytes: the memory of smaller results is left to their kernels


def values_of(slots: Sequence[int]) -> Callable[[Env], tuple[Array, ...]]:
    """`values(env)`, what is in these slots."""
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda env: tuple([env[i] for i in slots])


class Call:
    """One kernel with where its operands come from and where its result goes.

    Attributes:
        place: the operand that its result is written over, which dies here; None: new memory.
    """

    def __init__(self, node: Node, engine: Engine, slot: Callable[[Node], int]) -> None:
        assert node.op is not None and node.shape is not None
        arguments = node.op.arguments(node)
        self.node = node
        types = list(map(Type.of, node.inputs))
        bound = engine.bind(node.op, arguments, types)
        self.kernel, self.provider, self.in_place = bound[:3]
        # the fused pointwise operations that it is, the part of its operand, the axis of a splice
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
        self.follows = node.op.pointwise or self.joins_along is not None  # their memory order
        self.axes = node.axes or ()
        self.shape, self.dtype = node.shape, node.dtype
        # What is compiled is given its result's memory, of any size
        self.is_compiled = engine.compiler is not None and node.op.pointwise
        self.rank = len(self.shape) + bool(self.axes)
        self.in_order = self.rank < 4  # the memory of others is in their operands' order
        self.row_bytes = math.prod(self.shape) * node.dtype.itemsize if node.dtype else 0
        self.dead: list[int] = []
        self.place: int | None = None

    @property
    def places(self) -> dict[int, int]:
        """Its result, by the operand that it is written over."""
        return {} if self.place is None else {self.result: self.place}

    def take_place(self, lone: Sequence[int]) -> None:
        """Has the result written over an operand of the same form that dies here, if it can be.

        Args:
            lone: of the operands that die, those in whose memory no other lies.
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
                out = env[self.place][...]  # a view, for which kernels remember nothing
            env[self.result] = self.kernel(run, *operands, out=out)
        except GraphError as error:
            raise failed(self.node, error) from None

    def writes_over(self, operand: int | None) -> bool:
        """Whether it may write its result where an array of the same form is that nothing reads
        after it. A tail does so where it begins by adding that.

        Args:
            operand: that array's number among the operands; None where it is none of them.
        """
        if not self.in_place or self.is_pointwise:
            return self.in_place
        if operand is None:
            return False
        tail = self.node.attrs["program"]
        return tail.begins_by_adding(operand - (len(self.operands) - tail.arity))

    def room(self, run: Run, operands: Sequence[Array], of_any_size: bool) -> Array | None:
        """Memory for its result; None where it is small and that is left to its kernel."""
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
        """Has `around(kernel, *nodes)` called in place of its kernel."""
        self.kernel, self.place = around(self.kernel, self.node), None


def _model(operands: Sequence[Array], rank: int) -> Array | None:
    """The operand whose memory order the result takes: the first that is not a repeated one."""
    for a in operands:
        if a.ndim == rank and all(s or n == 1 for s, n in zip(a.strides, a.shape, strict=True)):
            return a
    return None
