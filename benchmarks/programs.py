"""What is measured: a ConvolutionalGRU over film, in three sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KERNEL = (3, 3)


@dataclass(frozen=True)
class Program:
    """A ConvolutionalGRU run over sequences of images.

    Attributes:
        lengths: the number of frames of each sequence.
        image: a frame's shape, (channels, height, width).
        outputs: the channels of the state.
    """

    name: str
    lengths: tuple[int, ...]
    image: tuple[int, int, int]
    outputs: int

    @property
    def frames(self) -> int:
        return sum(self.lengths)

    def __str__(self) -> str:
        few = len(set(self.lengths)) > 1
        time = ",".join(map(str, self.lengths)) if few else str(self.lengths[0])
        image = "x".join(map(str, self.image))
        return f"{self.name}: T{time} B{len(self.lengths)} {image} to {self.outputs}"

    def flops(self, train: bool) -> float:
        """Floating-point operations of the convolutions, a multiplication and an addition each.

        Backward, every weight gradient costs what its convolution costs, and so does the gradient
        to the state; the input needs none.
        """
        channels, height, width = self.image
        product = 2.0 * self.frames * height * width * np.prod(KERNEL) * self.outputs
        of_input, of_state = 3 * channels * product, 3 * self.outputs * product
        return of_input + of_state if not train else 2 * of_input + 3 * of_state

    def data(self) -> list[np.ndarray]:
        """The sequences, the same in every run."""
        random = np.random.default_rng(0)
        return [random.standard_normal((n, *self.image), np.float32) for n in self.lengths]

    def weights(self) -> dict[str, np.ndarray]:
        """A value for each parameter, by name; the same in every run."""
        random = np.random.default_rng(1)
        out = self.outputs
        values = {}
        for gate in "zrc":
            for kind, fan_in in ("W", self.image[0]), ("H", out):
                limit = (3 / (fan_in * np.prod(KERNEL))) ** 0.5
                shape = (out, fan_in, *KERNEL)
                values[kind + gate] = random.uniform(-limit, limit, shape).astype(np.float32)
            values["b" + gate] = random.uniform(-0.1, 0.1, (out, 1, 1)).astype(np.float32)
        return values


PROGRAMS = {
    p.name: p
    for p in (
        Program("W1", (16,), (3, 224, 224), 32),
        Program("W2", (10,) * 4, (16, 64, 64), 64),
        Program("W3", (20,) * 8, (1, 16, 16), 16),
    )
}
RAGGED = Program("ragged", (16, 2, 2, 2), (16, 64, 64), 64)


def quick(program: Program) -> Program:
    """The program on images that a test can afford."""
    channels, height, width = program.image
    lengths = tuple(min(n, 4) for n in program.lengths)
    image = min(channels, 3), min(height, 10), min(width, 10)
    return Program(program.name, lengths, image, min(program.outputs, 4))
