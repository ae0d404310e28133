"""Products with a matrix that each step of a loop multiplies by, and what is pointwise after them;
and products of two matrices over all rows, as in the gradient of such a matrix.

The matrix is brought into panels once in a run. All other products are left to libraries.
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
from ..numpy.threads import lives_over_forks
from ..strides import address
from .programs import Compiled, Programs

Array = np.ndarray[Any, Any]

_FLOAT = np.dtype(np.float32)


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
        for name in "run", "pack", "over_rows":
            lives_over_forks(self, name)

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

        def kernel(run: Any, a: Array, b: Array) -> Array:
            left, right = (b, a) if recipe.turned else (a, b)
            shape = *left.shape[1:], *right.shape[1:]
            out = np.empty(shape, _FLOAT)
            objects = struct.pack("3P", id(left), id(right), id(out))
            return instead(run, a, b) if self.over_rows(objects) else out

        return kernel

    def _product(self, other: Kernel, recipe: Any) -> Kernel:
        """The kernel of `times`, and of `contract` where the right factor has no rows."""
        instead = with_arguments(other, {"recipe": recipe})
        return BoundProduct(self, recipe, None, instead) if _suits(recipe) else instead

    def _tailed(self, other: Kernel, **what: Any) -> Kernel:
        """A product, and its tail on each part while that is in the cache."""
        instead = with_arguments(other, what)
        recipe = what["arguments"].get("recipe")
        if recipe is None or not _suits(recipe):
            return instead
        tail = self.programs.whole(what["program"])
        return BoundProduct(self, recipe, tail, instead) if tail else instead


def _suits(recipe: Any) -> bool:
    return recipe.plain and recipe.fixed


class BoundProduct:
    """The kernel of a product as it stands in a program.

    Args:
        products: what computes it.
        recipe: how the operands are factors.
        tail: what is pointwise after it.
        instead: the kernel outside loops, and of what does not suit.

    Attributes:
        product: the library's form of it.
        right: the number of the operand that is the right factor.
    """

    def __init__(
        self, products: Products, recipe: Any, tail: Compiled | None, instead: Kernel
    ) -> None:
        self._products, self._tail, self._instead = products, tail, instead
        self._left, self.right = (1, 0) if recipe.turned else (0, 1)
        transposed = recipe.transposed
        self._rows, self._columns = int(transposed[0]), int(not transposed[1])
        self.product = _Product(recipe.turned, *transposed, tail and ctypes.addressof(tail.program))
        self._here = byref(self.product)
        self._pack = struct.Struct(f"{3 + (tail.arrays - 1 if tail else 0)}P").pack

    def __call__(self, run: Any, a: Any, b: Any, *more: Any, **room: Any) -> Any:
        found = None if run.step is None else self._computed(run, a, b, *more, **room)
        return self._instead(run, a, b, *more, **room) if found is None else found

    def _computed(self, run: Any, a: Any, b: Any, *more: Any, out: Any = None) -> Any:
        """The result; None if it could not be computed, and nothing has been done."""
        factors = a, b
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim == b.ndim == 2):
            return None
        if out is None:
            shape = factors[self._left].shape[self._rows], factors[self.right].shape[self._columns]
            out = self._products.empty(shape, _FLOAT)
        panels = self.panels(run, factors[self.right])
        if panels is None:
            return None
        if self._tail is None:
            objects = self._pack(id(a), id(b), id(out))
        else:
            objects = self._pack(id(a), id(b), id(out), *map(id, more), id(out))
        return None if self._products.run(self._here, objects, panels, False) else out

    def panels(self, run: Any, b: Array) -> int | None:
        """Where the right factor is in panels; once in a run."""
        key = id(b), self._columns
        found = run.memo.get(key)
        if found is None:
            depth, columns = b.shape[not self._columns], b.shape[self._columns]
            panels = -(-columns // self._products.panel)
            packed = self._products.empty((panels, depth, self._products.panel), _FLOAT)
            refused = self._products.pack(self._here, id(b), address(packed))
            found = run.memo[key] = (None if refused else address(packed), packed, b)
        return found[0]
