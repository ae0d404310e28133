"""Random values. What a run draws depends on the seed, the operation and the run's number."""

from __future__ import annotations

from typing import Any

from ..graph import Node, apply
from .pointwise import element_times
from .records import as_node, define, operation


def _mask(run: Any, like: Any, *, rate: float, seed: Any, key: int) -> Any:
    xp = run.xp
    if not run.training:
        return xp.broadcast_to(xp.ones((), like.dtype), like.shape)
    keep = run.random(seed, key).random(like.shape, xp.float32) >= rate
    return keep.astype(like.dtype) * like.dtype.type(1 / (1 - rate))


DROPOUT_MASK = define(
    "dropout_mask",
    shape=lambda s, **_: s,
    kernel=_mask,
    arguments=lambda node: {**node.attrs, "key": node.uid},
    guess=True,
    random=True,
)


@operation
def dropout(x: Any, dropout_rate: float = 0.0, seed: int | None = None) -> Any:
    """`x` with a random part of its elements set to 0 and the others scaled up; in training only.

    Args:
        dropout_rate: the probability of an element to be dropped, at least 0 and below 1.
        seed: for the same drops in every run of a program; by default `C.set_seed`'s.

    Source: Srivastava et al., 2014.

    >>> C.dropout([1.0, 2.0], 0.5).eval()
    array([1., 2.], dtype=float32)
    """
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate must be at least 0 and below 1, got {dropout_rate}")
    node: Node = as_node(x)
    return element_times(node, apply(DROPOUT_MASK, node, rate=dropout_rate, seed=seed))
