"""The provider in C: pointwise programs, loops, products, sums, softmax, convolutions and pooling.

It is available if a C compiler was found when the package was built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Op
from ...ops.fused import TAILED, Program
from ..base import Compute, Kernel, Provider
from .convolutions import Convolutions
from .library import NativeError
from .loops import Compiler
from .poolings import Poolings
from .products import BoundProduct, Products
from .programs import Programs
from .rows import Rows
from .sums import Sums

__all__ = ["Native", "NativeError"]


class Native(Provider):
    """The kernels in C, for float32.

    Args:
        empty: `empty(shape, dtype)`, allocates memory.
        before_another: whether another library for convolutions and pooling comes after it. Then it
            only takes the convolutions that it computes faster, by minimal filtering.

    Raises `NativeError` if it is not available.
    """

    name = "native"
    dtype = np.dtype(np.float32)

    def __init__(self, empty: Callable[..., np.ndarray], before_another: bool = False) -> None:
        programs = self._programs = Programs()
        self.compiler = Compiler(programs)
        products, convolutions = (
            Products(programs, empty),
            Convolutions(programs, empty, before_another),
        )
        parts = programs, products, convolutions, Sums(programs), Rows(programs, empty)
        self.makers = {name: make for part in parts for name, make in part.makers.items()}
        if not before_another:
            self.makers |= Poolings(programs.library, empty).makers

        def tailed(*given: object, **what: Any) -> Kernel | None:
            makers = (part.makers["tailed"] for part in (products, convolutions))
            return next((k for make in makers if (k := make(*given, **what)) is not None), None)

        self.makers["tailed"] = tailed

    def program(self, program: Program, dtype: np.dtype) -> Compute | None:
        compiled = self._programs.compiled(program) if dtype == self.dtype else None
        return None if compiled is None else compiled.run

    def in_place(self, op: Op, rest: bool) -> bool:
        """A tail reads its operands before it writes."""
        return rest or op is TAILED

    def takes_out(self, kernel: Kernel) -> bool:
        return isinstance(kernel, BoundProduct) and kernel.fixed
