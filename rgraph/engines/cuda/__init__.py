"""The engine for NVIDIA GPUs: CuPy's arrays, cuDNN's convolutions, generated pointwise kernels.

Importing this imports none of these; making a `CudaEngine` does.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph import Constant, GraphError, Op, Stored
from ...graph.node import Attributes, Node, Type
from ...graph.types import Array, DTypeLike
from ...ops.fused import TAILED, Program
from ...ops.records import TABLE
from ..base import Bound, Engine, Kernel
from ..base import Guard as GuardProtocol
from . import library
from .blas import Blas
from .collective import Collective, collective
from .convolution import Convolutions
from .cudnn import Cudnn
from .guard import Guard
from .plan import CudaPlan
from .pointwise import Pointwise
from .random import Random
from .sums import Sums
from .transfer import SMALL, Place, Transfers, assign, copied

if TYPE_CHECKING:
    from ...graph.types import Generator
    from .library import Module, Stream


__all__ = ["CudaEngine"]


class ArrayLibrary:
    """CuPy, with matrix products that can be captured, and sums. Kernels know it as `run.xp`."""

    def __init__(self, cupy: Module, blas: Blas) -> None:
        self._cupy, self.matmul, self.tensordot = cupy, blas.matmul, blas.tensordot
        self.add = Sums(cupy)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cupy, name)
        setattr(self, name, value)
        return value


class _OfThread(threading.local):
    """What a thread sets for its own runs."""

    guard: GuardProtocol | None = None
    caller: Stream = None  # a stream that waits for runs, and runs for it: see `CudaEngine.beside`


class CudaEngine(Engine):
    """Kernels and memory of one GPU. Several Python threads use it in turn.

    Args:
        number: which GPU.

    Raises `GraphError` if it can't be used: what is missing, and what brings it.
    """

    is_gpu = True

    def __init__(self, number: int = 0) -> None:
        problem = library.problem()
        if problem is not None:
            raise problem.error()
        cupy = self.cupy = library.cupy()
        count = cupy.cuda.runtime.getDeviceCount()
        if not 0 <= number < count:
            raise GraphError(
                f"there is no GPU[{number}] here; there are {count}",
                hint="C.all_devices() lists them",
            )
        self.name = f"cuda:{number}" if number else "cuda"
        self.number = number
        self.device = cupy.cuda.Device(number)
        with self.device:
            # One that waits for the default stream, where other people's CuPy code runs.
            self.stream = cupy.cuda.Stream()
            with self.stream:
                self.transfers = Transfers(cupy, self.stream)
                self.xp = ArrayLibrary(cupy, Blas(cupy, self.stream))
                self.random = Random(cupy, self.transfers)
                self.cudnn = Cudnn(cupy, library.cudnn(), self.stream, number)
        self.plans: weakref.WeakSet[CudaPlan] = weakref.WeakSet()
        self._places: weakref.WeakValueDictionary[int, Place] = weakref.WeakValueDictionary()

        names = ("convolution", "convolution_transpose", "convolution_weights")
        convolutions = self.convolutions = Convolutions(
            self.cudnn, {n: TABLE[n].kernel for n in names}
        )
        self.pointwise = Pointwise(cupy)
        self.lock = threading.RLock()  # held by the thread that is `active`
        self.of_thread = _OfThread()
        self.depth = 0  # of `active`
        self.turn = 0  # of captured graphs' runs
        with self.device:
            self.most_graph_bytes = int(cupy.cuda.runtime.memGetInfo()[1]) // 2  # of all graphs
        self.kernels: dict[str, Kernel] = {
            "convolution": convolutions.forward,
            "convolution_transpose": convolutions.data,
            "convolution_weights": convolutions.weights,
            "fused": self.pointwise,
        }

    @property
    def guard(self) -> GuardProtocol | None:
        """This thread's."""
        return self.of_thread.guard

    @guard.setter
    def guard(self, guard: GuardProtocol | None) -> None:
        self.of_thread.guard = guard

    def bind(self, op: Op, arguments: Attributes, operands: Sequence[Type]) -> Bound:
        if op is TAILED:
            rest = self.apart(arguments, operands)
            return Bound(partial(self.convolutions.tailed, rest, **arguments), self.name)
        return Bound(partial(self.kernels.get(op.name, op.kernel), **arguments), self.name)

    def program(self, program: Program, dtype: np.dtype) -> Callable[..., None]:
        return partial(self.pointwise.together, program)

    def plan(self, outputs: Sequence[Node]) -> CudaPlan:
        """A plan that runs on this GPU's stream, and is captured for shapes that come back."""
        return CudaPlan(outputs, self)

    def place(self, node: Stored | Constant) -> Place:
        """Where a parameter is on the GPU; one place for all plans."""
        found = self._places.get(id(node))
        if found is None or found.node is not node:
            found = self._places[id(node)] = Place(self, node)
        return found

    def store(self, node: Stored, array: Array) -> None:
        with self.active():
            self.place(node).write(array)

    def collective(self) -> Collective | None:
        """NCCL, if it is installed."""
        with self.active():
            return collective(self.cupy, self.number, self.stream)

    def make_guard(self) -> Guard:
        """See `Guard`; while it is the engine's `guard`, what stays is changed under it."""
        with self.active():
            return Guard(self.cupy, self.transfers)

    @contextmanager
    def beside(self, stream: object) -> Iterator[None]:
        """While this lasts, runs begin when a stream is through with what it has, and what it is
        given after a run begins when that is through.

        Args:
            stream: anything with `__cuda_stream__`, or with the address as `cuda_stream` (PyTorch)
                or `ptr` (CuPy), or the address.
        """
        own = self.of_thread
        before = own.caller
        own.caller = self.cupy.cuda.Stream.from_external(_Stream(stream))
        try:
            yield
        finally:
            own.caller = before

    def active(self) -> AbstractContextManager[object]:
        """While this lasts, CuPy works on this GPU and on the engine's stream, for this thread
        alone."""
        return _Active(self)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike, like: Array | None = None) -> Array:
        """An array to be written.

        Its memory order is that of `like`, an array of as many axes; without that, images and
        volumes in rows are channels-last, as convolutions want them.
        """
        if len(shape) < 4:
            return self.cupy.empty(shape, dtype)
        if like is None:
            order = [0, *range(2, len(shape)), 1]
        else:
            order = sorted(range(len(shape)), key=lambda i: -like.strides[i])
        memory = self.cupy.empty(tuple(shape[i] for i in order), dtype)
        return memory.transpose([order.index(i) for i in range(len(shape))])

    def staging(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An array of the CPU to be written and then given to `to_feed`; pinned if it is large."""
        if math.prod(shape) * np.dtype(dtype).itemsize <= SMALL:
            return np.empty(shape, dtype)
        return self.transfers.pinned(shape, dtype)

    def to_feed(self, array: Array) -> Array:
        """The array on the GPU, or where it is if it is small: see `Together`."""
        small = isinstance(array, np.ndarray) and 0 < array.nbytes <= SMALL
        return array if small else self.from_numpy(array)

    def from_numpy(self, array: Array) -> Array:
        """The array on the GPU; one that is there already stays where it is."""
        if isinstance(array, self.cupy.ndarray):
            return array
        with self.active():
            return self.transfers.to_gpu(np.asarray(array))

    def to_numpy(self, array: Array) -> np.ndarray:
        """The array in the CPU's memory, once it is computed."""
        if isinstance(array, np.ndarray):
            return array
        with self.active():
            return self.transfers.to_cpu(array)

    def assign(self, target: Array, source: Array) -> None:
        assign(target, source)

    def copy(self, array: Array, rows: Array | None = None) -> Array:
        return copied(array, rows)

    def generator(self, seed: tuple[int, ...], varies: int | None = None) -> Generator:
        """A generator of random numbers, on the GPU; see `Random.generator`."""
        return self.random.generator(seed, varies)

    def synchronize(self) -> None:
        """Waits until everything that was begun is done."""
        self.stream.synchronize()

    def finish(self) -> None:
        """Marks the end of a run: what it read may be written again once it is through."""
        self.transfers.mark()


class _Stream:
    """A stream of anybody's, as CuPy takes it."""

    def __init__(self, stream: object) -> None:
        self.stream: Any = stream

    def __cuda_stream__(self) -> tuple[int, int]:
        stream = self.stream
        if hasattr(stream, "__cuda_stream__"):
            version, address = stream.__cuda_stream__()
            return int(version), int(address)
        return 0, int(getattr(stream, "cuda_stream", getattr(stream, "ptr", stream)))


class _Active:
    """The GPU and the stream, both current; and the caller's stream before and after, if any."""

    def __init__(self, engine: CudaEngine) -> None:
        self.engine = engine

    def __enter__(self) -> None:
        engine = self.engine
        engine.lock.acquire()
        for part in (engine.device, engine.stream):
            part.__enter__()
        caller = engine.of_thread.caller
        if caller is not None and not engine.depth:
            engine.stream.wait_event(caller.record())
        engine.depth += 1

    def __exit__(self, *error: object) -> None:
        engine = self.engine
        engine.depth -= 1
        caller = engine.of_thread.caller
        if caller is not None and not engine.depth:
            caller.wait_event(engine.stream.record())
        for part in (engine.stream, engine.device):
            part.__exit__(*error)
        engine.lock.release()
