"""A program in rgraph and in PyTorch, the one beside the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

import rgraph as C

from .programs import Program
from .programs.base import Arrays, Way

TOLERANCE = 1e-4  # of the largest value, between the sides' results in float32
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Side(Protocol):
    """A program that can be run."""

    name: str
    program: Program
    way: Way | str

    def forward(self) -> Any:
        """The result: an array, or one per sequence."""

    def train(self) -> Arrays:
        """The gradients of the loss, by the weights' names."""

    def translated(self, gradients: Arrays) -> Arrays:
        """Gradients in rgraph's layout of the weights."""


class Rgraph:
    """The program in rgraph.

    Args:
        engine: the CPU engine; by default the one in use.
        name: in tables.
    """

    def __init__(self, program: Program, engine: str = "", name: str = "") -> None:
        self.program, self.engine = program, engine or C.device.engine().name
        self.way = engine
        self.name = name or (f"rgraph on {engine}" if engine else "rgraph")
        ours = program.in_rgraph()
        self.result, self.loss, self.parameters = ours.result, ours.loss, ours.parameters
        for name, value in program.weights().items():
            self.parameters[name].value = value
        data = program.data()
        self.data = {x: data[name] for name, x in ours.inputs.items()}
        self.fed = {x: self.data[x] for x in ours.inputs.values() if x in self.result.arguments}

    def forward(self) -> Any:
        C.device.use_cpu_engine(self.engine)
        return self.result.eval(self.fed)

    def train(self) -> Arrays:
        C.device.use_cpu_engine(self.engine)
        gradients = self.loss.grad(self.data, wrt=list(self.parameters.values()))
        return {name: gradients[p] for name, p in self.parameters.items()}

    def translated(self, gradients: Arrays) -> Arrays:
        return gradients


class PyTorch:
    """The program in PyTorch, run in a way."""

    def __init__(self, program: Program, way: Way) -> None:
        import torch

        torch.set_num_threads(CORES)
        self.no_grad = torch.no_grad
        self.program, self.way, self.name = program, way, f"PyTorch {way.name}"
        self.weights = {}
        for name, value in program.weights().items():
            tensor = torch.from_numpy(program.in_torch_layout(name, value))
            if not name.startswith("b") and program.is_kernel(value.shape):
                tensor = way.layout(tensor)
            self.weights[name] = torch.nn.Parameter(tensor)
        self.program_there = program.in_pytorch(self.weights, way)

    def forward(self) -> Any:
        with self.no_grad():
            return self.program_there.read(self.program_there.run().numpy())

    def train(self) -> Arrays:
        for w in self.weights.values():
            w.grad = None
        self.program_there.loss(self.program_there.run()).backward()
        return {name: w.grad.numpy() for name, w in self.weights.items()}

    def translated(self, gradients: Arrays) -> Arrays:
        return {name: self.program.from_torch_layout(name, g) for name, g in gradients.items()}


def make(program: Program, way: Way | str) -> Side:
    """The program in PyTorch in a way, or in rgraph on an engine, `""` for the one in use."""
    return PyTorch(program, way) if isinstance(way, Way) else Rgraph(program, way)


def torch_version() -> str:
    """The version of the PyTorch to compare with, or "" if there is none."""
    try:
        import torch
    except ImportError:
        return ""
    return str(torch.__version__)


def why_not_compiled() -> str:
    """Why `torch.compile` does not work on this machine, or "" if it does."""
    import torch

    try:
        torch.compile(lambda x: torch.tanh(x) * x)(torch.ones(8))
    except Exception as error:  # a missing compiler shows up in many kinds
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return ""


def check_same(sides: Sequence[Side]) -> float:
    """The greatest difference of the sides' results and gradients from the first's.

    Raises if that is too much: then their times would mean nothing.
    """
    greatest, first = 0.0, sides[0]
    result, gradients = _named(first.forward()), first.translated(first.train())
    for other in sides[1:]:
        found = _named(other.forward()) | other.translated(other.train())
        for what, a in (result | gradients).items():
            b = np.asarray(found[what])
            if np.shape(a) != b.shape:
                raise AssertionError(
                    f"{first.program}: {first.name} and {other.name} differ in the shape of "
                    f"{what}: {np.shape(a)} and {b.shape}"
                )
            error = float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
            if not error <= TOLERANCE:
                raise AssertionError(
                    f"{first.program}: {first.name} and {other.name} differ by {error:.1e} of the "
                    f"largest value in {what}"
                )
            greatest = max(greatest, error)
    return greatest


def _named(result: Any) -> dict[str, Any]:
    if isinstance(result, np.ndarray):
        return {"the result": result}
    return {f"sequence {i}": value for i, value in enumerate(result)}
