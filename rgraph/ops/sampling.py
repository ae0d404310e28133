"""Random sampling of classes by their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph import Constant, GraphError, Node, apply
from ..graph.free import elements
from ..graph.node import Shape
from ..graph.types import Array, OperandLike
from .random import drawing, has_seed, seeds
from .records import as_node, define, operation

if TYPE_CHECKING:
    from ..plan import Run


def inclusion(weights: np.ndarray, count: int, allow_duplicates: bool) -> np.ndarray:
    """The expected number of occurrences of each class in a sample of `count` classes.

    Without duplicates this is an estimate: the probability to be drawn at least once in n draws
    with duplicates, with n such that `count` different classes are expected.
    """
    p = weights / weights.sum()
    if allow_duplicates:
        return count * p
    if count >= np.count_nonzero(p):
        return (p > 0).astype(p.dtype)
    low, high = 0.0, 1.0
    with np.errstate(divide="ignore"):
        miss = np.log1p(-p)  # log of the probability of not being drawn
    while -np.expm1(high * miss).sum() < count:
        high *= 2
    for _ in range(60):
        draws = (low + high) / 2
        low, high = (draws, high) if -np.expm1(draws * miss).sum() < count else (low, draws)
    return -np.expm1(high * miss)


def _check(weights: np.ndarray, count: int, allow_duplicates: bool) -> None:
    if (weights < 0).any() or not weights.any():
        raise GraphError("the weights of classes must not be negative, and not all 0")
    if not allow_duplicates and count > np.count_nonzero(weights):
        raise GraphError(
            f"can't draw {count} different classes: only {np.count_nonzero(weights)} have a weight "
            "above 0"
        )


def _draw(
    run: Run, weights: Array, *, count: int, allow_duplicates: bool, seed: int | None, key: int
) -> Array:
    xp, weights = run.xp, weights.ravel()
    classes = len(weights)
    _check(run.engine.to_numpy(weights), count, allow_duplicates)
    goes_on = has_seed(seed) and allow_duplicates  # CNTK's series: the same count in each run
    random = run.series(seed) if goes_on else run.random(seed, key)
    if allow_duplicates:
        ends = xp.cumsum(weights.astype(xp.float64))
        places = random.random(count, xp.float64) * ends[-1]
        chosen = xp.minimum(xp.searchsorted(ends, places, side="right"), classes - 1)
    else:  # Efraimidis and Spirakis, 2006
        keys = xp.full(classes, -xp.inf)
        some = xp.flatnonzero(weights)
        keys[some] = xp.log(1 - random.random(len(some), xp.float64)) / weights[some]
        chosen = xp.argsort(-keys)[:count]
    return (chosen[:, None] == xp.arange(classes)).astype(weights.dtype)


def _classes(weights: Shape) -> int:
    if not weights or weights[-1] != elements(weights):
        raise GraphError(f"the weights of classes must be a vector, got shape {weights}")
    return weights[-1]


def _weights(weights: OperandLike) -> Node:
    """The operand as a node; lists and arrays become float32 constants."""
    node = as_node(weights)
    if isinstance(node, Constant) and isinstance(weights, (np.ndarray, list, tuple)):
        return node.as_dtype(np.dtype(np.float32))
    return node


def _frequency(run: Run, weights: Array, *, count: int, allow_duplicates: bool) -> Array:
    host = run.engine.to_numpy(weights)
    _check(host, count, allow_duplicates)
    found = inclusion(host.ravel().astype(np.float64), count, allow_duplicates)
    return run.engine.from_numpy(found.astype(host.dtype).reshape(host.shape))


SAMPLE = define(
    "random_sample",
    shape=lambda weights, count, **_: (count, _classes(weights)),
    kernel=_draw,
    arguments=drawing,
    operands=("weights",),
    sparse=lambda node: True,
    random=True,
    waits=True,
    draws=True,
)
FREQUENCY = define(
    "random_sample_inclusion_frequency",
    shape=lambda weights, **_: (*weights[:-1], _classes(weights)),
    kernel=_frequency,
    operands=("weights",),
    waits=True,
)


def _positive(num_samples: int) -> int:
    if num_samples < 1:
        raise GraphError(f"num_samples must be at least 1, got {num_samples}")
    return int(num_samples)


@operation
def random_sample(
    weights: OperandLike, num_samples: int, allow_duplicates: bool, seed: int | None = None
) -> Node:
    """Classes drawn at random, as one-hot rows: shape (num_samples, classes).

    Args:
        weights: the relative probability of each class; they need not sum to 1. Shape (classes,),
            optionally with leading axes of size 1.
        num_samples: the number of draws.
        allow_duplicates: whether a class may be drawn several times.
        seed: for reproducible draws; by default that of `C.set_seed`. With duplicates the draws
            are those of CNTK on a CPU.

    Source: CNTK's `random_sample`.

    >>> C.random_sample([0, 1, 0], 2, allow_duplicates=True).eval()
    array([[0., 1., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return apply(
        SAMPLE,
        _weights(weights),
        count=_positive(num_samples),
        allow_duplicates=bool(allow_duplicates),
        **seeds(seed),
    )


@operation
def random_sample_inclusion_frequency(
    weights: OperandLike, num_samples: int, allow_duplicates: bool, seed: int | None = None
) -> Node:
    """The expected number of occurrences of each class in `random_sample` with these arguments.

    Without duplicates this is an estimate, which is exact for equal weights.

    Source: CNTK's `random_sample_inclusion_frequency`.

    >>> C.random_sample_inclusion_frequency([1, 2, 1], 2, allow_duplicates=True).eval()
    array([0.5, 1. , 0.5], dtype=float32)
    """
    seeds(seed)  # CNTK takes a seed here too, so later seeds stay the same
    return apply(
        FREQUENCY,
        _weights(weights),
        count=_positive(num_samples),
        allow_duplicates=bool(allow_duplicates),
    )
