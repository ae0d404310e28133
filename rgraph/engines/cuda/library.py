"""Finding a GPU, its driver, CuPy and cuDNN, and saying what to do about what is missing."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import warnings
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from ...graph import GraphError

# None of these has types, and they are there only with a GPU.
Module: TypeAlias = Any  # CuPy, NCCL or cuDNN's frontend
Stream: TypeAlias = Any  # CuPy's
Event: TypeAlias = Any  # CuPy's

OLDEST_DRIVER = 12000  # CUDA 12.0; what CuPy 14 and cuDNN 9 can do with
OLDEST_CUDNN = 90000

_INSTALL = (
    "pip install cupy-cuda12x[ctk] nvidia-cudnn-cu12 'nvidia-cudnn-frontend==1.16.*' "
    "(cupy-cuda13x[ctk] and nvidia-cudnn-cu13 for a driver of CUDA 13)"
)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


class Missing(NamedTuple):
    """What a GPU can't be used without, and what brings it."""

    what: str
    hint: str

    def error(self) -> GraphError:
        """The error of someone who asked for a GPU."""
        return GraphError(f"no GPU can be used here: {self.what}", hint=self.hint)


@lru_cache(maxsize=1)
def driver() -> tuple[int, int] | Missing:
    """The version of CUDA that the driver has and how many GPUs there are; or why there are none.

    Asked of the driver itself, so that machines without a GPU need not import CuPy.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return Missing(
            "there is no NVIDIA driver",
            "install one (nvidia-smi shows it once it is there), or use C.device.cpu()",
        )
    status = library.cuInit(0)
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    if status == 0:
        library.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        return Missing(
            f"the driver (CUDA {_version(version.value)}) shows no GPU (status {status})",
            "see what nvidia-smi says, and whether CUDA_VISIBLE_DEVICES hides it",
        )
    if version.value < OLDEST_DRIVER:
        return Missing(
            f"the driver is for CUDA {_version(version.value)}, it must be for "
            f"{_version(OLDEST_DRIVER)} or later",
            "install a newer NVIDIA driver",
        )
    return version.value, count.value


@lru_cache(maxsize=1)
def cupy() -> Module:
    """CuPy, or a `Missing`."""
    found = driver()
    if isinstance(found, Missing):
        return found
    version, _ = found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import cupy as library
    except Exception as error:
        return Missing(f"CuPy can't be imported ({error})", _INSTALL)
    runtime = library.cuda.runtime.runtimeGetVersion()
    if runtime // 1000 > version // 1000:
        return Missing(
            f"the driver is for CUDA {_version(version)}, this CuPy for {_version(runtime)}",
            "install a newer NVIDIA driver, or pip install cupy-cuda12x[ctk] nvidia-cudnn-cu12",
        )
    try:
        library.cuda.runtime.getDeviceCount()
    except library.cuda.runtime.CUDARuntimeError as error:
        return Missing(f"CUDA can't start ({error})", "see what nvidia-smi says")
    return library


@lru_cache(maxsize=1)
def cudnn() -> Module:
    """cuDNN's frontend, or a `Missing`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _load_runtime()
            import cudnn as library
        version = library.backend_version()
    except Exception as error:
        return Missing(f"cuDNN can't be imported ({error})", _INSTALL)
    if version < OLDEST_CUDNN:
        return Missing(f"cuDNN is of version {version}, it must be 9 or later", _INSTALL)
    return library


def _load_runtime() -> None:
    """Loads libcudart where pip put it: the frontend opens it by its name alone.

    CuPy has it within; without the library the frontend would refuse every convolution.
    """
    try:
        from cuda import pathfinder  # CuPy brings it
    except ImportError:
        return
    with contextlib.suppress(pathfinder.DynamicLibNotFoundError):
        pathfinder.load_nvidia_dynamic_lib("cudart")


def problem() -> Missing | None:
    """What no GPU can be used without, or None."""
    for find in (driver, cupy, cudnn):
        found = find()
        if isinstance(found, Missing):
            return found
    return None


def out_of_memory(library: Module, number: int, error: Exception) -> GraphError:
    """The error for a GPU whose memory is full."""
    try:
        free, total = library.cuda.runtime.memGetInfo()
        state = f"; {free >> 20} of its {total >> 20} MiB are free"
    except Exception:
        state = ""
    return GraphError(
        f"the memory of GPU[{number}] is full: {error}{state}",
        hint="use smaller minibatches or shorter sequences, or let go of results kept with "
        "as_numpy=False",
    )
