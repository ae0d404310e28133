"""The extension module in C for this processor's instruction set.

The build makes one for each level, if there is a C compiler: see `setup.py`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, TypeAlias

from ..numpy.threads import follow_number

LEVELS = {4: "_v4", 3: "_v3", 1: "_baseline"}  # of x86-64; elsewhere there is the baseline


WHY_NOT = "rgraph was installed without a C compiler, so nothing is done in C"


Extension: TypeAlias = Any  # a module in C: nothing tells its types


class NativeError(RuntimeError):
    """The package was built without a C compiler."""


def built() -> dict[int, Extension]:
    """The extension modules that this processor can run, by level, the fastest first."""
    try:
        best: int = _module("_baseline").processor_level
    except ImportError:
        return {}
    found = {}
    for level, name in LEVELS.items():
        if level <= best:
            try:
                found[level] = _module(name)
            except ImportError:  # the compiler does not know these instructions
                continue
    return found


def _module(name: str) -> Extension:
    return import_module(f".{name}", __package__)


@cache
def load() -> Extension:
    """The fastest usable module, with its number of threads set.

    Raises `NativeError` if there is none.
    """
    for module in built().values():
        follow_number(module.set_threads)
        return module
    raise NativeError(WHY_NOT)
