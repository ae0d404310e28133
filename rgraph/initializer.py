"""Initial values of parameters: CNTK's `initializer` module.

Each function returns an initializer, which `Parameter` calls once its shape is known:
`init(shape, dtype)` returns an array. User-written functions can do the same.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .engines.mersenne import Mersenne
from .graph import GraphError
from .graph.context import context
from .graph.node import AUTO_SEED
from .graph.types import DTypeLike

Shape = tuple[int, ...]
Generator = np.random.Generator | Mersenne
UNSAID_RANK = 2**31 - 1  # CNTK's constant for a rank that the layer determines


def _uniform(generator: Generator, width: float, shape: Shape) -> np.ndarray:
    return generator.uniform(-width, width, shape)


def _normal(generator: Generator, width: float, shape: Shape) -> np.ndarray:
    return generator.normal(0, width, shape)


def _truncated_normal(generator: Generator, width: float, shape: Shape) -> np.ndarray:
    count, values = math.prod(shape), np.empty(0)
    while len(values) < count:
        drawn = generator.standard_normal(count)
        values = np.concatenate([values, drawn[abs(drawn) <= 2]])
    return values[:count].reshape(shape) * width


@dataclass(frozen=True)
class Initializer:
    """Random initial values, whose range may depend on the shape of the parameter.

    A shape consists of input axes, output axes and the size of a kernel. Two ranks tell them apart:

    Attributes:
        draw: `draw(generator, width, shape)` returns the values.
        width: `width(fan_in, fan_out)` returns half the range, or the standard deviation.
        scale: a factor of the values.
        output_rank: the number of output axes: the last axes of a shape (inputs, outputs), or,
            for a negative number, the first axes of a shape (outputs, inputs, *size). None: the
            layer's choice, otherwise 1.
        filter_rank: the number of last axes that are the size of a kernel. None: the layer's
            choice, otherwise 0.
        seed: determines the values, which are those of CNTK on a CPU. None for different values in
            each parameter: the seeds are 0, 1, 2, … as in CNTK, unless `C.set_seed` was called.
        generator: the random generator, once the seed is used.
    """

    draw: Callable[[Generator, float, Shape], np.ndarray]
    width: Callable[[int, int], float]
    scale: float = 1.0
    output_rank: int | None = None
    filter_rank: int | None = None
    seed: int | None = None
    generator: np.random.Generator | None = None

    def __post_init__(self) -> None:
        unsaid = {"seed": AUTO_SEED, "output_rank": UNSAID_RANK, "filter_rank": UNSAID_RANK}
        for name, number in unsaid.items():
            if getattr(self, name) == number:
                object.__setattr__(self, name, None)
        if not self.scale > 0:
            raise GraphError(
                f"the scale of initial values must be positive, got {self.scale}",
                hint="use init=0 for zeros",
            )

    def fans(self, shape: Shape) -> tuple[int, int]:
        """Fan in and fan out: the number of terms of each output, and of outputs of each input."""
        outputs = 1 if self.output_rank is None else self.output_rank
        filters = self.filter_rank or 0
        if shape and abs(outputs) + filters > len(shape):
            raise GraphError(
                f"an initializer with output_rank={outputs} and filter_rank={filters} needs a "
                f"parameter with at least {abs(outputs) + filters} axes, got shape {shape}"
            )
        size = math.prod(shape[len(shape) - filters :])
        rest = shape[: len(shape) - filters]
        split = len(rest) - outputs if outputs >= 0 else -outputs
        first, last = math.prod(rest[: max(split, 0)]) * size, math.prod(rest[split:]) * size
        return (first, last) if outputs >= 0 else (last, first)

    def seeded(self) -> Initializer:
        """This initializer with a fixed seed, so that values don't depend on the order of use."""
        if self.seed is not None or self.generator is not None:
            return self
        random = context().random
        seed = random.next_seed()
        if seed is not None:
            return dataclasses.replace(self, seed=seed)
        drawn = int(random.next_generator().integers(1 << 62))
        return dataclasses.replace(self, generator=np.random.default_rng(drawn))

    def __call__(self, shape: Shape, dtype: DTypeLike) -> np.ndarray:
        seeded = self.seeded()
        generator: Generator | None = copy.deepcopy(seeded.generator)
        if seeded.seed is not None:
            generator = Mersenne(seeded.seed)
        assert generator is not None
        width = self.scale * self.width(*self.fans(shape)) if math.prod(shape) else 0.0
        return np.asarray(self.draw(generator, width, shape), dtype)


def _one(inputs: int, outputs: int) -> float:
    return 1.0


def _by_inputs(number: float, inputs: int, outputs: int) -> float:
    return math.sqrt(number / inputs)


def _by_both(number: float, inputs: int, outputs: int) -> float:
    return math.sqrt(number / (inputs + outputs))


def uniform(scale: float, seed: int | None = None) -> Initializer:
    """Uniform on [-scale, scale].

    >>> bool(abs(C.Parameter((2, 3), init=C.uniform(0.1)).value).max() <= 0.1)
    True
    """
    return Initializer(_uniform, _one, scale, seed=seed)


def normal(
    scale: float,
    output_rank: int | None = None,
    filter_rank: int | None = None,
    seed: int | None = None,
) -> Initializer:
    """Normal with standard deviation `scale`.

    >>> C.Parameter((2, 3), init=C.normal(0.1)).shape
    (2, 3)
    """
    return Initializer(_normal, _one, scale, output_rank, filter_rank, seed)


def truncated_normal(stdev: float, seed: int | None = None) -> Initializer:
    """Normal with standard deviation `stdev`, redrawn beyond two standard deviations.

    >>> bool(abs(C.Parameter((2, 3), init=C.truncated_normal(0.1)).value).max() <= 0.2)
    True
    """
    return Initializer(_truncated_normal, _one, stdev, seed=seed)


def xavier(
    scale: float = 1.0,
    output_rank: int | None = None,
    filter_rank: int | None = None,
    seed: int | None = None,
) -> Initializer:
    """Uniform within ± scale * sqrt(3 / fan in), as in CNTK (whose manual calls it Gaussian).

    >>> C.Parameter((2, 3), init=C.xavier()).shape
    (2, 3)
    """
    return Initializer(_uniform, partial(_by_inputs, 3), scale, output_rank, filter_rank, seed)


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
    return Initializer(_uniform, partial(_by_both, 6), scale, output_rank, filter_rank, seed)


def glorot_normal(
    scale: float = 1.0,
    output_rank: int | None = None,
    filter_rank: int | None = None,
    seed: int | None = None,
) -> Initializer:
    """Normal with standard deviation scale * sqrt(2 / (fan in + fan out)).

    >>> C.Parameter((2, 3), init=C.glorot_normal()).shape
    (2, 3)
    """
    return Initializer(_normal, partial(_by_both, 2), scale, output_rank, filter_rank, seed)


def he_uniform(
    scale: float = 1.0,
    output_rank: int | None = None,
    filter_rank: int | None = None,
    seed: int | None = None,
) -> Initializer:
    """Uniform within ± scale * sqrt(6 / fan in) (He et al., 2015).

    >>> C.Parameter((2, 3), init=C.he_uniform()).shape
    (2, 3)
    """
    return Initializer(_uniform, partial(_by_inputs, 6), scale, output_rank, filter_rank, seed)


def he_normal(
    scale: float = 1.0,
    output_rank: int | None = None,
    filter_rank: int | None = None,
    seed: int | None = None,
) -> Initializer:
    """Normal with standard deviation scale * sqrt(2 / fan in) (He et al., 2015).

    >>> C.Parameter((2, 3), init=C.he_normal()).shape
    (2, 3)
    """
    return Initializer(_normal, partial(_by_inputs, 2), scale, output_rank, filter_rank, seed)


def bilinear(kernel_width: int, kernel_height: int) -> Callable[[Shape, Any], np.ndarray]:
    """Bilinear interpolation kernels, for transposed convolutions that enlarge images.

    The parameter's shape is (channels, channels, kernel_height, kernel_width).

    Source: Long et al., 2015; CNTK's `bilinear`.

    >>> C.Parameter((1, 1, 2, 2), init=C.bilinear(2, 2)).value[0, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]], dtype=float32)
    """

    def tent(size: int) -> np.ndarray:
        reach = (size + 1) // 2
        return 1 - abs(np.arange(size) - (size - 1) / 2) / reach

    def init(shape: Shape, dtype: DTypeLike) -> np.ndarray:
        if len(shape) != 4 or shape[0] != shape[1] or shape[2:] != (kernel_height, kernel_width):
            raise GraphError(
                f"bilinear kernels have shape (channels, channels, {kernel_height}, "
                f"{kernel_width}), got {shape}"
            )
        kernel = np.outer(tent(kernel_height), tent(kernel_width))
        return np.einsum("oi,hw->oihw", np.eye(shape[0]), kernel).astype(dtype)

    return init


def initializer_with_rank(
    initializer: Any, output_rank: int | None = None, filter_rank: int | None = None
) -> Any:
    """An initializer with these ranks, unless it has its own.

    Source: CNTK's `initializer_with_rank`.

    >>> init = C.initializer.initializer_with_rank(C.glorot_uniform(), -1, filter_rank=2)
    >>> init.fans((16, 3, 5, 5))
    (75, 400)
    """
    if not isinstance(initializer, Initializer):
        return initializer
    given = {"output_rank": output_rank, "filter_rank": filter_rank}
    missing: dict[str, Any] = {k: v for k, v in given.items() if getattr(initializer, k) is None}
    return dataclasses.replace(initializer, **missing)


__all__ = [
    "bilinear",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initializer_with_rank",
    "normal",
    "truncated_normal",
    "uniform",
    "xavier",
]
