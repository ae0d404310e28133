"""The engines of the CPU by name, each made when it is first asked for."""

from __future__ import annotations

from functools import lru_cache

from .base import Engine

# The preferred one first, with what is said where it can't be had
WHY_NOT = {
    "onednn": "oneDNN was not found (pip install onednn-cpu-gomp brings it)",
    "native": "rgraph was installed without a C compiler",
    "numpy": "",
}


@lru_cache(maxsize=8)
def made(name: str) -> Engine | None:
    """The engine of that name, or None where it can't be had."""
    if name == "onednn":
        from .onednn import OnednnEngine, OnednnError

        try:
            return OnednnEngine()
        except OnednnError:
            return None
    if name == "native":
        from .native import NativeEngine, NativeError

        try:
            return NativeEngine()
        except NativeError:
            return None
    from .numpy import NumpyEngine

    return NumpyEngine()


def best() -> str:
    """The preferred one of those that can be had."""
    return next(name for name in WHY_NOT if made(name) is not None)
