"""Which machine part computes: CNTK's `device` module."""

from __future__ import annotations

import enum
import os
import threading
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .engines import cpu as _cpu
from .engines.base import Engine
from .graph import GraphError
from .graph.context import context

if TYPE_CHECKING:
    from .engines.cuda import CudaEngine


class DeviceKind(enum.IntEnum):
    """What a device is.

    >>> C.device.cpu().type() == C.device.DeviceKind.CPU
    True
    """

    __str__ = enum.Enum.__str__

    CPU = 0
    GPU = 1


class GPUProperties(NamedTuple):
    """What a GPU is.

    >>> C.device.GPUProperties(0, 9, 0, 132, "H100", 80000).total_memory
    80000
    """

    device_id: int
    version_major: int
    version_minor: int
    cuda_cores: int
    name: str
    total_memory: int  # MiB


class DeviceDescriptor:
    """A device: the CPU, or a GPU by its number.

    >>> C.DeviceDescriptor("gpu", 1)
    GPU[1]
    """

    def __init__(self, kind: str, number: int = 0) -> None:
        self.kind, self.number = kind, number

    def type(self) -> DeviceKind:
        """Whether it is a CPU or a GPU."""
        return DeviceKind[self.kind.upper()]

    def id(self) -> int:
        """The GPU's number; the CPU's is 0."""
        return self.number

    def is_locked(self) -> bool:
        """Whether a program has the device for itself: none has, there are no locks."""
        return False

    def __call__(self) -> DeviceDescriptor:
        """Itself: what CNTK hands to user functions has its device as a method."""
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceDescriptor) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return "CPU" if self.kind == "cpu" else f"GPU[{self.number}]"


def cpu() -> DeviceDescriptor:
    """The CPU.

    >>> C.device.cpu()
    CPU
    """
    return DeviceDescriptor("cpu")


def gpu(device_id: int) -> DeviceDescriptor:
    """The GPU of this number.

    >>> C.device.gpu(0)
    GPU[0]
    """
    return DeviceDescriptor("gpu", int(device_id))


def use_default_device() -> DeviceDescriptor:
    """The device that is used where none is named: the first GPU if there is one, else the CPU.

    >>> C.device.use_default_device() in C.all_devices()
    True
    """
    own = context()
    if own.device is None:
        usable = (d for d in all_devices() if d not in own.excluded_devices)
        own.device = next(usable, cpu())
        problem = _gpu_problem()
        if problem is not None and _is_nearly_there():
            warnings.warn(f"the CPU is used, {problem.error()}", stacklevel=2)
    return own.device


def all_devices() -> list[DeviceDescriptor]:
    """All devices of this machine that can be used, the preferred one first.

    >>> C.device.cpu() in C.device.all_devices()
    True
    """
    return [*map(gpu, range(_gpu_count())), cpu()]


def try_set_default_device(
    new_default_device: DeviceDescriptor, acquire_device_lock: bool = False
) -> bool:
    """Makes a device the one to be used where none is named; whether that worked.

    As in CNTK it does not with a lock on the CPU: only a GPU can be locked (nothing is, here).

    >>> default = C.device.use_default_device()
    >>> C.device.try_set_default_device(default)
    True
    """
    device = new_default_device
    if device not in all_devices() or acquire_device_lock and device.kind == "cpu":
        return False
    context().device = device
    return True


def set_excluded_devices(excluded_devices: Iterable[DeviceDescriptor]) -> None:
    """Devices that are never chosen where none is named. The CPU always can be.

    >>> C.device.set_excluded_devices([C.gpu(0)])
    >>> C.use_default_device()
    CPU
    >>> C.device.set_excluded_devices([])
    """
    own = context()
    own.excluded_devices = frozenset(excluded_devices)
    if own.device in own.excluded_devices:
        own.device = None


def get_gpu_properties(device: DeviceDescriptor) -> GPUProperties:
    """What a GPU is. Raises `ValueError` for a CPU, and for a GPU that is not there.

    >>> try:
    ...     C.device.get_gpu_properties(C.cpu())
    ... except ValueError as error:
    ...     print(error)
    CPU is no GPU
    """
    if device.kind != "gpu":
        raise ValueError(f"{device} is no GPU")
    if device.number >= _gpu_count():
        raise ValueError(f"there is no {device}")
    from .engines.cuda import library

    found = library.cupy().cuda.runtime.getDeviceProperties(device.number)
    return GPUProperties(
        device.number,
        found["major"],
        found["minor"],
        found["multiProcessorCount"],
        found["name"].decode(),
        found["totalGlobalMem"] >> 20,
    )


# GPUs


def gpu_convolutions(
    precision: str | None = None, deterministic: bool | None = None, timed: bool | None = None
) -> dict[str, Any]:
    """Chooses how cuDNN computes convolutions of float32 on GPUs, from here on.

    Args:
        precision: "tf32" (default), operands rounded to 10 bits of mantissa, sums in float32, as
            in PyTorch's convolutions; "float32", exact; "bfloat16", operands rounded to 7 bits.
            Convolutions of float64 are always exact, and so are matrix products.
        deterministic: whether every run must give the same to the last bit (default False).
            Its engines are chosen by cuDNN's word then, not by time.
        timed: whether cuDNN's engines for a shape that comes back are all timed, once, and the
            fastest kept (default True). The last bits of results depend on which it was.

    Returns:
        all that are in force. What is None stays as it was.

    >>> C.device.gpu_convolutions(precision="float32")["precision"]
    'float32'
    >>> C.device.gpu_convolutions("tf32")
    {'precision': 'tf32', 'deterministic': False, 'timed': True}
    """
    from .engines.cuda import options

    chosen = options.choose(precision=precision, deterministic=deterministic, timed=timed)
    return chosen._asdict()


def gpu_stream(stream: Any, device: DeviceDescriptor | None = None) -> AbstractContextManager[None]:
    """Has a GPU's runs be in order with what else is done on a stream.

    What the stream was given before a run is done before it, and what it is given after the run
    waits for that; the CPU waits for neither. Needed for streams that do not wait for the default
    stream, as those of PyTorch; all others are in order without it.

    Args:
        stream: of PyTorch, CuPy or others with `__cuda_stream__`, or its address.
        device: the GPU; by default the default device.

    >>> def predicted(model, tensor):  # tensors of PyTorch's, in order with its own work
    ...     with C.device.gpu_stream(torch.cuda.current_stream()):
    ...         return torch.from_dlpack(model.eval(tensor, as_numpy=False))
    """
    return engine(device or use_default_device()).beside(stream)


def _gpu_problem() -> Any:
    """What no GPU can be used without, or None."""
    from .engines.cuda import library

    return library.problem()


def _gpu_count() -> int:
    if _gpu_problem() is not None:
        return 0
    from .engines.cuda import library

    return int(library.cupy().cuda.runtime.getDeviceCount())


def _is_nearly_there() -> bool:
    """Whether there is a GPU, and CuPy to use it with."""
    from .engines.cuda import library

    return not isinstance(library.driver(), library.Missing) and not isinstance(
        library.cupy(), library.Missing
    )


_making = threading.Lock()


@lru_cache(maxsize=16)
def _cuda_engine(number: int) -> CudaEngine:
    from .engines.cuda import CudaEngine

    return CudaEngine(number)


# Engines of the CPU


def set_num_threads(number: int) -> None:
    """How many threads (1 or more) an operation on the CPU may use from here on, NumPy's included.

    At first as many as the process has cores, or what `OMP_NUM_THREADS` says. Small operations use
    one, and so do others for a while where threads were held up by another program's.

    >>> C.device.set_num_threads(C.device.get_num_threads())
    """
    from .engines.numpy import threads

    if int(number) < 1:
        raise GraphError(f"{number} threads do nothing", hint="give set_num_threads 1 or more")
    threads.set_number(int(number))


def get_num_threads() -> int:
    """How many threads an operation on the CPU may use: see `set_num_threads`.

    >>> C.device.get_num_threads() > 0
    True
    """
    from .engines.numpy import threads

    return threads.number()


def cpu_engines() -> list[str]:
    """The CPU engines that can be used here, the preferred one first.

    Each has kernels of several providers: see `cpu_providers`. `numpy` is always there. `native`
    has pointwise work, loops' products and convolutions with kernels of 3x3 in C before that; it is
    there if there was a C compiler when rgraph was installed. `onednn` needs the library, which the
    extra of that name brings; what is in C comes before it where that is there.

    Convolutions in C are Winograd's: rounding is about twice that of the plain sum, and what is not
    a number spreads over the 4x4 results that it is computed with.

    >>> "numpy" in C.device.cpu_engines()
    True
    """
    return [name for name in _cpu.ENGINES if _cpu.made(name) is not None]


def cpu_providers() -> list[str]:
    """Whose kernels the engine of the CPU has, the preferred one first.

    What none of them has is computed as the operation's record says, with NumPy. The plan that
    `Function.explain` prints says of each call whose kernel it has.

    >>> C.device.cpu_providers()[-1]
    'numpy'
    """
    return [p.name for p in _cpu_engine().providers]


def use_cpu_engine(name: str) -> str:
    """Chooses the engine of the CPU by name; the one that is used from here on is returned.

    Names of providers with "+" between them, the preferred one first, are an engine too:
    "onednn+numpy" is oneDNN without what is in C. Where one is asked for and missing, the next best
    is used, and a warning says so once. The environment variable `RGRAPH_CPU_ENGINE` chooses too,
    for the first use.

    >>> C.device.use_cpu_engine("numpy")
    'numpy'
    """
    unknown = [n for n in name.split("+") if n not in _cpu.ENGINES]
    if unknown:
        raise GraphError(
            f"there is no CPU engine {unknown[0]!r}; there are {', '.join(_cpu.ENGINES)}",
            hint="set RGRAPH_CPU_ENGINE, or what use_cpu_engine is given, to one of these",
        )
    if _cpu.made(name) is None:
        why = next(_cpu.WHY_NOT[n] for n in name.split("+") if _cpu.made(n) is None)
        warnings.warn(f"{why}; {_cpu.best()} is used instead", stacklevel=2)
        name = _cpu.best()
    context().cpu_engine = name
    return name


def engine(device: DeviceDescriptor | None = None) -> Engine:
    """The engine that computes on a device.

    Raises `GraphError` for a GPU that can't be used: what is missing, and what brings it.
    """
    own = context()
    device = device or own.device or use_default_device()
    if device.kind == "gpu":
        with _making:  # by one thread: there is one engine for each GPU
            return _cuda_engine(device.number)
    return _cpu_engine()


def _cpu_engine() -> _cpu.CpuEngine:
    name = context().cpu_engine
    if not name:
        name = use_cpu_engine(os.environ.get("RGRAPH_CPU_ENGINE") or _cpu.best())
    return _cpu.made(name)


__all__ = [
    "DeviceDescriptor",
    "DeviceKind",
    "all_devices",
    "cpu",
    "cpu_engines",
    "cpu_providers",
    "get_gpu_properties",
    "get_num_threads",
    "gpu",
    "gpu_convolutions",
    "gpu_stream",
    "set_excluded_devices",
    "set_num_threads",
    "try_set_default_device",
    "use_cpu_engine",
    "use_default_device",
]
