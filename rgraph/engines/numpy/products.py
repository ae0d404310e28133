"""Products with a matrix that is the same in each step of a loop, to memory that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...graph.node import Type
from ..base import Kernel
from .threads import Array

if TYPE_CHECKING:
    from ...ops.contractions import Recipe
    from ...plan import Run


class Product:
    """The kernel of a product of two matrices.

    Args:
        recipe: how the operands are factors.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._turned, (self._left, self._right) = recipe.turned, recipe.transposed

    @classmethod
    def make(cls, rest: Kernel, operands: Sequence[Type], /, recipe: Recipe) -> Product | None:
        return cls(recipe) if recipe.plain and recipe.fixed else None

    def __call__(self, run: Run, a: Array, b: Array, *, out: Array | None = None) -> Array:
        if self._turned:
            a, b = b, a
        if out is None:
            out = run.matmul(a.T if self._left else a, b.T if self._right else b)
        else:
            np.matmul(a.T if self._left else a, b.T if self._right else b, out=out)
        return out
