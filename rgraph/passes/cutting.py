"""Cuts a graph at its delays, into a graph for one frame with explicit states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..graph import Axis, Constant, GraphError, Input, Node, order
from ..graph.node import failed, twin
from ..ops.comparison import element_select
from ..ops.delays import is_early


class Held(NamedTuple):
    """The state of a delay.

    Attributes:
        before: the input that is fed with the state before the frame.
        after: the state after the frame.
        initial: the state before the first frame.
    """

    before: Input
    after: Node
    initial: Node


class Cut(NamedTuple):
    """A graph for one frame of each sequence. Its values have a batch axis and no time axis.

    Attributes:
        frames: for each input with frames, the input that is fed with one frame of each sequence.
        given: for values that don't change over time, the inputs that are fed with them.
        held: the states of the delays.
        passed: the input that is fed with the number of previous frames.
        outputs: the graph's outputs for the frame.
    """

    frames: dict[Node, Input]
    given: dict[Node, Input]
    held: list[Held]
    passed: Input
    outputs: list[Node]


def cut(outputs: Sequence[Node]) -> Cut:
    """The graph of one frame.

    Raises `GraphError` if an output is not a sequence, if two are along different time axes, or if
    an operation looks ahead or needs all frames at once; the message names it.
    """
    axes = {o.axes[-1] for o in outputs if len(o.axes or ()) == 2}
    if len(axes) != 1 or any(len(o.axes or ()) != 2 for o in outputs):
        raise GraphError(
            "only a function that gives a frame for each frame can be run frame by frame",
            hint="its outputs must be sequences along one time axis; of `sequence.last(y)` take y",
        )
    return _Cutting(axes.pop(), outputs).cut()


class _Cutting:
    def __init__(self, axis: Axis, outputs: Sequence[Node]) -> None:
        self.axis, self.outputs = axis, outputs
        self.frames: dict[Node, Input] = {}
        self.given: dict[Node, Input] = {}
        self.made: dict[Node, Node] = {}  # what depends on frames, for one of them
        self.fed: set[Node] = set()  # what depends on data
        self.before: dict[Node, list[Input]] = {}  # of each delay, the latest first
        self.firsts: list[Held] = []
        batch = next(o.axes[0] for o in outputs if o.axes)
        self.passed = Input((), (batch,), np.float32, "passed")

    def cut(self) -> Cut:
        for node in order(self.outputs):
            if isinstance(node, Input) or self.fed.intersection(node.inputs):
                self.fed.add(node)
            moves = len(node.axes or ()) == 2 and node.time_axis == self.axis
            if moves or any(i in self.made for i in node.inputs):
                self.made[node] = self._of_frame(node, moves)
        held = [
            Held(own, after, _before_all(delay) if self._starts_late(delay) else delay.inputs[1])
            for delay, before in self.before.items()
            for own, after in zip(before, [self._operand(delay.inputs[0]), *before], strict=False)
        ]
        outputs = [self.made[o] for o in self.outputs]
        return Cut(self.frames, self.given, [*held, *self.firsts], self.passed, outputs)

    def _of_frame(self, node: Node, moves: bool) -> Node:
        if isinstance(node, Input):
            self.frames[node] = self._input(node)
            return self.frames[node]
        assert node.op is not None
        if node.is_delay:
            return self._delayed(node)
        operands = [self._operand(i) for i in node.inputs]
        if node.op.is_first_frame(node):
            return self._first(node, operands[0])
        if not node.op.framewise:
            raise failed(node, GraphError("it needs all frames at once", hint=_HINT))
        if moves and node.op.on_one_frame is not None:
            return node.op.on_one_frame(node, operands, self.passed)
        new = twin(node, inputs=operands)
        new.axes = (node.axes or ())[:1]
        return new

    def _delayed(self, node: Node) -> Node:
        offset = node.attrs["offset"]
        if offset < 0:
            problem = f"it looks {-offset} frame{'s' * (offset < -1)} ahead"
            raise failed(node, GraphError(problem, hint=_HINT))
        self.before[node] = [self._input(node) for _ in range(offset)]
        earlier = self.before[node][-1]
        if not self._starts_late(node):
            return earlier
        early = is_early(self.passed, offset, node.dtype)
        return element_select(early, self._operand(node.inputs[1]), earlier)

    def _starts_late(self, delay: Node) -> bool:
        """Whether its initial state is known only with the first frame."""
        return delay.inputs[1] in self.made

    def _first(self, node: Node, operand: Node) -> Node:
        before = self._input(node)
        now = element_select(is_early(self.passed, 1, node.dtype), operand, before)
        self.firsts.append(Held(before, now, _before_all(node)))
        return now

    def _operand(self, node: Node) -> Node:
        """An operand, for a frame."""
        if node in self.made:
            return self.made[node]
        if len(node.axes or ()) == 2:
            problem = f"it reads {node.title} along another time axis, {node.time_axis.name}"
            raise GraphError(f"{problem}\n  made at {node.origin}", hint=_HINT)
        if node not in self.fed:
            return node
        return self.given.setdefault(node, self._input(node))

    def _input(self, node: Node) -> Input:
        assert node.shape is not None and node.axes is not None
        return Input(node.shape, node.axes[:1], node.dtype, node.name, where=node.origin)


def _before_all(node: Node) -> Node:
    """A placeholder state of a node before the first frame: it is not read."""
    return Constant(0, (), node.dtype)


_HINT = "a graph that runs frame by frame has delays that look back, and work on single frames"
