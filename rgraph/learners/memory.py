"""Changing parameters where they are: in the CPU's memory or a GPU's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..device import engine, gpu
from ..graph import GraphError
from ..graph.node import describe
from ..runtime.arrays import as_array, on_cpu, on_gpu
from ..runtime.values import dense

Change = Callable[[Any, Any, dict[str, Any]], None]


def as_gradient(node: Any, given: Any) -> Any:
    """A gradient as an array of its node's type and shape.

    Raises:
        GraphError: it has another number of elements.
    """
    if type(given) is np.ndarray and given.dtype == node.dtype and given.shape == node.shape:
        return given
    g = as_array(dense(given)).astype(node.dtype, copy=False)
    if g.size != math.prod(node.shape):
        raise GraphError(f"the gradient of {describe(node)} has shape {g.shape}")
    return g if g.shape == node.shape else g.reshape(node.shape)


def change_in_place(
    node: Any, g: Any, state: dict[str, Any], change: Change, memo: dict[Any, Any]
) -> None:
    """Has a `Stored` node's array changed where its gradient `g` is.

    Args:
        state: what is kept from change to change; its arrays go where the gradient is, too.
        change: `change(array, gradient, state)`, in NumPy's functions.
        memo: empty, for the first of the nodes that this same change is made to.
    """
    there = on_gpu(g)
    if there is None:
        for k, v in state.items():
            if on_gpu(v) is not None:
                state[k] = on_cpu(v)
        change(node.value, g, state)
        node.changed()
        return
    engine(gpu(there.device.id)).change(node, g, state, change, memo)
