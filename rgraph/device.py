"""Which machine part computes: CNTK's `device` module."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


class DeviceDescriptor:
    """A device: the CPU, or a GPU by its number."""

    def __init__(self, kind: str, number: int = 0) -> None:
        self.kind, self.number = kind, number

    def type(self) -> str:
        return self.kind

    def id(self) -> int:
        return self.number

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


def use_default_device() -> DeviceDescriptor:
    """The device that is used where none is named.

    >>> C.device.use_default_device()
    CPU
    """
    return cpu()


def all_devices() -> list[DeviceDescriptor]:
    """All devices of this machine that can be used."""
    return [cpu()]


def try_set_default_device(device: DeviceDescriptor, acquire_device_lock: bool = False) -> bool:
    """Makes `device` the one to be used where none is named; whether that worked."""
    return device in all_devices()


@lru_cache(maxsize=1)
def _numpy_engine() -> Any:
    from .engines.numpy import NumpyEngine

    return NumpyEngine()


def reference_run() -> Any:
    """What a kernel needs to run outside a plan, on constants."""
    from .plan import Run

    return Run(_numpy_engine(), {}, 1)


def engine(device: DeviceDescriptor | None = None) -> Any:
    """The engine that computes on a device."""
    if device is not None and device.kind != "cpu":
        raise ValueError(f"there is no device {device!r} here; there is {all_devices()}")
    return _numpy_engine()
