"""A ConvolutionalGRU over film, with 3x3 kernels, from a zero state; all states are wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import rgraph as C

from .base import (
    CHANNELS_LAST,
    COMPILED_LAST,
    EAGER,
    Ours,
    Program,
    Theirs,
    Way,
    frames,
    padded,
    spell,
)

KERNEL = (3, 3)
# What PyTorch can do with sequences of different lengths: pad them, or let the batch shrink.
RAGGED_WAYS = (
    CHANNELS_LAST,
    COMPILED_LAST,
    Way("packed channels-last", channels_last=True, packed=True),
    Way("packed compiled", channels_last=True, compiled=True, packed=True),
)


def shapes(inputs: int, outputs: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Those of a step function's weights: W of the input, H of the state, b the biases."""
    found: dict[str, tuple[int, ...]] = {}
    for gate in "zrc":
        found[f"W{prefix}{gate}"] = (outputs, inputs, *KERNEL)
        found[f"H{prefix}{gate}"] = (outputs, outputs, *KERNEL)
        found[f"b{prefix}{gate}"] = (outputs, 1, 1)
    return found


def work(rows: int, image: Sequence[int], outputs: int, inner: bool) -> list[tuple[float, bool]]:
    """Of all frames' six convolutions; `inner`: whether the input needs a gradient."""
    channels, height, width = image
    one = 2.0 * rows * height * width * math.prod(KERNEL) * outputs
    return [(3 * channels * one, inner), (3 * outputs * one, True)]


def conv_gru(inputs: int, outputs: int, prefix: str = "") -> Callable[..., Any]:
    """The step function in rgraph, as the README has it."""
    w = {name: C.Parameter(s, name=name) for name, s in shapes(inputs, outputs, prefix).items()}
    Wz, Hz, bz, Wr, Hr, br, Wh, Hh, bh = w.values()

    def step(h: Any, x: Any) -> Any:
        z = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Hz, h))
        r = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Hr, h))
        rs = h * r
        return z * h + (1 - z) * C.tanh(bh + C.convolution(Wh, x) + C.convolution(Hh, rs))

    return step


def torch_step(w: Sequence[Any], x: Any, h: Any) -> Any:
    """The same in PyTorch, line by line; the weights in the order of `shapes`."""
    import torch
    from torch.nn.functional import conv2d

    Wz, Hz, bz, Wr, Hr, br, Wh, Hh, bh = w
    z = torch.sigmoid(bz + conv2d(x, Wz, padding=1) + conv2d(h, Hz, padding=1))
    r = torch.sigmoid(br + conv2d(x, Wr, padding=1) + conv2d(h, Hr, padding=1))
    candidate = bh + conv2d(x, Wh, padding=1) + conv2d(h * r, Hh, padding=1)
    return z * h + (1 - z) * torch.tanh(candidate)


@dataclass(frozen=True)
class ConvGRU(Program):
    """
    Attributes:
        lengths: the number of frames of each sequence.
        image: a frame's shape, (channels, height, width).
        outputs: the channels of the state.
    """

    name: str
    lengths: tuple[int, ...]
    image: tuple[int, int, int]
    outputs: int
    targets: Mapping[str, float] = field(default_factory=dict)

    @property
    def ways(self) -> tuple[Way, ...]:  # type: ignore[override]
        return RAGGED_WAYS if len(set(self.lengths)) > 1 else (EAGER, CHANNELS_LAST, COMPILED_LAST)

    def __str__(self) -> str:
        image = "x".join(map(str, self.image))
        return f"{self.name}: convGRU {spell(self.lengths)} {image} to {self.outputs}"

    def quick(self) -> Program:
        image = min(self.image[0], 3), 10, 10
        lengths = tuple(min(n, 2 + i % 3) for i, n in enumerate(self.lengths[:4]))
        if len(set(self.lengths)) == 1:
            lengths = (3,) * len(lengths)
        return replace(self, lengths=lengths, image=image, outputs=4)

    def data(self) -> dict[str, Any]:
        return {"x": frames(self.lengths, self.image)}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return shapes(self.image[0], self.outputs)

    def work(self) -> Sequence[tuple[float, bool]]:
        return work(sum(self.lengths), self.image, self.outputs, inner=False)

    def in_rgraph(self) -> Ours:
        x = C.sequence.input_variable(self.image)
        state = C.constant(0, (self.outputs, *self.image[1:]))
        y = C.layers.Recurrence(conv_gru(self.image[0], self.outputs), initial_state=state)(x)
        return Ours({"x": x}, y, y, {p.name: p for p in y.parameters})

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        weights, step = list(w.values()), way.compile(torch_step)
        if way.packed:
            return self._packed(weights, step, way)
        import torch

        film = padded(self.data()["x"])
        images = [way.layout(f) for f in film]
        start = way.layout(film.new_zeros(film.shape[1], self.outputs, *self.image[1:]))
        alive = torch.arange(len(film))[:, None] < torch.tensor(self.lengths)
        mask = None if alive.all() else alive.float()[..., None, None, None]

        def run() -> Any:
            h, states = start, []
            for x in images:
                h = step(weights, x, h)
                states.append(h)
            return torch.stack(states)

        def loss(states: Any) -> Any:
            return (states if mask is None else states * mask).sum()

        def read(states: np.ndarray) -> Any:
            return [states[:n, i] for i, n in enumerate(self.lengths)]

        return Theirs(run, loss, read)

    def _packed(self, weights: Sequence[Any], step: Callable[..., Any], way: Way) -> Theirs:
        """Longest first, and at each step only those that go on."""
        import torch

        order = sorted(range(len(self.lengths)), key=lambda i: -self.lengths[i])
        film = padded([self.data()["x"][i] for i in order])
        alive = [sum(n > t for n in self.lengths) for t in range(len(film))]
        images = [way.layout(film[t, :n].contiguous()) for t, n in enumerate(alive)]
        start = way.layout(film.new_zeros(len(order), self.outputs, *self.image[1:]))

        def run() -> Any:
            h, states = start, []
            for x in images:
                h = step(weights, x, h[: len(x)])
                states.append(h)
            return torch.cat(states)

        def read(rows: np.ndarray) -> Any:
            begins = np.cumsum([0, *alive])
            places = {i: place for place, i in enumerate(order)}
            return [rows[begins[:n] + places[i]] for i, n in enumerate(self.lengths)]

        return Theirs(run, lambda rows: rows.sum(), read)
