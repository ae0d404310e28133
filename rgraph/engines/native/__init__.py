"""The numpy engine with pointwise work, loops' products and convolutions with kernels of 3x3 in C.

Needs a C compiler on the machine, once.
"""

from __future__ import annotations

from ...ops.contractions import CONTRACT
from ..numpy import NumpyEngine
from .library import NativeError
from .products import Products
from .programs import Programs
from .winograd import Winograd

__all__ = ["NativeEngine", "NativeError", "Products", "Programs", "Winograd"]


class NativeEngine(NumpyEngine):
    """NumPy's arrays, memory and kernels, but for what is in C."""

    name = "native"

    def __init__(self) -> None:
        super().__init__()
        programs = Programs()
        self.kernels["fused"] = programs.evaluate
        self.compiled = programs.compiled
        self.products = Products(programs, self.pool.take)
        self.winograd = Winograd(programs, self.pool.take)
        products = {"times": CONTRACT.kernel, "contract": CONTRACT.kernel}
        self.kernels |= self.products.kernels(self.kernels | products)
        self.kernels |= self.winograd.kernels(self.kernels)
