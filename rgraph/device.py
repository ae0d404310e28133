"""Which machine part computes: CNTK's `device` module."""

from __future__ import annotations

import enum
import os
import warnings
from functools import lru_cache
from typing import Any


class DeviceKind(enum.IntEnum):
    """What a device is.

    >>> C.device.cpu().type() == C.device.DeviceKind.CPU
    True
    """

    CPU = 0
    GPU = 1


class DeviceDescriptor:
    """A device: the CPU, or a GPU by its number.

    >>> C.DeviceDescriptor("gpu", 1)
    GPU[1]
    """

    def __init__(self, kind: str, number: int = 0) -> None:
        self.kind, self.number = kind, number

    def type(self) -> DeviceKind:
        return DeviceKind[self.kind.upper()]

    def id(self) -> int:
        return self.number

    def is_locked(self) -> bool:
        """Whether a program has the device for itself: none has, there are no locks."""
        return False

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
    """The device that is used where none is named.

    >>> C.device.use_default_device()
    CPU
    """
    return cpu()


def all_devices() -> list[DeviceDescriptor]:
    """All devices of this machine that can be used.

    >>> C.device.cpu() in C.device.all_devices()
    True
    """
    return [cpu()]


def try_set_default_device(device: DeviceDescriptor, acquire_device_lock: bool = False) -> bool:
    """Makes `device` the one to be used where none is named; whether that worked.

    As in CNTK it does not with a lock on the CPU: only a GPU can be locked (nothing is, here).

    >>> C.device.try_set_default_device(C.device.cpu())
    True
    """
    return device in all_devices() and not (acquire_device_lock and device.kind == "cpu")


# Engines of the CPU


def cpu_engines() -> list[str]:
    """The CPU engines that can be used here, the preferred one first.

    `numpy` is always there; `onednn` needs the library, which the extra of that name brings.
    """
    return ["numpy"] if _onednn_engine() is None else ["onednn", "numpy"]


def use_cpu_engine(name: str) -> str:
    """Chooses the engine of the CPU by name; the one that is used from here on is returned.

    Where `onednn` is asked for and missing, `numpy` is used, and a warning says so once.

    >>> C.device.use_cpu_engine("numpy")
    'numpy'
    """
    global _cpu_engine
    if name not in ("numpy", "onednn"):
        raise ValueError(f"there is no CPU engine {name!r}; there is {cpu_engines()}")
    if name == "onednn" and _onednn_engine() is None:
        warnings.warn(
            "oneDNN was not found, numpy is used instead; pip install rgraph[onednn] brings it",
            stacklevel=2,
        )
        name = "numpy"
    _cpu_engine = name
    return name


_cpu_engine = os.environ.get("RGRAPH_CPU_ENGINE", "")


@lru_cache(maxsize=1)
def _numpy_engine() -> Any:
    from .engines.numpy import NumpyEngine

    return NumpyEngine()


@lru_cache(maxsize=1)
def _onednn_engine() -> Any:
    from .engines.onednn import OnednnEngine, OnednnError

    try:
        return OnednnEngine()
    except OnednnError:
        return None


def reference_run() -> Any:
    """What a kernel needs to run outside a plan, on constants."""
    from .plan import Run

    return Run(_numpy_engine(), {}, 1)


def engine(device: DeviceDescriptor | None = None) -> Any:
    """The engine that computes on a device."""
    if device is not None and device.kind != "cpu":
        raise ValueError(f"there is no device {device!r} here; there is {all_devices()}")
    name = _cpu_engine or use_cpu_engine(cpu_engines()[0])
    return _numpy_engine() if name == "numpy" else _onednn_engine()
