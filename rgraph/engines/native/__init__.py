"""The numpy engine with pointwise work, loops' products and convolutions with kernels of 3x3 in C.

There where the package's build found a C compiler.
"""

from __future__ import annotations

from typing import Any

from ...ops.records import TABLE
from ..numpy import NumpyEngine
from .library import NativeError
from .products import Products
from .programs import Programs
from .sums import Sums
from .tapes import Compiler
from .winograd import Winograd

__all__ = ["NativeEngine", "NativeError", "equip"]


def equip(engine: NumpyEngine) -> None:
    """Gives an engine what is in C; the kernels that it has do what does not suit.

    Raises `NativeError` where it can't be had; the engine is left alone then.
    """
    programs = Programs()
    engine.compiler = Compiler(programs)
    engine.kernels["fused"] = programs.kernel
    empty = engine.pool.take
    for kind in Products(programs, empty), Winograd(programs, empty), Sums(programs):
        engine.kernels |= kind.kernels({n: op.kernel for n, op in TABLE.items()} | engine.kernels)


class NativeEngine(NumpyEngine):
    """NumPy's arrays, memory and kernels, but for what is in C."""

    name = "native"

    def __init__(self) -> None:
        super().__init__()
        equip(self)
