"""Softmax, its logarithm, hardmax, and the cross entropy with softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph import Axis, GraphError, Node, apply
from ..graph.node import Shape
from ..graph.types import Array, Library, OperandLike
from .along_axes import Along, Named, along_axes, chosen, chosen_of_some, flattened, unflattened
from .arithmetic import element_times, exp, minus, negate
from .pointwise import broadcast, shrink
from .records import as_node, define, operation
from .reductions import distance_from_max, normal_axis, reduced
from .shaping import rank_of
from .slicing import same_rank
from .sums import total

if TYPE_CHECKING:
    from ..plan import Run


def _softmax_kernel(xp: Library, x: Array, *, axis: Shape) -> Array:
    e = xp.exp(distance_from_max(xp, x, axis)[1])
    return e / total(xp, e, axis, keepdims=True)


def _log_softmax_kernel(xp: Library, x: Array, *, axis: Shape) -> Array:
    z = distance_from_max(xp, x, axis)[1]
    return z - xp.log(total(xp, xp.exp(z), axis, keepdims=True))


def _hardmax_kernel(xp: Library, x: Array, *, axis: Shape) -> Array:
    if axis != (-1,):
        found = _hardmax_kernel(xp, flattened(xp, x, axis), axis=(-1,))
        return unflattened(xp, found, x.shape, axis)
    rows = x.reshape(-1, x.shape[-1])
    found = xp.zeros(rows.shape, x.dtype)
    found[xp.arange(len(rows)), rows.argmax(axis=1)] = 1
    return found.reshape(x.shape)


def _softmax_gradient(along: Along, node: Node, g: Node) -> list[Node]:
    return [element_times(node, minus(g, along.total(element_times(g, node))))]


def _log_softmax_gradient(along: Along, node: Node, g: Node) -> list[Node]:
    return [minus(g, element_times(exp(node), along.total(g)))]


_SOFTMAX = along_axes("softmax", _softmax_kernel, _softmax_gradient)
_LOG_SOFTMAX = along_axes("log_softmax", _log_softmax_kernel, _log_softmax_gradient)
_HARDMAX = along_axes("hardmax", _hardmax_kernel, None)


# The cross entropy. It is computed from the distances to the largest score, so that large scores
# lose no accuracy.


def _entropy_shape(scores: Shape, target: Shape, *, axis: Named) -> Shape:
    shape = broadcast(scores, target) or ()
    axes = chosen_of_some(shape, axis=axis)
    if any(scores[a:][:1] != target[a:][:1] for a in axes):
        raise GraphError(
            f"cross_entropy_with_softmax: scores of shape {scores} and a target of shape {target} "
            "do not fit"
        )
    return reduced(shape, axis=axis, keepdims=True)


def _entropy_arguments(node: Node) -> dict[str, object]:
    rank = max(rank_of(node, i) for i in range(2))
    return {"axis": chosen(node.attrs["axis"], rank), "shape": node.shape, "rank": rank}


def _entropy(run: Run, z: Array, t: Array, *, axis: Shape, shape: Shape, rank: int) -> Array:
    xp = run.xp
    if not axis:
        return _entropy(run, z[..., None], t[..., None], axis=(-1,), shape=shape, rank=1)
    top, distance = distance_from_max(xp, z, axis)

    def sum_(value: Array) -> Array:
        return total(xp, value, axis, keepdims=True)

    none = z.dtype.type(0)  # 0 * inf must be 0 here
    own = sum_(t * distance)
    if xp is not np or not np.isfinite(own).all():
        own = sum_(xp.where(t == 0, none, t * distance))
    loss = xp.log(sum_(xp.exp(distance))) - own
    rest = 1 - sum_(t)
    if xp is not np or rest.any():
        loss = loss + xp.where(rest == 0, none, rest * top)
    return loss.reshape(loss.shape[: loss.ndim - rank] + shape)


def _entropy_gradient(node: Node, g: Node) -> list[Node]:
    z, t = node.inputs
    slope = minus(apply(_SOFTMAX, z, axis=node.attrs["axis"]), t)
    return [shrink(element_times(g, slope), z), shrink(negate(element_times(g, z)), t)]


CROSS_ENTROPY = define(
    "cross_entropy_with_softmax",
    shape=_entropy_shape,
    align=same_rank,
    kernel=_entropy,
    arguments=_entropy_arguments,
    gradient=_entropy_gradient,
    operands=("output_vector", "target_vector"),
    cases=(
        lambda rng: ([rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], {"axis": (-1,)}),
        lambda rng: ([rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 1))], {"axis": (0,)}),
        lambda rng: ([rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 2))], {"axis": None}),
    ),
)


@operation
def softmax(x: OperandLike, axis: int | Axis | None = None) -> Node:
    """exp(x) over the sum of exp(x) along an axis (None: over all static axes).

    If all elements are -inf, or if several are inf, these get equal shares.

    >>> C.softmax([1, 1]).eval()
    array([0.5, 0.5], dtype=float32)
    """
    return apply(_SOFTMAX, as_node(x), axis=normal_axis(axis))


@operation
def log_softmax(x: OperandLike, axis: int | Axis | None = None) -> Node:
    """The logarithm of `softmax`, without overflow.

    >>> C.log_softmax([1, 1]).eval()
    array([-0.6931472, -0.6931472], dtype=float32)
    """
    return apply(_LOG_SOFTMAX, as_node(x), axis=normal_axis(axis))


@operation
def hardmax(x: OperandLike) -> Node:
    """1 at the (first) largest element of each sample, 0 elsewhere. No gradient flows.

    >>> C.hardmax([1, 1, 2, 3]).eval()
    array([0., 0., 0., 1.], dtype=float32)
    """
    return hardmax_along(as_node(x), None)


def hardmax_along(x: Node, axes: tuple[int, ...] | None) -> Node:
    """1 at the largest element along these axes, or of each sample; 0 elsewhere."""
    return apply(_HARDMAX, x, axis=axes)
