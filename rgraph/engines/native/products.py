"""Products with a matrix that each step of a loop multiplies by, which is brought into panels once
in a run; those of two matrices over all rows, as in the gradient of such a matrix; and small ones.
What is pointwise after a product is done with it. All others are left to libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph.node import Type
from ..base import Kernel, Maker
from ..numpy.products import Product as NumpyProduct
from ..strides import into
from .programs import Compiled, Programs

if TYPE_CHECKING:
    from ...graph.node import Shape
    from ...ops.contractions import Recipe
    from ...plan import Run


Array = np.ndarray

_FLOAT = np.dtype(np.float32)
_FEW = 1 << 18  # multiplications up to which a library takes longer to be called
# A product of this shape is bound by memory: its tail, done at once, saves more than a library's
# better blocking. With fewer rows, bringing the right factor into panels would cost too much.
_DEEPEST, _LEAST_ROWS = 256, 256


class Products:
    """Kernels that take what suits, and leave all else to those of the providers after this one.

    Args:
        programs: the compiled library, and the tails' programs.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, programs: Programs, empty: Callable[..., Array]) -> None:
        self.programs, self.empty = programs, empty
        self.library = programs.library
        self.panel = 2 * self.library.lanes

        self.makers: dict[str, Maker] = {
            "times": self._product,
            "contract": self._contract,
            "tailed": self._tailed,
        }

    def _contract(self, rest: Kernel, operands: Sequence[Type], /, recipe: Recipe) -> Kernel | None:
        """A product as it stands in gradients: some are over all rows."""
        if not recipe.plain or recipe.fixed or recipe.transposed != (True, False):
            return self._product(rest, operands, recipe)

        def over_rows(run: Run, a: Array, b: Array) -> Array:
            left, right = (b, a) if recipe.turned else (a, b)
            out = np.empty((*left.shape[1:], *right.shape[1:]), _FLOAT)
            return rest(run, a, b) if self.library.multiply_over_rows(left, right, out) else out

        return BoundProduct(self, recipe, None, over_rows)

    def _product(self, rest: Kernel, operands: Sequence[Type], /, recipe: Recipe) -> Kernel | None:
        """The kernel of `times`, and of `contract` where the right factor has no rows."""
        return BoundProduct(self, recipe, None, rest) if recipe.plain else None

    def _tailed(self, rest: Kernel, operands: Sequence[Type], /, **what: Any) -> Kernel | None:
        """A product, and its tail on each part while that is in the cache."""
        recipe = what["arguments"].get("recipe")
        if recipe is None or not recipe.plain:
            return None
        tail = self.programs.compiled(what["program"])
        return BoundProduct(self, recipe, tail, rest) if tail else None


class BoundProduct:
    """The kernel of a product as it stands in a program.

    Args:
        products: what computes it.
        recipe: how the operands are factors.
        tail: what is pointwise after it.
        rest: the kernel of large ones outside loops, and of what does not suit.

    Attributes:
        form: the library's form of it.
        rows_apart: whether each row of the result comes from that row of the left factor.
        fixed: whether the right factor has no rows.
        right: the number of the operand that is the right factor.
    """

    def __init__(
        self, products: Products, recipe: Recipe, tail: Compiled | None, rest: Kernel
    ) -> None:
        self._products, self._rest = products, rest
        self._has_tail = tail is not None
        self._rest_takes_out = self._has_tail or isinstance(rest, NumpyProduct)
        self.fixed = recipe.fixed
        self._left, self.right = (1, 0) if recipe.turned else (0, 1)
        transposed = recipe.transposed
        self.rows_apart = not transposed[0]
        self._rows, self._columns = int(transposed[0]), int(not transposed[1])
        library = products.library
        self.form = library.product(recipe.turned, *transposed, tail and tail.program)
        self._multiply = partial(library.multiply, self.form)

    def __call__(
        self, run: Run, a: Array, b: Array, *more: Array, out: Array | None = None
    ) -> Array | None:
        suits = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim == b.ndim == 2
        found = None
        if suits and (self._is_ours(a, b) if run.step is None else self.fixed):
            found = self._computed(run, a, b, *more, out=out)
        if found is not None:
            return found
        if self._rest_takes_out and (not more or run.step is None):
            return self._rest(run, a, b, *more, out=out)
        return into(out, self._rest(run, a, b, *more))  # it may overwrite what the tail reads

    def _is_ours(self, a: Array, b: Array) -> bool:
        """Whether a product outside loops is faster in C than in a library."""
        left, right = (a, b)[self._left], (a, b)[self.right]
        if left.size * self._in_panels(right.shape[self._columns]) <= _FEW:
            return True
        rows, depth = left.shape[self._rows], right.shape[not self._columns]
        return self._has_tail and rows >= _LEAST_ROWS and depth <= _DEEPEST

    def _in_panels(self, columns: int) -> int:
        """So many, and those that fill the last panel."""
        return -(-columns // self._products.panel) * self._products.panel

    def _computed(
        self, run: Run, a: Array, b: Array, *more: Array, out: Array | None = None
    ) -> Array | None:
        """The result; None if it could not be computed, and nothing has been done."""
        factors = a, b
        if out is None:
            shape = factors[self._left].shape[self._rows], factors[self.right].shape[self._columns]
            out = self._products.empty(shape, _FLOAT)
        panels = None  # of a factor that is not multiplied by at each step
        if self.fixed and run.step is not None:
            panels = self.prepared(run, factors[self.right])
            if panels is None:
                return None
        return None if self._multiply(panels, a, b, out, *more) else out

    def prepared(
        self, run: Run, b: Array, rows: int = 0, shape: Shape | None = None
    ) -> Array | None:
        """A right factor that stays the same, in panels: it is brought there once in a run."""
        key = id(b), self._columns
        if key not in run.memo:
            depth, columns = b.shape[not self._columns], b.shape[self._columns]
            panels = self._products.empty((depth, self._in_panels(columns)), _FLOAT)
            refused = self._products.library.pack(self.form, b, panels)
            run.memo[key] = None if refused else panels, b
        return run.memo[key][0]
