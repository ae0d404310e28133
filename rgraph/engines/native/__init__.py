"""The numpy engine with pointwise work and convolutions with kernels of 3x3 in C.

Needs a C compiler on the machine, once.
"""

from __future__ import annotations

from ..numpy import NumpyEngine
from .library import NativeError
from .programs import Programs
from .winograd import Winograd

__all__ = ["NativeEngine", "NativeError", "Programs", "Winograd"]


class NativeEngine(NumpyEngine):
    """NumPy's arrays, memory and kernels, but for what is in C."""

    name = "native"

    def __init__(self) -> None:
        super().__init__()
        programs = Programs()
        self.kernels["fused"] = programs.evaluate
        self.compiled = programs.compiled
        self.winograd = Winograd(programs, self.pool.take)
        self.kernels |= self.winograd.kernels(self.kernels)
