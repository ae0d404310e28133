"""A program in rgraph and in PyTorch, the one beside the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

import rgraph as C

from . import programs
from .programs import Program

NAMES = ("rgraph", "eager", "channels-last", "compiled")  # the last three are PyTorch's
TOLERANCE = 1e-4  # of the largest value, between the sides' results in float32
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Side(Protocol):
    """A program that can be run: `name` in a table, `kind` one of `NAMES`."""

    name: str
    kind: str
    program: Program

    def forward(self) -> list[np.ndarray]:
        """All states, sequence by sequence."""

    def train(self) -> dict[str, np.ndarray]:
        """The gradients of the sum of all states, by the parameters' names."""


def make(program: Program, name: str) -> Side:
    """The program on the side of this name."""
    if name == "rgraph":
        return Rgraph(program)
    from .pytorch import PyTorch

    return PyTorch(program, name)


def torch_version() -> str:
    """The version of the PyTorch to compare with, or "" if there is none."""
    try:
        import torch
    except ImportError:
        return ""
    return str(torch.__version__)


def check_same(sides: Sequence[Side]) -> None:
    """Raises if the sides' results or gradients differ: then their times would mean nothing."""
    first, *others = sides
    states, gradients = first.forward(), first.train()
    for other in others:
        pairs = {
            f"sequence {i}": p for i, p in enumerate(zip(states, other.forward(), strict=True))
        }
        theirs = other.train()
        pairs |= {name: (value, theirs[name]) for name, value in gradients.items()}
        for what, (a, b) in pairs.items():
            error = np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)
            if not error <= TOLERANCE:
                raise AssertionError(
                    f"{first.program}: {first.name} and {other.name} differ by {error:.1e} of the "
                    f"largest value in {what}"
                )


def conv_gru(outputs: int) -> Callable[..., Any]:
    """The step function of a convolutional GRU, as the README has it."""
    filters, bias = (outputs, C.InferredDimension, *programs.KERNEL), (outputs, 1, 1)
    init = C.glorot_uniform()
    bz, br, bh = (C.Parameter(bias, init=0, name="b" + g) for g in "zrc")
    Wz, Wr, Wh = (C.Parameter(filters, init=init, name="W" + g) for g in "zrc")
    Uz, Ur, Uh = (C.Parameter(filters, init=init, name="H" + g) for g in "zrc")

    def step(dh: Any, x: Any) -> Any:
        zt = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Uz, dh))
        rt = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Ur, dh))
        rs = dh * rt
        return zt * dh + (1 - zt) * C.tanh(bh + C.convolution(Wh, x) + C.convolution(Uh, rs))

    return step


class Rgraph:
    """The program in rgraph."""

    kind = "rgraph"

    def __init__(self, program: Program, name: str = "rgraph") -> None:
        self.program, self.name = program, name
        self.x = C.sequence.input_variable(program.image)
        state = C.constant(0, (program.outputs, *program.image[1:]))
        self.y = C.layers.Recurrence(conv_gru(program.outputs), initial_state=state)(self.x)
        for name, value in program.weights().items():
            getattr(self.y, name).value = value
        self.data = program.data()

    def forward(self) -> list[np.ndarray]:
        return self.y.eval({self.x: self.data})

    def train(self) -> dict[str, np.ndarray]:
        gradients = self.y.grad({self.x: self.data}, wrt=self.y.parameters)
        return {p.name: g for p, g in gradients.items()}
