"""The numpy engine with pointwise work in C: needs a C compiler on the machine, once."""

from __future__ import annotations

from ..numpy import NumpyEngine
from .library import NativeError
from .programs import Programs

__all__ = ["NativeEngine", "NativeError", "Programs"]


class NativeEngine(NumpyEngine):
    """NumPy's arrays, memory and kernels, but for what is pointwise."""

    name = "native"

    def __init__(self) -> None:
        super().__init__()
        programs = Programs()
        self.kernels["fused"] = programs.evaluate
        self.compiled = programs.compiled
