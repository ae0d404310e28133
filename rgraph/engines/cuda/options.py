"""What may be chosen of how cuDNN computes. No library is needed to import this."""

from __future__ import annotations

from typing import NamedTuple

from ...graph.context import context

PRECISIONS = ("tf32", "float32", "bfloat16")


class Options(NamedTuple):
    """How convolutions of float32 are computed on a GPU; see `rgraph.device.gpu_convolutions`."""

    precision: str = "tf32"
    deterministic: bool = False
    timed: bool = True


def current() -> Options:
    """Those in force."""
    return context().gpu_options or Options()


def choose(**changes: object) -> Options:
    """Changes the options that are given, from here on; gives all that are in force."""
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("precision", "tf32") not in PRECISIONS:
        raise ValueError(f"precision is one of {PRECISIONS}, got {given['precision']!r}")
    chosen = context().gpu_options = current()._replace(**given)  # type: ignore[arg-type]
    return chosen
