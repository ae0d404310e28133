"""Divides a graph for windows of frames: into a graph that is run window by window, and one that is
run once.

Delays hold everything that a sequence carries from one window to the next. So a graph whose delays
look back can be run in windows of K frames, and differentiated in reverse order: each window is
computed anew from the states at its border. Memory for T frames grows with K + T / K instead of T
(Chen et al., "Training deep nets with sublinear memory cost", 2016, do this for layers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..graph import Axis, Constant, GraphError, Input, Node, apply, order
from ..graph.node import failed, twin
from ..graph.traverse import dependents
from ..ops.along_time import ENDS
from ..ops.arithmetic import plus
from ..ops.repetition import spread
from .rewriting import private, substitute

_HINT = (
    "a graph that runs in windows of frames has delays that look back, and work on single frames "
    "or sums of them; without a window or a limit of memory it runs whole"
)


class State(NamedTuple):
    """The state of a delay at window borders, one value for each sequence.

    Attributes:
        before: the input of a window that is fed with the state before it.
        after: the state after the window.
        initial: the state before the first window.
    """

    before: Input
    after: Node
    initial: Node


class Part(NamedTuple):
    """A value without frames that is computed from all frames.

    Attributes:
        whole: the input that represents it outside of windows.
        of_window: its value for the frames of one window.
        joined: how to combine the values of the windows, see `Op.of_windows`.
    """

    whole: Input
    of_window: Node
    joined: str


class Division(NamedTuple):
    """A graph divided along a time axis.

    Attributes:
        inside: for each node along the axis, its node in the graph of a window.
        given: for each outside value that windows read, the input that is fed with it.
        states: the states of the delays.
        parts: the values computed from all frames, by node.
        passed: the input of a window that is fed with the number of frames before each frame.
        left: the input that is fed with the number of frames after each frame.
    """

    axis: Axis
    inside: dict[Node, Node]
    given: dict[Node, Input]
    states: list[State]
    parts: dict[Node, Part]
    passed: Input
    left: Input

    def outside(self, nodes: Iterable[Node]) -> list[Node]:
        """A copy of the graph of these nodes outside of windows, reading whole parts."""
        nodes = list(nodes)
        copies = private([*nodes, *self.parts])
        wholes = [p.whole for p in self.parts.values()]
        instead = dict(zip(copies[len(nodes) :], wholes, strict=True))
        return substitute(copies[: len(nodes)], instead)


def time_axis_of(outputs: Sequence[Node]) -> Axis:
    """The time axis along which most operations below `outputs` compute.

    Raises `GraphError` if there is none.
    """
    axes = [n.time_axis for n in order(outputs) if len(n.axes or ()) == 2]
    own = [a for a in axes if a.source is None]
    if not own:
        raise GraphError(
            "a function without sequences can't be run in windows of frames",
            hint="leave `window` and `memory_limit` out",
        )
    return max(dict.fromkeys(own), key=own.count)


def divide(outputs: Sequence[Node], axis: Axis) -> Division:
    """Divide the graph below `outputs` along a time axis.

    Raises `GraphError` if an operation looks ahead, needs all frames at once, or reads a value
    computed from all frames for each of them; the message names it.
    """
    return _Dividing(outputs, axis).divide()


class _Dividing:
    def __init__(self, outputs: Sequence[Node], axis: Axis) -> None:
        self.nodes = order(outputs)
        self.axis = axis
        self.along = [n for n in self.nodes if len(n.axes or ()) == 2 and n.time_axis == axis]
        self.inside: dict[Node, Node] = {}
        self.given: dict[Node, Input] = {}
        self.chains: dict[Node, list[tuple[Input, Node]]] = {}  # of each delay, the latest first
        batch = self.along[0].axes[0]
        self.passed, self.left = (
            Input((), (batch, axis), np.float32, name) for name in ("passed", "left")
        )
        # What is computed from all frames: it is known after the last window.
        self.later = dependents(self.nodes, self.along) - set(self.along)
        self.varying = _varying(self.nodes)

    def divide(self) -> Division:
        for node in self.along:
            self._refuse(node)
            if node.is_delay:
                self._delay(node)
            else:
                self.inside[node] = self._copy(node)
        for node in self.along:
            if node.op is not None and not node.is_delay and self.inside[node].op is node.op:
                self.inside[node].inputs = [self._operand(node, i) for i in node.inputs]
        states = [s for delay, chain in self.chains.items() for s in self._states(delay, chain)]
        inside = set(self.along)
        parts = {
            n: self._part(n)
            for n in self.nodes
            if n not in inside and any(i in inside for i in n.inputs)
        }
        return Division(self.axis, self.inside, self.given, states, parts, self.passed, self.left)

    def _refuse(self, node: Node) -> None:
        if node.is_delay and node.attrs["offset"] < 0:
            frames = -node.attrs["offset"]
            problem = f"it looks {frames} frame{'s' * (frames > 1)} ahead"
        elif node.op is not None and not node.op.framewise:
            problem = "it needs all frames at once"
        else:
            return
        raise failed(node, GraphError(problem, hint=_HINT))

    def _copy(self, node: Node) -> Node:
        if node.op is None:
            return node
        if node.op.in_window is not None:
            return node.op.in_window(node, self.passed, self.left)
        return twin(node)

    def _delay(self, node: Node) -> None:
        """A delay by n frames is n delays by one, each with a state of its own."""
        chain: list[tuple[Input, Node]] = []
        for _ in range(node.attrs["offset"]):
            before = _input(node)
            one = twin(node, attrs={**node.attrs, "offset": 1})
            if chain:
                one.inputs = [chain[-1][1], before]
            chain.append((before, one))
        self.chains[node] = chain
        self.inside[node] = chain[-1][1]

    def _states(self, delay: Node, chain: Sequence[tuple[Input, Node]]) -> list[State]:
        source, initial = delay.inputs
        if initial in self.later:
            raise self._given_back(delay, initial)
        before, first = chain[0]
        first.inputs = [self.inside[source], before]
        whole = plus(initial, Constant(np.zeros(delay.shape or (), delay.dtype)))
        start = spread(whole, (delay.batch_axis,))
        ends = [self.inside[source], *(one for _, one in chain)]
        return [
            State(own, apply(ENDS, after, last=True), start)
            for (own, _), after in zip(chain, ends, strict=False)
        ]

    def _operand(self, node: Node, operand: Node) -> Node:
        if operand in self.inside:
            return self.inside[operand]
        if operand in self.later:
            raise self._given_back(node, operand)
        if operand not in self.varying:
            return operand
        return self.given.setdefault(operand, _input(operand))

    def _given_back(self, node: Node, operand: Node) -> GraphError:
        problem = f"it reads {operand.title}, which is computed from all frames"
        return failed(node, GraphError(problem, hint=_HINT))

    def _part(self, node: Node) -> Part:
        assert node.op is not None
        joined = node.op.of_windows(node)
        if not joined or len(node.axes or ()) == 2:
            raise failed(node, GraphError("it needs all frames at once", hint=_HINT))
        whole = Input(node.shape, node.axes, node.dtype, node.name, where=node.origin)
        of_window = twin(node, inputs=[self._operand(node, i) for i in node.inputs])
        return Part(whole, of_window, joined)


def _input(node: Node) -> Input:
    """An input for the value of `node` of each sequence."""
    return Input(node.shape, (node.axes or ())[:1], node.dtype, node.name, where=node.origin)


def _varying(nodes: list[Node]) -> set[Node]:
    """Nodes that depend on data or random numbers: computed once, not in each window."""
    random = [n for n in nodes if n.op is not None and n.op.random]
    return dependents(nodes, [*random, *(n for n in nodes if n.axes or isinstance(n, Input))])
