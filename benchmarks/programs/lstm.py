"""An LSTM that reads a sequence of vectors and tells its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import rgraph as C

from .base import (
    COMPILED,
    EAGER,
    PACKED,
    Ours,
    Program,
    Theirs,
    Way,
    frames,
    one_hot,
    padded,
    spell,
)


def shapes(inputs: int, size: int) -> dict[str, tuple[int, ...]]:
    return {"W": (inputs, 4 * size), "H": (size, 4 * size), "b": (4 * size,)}


def regated(weight: np.ndarray) -> np.ndarray:
    """LSTM weights from rgraph's layout to PyTorch's, or back.

    rgraph has the gates side by side, in CNTK's order: input, new value, forget, output. PyTorch
    has them one below the other, forget before the new value.
    """
    gates = weight.reshape(*weight.shape[:-1], 4, -1)
    return gates[..., [0, 2, 1, 3], :].reshape(weight.shape)


def work(rows: int, inputs: int, size: int, inner: bool) -> list[tuple[float, bool]]:
    """`inner`: whether the input needs a gradient."""
    return [(8.0 * rows * inputs * size, inner), (8.0 * rows * size * size, True)]


def torch_lstm(w: Mapping[str, Any]) -> Any:
    """PyTorch's layer on these weights."""
    import torch

    size = w["b"].shape[0] // 4
    layer = torch.nn.LSTM(w["W"].shape[1], size)
    layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 = w["W"], w["H"], w["b"]
    torch.nn.init.zeros_(layer.bias_hh_l0)
    return layer


def torch_step(W: Any, H: Any, b: Any, x: Any, h: Any, c: Any) -> Any:
    """One step, for `torch.compile`, which leaves PyTorch's layer as it is."""
    import torch
    from torch.nn.functional import linear

    i, f, g, o = (linear(x, W, b) + linear(h, H)).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@dataclass(frozen=True)
class LSTM(Program):
    """
    Attributes:
        lengths: the number of frames of each sequence.
        inputs, size, classes: how many numbers a frame, a state and the result have.
    """

    name: str
    lengths: tuple[int, ...]
    inputs: int
    size: int
    classes: int = 10
    targets: Mapping[str, float] = field(default_factory=dict)

    @property
    def ways(self) -> tuple[Way, ...]:  # type: ignore[override]
        return (EAGER, COMPILED) if len(set(self.lengths)) == 1 else (EAGER, PACKED, COMPILED)

    def __str__(self) -> str:
        return f"{self.name}: LSTM {spell(self.lengths)} {self.inputs} to {self.size}"

    def quick(self) -> Program:
        ragged = len(set(self.lengths)) > 1
        lengths = (2, 4, 3) if ragged else (3, 3)
        return replace(self, lengths=lengths, inputs=3, size=4)

    def data(self) -> dict[str, Any]:
        labels = one_hot(len(self.lengths), self.classes)
        return {"x": frames(self.lengths, (self.inputs,)), "labels": labels}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        last = {"V": (self.size, self.classes), "b_V": (self.classes,)}
        return shapes(self.inputs, self.size) | last

    def work(self) -> Sequence[tuple[float, bool]]:
        last = 2.0 * len(self.lengths) * self.size * self.classes
        return [*work(sum(self.lengths), self.inputs, self.size, False), (last, True)]

    def in_rgraph(self) -> Ours:
        x, labels = C.sequence.input_variable(self.inputs), C.input_variable(self.classes)
        cell, dense = C.layers.LSTM(self.size), C.layers.Dense(self.classes)
        z = dense(C.sequence.last(C.layers.Recurrence(cell)(x)))
        loss = C.cross_entropy_with_softmax(z, labels)
        w = {"W": cell.W, "H": cell.H, "b": cell.b, "V": dense.W, "b_V": dense.b}
        return Ours({"x": x, "labels": labels}, z, loss, w)

    def in_torch_layout(self, name: str, weight: np.ndarray) -> np.ndarray:
        return weight if name in ("V", "b_V") else np.ascontiguousarray(regated(weight).T)

    def from_torch_layout(self, name: str, weight: np.ndarray) -> np.ndarray:
        return weight if name in ("V", "b_V") else regated(weight.T)

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        import torch
        from torch.nn.functional import cross_entropy
        from torch.nn.utils.rnn import pack_padded_sequence

        data = self.data()
        x, labels = padded(data["x"]), torch.from_numpy(data["labels"])
        ends = torch.tensor(self.lengths) - 1
        layer, step = torch_lstm(w), way.compile(torch_step)

        def last_states() -> Any:
            if way.packed:
                rows = pack_padded_sequence(x, torch.tensor(self.lengths), enforce_sorted=False)
                return layer(rows)[1][0][0]
            if not way.compiled:
                return layer(x)[0][ends, torch.arange(len(ends))]
            h = c = x.new_zeros(x.shape[1], self.size)
            states = []
            for frame in x:
                h, c = step(w["W"], w["H"], w["b"], frame, h, c)
                states.append(h)
            return torch.stack(states)[ends, torch.arange(len(ends))]

        return Theirs(
            lambda: last_states() @ w["V"] + w["b_V"],
            lambda z: cross_entropy(z, labels, reduction="sum"),
            lambda z: z,
        )
