"""Initial values of parameters: CNTK's `initializer` module.

Each is a function that gives an initializer: `init(shape, dtype)`, an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .graph.node import next_random

Init = Callable[..., np.ndarray]


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many values go into and out of each element's sum.

    A matrix is (inputs, outputs); kernels are (outputs, inputs, *kernel), as CNTK has them.
    """
    if len(shape) < 2:
        return (shape[0] if shape else 1,) * 2
    if len(shape) == 2:
        return shape[0], shape[1]
    reach = math.prod(shape[2:])
    return shape[1] * reach, shape[0] * reach


def _generator(seed: int | None) -> np.random.Generator:
    return next_random() if seed is None else np.random.default_rng(seed)


def glorot_uniform(
    scale: float = 1.0, output_rank: Any = None, filter_rank: Any = None, seed: int | None = None
) -> Init:
    """Uniform within ± scale * sqrt(6 / (fan in + fan out)) (Glorot and Bengio, 2010).

    >>> C.Parameter((2, 2), init=C.glorot_uniform(seed=1)).shape
    (2, 2)
    """

    def init(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        limit = scale * math.sqrt(6 / max(sum(_fans(shape)), 1))
        return _generator(seed).uniform(-limit, limit, shape).astype(dtype)

    return init
