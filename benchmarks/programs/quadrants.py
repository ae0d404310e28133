"""Quadrants of a digit in four orders, as a sequence of images: a convnet, an LSTM, the digit.

lhk's network, in a question to Stack Overflow of October 2016; its dropout is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import rgraph as C

from . import lstm
from .base import (
    CHANNELS_LAST,
    COMPILED_LAST,
    EAGER,
    Ours,
    Program,
    Theirs,
    Way,
    frames,
    one_hot,
    padded,
)

CELLS = "W", "H", "b"  # the LSTM's weights


@dataclass(frozen=True)
class Quadrants(Program):
    """
    Attributes:
        digits: how many.
        image: one of the four frames of a digit, (channels, width, height).
        filters, size, hidden, classes: of the convolutions, the LSTM and the two dense layers.
    """

    name: str
    digits: int
    image: tuple[int, int, int] = (1, 56, 14)
    filters: int = 32
    size: int = 5
    hidden: int = 50
    classes: int = 10
    targets: Mapping[str, float] = field(default_factory=dict)
    ways = (EAGER, CHANNELS_LAST, COMPILED_LAST)

    @property
    def pooled(self) -> int:
        """How many numbers the pooling leaves of an image."""
        return self.filters * ((self.image[1] - 4) // 2) * ((self.image[2] - 4) // 2)

    def __str__(self) -> str:
        image = "x".join(map(str, self.image))
        return f"{self.name}: convnet and LSTM({self.size}) T4 B{self.digits} {image}"

    def quick(self) -> Program:
        return replace(self, digits=3, image=(1, 10, 8), filters=4)

    def data(self) -> dict[str, Any]:
        labels = one_hot(self.digits, self.classes)
        return {"x": frames([4] * self.digits, self.image), "labels": labels}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {"K1": (self.filters, self.image[0], 3, 3)}
        found |= {"b1": (self.filters, 1, 1)}
        found |= {"K2": (self.filters, self.filters, 3, 3), "b2": (self.filters, 1, 1)}
        found |= lstm.shapes(self.pooled, self.size)
        found |= {"V3": (self.size, self.hidden), "b3": (self.hidden,)}
        return found | {"V4": (self.hidden, self.classes), "b4": (self.classes,)}

    def work(self) -> Sequence[tuple[float, bool]]:
        rows, (channels, width, height) = 4 * self.digits, self.image
        one = 2.0 * rows * 9 * self.filters
        return [
            (one * (width - 2) * (height - 2) * channels, False),
            (one * (width - 4) * (height - 4) * self.filters, True),
            *lstm.work(rows, self.pooled, self.size, True),
            (2.0 * self.digits * self.size * self.hidden, True),
            (2.0 * self.digits * self.hidden * self.classes, True),
        ]

    def in_rgraph(self) -> Ours:
        x, labels = C.sequence.input_variable(self.image), C.input_variable(self.classes)
        layers = {
            "1": C.layers.Convolution2D((3, 3), self.filters, activation=C.relu),
            "2": C.layers.Convolution2D((3, 3), self.filters, activation=C.relu),
            "3": C.layers.Dense(self.hidden),
            "4": C.layers.Dense(self.classes),
        }
        cell = C.layers.LSTM(self.size)
        features = C.layers.MaxPooling((2, 2), strides=2)(layers["2"](layers["1"](x)))
        states = C.layers.Recurrence(cell)(C.reshape(features, (self.pooled,)))
        z = layers["4"](layers["3"](C.sequence.last(states)))
        w = {name: getattr(cell, name) for name in CELLS}
        for i, layer in layers.items():
            w[("K" if i in "12" else "V") + i], w[f"b{i}"] = layer.W, layer.b
        return Ours({"x": x, "labels": labels}, z, C.cross_entropy_with_softmax(z, labels), w)

    def in_torch_layout(self, name: str, weight: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(lstm.regated(weight).T) if name in CELLS else weight

    def from_torch_layout(self, name: str, weight: np.ndarray) -> np.ndarray:
        return lstm.regated(weight.T) if name in CELLS else weight

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        import torch
        from torch.nn.functional import conv2d, cross_entropy, max_pool2d

        data = self.data()
        images = way.layout(padded(data["x"]).flatten(0, 1))
        labels, layer = torch.from_numpy(data["labels"]), lstm.torch_lstm(w)

        def network(h: Any) -> Any:
            for i in "12":
                h = torch.relu(conv2d(h, w[f"K{i}"]) + w[f"b{i}"])
            return max_pool2d(h, 2).flatten(1)

        network = way.compile(network)

        def run() -> Any:
            h = layer(network(images).unflatten(0, (4, self.digits)))[1][0][0]
            return (h @ w["V3"] + w["b3"]) @ w["V4"] + w["b4"]

        return Theirs(run, lambda z: cross_entropy(z, labels, reduction="sum"), lambda z: z)
