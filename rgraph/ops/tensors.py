"""Functions of NumPy that CNTK lacks: `einsum`, cumulative sums, sorting, stacking.

They work on the static axes of each sample or frame. Names and behavior are those of NumPy.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Axis, Constant, GraphError, Node, apply
from ..graph.types import Array, OperandLike
from .arithmetic import element_max, element_min, element_times
from .comparison import element_select
from .contractions import contract
from .lookup import TAKE
from .rearranging import insert_axis
from .records import as_node, define, operation
from .reductions import reduce_sum
from .shaping import axis_number, rank_of, static_index, transpose
from .slicing import splice

if TYPE_CHECKING:
    from ..plan import Run


def _labels(subscripts: str, operands: int) -> tuple[list[str], str]:
    """The letters of each operand and of the result."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    parts = inputs.split(",")
    letters = "".join([*parts, output])
    if letters and not (letters.isascii() and letters.isalpha()):
        raise GraphError(
            f"einsum: axes must be letters, got '{subscripts}'",
            hint="samples and frames need no letters, and '...' is not supported",
        )
    if len(parts) != operands:
        raise GraphError(f"einsum: '{subscripts}' is for {len(parts)} operands, got {operands}")
    counts = Counter("".join(parts))
    if not arrow:
        output = "".join(sorted(n for n in counts if counts[n] == 1))
    missing = [n for n in output if n not in counts]
    if missing or len(set(output)) < len(output):
        raise GraphError(
            f"einsum: in '{subscripts}' each letter of the result must occur once in the result, "
            "and in at least one operand"
        )
    return parts, output


def _single(x: Node, labels: str, keep: str) -> tuple[Node, str]:
    """`x` with the diagonal of repeated letters, summed over letters that are not in the result."""
    if x.shape is not None and len(x.shape) != len(labels):
        raise GraphError(
            f"einsum: '{labels}' is for {len(labels)} axes, but the operand has shape {x.shape}"
        )
    for letter in [n for n in dict.fromkeys(labels) if labels.count(n) > 1]:
        x, labels = _diagonal(x, labels, letter)
    rest = [i for i, n in enumerate(labels) if n not in keep]
    if rest:
        x = reduce_sum(x, axis=rest, keepdims=False)
    return x, "".join(n for n in labels if n in keep)


def _diagonal(x: Node, labels: str, letter: str) -> tuple[Node, str]:
    first, second = (i for i, n in enumerate(labels) if n == letter)  # NumPy's limit is higher
    if x.shape is None:
        raise GraphError("einsum: the shape of an operand with a repeated letter must be known")
    size = x.shape[first]
    if size != x.shape[second]:
        raise GraphError(
            f"einsum: '{letter}' is for axes of different sizes, {size} and {x.shape[second]}"
        )
    shape = [size if i in (first, second) else 1 for i in range(len(labels))]
    x = element_times(x, Constant(np.eye(size).reshape(shape)))
    return reduce_sum(x, axis=[second], keepdims=False), labels[:second] + labels[second + 1 :]


@operation
def einsum(subscripts: str, *operands: OperandLike) -> Node:
    """A sum of products over axes named by letters.

    Args:
        subscripts: the letters of each operand's static axes, and of the result's: `"ij,jk->ik"`.
            Samples and frames have no letter. Without `->` the result has the letters that occur
            once, in alphabetical order.
        operands: one for each group of letters, multiplied from left to right.

    Source: NumPy's `einsum`.

    >>> x = C.input_variable((2, 3))
    >>> C.einsum("ij,kj->ik", x, np.ones((4, 3))).shape
    (2, 4)
    """
    if not isinstance(subscripts, str):
        raise GraphError("einsum: the first argument must be a string such as 'ij,jk->ik'")
    parts, output = _labels(subscripts, len(operands))
    nodes = list(map(as_node, operands))
    later = ["".join([*parts[i + 1 :], output]) for i in range(len(parts))]
    result, labels = _single(nodes[0], parts[0], later[0])
    for i, node in enumerate(nodes[1:], 1):
        other, own = _single(node, parts[i], labels + later[i])
        out = "".join(n for n in dict.fromkeys(labels + own) if n in later[i])
        left, right, kept = (tuple(map(ord, letters)) for letters in (labels, own, out))
        result, labels = contract(result, other, left, right, kept), out
    return transpose(result, [labels.index(n) for n in output]) if labels != output else result


def _cumulated(run: Run, x: Array, *, axis: int, reverse: bool) -> Array:
    x = run.xp.flip(x, axis) if reverse else x
    # in float64: rounding errors would add up
    sums = run.xp.cumsum(x, axis=axis, dtype=np.float64).astype(x.dtype)
    return run.xp.flip(sums, axis) if reverse else sums


def _on_axis(node: Node) -> dict[str, object]:
    return {**node.attrs, "axis": static_index(node.attrs["axis"], rank_of(node))}


CUMSUM = define(
    "cumsum",
    shape=lambda s, axis, reverse: s,
    kernel=_cumulated,
    arguments=_on_axis,
    gradient=lambda node, g: [
        apply(CUMSUM, g, axis=node.attrs["axis"], reverse=not node.attrs["reverse"])
    ],
    cases=tuple(
        lambda rng, a=axis, r=reverse: ([rng.normal(size=(2, 4, 3))], {"axis": a, "reverse": r})
        for axis, reverse in ((0, False), (-1, True))
    ),
)


@operation
def cumsum(x: OperandLike, axis: int | Axis = -1, reverse: bool = False) -> Node:
    """Cumulative sums along a static axis.

    Args:
        axis: a static axis; for sums over frames write `layers.Recurrence(C.plus)(x)`.
        reverse: whether to start at the end.

    Source: NumPy's `cumsum`.

    >>> C.cumsum([1, 2, 3]).eval()
    array([1., 3., 6.], dtype=float32)
    """
    return apply(CUMSUM, as_node(x), axis=axis_number(axis), reverse=bool(reverse))


ARGSORT = define(
    "argsort",
    shape=lambda s, axis: s,
    kernel=lambda run, x, axis: run.xp.argsort(x, axis=axis, kind="stable").astype(x.dtype),
    arguments=_on_axis,
    waits=True,
    cases=(
        lambda rng: ([rng.normal(size=(2, 4, 3))], {"axis": 0}),
        lambda rng: ([rng.normal(size=(2, 4, 3))], {"axis": -1}),
    ),
)


@operation
def argsort(x: OperandLike, axis: int | Axis = -1) -> Node:
    """The indices that sort `x` along a static axis. No gradient flows.

    Source: NumPy's `argsort`, stable.

    >>> C.argsort([3, 1, 2]).eval()
    array([1., 2., 0.], dtype=float32)
    """
    return apply(ARGSORT, as_node(x), axis=axis_number(axis))


@operation
def sort(x: OperandLike, axis: int | Axis = -1) -> Node:
    """`x` sorted along a static axis, the smallest first.

    Source: NumPy's `sort`.

    >>> C.sort([3, 1, 2]).eval()
    array([1., 2., 3.], dtype=float32)
    """
    node, at = as_node(x), axis_number(axis)
    return apply(TAKE, node, apply(ARGSORT, node, axis=at), axis=at)


@operation
def stack(*operands: OperandLike, axis: int | Axis = 0) -> Node:
    """Values of one shape along a new static axis.

    Args:
        operands: the values, or one list of them.
        axis: the position of the new axis in the result.

    Source: NumPy's `stack`.

    >>> C.stack(C.constant([1, 2]), C.constant([3, 4])).eval()
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    listed = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    given: Any = operands[0] if listed else operands
    nodes = list(map(as_node, given))
    at = axis_number(axis)
    return splice(*[insert_axis(n, at) for n in nodes], axis=at)


@operation
def where(condition: OperandLike, x: OperandLike, y: OperandLike) -> Node:
    """`x` where the condition is not 0, `y` elsewhere: NumPy's name for `element_select`.

    (`sequence.where` returns the indices of frames.)

    >>> C.where([1, 0], [5, 6], 7).eval()
    array([5., 7.], dtype=float32)
    """
    return element_select(as_node(condition), as_node(x), as_node(y))


@operation
def maximum(*operands: OperandLike) -> Node:
    """NumPy's name for `element_max`.

    >>> C.maximum([1, 5], 3).eval()
    array([3., 5.], dtype=float32)
    """
    return element_max(*map(as_node, operands))


@operation
def minimum(*operands: OperandLike) -> Node:
    """NumPy's name for `element_min`.

    >>> C.minimum([1, 5], 3).eval()
    array([1., 3.], dtype=float32)
    """
    return element_min(*map(as_node, operands))


__all__ = ["argsort", "cumsum", "einsum", "maximum", "minimum", "sort", "stack", "where"]
