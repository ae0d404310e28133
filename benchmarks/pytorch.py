"""The same program in PyTorch, as a person would write it there."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import conv2d

from .programs import Program
from .sides import CORES

Tensor = torch.Tensor
torch.set_num_threads(CORES)


def step(w: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    """The seed's step function, line by line."""
    z = torch.sigmoid(w["bz"] + conv2d(x, w["Wz"], padding=1) + conv2d(h, w["Hz"], padding=1))
    r = torch.sigmoid(w["br"] + conv2d(x, w["Wr"], padding=1) + conv2d(h, w["Hr"], padding=1))
    candidate = w["bc"] + conv2d(x, w["Wc"], padding=1) + conv2d(h * r, w["Hc"], padding=1)
    return z * h + (1 - z) * torch.tanh(candidate)


class PyTorch:
    """The program in PyTorch's eager mode: a loop over the frames of a padded minibatch.

    Args:
        kind: `eager`; `channels-last`: eager, in that memory format; `compiled`: that, with
            the step function through `torch.compile`.
    """

    def __init__(self, program: Program, kind: str) -> None:
        self.name = f"PyTorch {kind}"
        self.program, self.kind = program, kind
        self.step = torch.compile(step) if kind == "compiled" else step
        layout = torch.contiguous_format if kind == "eager" else torch.channels_last
        self.weights = {}
        for name, value in program.weights().items():
            tensor = torch.from_numpy(value)
            if value.ndim == 4:
                tensor = tensor.to(memory_format=layout)
            self.weights[name] = tensor.requires_grad_()
        steps, batch = max(program.lengths), len(program.lengths)
        padded = torch.zeros(steps, batch, *program.image)
        for i, frames in enumerate(program.data()):
            padded[: len(frames), i] = torch.from_numpy(frames)
        self.frames = [f.contiguous(memory_format=layout) for f in padded]
        state = torch.zeros(batch, program.outputs, *program.image[1:])
        self.state = state.contiguous(memory_format=layout)
        alive = torch.arange(steps)[:, None] < torch.tensor(program.lengths)
        self.mask = None if alive.all() else alive.float().reshape(steps, batch, 1, 1, 1)

    def _states(self) -> Tensor:
        h, states = self.state, []
        for x in self.frames:
            h = self.step(self.weights, x, h)
            states.append(h)
        return torch.stack(states)

    def forward(self) -> list[np.ndarray]:
        with torch.no_grad():
            states = self._states().numpy()
        return [states[:n, i] for i, n in enumerate(self.program.lengths)]

    def train(self) -> dict[str, np.ndarray]:
        for w in self.weights.values():
            w.grad = None
        states = self._states()
        (states if self.mask is None else states * self.mask).sum().backward()
        return {k: w.grad.numpy() for k, w in self.weights.items() if w.grad is not None}
