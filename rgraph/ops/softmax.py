"""Softmax, its logarithm, and what it becomes for large differences: along static axes."""

from __future__ import annotations

from typing import Any

from ..graph import Axis, Node, Op, apply
from ..graph.node import Shape
from .arithmetic import element_times, exp, minus
from .records import as_node, define, operation
from .reductions import _SUM, _chosen, _normal_axis, chosen_of_some
from .shaping import rank_of


def _shifted(xp: Any, x: Any, axis: Shape) -> Any:
    return x - xp.max(x, axis=axis, keepdims=True)


def _softmax_kernel(run: Any, x: Any, *, axis: Shape) -> Any:
    e = run.xp.exp(_shifted(run.xp, x, axis))
    return e / run.xp.sum(e, axis=axis, keepdims=True)


def _log_softmax_kernel(run: Any, x: Any, *, axis: Shape) -> Any:
    z = _shifted(run.xp, x, axis)
    return z - run.xp.log(run.xp.sum(run.xp.exp(z), axis=axis, keepdims=True))


def _hardmax_kernel(run: Any, x: Any, *, axis: Shape) -> Any:
    moved = run.xp.moveaxis(x, axis, tuple(range(-len(axis), 0)))
    flat = moved.reshape(moved.shape[: -len(axis)] + (-1,))
    found = run.xp.argmax(flat, axis=-1)[..., None] == run.xp.arange(flat.shape[-1])
    found = found.astype(x.dtype).reshape(moved.shape)
    return run.xp.moveaxis(found, tuple(range(-len(axis), 0)), axis)


def _sum_kept(node: Node, x: Node) -> Node:
    return apply(_SUM, x, axis=node.attrs["axis"], keepdims=True)


def _softmax_gradient(node: Node, g: Node) -> list[Node]:
    return [element_times(node, minus(g, _sum_kept(node, element_times(g, node))))]


def _log_softmax_gradient(node: Node, g: Node) -> list[Node]:
    return [minus(g, element_times(exp(node), _sum_kept(node, g)))]


def _along(name: str, kernel: Any, gradient: Any) -> Op:
    """A record of an operation along axes that keeps the shape."""
    return define(
        name,
        shape=lambda s, axis: (chosen_of_some(s, axis=axis), s)[1],
        kernel=lambda run, x, axis: (
            kernel(run, x, axis=axis) if axis else kernel(run, x[..., None], axis=(-1,))[..., 0]
        ),
        arguments=lambda node: {"axis": _chosen(node.attrs["axis"], rank_of(node))},
        gradient=gradient,
        cases=(
            lambda rng: ([rng.normal(size=(2, 3, 4))], {"axis": None}),
            lambda rng: ([rng.normal(size=(2, 3, 4))], {"axis": (0,)}),
        ),
    )


_SOFTMAX = _along("softmax", _softmax_kernel, _softmax_gradient)
_LOG_SOFTMAX = _along("log_softmax", _log_softmax_kernel, _log_softmax_gradient)
_HARDMAX = _along("hardmax", _hardmax_kernel, None)


@operation
def softmax(x: Any, axis: int | Axis | None = None) -> Any:
    """exp(x) over the sum of exp(x) along an axis (None: over all static axes).

    >>> C.softmax([1, 1]).eval()
    array([0.5, 0.5], dtype=float32)
    """
    return apply(_SOFTMAX, as_node(x), axis=_normal_axis(axis))


@operation
def log_softmax(x: Any, axis: int | Axis | None = None) -> Any:
    """The logarithm of `softmax`, without overflow.

    >>> C.log_softmax([1, 1]).eval()
    array([-0.6931472, -0.6931472], dtype=float32)
    """
    return apply(_LOG_SOFTMAX, as_node(x), axis=_normal_axis(axis))


@operation
def hardmax(x: Any) -> Any:
    """1 at the largest element of each sample (the first such), 0 elsewhere. No gradient flows.

    >>> C.hardmax([1, 1, 2, 3]).eval()
    array([0., 0., 0., 1.], dtype=float32)
    """
    return apply(_HARDMAX, as_node(x), axis=None)
