"""Operations along the innermost axis: softmax and related ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...graph.node import Type
from ..base import Kernel, Maker
from .programs import Programs

if TYPE_CHECKING:
    from ...graph.node import Shape
    from ...plan import Run


Array = np.ndarray

_FLOAT = np.dtype(np.float32)
_NAMES = ("softmax", "log_softmax", "hardmax", "cross_entropy_with_softmax")  # as in rows.h


class Rows:
    """Kernels along rows; unsupported cases are left to the next providers.

    Args:
        programs: the extension module.
        empty: `empty(shape, dtype)`, allocates memory.
    """

    def __init__(self, programs: Programs, empty: Callable[..., Array]) -> None:
        self._run, self._empty = programs.library.rows, empty
        *names, entropy = _NAMES
        self.makers: dict[str, Maker] = {name: partial(self._along, name) for name in names}
        self.makers[entropy] = self._entropy

    def _along(
        self, name: str, rest: Kernel, operands: Sequence[Type], /, *, axis: tuple[int, ...]
    ) -> Kernel | None:
        length = _length(operands[0], axis)
        if not length:
            return None
        compute, empty = partial(self._run, _NAMES.index(name), length), self._empty

        def kernel(run: Run, x: Array) -> Array:
            result = empty(x.shape, _FLOAT)
            return rest(run, x) if compute(result, x) else result

        return kernel

    def _entropy(
        self, rest: Kernel, operands: Sequence[Type], /, *, axis: tuple[int, ...], shape: Shape,
        rank: int,
    ) -> Kernel | None:  # fmt: skip
        length = _length(operands[0], axis)
        if not length or operands[0].shape != operands[1].shape:
            return None
        compute = partial(self._run, len(_NAMES) - 1, length)

        def kernel(run: Run, z: Array, t: Array) -> Array:
            result = np.empty((*z.shape[: z.ndim - rank], *shape), _FLOAT)
            return rest(run, z, t) if compute(result, z, t) else result

        return kernel


def _length(operand: Type, axis: tuple[int, ...]) -> int:
    """The elements along the last axes, if these are the last ones, and they have any."""
    inner = axis == tuple(range(-len(axis), 0)) and operand.shape is not None
    return math.prod((operand.shape or ())[-len(axis) :]) if inner and axis else 0
