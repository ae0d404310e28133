"""Products with a matrix that each step of a loop multiplies by, which is brought into panels once
in a run; those of two matrices over all rows, as in the gradient of such a matrix; and small ones.
What is pointwise after a product is done with it. All others are left to libraries.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping
from ctypes import byref, c_char_p, c_int, c_void_p
from functools import partial
from typing import Any

import numpy as np

from .. import Kernel, Prepared
from .. import bound as with_arguments
from ..strides import address
from .programs import Compiled, Programs

Array = np.ndarray[Any, Any]

_FLOAT = np.dtype(np.float32)
_FEW = 1 << 18  # multiplications up to which a library takes longer to be called


class _Product(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in ("exchanged", "left_transposed", "right_transposed")),
        ("tail", c_void_p),
    ]


class Products:
    """Kernels that take what suits, and leave all else to those that an engine had.

    Args:
        programs: the compiled library, and the tails' programs.
        empty: `empty(shape, dtype)`, memory to be written.
    """

    def __init__(self, programs: Programs, empty: Callable[..., Array]) -> None:
        self.programs, self.empty = programs, empty
        library = programs.library
        self.panel = 2 * c_int.in_dll(library, "lanes").value
        library.matrix_product.argtypes = [c_void_p, c_char_p, c_void_p, c_int]
        library.packed_factor.argtypes = [c_void_p] * 3
        library.contraction.argtypes = [c_char_p]
        self.run, self.pack = library.matrix_product, library.packed_factor
        self.over_rows = library.contraction

    def kernels(self, others: Mapping[str, Kernel]) -> dict[str, Kernel]:
        """Args: `others`: those of all else."""
        return {
            "times": Prepared(partial(self._product, others["times"])),
            "contract": Prepared(partial(self._contract, others["contract"])),
            "tailed": Prepared(partial(self._tailed, others["tailed"])),
        }

    def _contract(self, other: Kernel, recipe: Any) -> Kernel:
        """A product as it stands in gradients: some are over all rows."""
        if not recipe.plain or recipe.fixed or recipe.transposed != (True, False):
            return self._product(other, recipe)
        instead = with_arguments(other, {"recipe": recipe})

        def over_rows(run: Any, a: Array, b: Array) -> Array:
            left, right = (b, a) if recipe.turned else (a, b)
            out = np.empty((*left.shape[1:], *right.shape[1:]), _FLOAT)
            objects = struct.pack("3P", id(left), id(right), id(out))
            return instead(run, a, b) if self.over_rows(objects) else out

        return BoundProduct(self, recipe, None, over_rows)

    def _product(self, other: Kernel, recipe: Any) -> Kernel:
        """The kernel of `times`, and of `contract` where the right factor has no rows."""
        instead = with_arguments(other, {"recipe": recipe})
        return BoundProduct(self, recipe, None, instead) if recipe.plain else instead

    def _tailed(self, other: Kernel, **what: Any) -> Kernel:
        """A product, and its tail on each part while that is in the cache."""
        instead = with_arguments(other, what)
        recipe = what["arguments"].get("recipe")
        if recipe is None or not recipe.plain:
            return instead
        tail = self.programs.whole(what["program"])
        return BoundProduct(self, recipe, tail, instead) if tail else instead


class BoundProduct:
    """The kernel of a product as it stands in a program.

    Args:
        products: what computes it.
        recipe: how the operands are factors.
        tail: what is pointwise after it.
        instead: the kernel of large ones outside loops, and of what does not suit.

    Attributes:
        product: the library's form of it.
        fixed: whether the right factor has no rows.
        right: the number of the operand that is the right factor.
    """

    def __init__(
        self, products: Products, recipe: Any, tail: Compiled | None, instead: Kernel
    ) -> None:
        self._products, self._tail, self._instead = products, tail, instead
        self.fixed = recipe.fixed
        self._left, self.right = (1, 0) if recipe.turned else (0, 1)
        transposed = recipe.transposed
        self._rows, self._columns = int(transposed[0]), int(not transposed[1])
        self.product = _Product(recipe.turned, *transposed, tail and ctypes.addressof(tail.program))
        self._here = byref(self.product)
        self._pack = struct.Struct(f"{3 + (tail.arrays - 1 if tail else 0)}P").pack

    def __call__(self, run: Any, a: Any, b: Any, *more: Any, **room: Any) -> Any:
        suits = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim == b.ndim == 2
        found = None
        if suits and (self._is_small(a, b) if run.step is None else self.fixed):
            found = self._computed(run, a, b, *more, **room)
        return self._instead(run, a, b, *more, **room) if found is None else found

    def _is_small(self, a: Array, b: Array) -> bool:
        left, right = (a, b)[self._left], (a, b)[self.right]
        return left.size * self._in_panels(right.shape[self._columns]) <= _FEW

    def _in_panels(self, columns: int) -> int:
        """So many, and those that fill the last panel."""
        return -(-columns // self._products.panel) * self._products.panel

    def _computed(self, run: Any, a: Array, b: Array, *more: Any, out: Any = None) -> Any:
        """The result; None if it could not be computed, and nothing has been done."""
        factors = a, b
        if out is None:
            shape = factors[self._left].shape[self._rows], factors[self.right].shape[self._columns]
            out = self._products.empty(shape, _FLOAT)
        right = factors[self.right]
        panels = self.panels(run, right) if self.fixed else self._packed(right)
        if panels is None:
            return None
        if self._tail is None:
            objects = self._pack(id(a), id(b), id(out))
        else:
            objects = self._pack(id(a), id(b), id(out), *map(id, more), id(out))
        return None if self._products.run(self._here, objects, address(panels), False) else out

    def panels(self, run: Any, b: Array) -> Array | None:
        """A right factor that stays the same, in panels: it is brought there once in a run."""
        key = id(b), self._columns
        if key not in run.memo:
            run.memo[key] = self._packed(b), b
        return run.memo[key][0]

    def _packed(self, b: Array) -> Array | None:
        depth, columns = b.shape[not self._columns], b.shape[self._columns]
        packed = self._products.empty((depth, self._in_panels(columns)), _FLOAT)
        return None if self._products.pack(self._here, id(b), address(packed)) else packed
