"""Engines: sets of kernels, an allocator, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

Kernel = Callable[..., Any]


class Prepared:
    """A kernel that does once, when a plan is made, what does not depend on its operands.

    Args:
        bound: `bound(**arguments)`, the kernel with its arguments.
    """

    def __init__(self, bound: Callable[..., Kernel]) -> None:
        self.bound = bound

    def __call__(self, run: Any, *operands: Any, out: Any = None, **arguments: Any) -> Any:
        room = {} if out is None else {"out": out}
        return self.bound(**arguments)(run, *operands, **room)


def bound(kernel: Kernel, arguments: Mapping[str, Any]) -> Kernel:
    """A kernel with its arguments, ready to be called with operands."""
    own = getattr(kernel, "bound", None)
    return own(**arguments) if own else partial(kernel, **arguments)


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
