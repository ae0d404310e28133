"""Views of an object, as vectors of features, gathered in a volume by a 3-D convolutional GRU.

3D-R2N2's (Choy et al., 2016), as in a question to Data Science Stack Exchange, 77303; its gates
have a fully connected layer on the features and a convolution on the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import rgraph as C

from .base import (
    CHANNELS_LAST,
    COMPILED,
    EAGER,
    Ours,
    Program,
    Theirs,
    Way,
    frames,
    padded,
)


def torch_step(w: Mapping[str, Any], x: Any, h: Any) -> Any:
    import torch
    from torch.nn.functional import conv3d, leaky_relu

    def gate(g: str, h: Any) -> Any:
        features = leaky_relu(torch.addmm(w[f"b{g}"].flatten(), x, w[f"W{g}"].flatten(1)), 0.1)
        return features.view(h.shape) + conv3d(h, w[f"H{g}"], padding=1)

    u, r = torch.sigmoid(gate("u", h)), torch.sigmoid(gate("r", h))
    return (1 - u) * h + u * torch.tanh(gate("h", r * h))


@dataclass(frozen=True)
class Views(Program):
    """
    Attributes:
        objects, views, features: so many objects, views of each, numbers of each view.
        channels, size: the state is (channels, size, size, size).
    """

    name: str
    objects: int
    views: int
    features: int
    channels: int
    size: int
    targets: Mapping[str, float] = field(default_factory=dict)
    ways = (EAGER, CHANNELS_LAST, COMPILED, Way("compiled channels-last", True, True))

    @property
    def state(self) -> tuple[int, ...]:
        return self.channels, self.size, self.size, self.size

    def __str__(self) -> str:
        state = "x".join(map(str, self.state))
        return f"{self.name}: 3-D convGRU T{self.views} B{self.objects} {self.features} to {state}"

    def quick(self) -> Program:
        return replace(self, objects=2, views=3, features=5, channels=4, size=3)

    def data(self) -> dict[str, Any]:
        return {"x": frames([self.views] * self.objects, (self.features,))}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for g in "urh":
            found[f"W{g}"] = (self.features, *self.state)
            found[f"H{g}"] = (self.channels, self.channels, 3, 3, 3)
            found[f"b{g}"] = self.state
        return found

    def is_kernel(self, shape: tuple[int, ...]) -> bool:
        return shape[1:] != self.state

    def work(self) -> Sequence[tuple[float, bool]]:
        one = 2.0 * self.objects * self.views * 3 * self.channels * self.size**3
        return [(one * self.features, False), (one * self.channels * 27, True)]

    def in_rgraph(self) -> Ours:
        w = {name: C.Parameter(shape, name=name) for name, shape in self.shapes().items()}
        x = C.sequence.input_variable(self.features)

        def step(h: Any, x: Any) -> Any:
            def gate(g: str, h: Any) -> Any:
                features = C.times(x, w[f"W{g}"], output_rank=4) + w[f"b{g}"]
                return C.leaky_relu(features, 0.1) + C.convolution(w[f"H{g}"], h)

            u, r = C.sigmoid(gate("u", h)), C.sigmoid(gate("r", h))
            return (1 - u) * h + u * C.tanh(gate("h", r * h))

        y = C.layers.Fold(step, initial_state=C.constant(0, self.state))(x)
        return Ours({"x": x}, y, C.square(y), w)

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        views, step = padded(self.data()["x"]), way.compile(torch_step)
        start = way.layout(views.new_zeros(self.objects, *self.state))

        def run() -> Any:
            h = start
            for x in views:
                h = step(w, x, h)
            return h

        return Theirs(run, lambda h: h.square().sum(), lambda h: h)
