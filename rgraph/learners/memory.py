"""Changing parameters where they are: in the CPU's memory or a GPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import as_array, on_cpu, on_gpu
from ..device import engine, gpu
from ..values import dense

Change = Callable[[Any, Any, dict[str, Any]], None]


def change_in_place(
    node: Any, gradient: Any, state: dict[str, Any], change: Change, memo: dict[Any, Any]
) -> None:
    """Has a `Stored` node's array changed where its gradient is.

    Args:
        state: what is kept from change to change; its arrays go where the gradient is, too.
        change: `change(array, gradient, state)`, in NumPy's functions.
        memo: empty, for the first of the nodes that this same change is made to.
    """
    g = as_array(dense(gradient)).astype(node.dtype, copy=False)
    if g.shape != node.shape:
        g = g.reshape(node.shape)
    there = on_gpu(g)
    if there is None:
        state.update((k, on_cpu(v)) for k, v in state.items() if on_gpu(v) is not None)
        change(node.value, g, state)
        node.changed()
        return
    engine(gpu(there.device.id)).change(node, g, state, change, memo)
