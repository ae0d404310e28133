"""Engines: sets of kernels, an allocator, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tailed(
    run: Any, *arrays: Any, head: Any, arguments: Mapping[str, Any], program: Any, out: Any = None
) -> Any:
    """An operation and then, on its result, a program of pointwise ones: on any engine.

    Args:
        arrays: the operands of the head, then those of the program but for its first, the result.
        head: the record of the operation, which is given `arguments`.
    """
    count = len(arrays) - program.arity + 1
    kernels = run.engine.kernels
    room = {"out": out} if head.into else {}
    result = kernels.get(head.name, head.kernel)(run, *arrays[:count], **room, **arguments)
    if out is None and result.ndim:  # a single number may not be an array
        out = result
    return kernels["fused"](run, result, *arrays[count:], program=program, out=out)
