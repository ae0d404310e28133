"""One set of filters on each channel of an image, channels not mixed, in three ways.

redst4r's question of March 2017 to the makers of Keras: which is best? As frames of a sequence
(Keras's `TimeDistributed`), as a volume with a flat kernel, or channel by channel in a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import rgraph as C

from .base import CHANNELS_LAST, COMPILED, EAGER, Ours, Program, Theirs, Way


@dataclass(frozen=True)
class Filters(Program):
    """
    Attributes:
        how: frames, volume or loop.
        images, channels, size: so many images of channels x size x size.
        filters, kernel: so many filters of kernel x kernel; there is no padding.
    """

    name: str
    how: str
    images: int
    channels: int
    size: int
    filters: int = 20
    kernel: int = 5
    targets: Mapping[str, float] = field(default_factory=dict)
    ways = (EAGER, CHANNELS_LAST, COMPILED)

    def __str__(self) -> str:
        image = f"{self.channels}x{self.size}x{self.size}"
        return f"{self.name}: shared filters ({self.how}) B{self.images} {image} to {self.filters}"

    def quick(self) -> Program:
        return replace(self, channels=3, size=8, filters=2)

    def data(self) -> dict[str, Any]:
        shape = (self.images, self.channels, self.size, self.size)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        if self.how == "loop":
            return {"x": images}
        return {"x": list(images[:, :, None]) if self.how == "frames" else images[:, None]}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"W": (self.filters, 1, self.kernel, self.kernel), "b": (self.filters, 1, 1)}

    def work(self) -> Sequence[tuple[float, bool]]:
        pixels = (self.size - self.kernel + 1) ** 2
        return [(2.0 * self.images * self.channels * pixels * self.filters * self.kernel**2, False)]

    def in_rgraph(self) -> Ours:
        W, b = (C.Parameter(shape, name=name) for name, shape in self.shapes().items())
        size = self.size, self.size
        if self.how == "frames":
            x = C.sequence.input_variable((1, *size))
            y = C.convolution(W, x, auto_padding=[False]) + b
        elif self.how == "volume":
            x = C.input_variable((1, self.channels, *size))
            deep = C.reshape(W, (self.filters, 1, 1, self.kernel, self.kernel))
            y = C.convolution(deep, x, auto_padding=[False])
            y = y + C.reshape(b, (self.filters, 1, 1, 1))
        else:
            x = C.input_variable((self.channels, *size))
            each = []
            for i in range(self.channels):
                one = C.convolution(W, C.slice(x, 0, i, i + 1), auto_padding=[False]) + b
                each.append(C.reshape(one, (1, *one.shape)))
            y = C.splice(*each, axis=0)
        return Ours({"x": x}, y, C.square(y), {"W": W, "b": b})

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        import torch
        from torch.nn.functional import conv2d, conv3d

        W, b = w["W"], w["b"]
        data = self.data()["x"]
        if self.how == "frames":
            images = way.layout(torch.from_numpy(np.concatenate(data)))

            def network(x: Any) -> Any:
                return (conv2d(x, W) + b).unflatten(0, (self.images, self.channels))

        elif self.how == "volume":
            images = way.layout(torch.from_numpy(data))

            def network(x: Any) -> Any:
                return conv3d(x, W[:, :, None]) + b[:, None]

        else:
            images = torch.from_numpy(data)

            def network(x: Any) -> Any:
                each = [conv2d(x[:, i : i + 1], W) + b for i in range(self.channels)]
                return torch.stack(each, dim=1)

        network = way.compile(network)
        read = list if self.how == "frames" else np.asarray
        return Theirs(lambda: network(images), lambda y: y.square().sum(), read)
