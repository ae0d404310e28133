"""What the graph itself costs: building it, planning it, and Python's part in a small step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import rgraph as C
from rgraph.runtime import jobs

from .measure import interleaved
from .programs import Program
from .sides import CORES, torch_version

PLANNING = 0.3  # seconds that planning W1 may take


def planning(program: Program, repeat: int, least: float) -> dict[str, float]:
    """Seconds from a program's graph to its plan, which is made once."""
    ours = program.in_rgraph()
    wrt = tuple(p.node for p in ours.parameters.values())
    requests = {
        "forward": jobs.Request((ours.result.node,)),
        "train": jobs.Request((), (ours.loss.node,), wrt),
    }
    runs = {mode: lambda r=r: jobs.plan(r) for mode, r in requests.items()}
    return {mode: min(found) for mode, found in interleaved(runs, repeat, least).items()}


def build(operations: int) -> dict[str, float]:
    """Seconds to build a graph of so many operations, its gradient, and the first run of each."""
    x = C.input_variable(8)
    w = C.Parameter(8, init=0.5)
    start = time.perf_counter()
    y = x
    for _ in range(operations // 4):
        y = C.tanh(y * w + x) - y
    built = time.perf_counter()
    at = {x: np.ones((1, 8), np.float32)}
    y.eval(at)
    ran = time.perf_counter()
    y.grad(at, wrt=[w])
    done = time.perf_counter()
    return {"build": built - start, "first run": ran - built, "first gradient": done - ran}


def lstm(steps: int, size: int, repeat: int, least: float) -> dict[str, float]:
    """Seconds per step of a small LSTM over one sequence, forward; in rgraph, and in PyTorch.

    PyTorch's cell in a Python loop is what compares; `nn.LSTM` is a fused kernel that no step
    function of one's own can have.
    """
    x = C.sequence.input_variable(size)
    y = C.layers.Recurrence(C.layers.LSTM(size))(x)
    data = [np.zeros((steps, size), np.float32)]
    runs: dict[str, Any] = {"rgraph": lambda: y.eval({x: data})}
    runs["rgraph, with gradients"] = lambda: y.grad({x: data}, wrt=y.parameters)
    if torch_version():
        runs |= _torch_lstm(steps, size)
    times = interleaved(runs, repeat, least)
    return {name: min(seconds) / steps for name, seconds in times.items()}


def _torch_lstm(steps: int, size: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(CORES)
    cell, fused = torch.nn.LSTMCell(size, size), torch.nn.LSTM(size, size)
    frames = torch.zeros(steps, 1, size)

    def states() -> torch.Tensor:
        state = torch.zeros(1, size), torch.zeros(1, size)
        outputs = []
        for frame in frames:
            state = cell(frame, state)
            outputs.append(state[0])
        return torch.stack(outputs)

    def forward() -> Any:
        with torch.no_grad():
            return states()

    def train() -> None:
        cell.zero_grad()
        states().sum().backward()

    def fused_forward() -> Any:
        with torch.no_grad():
            return fused(frames)

    return {
        "PyTorch LSTMCell": forward,
        "PyTorch LSTMCell, with gradients": train,
        "PyTorch nn.LSTM": fused_forward,
    }
