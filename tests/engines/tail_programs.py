"""Tails as programs, beside formulas of NumPy for what they mean."""

import numpy as np

import rgraph as C
from rgraph import graph
from rgraph.ops.fused import Program


def program(formula, arity):
    """A formula of variables as a program, and what it reads besides them: its constants."""
    frames = [C.input_variable(1) for _ in range(arity)]
    nodes = graph.order([formula(*frames).node])
    operands, members = [f.node for f in frames], [n for n in nodes if n.op]
    constants = [n for n in nodes if not n.op and n not in operands]
    values = [np.asarray(c.value, np.float32) for c in constants]
    return Program.of(members, [*operands, *constants]), values


TAILS = {
    "gate": (
        lambda y, a, b: C.sigmoid(y + a) * b,
        lambda y, a, b: b / (1 + np.exp(-(y + a))),
    ),
    "blend": (
        lambda y, a, b: b + a * (C.tanh(y + a) - b),
        lambda y, a, b: b + a * (np.tanh(y + a) - b),
    ),
    "one number": (
        lambda y, a, b: C.relu(2 * y - a) + 3 * b,
        lambda y, a, b: np.maximum(2 * y - a, 0) + 3 * b,
    ),
}
