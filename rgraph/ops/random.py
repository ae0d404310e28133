"""Random values. They depend on the seed, the operation and the number of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Constant, Node, apply, number_type
from ..graph.context import context
from ..graph.node import AUTO_SEED, Attributes, Shape, random_key
from ..graph.types import Array, DTypeLike, OperandLike, ShapeLike
from .arithmetic import element_times
from .records import as_node, define, operation
from .shaping import as_shape

if TYPE_CHECKING:
    from ..plan import Run


def seeds(seed: int | None) -> Attributes:
    """Seeds for the attributes of a new node: the given seed, and CNTK's next one if it is None.

    Clones keep both.
    """
    given = has_seed(seed)
    return {"seed": seed, "own_seed": seed if given else context().random.next_seed()}


def has_seed(seed: int | None) -> bool:
    return seed is not None and seed != AUTO_SEED


def drawing(node: Node) -> dict[str, object]:
    """The kernel arguments of a random operation.

    After a call of `C.set_seed`, a node without a seed uses the one that it took when it was
    created.
    """
    given = {**node.attrs, "key": random_key(node)}
    own = given.pop("own_seed", None)
    if not has_seed(given["seed"]) and context().random.initial_seeds is not None:
        given["seed"] = own
    return given


def _mask(run: Run, like: Array, *, rate: float, seed: int | None, key: int) -> Array:
    xp = run.xp
    if not run.training:
        return xp.broadcast_to(xp.ones((), like.dtype), like.shape)
    keep = run.random(seed, key).random(like.shape, xp.float32) >= rate
    return keep.astype(like.dtype) * like.dtype.type(1 / (1 - rate))


DROPOUT_MASK = define(
    "dropout_mask",
    title="dropout",
    shape=lambda s, **_: s,
    kernel=_mask,
    arguments=drawing,
    guess=True,
    random=True,
    inference_form=lambda node: Constant(1, dtype=node.dtype),
    draws=True,
    attributes=lambda node: {"rngOffset": 0},
)


@operation
def dropout(x: OperandLike, dropout_rate: float = 0.0, seed: int | None = None) -> Node:
    """In training, sets random elements of `x` to 0 and scales up the others.

    Args:
        dropout_rate: the probability that an element is dropped, at least 0 and below 1.
        seed: for reproducible results; by default that of `C.set_seed`.

    Source: Srivastava et al., 2014.

    >>> C.dropout([1.0, 2.0], 0.5).eval()
    array([1., 2.], dtype=float32)
    """
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate must be at least 0 and below 1, got {dropout_rate}")
    node: Node = as_node(x)
    mask = apply(DROPOUT_MASK, node, rate=dropout_rate, **seeds(seed))
    return element_times(node, mask)


# Values drawn from a distribution

# Functions of an array library, numbers u, and parameters; u is uniform in [0, 1) or standard
# normal
_DRAWS: dict[str, Callable[..., Array]] = {
    "uniform": lambda xp, u, low, high: low + (high - low) * u,
    "normal": lambda xp, u, mean, scale: mean + scale * u,
    "gumbel": lambda xp, u, loc, scale: loc - scale * xp.log(-xp.log(1 - u)),
    "bernoulli": lambda xp, u, mean: 1 - u <= mean,
}


def _draw(
    run: Run,
    *like: Array,
    kind: str,
    by: tuple[float, ...],
    seed: int | None,
    key: int,
    shape: Shape,
    dtype: DTypeLike,
) -> Array:
    generator = run.series(seed) if has_seed(seed) and not like else run.random(seed, key)
    size = like[0].shape if like else shape
    if kind == "normal":
        u = generator.standard_normal(size, run.xp.float64)
    else:
        u = generator.random(size, run.xp.float64)
    return _DRAWS[kind](run.xp, u, *by).astype(dtype)


DRAW = define(
    "random",
    shape=lambda *like, shape, **_: like[0] if like else shape,
    dtype=lambda dtypes, dtype, **_: dtypes[0] if dtypes else np.dtype(dtype),
    kernel=_draw,
    arguments=lambda node: {**drawing(node), "dtype": node.dtype},
    operands=("like",),
    random=True,
    draws=True,
    attributes=lambda node: {
        "randomDistributionType": node.attrs["kind"],
        "randomDistributionArgs": list(node.attrs["by"]),
        "rngOffset": 0,
    },
)


def _drawn(
    like: OperandLike | None,
    shape: ShapeLike,
    dtype: DTypeLike,
    kind: str,
    by: Sequence[float],
    seed: int | None,
) -> Node:
    operands = [] if like is None else [as_node(like)]
    attrs: dict[str, Any] = {"shape": as_shape(shape), "dtype": number_type(dtype or np.float32)}
    return apply(DRAW, *operands, kind=kind, by=tuple(map(float, by)), **seeds(seed), **attrs)


@operation
def uniform(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: int | None = None,
) -> Node:
    """Random numbers, uniform from `low` to `high`, drawn anew in each run.

    They are those of CNTK on a CPU, unless `C.set_seed` was called.

    >>> C.random.uniform((2, 3)).shape
    (2, 3)
    """
    return _drawn(None, shape, dtype, "uniform", (low, high), seed)


@operation
def uniform_like(
    x: OperandLike, low: float = 0.0, high: float = 1.0, seed: int | None = None
) -> Node:
    """Like `uniform`, with the shape, dynamic axes and dtype of `x`.

    >>> C.random.uniform_like(C.input_variable(4)).shape
    (4,)
    """
    return _drawn(x, (), None, "uniform", (low, high), seed)


@operation
def normal(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: int | None = None,
) -> Node:
    """Normally distributed random numbers, drawn anew in each run.

    >>> C.random.normal((2, 3)).shape
    (2, 3)
    """
    return _drawn(None, shape, dtype, "normal", (mean, scale), seed)


@operation
def normal_like(
    x: OperandLike, mean: float = 0.0, scale: float = 1.0, seed: int | None = None
) -> Node:
    """Like `normal`, with the shape, dynamic axes and dtype of `x`.

    >>> C.random.normal_like(C.input_variable(4)).shape
    (4,)
    """
    return _drawn(x, (), None, "normal", (mean, scale), seed)


@operation
def gumbel(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    loc: float = 0.0,
    scale: float = 1.0,
    seed: int | None = None,
) -> Node:
    """Random numbers loc - scale * log(-log(u)) with u uniform in (0, 1), drawn anew in each run.

    >>> C.random.gumbel((2, 3)).shape
    (2, 3)
    """
    return _drawn(None, shape, dtype, "gumbel", (loc, scale), seed)


@operation
def gumbel_like(
    x: OperandLike, loc: float = 0.0, scale: float = 1.0, seed: int | None = None
) -> Node:
    """Like `gumbel`, with the shape, dynamic axes and dtype of `x`.

    >>> C.random.gumbel_like(C.input_variable(4)).shape
    (4,)
    """
    return _drawn(x, (), None, "gumbel", (loc, scale), seed)


@operation
def bernoulli(
    shape: ShapeLike, dtype: DTypeLike = None, mean: float = 0.5, seed: int | None = None
) -> Node:
    """Random numbers: 1 with probability `mean`, else 0, drawn anew in each run.

    >>> C.random.bernoulli((2, 3)).shape
    (2, 3)
    """
    return _drawn(None, shape, dtype, "bernoulli", (mean,), seed)


@operation
def bernoulli_like(x: OperandLike, mean: float = 0.5, seed: int | None = None) -> Node:
    """Like `bernoulli`, with the shape, dynamic axes and dtype of `x`.

    >>> C.random.bernoulli_like(C.input_variable(4)).shape
    (4,)
    """
    return _drawn(x, (), None, "bernoulli", (mean,), seed)
