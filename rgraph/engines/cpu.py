"""The CPU engine: NumPy arrays, and the kernels of providers in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce

import numpy as np

from ..graph import Op
from ..graph.node import Attributes, Type
from ..graph.types import DTypeLike
from ..ops.fused import TAILED, Program
from ..plan import Run
from .base import Array, Bound, Compute, Engine, Provider, Shape
from .mersenne import Series
from .numpy.pool import Pool
from .numpy.products import matmul

# The providers of each engine that has a name of its own, which is its foremost provider's
ENGINES = {
    "onednn": ("native", "onednn", "numpy"),
    "native": ("native", "numpy"),
    "numpy": ("numpy",),
}
WHY_NOT = {  # what is said where a provider can't be had
    "onednn": "oneDNN was not found (pip install onednn-cpu-gomp brings it)",
    "native": "rgraph was installed without a C compiler",
}


class CpuEngine(Engine):
    """NumPy arrays, with the kernels of several providers.

    Args:
        providers: the names of the providers, the preferred one first; unavailable ones are
            skipped. The records' own kernels do everything else.
    """

    xp = np

    def __init__(self, name: str, providers: Sequence[str]) -> None:
        self.name, self.pool = name, Pool()
        found = (_provider(p, self.pool.take, "onednn" in providers) for p in providers)
        self.providers = [p for p in found if p is not None]
        self.compiler = next((p.compiler for p in self.providers if p.compiler), None)
        own = partial(matmul, empty=self.pool.take)
        self._matmul = next((p.matmul for p in self.providers if p.matmul), own)

    def bind(self, op: Op, arguments: Attributes, operands: Sequence[Type]) -> Bound:
        own = partial(op.kernel, **arguments)
        bound = Bound(self.apart(arguments, operands) if op is TAILED else own, "numpy")
        for provider in reversed(self.providers):
            kernel = provider.bind(op, arguments, operands, bound.kernel)
            if kernel is not None:
                in_place = provider.in_place(op, bound.in_place)
                bound = Bound(kernel, provider.name, in_place, provider.takes_out(kernel))
        return bound

    def program(self, program: Program, dtype: np.dtype) -> Compute | None:
        found = (p.program(program, dtype) for p in reversed(self.providers))
        return reduce(_or, (compute for compute in found if compute is not None), None)

    @property
    def matmul(self) -> Callable[[Array, Array], Array]:
        return self._matmul

    def empty(self, shape: Shape, dtype: DTypeLike, like: Array | None = None) -> np.ndarray:
        if len(shape) < 4:
            return self.pool.take(shape, dtype)
        order, back = _orders(len(shape), None if like is None else like.strides)
        return self.pool.take(tuple([shape[i] for i in order]), dtype).transpose(back)

    def from_numpy(self, array: np.ndarray) -> np.ndarray:
        # A field of records may begin in the middle of a number; libraries count in whole ones.
        return array if array.flags.aligned else array.copy()

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def series(self, seed: int, turn: int) -> Series:
        return Series(seed, turn)

    def generator(self, seed: tuple[int, ...], varies: int | None = None) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))

    def finish(self) -> None:
        self.pool.next_run()


def _or(rest: Compute | None, compute: Compute) -> Compute:
    """`compute`, with `rest` for what it refuses."""
    return compute if rest is None else lambda *arrays: compute(*arrays) and rest(*arrays)


@lru_cache(maxsize=256)
def _orders(rank: int, strides: tuple[int, ...] | None) -> tuple[list[int], list[int]]:
    """The axes in memory order, outermost first, and the inverse permutation."""
    if strides is None:
        order = [0, *range(2, rank), 1]
    else:
        order = sorted(range(rank), key=lambda i: -strides[i])
    return order, [order.index(i) for i in range(rank)]


def _provider(name: str, empty: Callable[..., np.ndarray], onednn: bool) -> Provider | None:
    """The provider of that name, or None if it is not available.

    Args:
        empty: `empty(shape, dtype)`, allocates memory.
        onednn: whether oneDNN is among the providers.
    """
    if name == "onednn":
        from .onednn import Onednn, OnednnError

        try:
            return Onednn(empty)
        except OnednnError:
            return None
    if name == "native":
        from .native import Native, NativeError

        try:
            return Native(empty, onednn)
        except NativeError:
            return None
    from .numpy import Numpy

    return Numpy()


@lru_cache(maxsize=16)
def made(name: str) -> CpuEngine | None:
    """The engine of that name, or with these providers ("onednn+numpy"); None if it is not
    available.

    `onednn` does not require the extension in C.
    """
    names = ENGINES.get(name) or name.split("+")
    engine = CpuEngine(name, names)
    needed = [name] if name in ENGINES else names
    return engine if {p.name for p in engine.providers}.issuperset(needed) else None


def reference_run() -> Run:
    """A run for calling a record's kernel outside of a plan."""
    engine = made("numpy")
    assert engine is not None
    return Run(engine, {}, 1)


def best() -> str:
    """The preferred engine of those available."""
    return next(name for name in ENGINES if made(name) is not None)
