"""Sums over several processes, each of which has a GPU of its own: by NCCL, through CuPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...graph.types import Array

if TYPE_CHECKING:
    from .library import Module, Stream


_TYPES = {"float16": "NCCL_FLOAT16", "float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64"}


class Collective:
    """What the processes must tell each other before they sum arrays on their GPUs.

    Args:
        cupy: the library.
        nccl: `cupy.cuda.nccl`.
        number: this process's GPU.
        stream: the engine's.

    Attributes:
        gpu: a name that no other GPU of this machine has.
    """

    def __init__(self, cupy: Module, nccl: Module, number: int, stream: Stream) -> None:
        self._nccl, self._stream = nccl, stream
        self.gpu: str = cupy.cuda.runtime.deviceGetPCIBusId(number)

    def new_id(self) -> object:
        """What one process makes and all then join by."""
        return self._nccl.get_unique_id()

    def join(self, size: int, unique: object, rank: int) -> Callable[[Array], None]:
        """Joins `size` processes as the one of this rank, and waits for the others.

        Returns:
            `add_up(array)`, which all must call in the same order: on the engine's stream, it sets
            an array that lies in one piece to the sum over all processes.
        """
        nccl, pointer = self._nccl, self._stream.ptr
        communicator = nccl.NcclCommunicator(size, unique, rank)

        def add_up(array: Array) -> None:
            kind = getattr(nccl, _TYPES[np.dtype(array.dtype).name])
            place = array.data.ptr
            communicator.allReduce(place, place, array.size, kind, nccl.NCCL_SUM, pointer)

        return add_up


def collective(cupy: Module, number: int, stream: Stream) -> Collective | None:
    """NCCL's sums for an engine; None where the library is missing."""
    try:
        from cupy.cuda import nccl
    except ImportError:
        return None
    return Collective(cupy, nccl, number, stream) if getattr(nccl, "available", True) else None
