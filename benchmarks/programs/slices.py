"""Slices of a volume, each through a convnet, and two ConvolutionalGRUs from either end.

Which voxels belong to what is looked for: lhk's network, in an issue of Keras of November 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import rgraph as C

from . import convgru
from .base import CHANNELS_LAST, COMPILED_LAST, EAGER, Ours, Program, Theirs, Way, frames, padded


@dataclass(frozen=True)
class Slices(Program):
    """
    Attributes:
        volumes, slices, size: a volume has so many slices of size x size pixels.
        channels: of the convnet's three layers.
    """

    name: str
    volumes: int
    slices: int
    size: int
    channels: tuple[int, int, int] = (64, 32, 3)
    targets: Mapping[str, float] = field(default_factory=dict)
    ways = (EAGER, CHANNELS_LAST, COMPILED_LAST)

    def __str__(self) -> str:
        net = "-".join(map(str, (1, *self.channels)))
        size = f"1x{self.size}x{self.size}"
        return (
            f"{self.name}: convnet {net}, convGRU both ways, T{self.slices} B{self.volumes} {size}"
        )

    def quick(self) -> Program:
        return replace(self, slices=3, size=6, channels=(4, 3, 2))

    def data(self) -> dict[str, Any]:
        return {"x": frames([self.slices] * self.volumes, (1, self.size, self.size))}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for i, (inputs, outputs) in enumerate(
            zip((1, *self.channels), self.channels, strict=False)
        ):
            found |= {f"K{i}": (outputs, inputs, 3, 3), f"b{i}": (outputs, 1, 1)}
        for way in "up", "down":
            found |= convgru.shapes(self.channels[-1], 1, f"_{way}_")
        return found | {"K": (1, 2, 3, 3), "b": (1, 1, 1)}

    def work(self) -> Sequence[tuple[float, bool]]:
        rows = self.volumes * self.slices
        pixel = 2.0 * rows * self.size**2 * 9
        first, second, third = self.channels
        gru = convgru.work(rows, (third, self.size, self.size), 1, True)
        layers = [(pixel * first, False), (pixel * first * second, True)]
        return [*layers, (pixel * second * third, True), *gru, *gru, (pixel * 2, True)]

    def in_rgraph(self) -> Ours:
        shapes = self.shapes()
        w = {name: C.Parameter(shapes[name], name=name) for name in shapes if "_" not in name}
        x = C.sequence.input_variable((1, self.size, self.size))
        h = x
        for i in range(3):
            h = C.relu(C.convolution(w[f"K{i}"], h) + w[f"b{i}"])
        both = []
        for way, backwards in ("up", False), ("down", True):
            step = convgru.conv_gru(self.channels[-1], 1, f"_{way}_")
            start = C.constant(0, (1, self.size, self.size))
            both.append(C.layers.Recurrence(step, go_backwards=backwards, initial_state=start)(h))
        y = C.sigmoid(C.convolution(w["K"], C.splice(*both, axis=0)) + w["b"])
        return Ours({"x": x}, y, C.square(y), {p.name: p for p in y.parameters})

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        import torch
        from torch.nn.functional import conv2d

        volumes = padded(self.data()["x"])
        images = way.layout(volumes.flatten(0, 1))
        start = way.layout(volumes.new_zeros(volumes.shape[1:]))
        of = {d: [v for k, v in w.items() if f"_{d}_" in k] for d in ("up", "down")}

        def network(h: Any) -> Any:
            for i in range(3):
                h = torch.relu(conv2d(h, w[f"K{i}"], padding=1) + w[f"b{i}"])
            return h

        def last(h: Any) -> Any:
            return torch.sigmoid(conv2d(h, w["K"], padding=1) + w["b"])

        network, last = way.compile(network), way.compile(last)
        step = way.compile(convgru.torch_step)

        def states(h: Any, weights: Sequence[Any], backwards: bool) -> Any:
            state, found = start, []
            for x in reversed(h) if backwards else h:
                state = step(weights, x, state)
                found.append(state)
            return torch.cat(found[::-1] if backwards else found)

        def run() -> Any:
            h = network(images).split(self.volumes)
            up, down = states(h, of["up"], False), states(h, of["down"], True)
            return last(torch.cat([up, down], dim=1)).unflatten(0, volumes.shape[:2])

        return Theirs(run, lambda y: y.square().sum(), lambda y: list(y.swapaxes(0, 1)))
