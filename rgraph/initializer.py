"""Initial values of parameters: CNTK's `initializer` module.

Each function gives an initializer, which `Parameter` asks for an array once its shape is known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph.node import next_random

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Initializer:
    """Random values whose width follows from a parameter's shape.

    Attributes:
        draw: `draw(generator, width, shape)`, the values.
        width: `width(fan_in, fan_out)`, half the range or the standard deviation.
        scale: a factor on the values.
        output_rank: how many of the axes count outputs: the last ones for a positive number,
            as in a matrix (inputs, outputs); the first ones for a negative one, as in kernels
            (outputs, inputs, *size).
        filter_rank: how many last axes are a kernel's size.
        seed: for the same values each time; None for the next ones of `C.set_seed`'s.

    `output_rank` and `filter_rank` are None where the parameter's use is to say: 1 and 0, and
    for kernels -1 and their number of spatial axes.
    """

    draw: Callable[[np.random.Generator, float, Shape], np.ndarray]
    width: Callable[[int, int], float]
    scale: float = 1.0
    output_rank: int | None = None
    filter_rank: int | None = None
    seed: int | None = None

    def fans(self, shape: Shape) -> tuple[int, int]:
        """How many values go into each sum, and how many sums each value goes into."""
        filters = len(shape) - 2 if len(shape) > 2 else 0
        rank = filters if self.filter_rank is None else self.filter_rank
        outputs = self.output_rank if self.output_rank is not None else -1 if rank else 1
        reach = math.prod(shape[len(shape) - rank :])
        rest = shape[: len(shape) - rank]
        if outputs < 0:
            return math.prod(rest[-outputs:]) * reach, math.prod(rest[:-outputs]) * reach
        split = max(len(rest) - outputs, 0)
        return math.prod(rest[:split]) * reach, math.prod(rest[split:]) * reach

    def __call__(self, shape: Shape, dtype: Any) -> np.ndarray:
        generator = next_random() if self.seed is None else np.random.default_rng(self.seed)
        width = self.scale * self.width(*self.fans(shape))
        return self.draw(generator, width, shape).astype(dtype)


def _uniform(generator: np.random.Generator, width: float, shape: Shape) -> np.ndarray:
    return generator.uniform(-width, width, shape)


def _normal(generator: np.random.Generator, width: float, shape: Shape) -> np.ndarray:
    return generator.normal(0, width, shape)


def glorot_uniform(
    scale: float = 1.0,
    output_rank: int | None = None,
    filter_rank: int | None = None,
    seed: int | None = None,
) -> Initializer:
    """Uniform within ± scale * sqrt(6 / (fan in + fan out)) (Glorot and Bengio, 2010).

    >>> C.Parameter((2, 2), init=C.glorot_uniform(seed=1)).shape
    (2, 2)
    """
    return Initializer(
        _uniform, lambda i, o: math.sqrt(6 / (i + o)), scale, output_rank, filter_rank, seed
    )


def initializer_with_rank(
    initializer: Any, output_rank: int | None = None, filter_rank: int | None = None
) -> Any:
    """An initializer with these ranks where it has none of its own.

    Source: CNTK's `initializer_with_rank`.

    >>> init = C.initializer.initializer_with_rank(C.glorot_uniform(), output_rank=-1, filter_rank=2)
    >>> init.fans((16, 3, 5, 5))
    (75, 400)
    """
    if not isinstance(initializer, Initializer):
        return initializer
    given = {"output_rank": output_rank, "filter_rank": filter_rank}
    missing = {k: v for k, v in given.items() if getattr(initializer, k) is None}
    return dataclasses.replace(initializer, **missing)
