"""An interactive debugger that stops at each value of a graph: `debugging.debug_model`."""

from __future__ import annotations

import pdb
import sys
from collections.abc import Callable
from typing import Any

from ..graph import Constant, Node, order
from ..operands.search import single
from ..operands.tracing import nodes_of
from ..ops.records import as_node
from ..passes.rewriting import private
from .function import Function
from .user_function import UserFunction, output_variable

USAGE = """\
    n           go on to the next value (n 5: five values on)
    u f, u b    go on to the forward or to the backward pass
    u NAME      go on to the value of this name
    u lambda value, node: …
                go on to the value for which this holds; np is numpy
    c           go on to the end
    p           print what is computed here, backward its gradient
    d           start Python's debugger
    q           end the program
"""

PROMPT = {which: f"[CNTK {which}] >>> " for which in ("forward", "backward")}

Goal = Callable[[str, Any, Any], bool]  # pass ("forward" or "backward"), value, variable


class _Console:
    """Reads and executes commands; shared by all stops of a model."""

    def __init__(self, read: Any, write: Any, leave: Callable[[int], Any]) -> None:
        self.read, self.out, self.leave = read, write, leave
        self.goal: Goal = lambda *_: True
        self.last_pass = ""

    def say(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()

    def stop(self, which: str, value: Any, node: Any) -> None:
        """Prints which value is computed, and reads commands if the goal is reached."""
        if which != self.last_pass:
            self.say("\n" + f" {which} ".center(80, "=") + "\n")
            self.last_pass = which
        self.say(f"\n{node!r} with uid '{node.uid}'\n")
        if not self.goal(which, value, node):
            return
        goal = None
        while goal is None:
            self.say(PROMPT[which])
            goal = self.command(self.read.readline().strip(), which, value)
        self.goal = goal

    def command(self, line: str, which: str, value: Any) -> Goal | None:
        """Executes a command; returns the new goal if the run should continue."""
        word, _, rest = line.partition(" ")
        if word == "p":
            self.say(f"{value}\n")
        elif word == "d":
            pdb.set_trace()
        elif word == "q":
            self.leave(0)
        elif word == "c":
            return lambda *_: False
        elif word[:1] == "n" and (count := rest or word[1:] or "1").isdigit():
            return _after(int(count))
        elif word == "u" and (goal := _until(rest.strip())):
            return goal
        elif line:
            self.say(USAGE)
        return None


def _after(count: int) -> Goal:
    left = [count]

    def goal(*_: object) -> bool:
        left[0] -= 1
        return left[0] <= 0

    return goal


def _until(what: str) -> Goal | None:
    if what in ("f", "b"):
        wanted = {"f": "forward", "b": "backward"}[what]
        return lambda which, *_: which == wanted
    if what.startswith("lambda"):
        import numpy as np

        try:
            holds = eval(what, {"np": np})  # users may run their own code in a debugger
        except SyntaxError:
            return None
        return lambda which, value, node: bool(holds(value, node))
    return (lambda which, value, node: node.name == what) if what else None


class _Stop(UserFunction):
    """The identity, with a stop in the forward and in the backward pass."""

    def __init__(self, operand: Node, console: _Console) -> None:
        self.seen = single(operand)  # from before the operands were replaced by stops
        super().__init__([operand], name=f"D_{self.seen.uid}")
        self.console = console

    def infer_outputs(self) -> list[Any]:
        x = self.inputs[0]
        return [output_variable(x.shape, x.dtype, x.dynamic_axes)]

    def forward(self, argument: Any, *_: object, **__: Any) -> Any:  # type: ignore[override]
        self.console.stop("forward", argument, self.seen)
        return None, argument

    def backward(self, state: Any, root_gradients: Any, variables: Any = None) -> Any:  # type: ignore[override]
        self.console.stop("backward", root_gradients, self.seen)
        return root_gradients


def debug_model(
    model: Any,
    in_stream: Any = None,
    out_stream: Any = None,
    exit_func: Callable[[int], Any] = sys.exit,
) -> Function:
    """A copy of a model that stops at each value when it runs, and reads commands.

    Type `help` for a list of commands. The copy shares the parameters of the model.

    Args:
        model: a function; its shapes must be known.
        in_stream, out_stream: the streams to read commands from and write to; by default the
            terminal.
        exit_func: called with 0 to end the program.

    Source: CNTK's `debugging.debug_model`.

    >>> import io
    >>> x = C.input_variable(2, name="x")
    >>> f = C.debugging.debug_model(C.square(x), io.StringIO("n\\np\\nc\\n"), io.StringIO())
    >>> f.eval([[1, 2]])
    array([[1., 4.]], dtype=float32)
    """
    console = _Console(in_stream or sys.stdin, out_stream or sys.stdout, exit_func)
    outputs = private(nodes_of(model))
    nodes = [n for n in order(outputs) if not isinstance(n, Constant)]
    stops = {n: as_node(_Stop(n, console)) for n in nodes}
    for node in nodes:
        if node.op is not None:
            node.inputs = [stops.get(i, i) for i in node.inputs]
    return Function([stops.get(n, n) for n in outputs])
