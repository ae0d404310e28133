"""What a program of the benchmarks is: data, weights, and the same thing in rgraph and PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Way:
    """A way to run a program in PyTorch.

    Attributes:
        name: in tables.
        channels_last: whether images and kernels have that memory format.
        compiled: whether the step function, or the network, goes through `torch.compile`.
        packed: whether sequences of different lengths are packed, not padded.
    """

    name: str
    channels_last: bool = False
    compiled: bool = False
    packed: bool = False

    @property
    def peer(self) -> str:
        """Which of the three ways to run PyTorch it is."""
        return "compiled" if self.compiled else "channels-last" if self.channels_last else "eager"

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, through `torch.compile` if this way asks for it."""
        if not self.compiled:
            return function
        import torch

        # PyTorch keeps what it made with the function's code, and more general, slower code for
        # sizes that it meets later; a copy has nothing to do with programs that ran before.
        copy = FunctionType(
            function.__code__.replace(), function.__globals__, closure=function.__closure__
        )
        # Packed, the number of rows changes from step to step; 8 variants would not be enough.
        torch._dynamo.config.recompile_limit = 32
        return torch.compile(copy, dynamic=None if self.packed else False)

    def layout(self, tensor: Any) -> Any:
        """A tensor of images or kernels in this way's memory format."""
        import torch

        if not self.channels_last or tensor.ndim not in (4, 5):
            return tensor
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        return tensor.contiguous(memory_format=formats[tensor.ndim])


EAGER, COMPILED = Way("eager"), Way("compiled", compiled=True)
CHANNELS_LAST = Way("channels-last", channels_last=True)
COMPILED_LAST = Way("compiled", channels_last=True, compiled=True)
PACKED = Way("packed", packed=True)


class Ours(NamedTuple):
    """A program in rgraph.

    Attributes:
        inputs: the input variables, by the names that `Program.data` gives their values.
        result: what it computes.
        loss: what is differentiated.
        parameters: by the names of `Program.weights`.
    """

    inputs: Mapping[str, Any]
    result: Any
    loss: Any
    parameters: Mapping[str, Any]


class Theirs(NamedTuple):
    """A program in PyTorch.

    Attributes:
        run: computes its result, a tensor.
        loss: of that tensor.
        read: makes of it what rgraph gives: an array, or one per sequence.
    """

    run: Callable[[], Any]
    loss: Callable[[Any], Any]
    read: Callable[[np.ndarray], Any]


class Program:
    """A program to be measured: its sizes, and what it is in rgraph and in PyTorch.

    Attributes:
        name: by which it is chosen.
        ways: to run it in PyTorch.
        targets: what it is held to. `forward`, `train`: PyTorch's best time over ours, at least;
            `forward on numpy`: the same of that engine; `memory`: our peak memory over
            PyTorch's in training, at most.
    """

    name: str
    ways: tuple[Way, ...] = (EAGER, COMPILED)
    targets: Mapping[str, float]

    @property
    def steps(self) -> int:
        """How many frames the longest sequence has; 1 if there are none."""
        x = self.data()["x"]
        return max(map(len, x)) if isinstance(x, list) else 1

    def __str__(self) -> str:
        raise NotImplementedError

    def quick(self) -> Program:
        """The same in sizes that a test can afford."""
        raise NotImplementedError

    def data(self) -> dict[str, Any]:
        """What it is run on, by the inputs' names; the same in every run."""
        raise NotImplementedError

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The weights' shapes, as in rgraph. Names that begin with b are biases."""
        raise NotImplementedError

    def work(self) -> Sequence[tuple[float, bool]]:
        """Each product's and convolution's floating-point operations, and whether its input
        needs a gradient."""
        raise NotImplementedError

    def in_rgraph(self) -> Ours:
        raise NotImplementedError

    def in_pytorch(self, w: Mapping[str, Any], way: Way) -> Theirs:
        """The program as a person would write it there, on these weights."""
        raise NotImplementedError

    def in_torch_layout(self, name: str, weight: np.ndarray) -> np.ndarray:
        """A weight, or its gradient, from rgraph's layout to PyTorch's."""
        return weight

    def from_torch_layout(self, name: str, weight: np.ndarray) -> np.ndarray:
        """And back."""
        return weight

    def weights(self) -> Arrays:
        """A value for each parameter, by name; the same in every run."""
        random = np.random.default_rng(1)
        return {name: self.value(name, shape, random) for name, shape in self.shapes().items()}

    def value(self, name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        """A convolution's weights are (outputs, inputs, *kernel), a product's (inputs, outputs)."""
        if name.startswith("b"):
            limit = 0.1
        else:
            fan_in = math.prod(shape[1:]) if self.is_kernel(shape) else shape[0]
            limit = (3 / fan_in) ** 0.5
        return random.uniform(-limit, limit, shape).astype(np.float32)

    def is_kernel(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > 2

    def flops(self, train: bool) -> float:
        """Floating-point operations, a multiplication and an addition each.

        Backward, a weight's gradient costs what its product costs, and so does its input's.
        """
        costs = (n * (1 if not train else 3 if inner else 2) for n, inner in self.work())
        return float(sum(costs))


def frames(lengths: Sequence[int], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Sequences of random frames."""
    random = np.random.default_rng(0)
    return [random.standard_normal((n, *shape), np.float32) for n in lengths]


def one_hot(samples: int, classes: int) -> np.ndarray:
    """Random labels."""
    labels = np.random.default_rng(2).integers(0, classes, samples)
    return np.eye(classes, dtype=np.float32)[labels]


def padded(sequences: Sequence[np.ndarray]) -> Any:
    """A tensor (steps, sequences, *shape), zeros after each sequence's end."""
    import torch

    steps = max(map(len, sequences))
    result = torch.zeros(steps, len(sequences), *sequences[0].shape[1:])
    for i, sequence in enumerate(sequences):
        result[: len(sequence), i] = torch.from_numpy(sequence)
    return result


def spell(lengths: Sequence[int]) -> str:
    """How many frames and sequences."""
    low, high = min(lengths), max(lengths)
    return f"T{low}" + (f" to {high}" if high > low else "") + f" B{len(lengths)}"
