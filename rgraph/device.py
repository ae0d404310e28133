"""Devices: CPU and GPUs, and their settings. CNTK's `device` module."""

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
    """The kind of a device.

    >>> C.device.cpu().type() == C.device.DeviceKind.CPU
    True
    """

    __str__ = enum.Enum.__str__

    CPU = 0
    GPU = 1


class GPUProperties(NamedTuple):
    """The properties of a GPU.

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
        """Its kind: CPU or GPU."""
        return DeviceKind[self.kind.upper()]

    def id(self) -> int:
        """The number of the GPU; 0 for the CPU."""
        return self.number

    def is_locked(self) -> bool:
        """Always False: there are no exclusive locks of devices."""
        return False

    def __call__(self) -> DeviceDescriptor:
        """Returns itself: in CNTK the device of a value is a method."""
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
    """The GPU with this number.

    >>> C.device.gpu(0)
    GPU[0]
    """
    return DeviceDescriptor("gpu", int(device_id))


def use_default_device() -> DeviceDescriptor:
    """The default device: the first GPU if there is one, otherwise the CPU.

    >>> C.device.use_default_device() in C.all_devices()
    True
    """
    own = context()
    if own.device is None:
        usable = (d for d in all_devices() if d not in own.excluded_devices)
        own.device = next(usable, cpu())
        problem = _gpu_problem()
        if problem is not None and _is_nearly_there():
            warnings.warn(f"using the CPU: {problem.error()}", stacklevel=2)
    return own.device


def all_devices() -> list[DeviceDescriptor]:
    """All usable devices of this machine, preferred ones first.

    >>> C.device.cpu() in C.device.all_devices()
    True
    """
    return [*map(gpu, range(_gpu_count())), cpu()]


def try_set_default_device(
    new_default_device: DeviceDescriptor, acquire_device_lock: bool = False
) -> bool:
    """Sets the default device; returns whether that succeeded.

    As in CNTK it fails with `acquire_device_lock` for the CPU. For a GPU the lock has no effect.

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
    """Excludes devices from being the default. The CPU can't be excluded.

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
    """The properties of a GPU. Raises `ValueError` for a CPU, and if there is no such GPU.

    >>> try:
    ...     C.device.get_gpu_properties(C.cpu())
    ... except ValueError as error:
    ...     print(error)
    CPU is not a GPU
    """
    if device.kind != "gpu":
        raise ValueError(f"{device} is not a GPU")
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
    """Sets how cuDNN computes convolutions on GPUs; None leaves an option unchanged.

    Args:
        precision: of float32 convolutions: "tf32" (default), with operands rounded to 10 bits of
            mantissa and sums in float32, as in PyTorch; "float32", full precision; "bfloat16",
            operands rounded to 7 bits. Convolutions of float64 and matrix products always have
            full precision.
        deterministic: whether results must be reproducible to the last bit (default False).
            cuDNN's heuristics then choose the engine, not its speed.
        timed: whether to measure cuDNN's engines for a shape that occurs repeatedly, and to keep
            the fastest (default True). The last bits of results depend on the engine.

    Returns:
        a dict of all options.

    >>> C.device.gpu_convolutions(precision="float32")["precision"]
    'float32'
    >>> C.device.gpu_convolutions("tf32")
    {'precision': 'tf32', 'deterministic': False, 'timed': True}
    """
    from .engines.cuda import options

    chosen = options.choose(precision=precision, deterministic=deterministic, timed=timed)
    return chosen._asdict()


def gpu_stream(
    stream: object, device: DeviceDescriptor | None = None
) -> AbstractContextManager[None]:
    """A context manager that orders runs on a GPU with the work of a CUDA stream.

    A run starts after all work that was submitted to the stream before, and work submitted later
    waits for the run; the CPU waits for neither. It is needed for streams that don't synchronize
    with the default stream, such as those of PyTorch.

    Args:
        stream: a stream of PyTorch, CuPy or another library with `__cuda_stream__`, or its address.
        device: the GPU; by default the default device.

    >>> def predicted(model, tensor):  # tensors of PyTorch's, in order with its own work
    ...     with C.device.gpu_stream(torch.cuda.current_stream()):
    ...         return torch.from_dlpack(model.eval(tensor, as_numpy=False))
    """
    return engine(device or use_default_device()).beside(stream)


def _gpu_problem() -> Any:
    """What is missing to use a GPU, or None."""
    from .engines.cuda import library

    return library.problem()


def _gpu_count() -> int:
    if _gpu_problem() is not None:
        return 0
    from .engines.cuda import library

    return int(library.cupy().cuda.runtime.getDeviceCount())


def _is_nearly_there() -> bool:
    """Whether there are a GPU and CuPy."""
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
    """Sets how many threads an operation on the CPU may use, including those of NumPy.

    The default is the number of cores of the process, or `OMP_NUM_THREADS`. Small operations use
    one thread; others too, for a while, if other programs have delayed the threads.

    >>> C.device.set_num_threads(C.device.get_num_threads())
    """
    from .engines.numpy import threads

    if int(number) < 1:
        raise GraphError(f"the number of threads must be at least 1, got {number}")
    threads.set_number(int(number))


def get_num_threads() -> int:
    """The number of threads that an operation on the CPU may use: see `set_num_threads`.

    >>> C.device.get_num_threads() > 0
    True
    """
    from .engines.numpy import threads

    return threads.number()


def cpu_engines() -> list[str]:
    """The CPU engines that are available, preferred ones first.

    Each combines the kernels of several providers: see `cpu_providers`. `numpy` is always
    available. `native` adds pointwise operations, matrix products in loops, convolutions and
    pooling in C; it requires a C compiler when rgraph is installed. `onednn` requires oneDNN, which
    the extra of that name installs; kernels in C take precedence, if available.

    Convolutions with 3x3 kernels in C may use Winograd's algorithm: rounding errors are about twice
    those of the direct sum, and a NaN affects the whole tile of 4x4 results.

    >>> "numpy" in C.device.cpu_engines()
    True
    """
    return [name for name in _cpu.ENGINES if _cpu.made(name) is not None]


def cpu_providers() -> list[str]:
    """The providers of kernels of the current CPU engine, preferred ones first.

    Operations for which no provider has a kernel are computed with NumPy. `Function.explain` prints
    the provider of each call.

    >>> C.device.cpu_providers()[-1]
    'numpy'
    """
    return [p.name for p in _cpu_engine().providers]


def use_cpu_engine(name: str) -> str:
    """Chooses the engine of the CPU by name; returns the name of the engine that is used.

    Names of providers joined by "+", preferred ones first, are also accepted: "onednn+numpy" is
    oneDNN without kernels in C. If the engine is not available, the next best is used, with a
    warning the first time. The environment variable `RGRAPH_CPU_ENGINE` sets the initial engine.

    >>> C.device.use_cpu_engine("numpy")
    'numpy'
    """
    unknown = [n for n in name.split("+") if n not in _cpu.ENGINES]
    if unknown:
        raise GraphError(
            f"there is no CPU engine {unknown[0]!r}; there are {', '.join(_cpu.ENGINES)}",
            hint="pass one of these to use_cpu_engine, or set RGRAPH_CPU_ENGINE to it",
        )
    if _cpu.made(name) is None:
        why = next(_cpu.WHY_NOT[n] for n in name.split("+") if _cpu.made(n) is None)
        warnings.warn(f"{why}; using {_cpu.best()} instead", stacklevel=2)
        name = _cpu.best()
    context().cpu_engine = name
    return name


def engine(device: DeviceDescriptor | None = None) -> Engine:
    """The engine that computes on a device.

    Raises `GraphError` if the GPU can't be used; the message says what is missing.
    """
    own = context()
    device = device or own.device or use_default_device()
    if device.kind == "gpu":
        with _making:  # one engine for each GPU, made by one thread
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
