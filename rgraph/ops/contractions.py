"""Matrix products of all kinds, as sums of products over axes that two operands share.

`contract` works like NumPy's `einsum` for two operands; the rows of operands with dynamic axes are
an implied axis. Its gradients are contractions too, so one kernel computes products, outer products
and gradients of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..graph import INFERRED, Axis, GraphError, Node, apply, whole
from ..graph import axis as _axis
from ..graph.free import elements
from ..graph.node import Shape
from ..graph.types import Array, OperandLike
from .records import as_node, define, follow_axes, operation
from .repetition import over_time, spread
from .shaping import TRANSPOSE, reshape_to
from .sums import total

if TYPE_CHECKING:
    from ..plan import Run

Labels = tuple[int, ...]
_ROWS = -1  # the label of the rows in a recipe


def _sizes(a: Shape, b: Shape, left: Labels, right: Labels) -> dict[int, int]:
    sizes = dict(zip(left, a, strict=True))
    for label, size in zip(right, b, strict=True):
        if sizes.setdefault(label, size) != size:
            raise GraphError(
                f"shapes {a} and {b} do not match: {sizes[label]} and {size} must be equal"
            )
    return sizes


def _contracted(
    a: Shape, b: Shape, *, left: Labels, right: Labels, out: Labels, **_: object
) -> Shape:
    sizes = _sizes(a, b, left, right)
    return tuple(sizes[label] for label in out)


class Recipe(NamedTuple):
    """How to arrange both operands as stacks of matrices. Axes are numbers, in the order needed."""

    turned: bool  # the operands are swapped, so that the result is contiguous
    lone: tuple[tuple[int, ...], tuple[int, ...]]  # axes of only one operand, summed beforehand
    left: tuple[int, ...]
    right: tuple[int, ...]
    stack: int  # the number of leading axes that both operands and the result have
    inner: int  # the number of axes that are summed over
    out: tuple[int, ...]
    plain: bool  # both operands are matrices, possibly transposed
    fixed: bool  # the right operand has no rows, so in a loop it is the same at every step

    @property
    def transposed(self) -> tuple[bool, bool]:
        """Whether each factor of a plain product is transposed."""
        return self.left == (1, 0), self.right == (1, 0)

    def matrices(self, a: Array, b: Array) -> tuple[Array, Array]:
        """The two factors of a plain product."""
        if self.turned:
            a, b = b, a
        return a.transpose(self.left), b.transpose(self.right)


def _recipe(left: Labels, right: Labels, out: Labels) -> Recipe:
    turned = next((n in right for n in out if (n in left) != (n in right)), False)
    if turned:
        left, right = right, left
    lone = (
        tuple(i for i, n in enumerate(left) if n not in right and n not in out),
        tuple(i for i, n in enumerate(right) if n not in left and n not in out),
    )
    left = tuple(n for i, n in enumerate(left) if i not in lone[0])
    right = tuple(n for i, n in enumerate(right) if i not in lone[1])
    shared = [n for n in left if n in right]
    stack = [n for n in shared if n in out]
    inner = [n for n in shared if n not in out]
    rows = [n for n in left if n not in right]
    columns = [n for n in right if n not in left]
    order = stack + rows + columns
    to_left = tuple(left.index(n) for n in stack + rows + inner)
    to_right = tuple(right.index(n) for n in stack + inner + columns)
    to_out = tuple(order.index(n) for n in out)
    plain = not any(lone) and len(to_left) == len(to_right) == 2 and to_out == (0, 1) and not stack
    fixed = _ROWS not in right
    return Recipe(turned, lone, to_left, to_right, len(stack), len(inner), to_out, plain, fixed)


def _contract(run: Run, a: Array, b: Array, *, recipe: Recipe) -> Array:
    if recipe.plain:
        return run.matmul(*recipe.matrices(a, b))
    if recipe.turned:
        a, b = b, a
    if any(recipe.lone):
        a, b = (total(run.xp, v, axes) for v, axes in zip((a, b), recipe.lone, strict=True))
    stack, inner = recipe.stack, recipe.inner
    a, b = a.transpose(recipe.left), b.transpose(recipe.right)
    split = a.ndim - inner
    head, rows, columns = a.shape[:stack], a.shape[stack:split], b.shape[stack + inner :]
    size = math.prod(a.shape[split:])
    product = run.matmul(
        a.reshape(*head, math.prod(rows), size), b.reshape(*head, size, math.prod(columns))
    )
    return product.reshape(head + rows + columns).transpose(recipe.out)


def _rows_and(node: Node, labels: Labels) -> Labels:
    return ((_ROWS,) if node.axes else ()) + labels


def _arguments(node: Node, left: Labels, right: Labels, out: Labels) -> dict[str, object]:
    a, b = node.inputs
    return {"recipe": _recipe(_rows_and(a, left), _rows_and(b, right), _rows_and(node, out))}


def _contract_arguments(node: Node) -> dict[str, object]:
    return _arguments(node, *(node.attrs[k] for k in ("left", "right", "out")))


def _contract_axes(
    operands: Sequence[tuple[Axis, ...] | None], *, over_rows: bool, **_: object
) -> tuple[Axis, ...] | None:
    return () if over_rows else _axis.union(operands)


def _align(inputs: Sequence[Node], axes: tuple[Axis, ...], /, **_: object) -> list[Node]:
    whole = _axis.union([i.axes for i in inputs]) or ()
    return follow_axes(inputs, whole)


def _gradient(node: Node, g: Node) -> list[Node]:
    a, b = node.inputs
    left, right, out = (node.attrs[k] for k in ("left", "right", "out"))
    return [_back(g, b, a, out, right, left), _back(g, a, b, out, left, right)]


def _back(g: Node, other: Node, to: Node, out: Labels, others: Labels, own: Labels) -> Node:
    over_rows = not to.axes and bool(g.axes or other.axes)
    result = contract(g, other, out, others, own, over_rows)
    return spread(result, to.axes or ())


def _infer(a: Shape, b: Shape, *, left: Labels, right: Labels, **_: object) -> list[Shape]:
    known: dict[int, int] = {}
    for labels, shape in ((left, a), (right, b)):
        known.update({n: s for n, s in zip(labels, shape, strict=True) if s != INFERRED})
    return [
        tuple(known.get(n, INFERRED) for n in left),
        tuple(known.get(n, INFERRED) for n in right),
    ]


def _work(node: Node) -> int:
    """Two operations for each element of the result and each index that is summed over."""
    assert node.op is not None
    recipe = node.op.arguments(node)["recipe"]
    a = node.inputs[recipe.turned]
    inner = [
        (a.shape or ())[i - bool(a.axes)] for i in recipe.left[-recipe.inner :] if recipe.inner
    ]
    over_rows = bool(a.axes) and not node.axes
    return 2 * elements(node.shape or ()) * elements(inner[1:] if over_rows else inner)


CONTRACT = define(
    "contract",
    title="times",
    shape=_contracted,
    infer=_infer,
    axes=_contract_axes,
    align=_align,
    kernel=_contract,
    arguments=_contract_arguments,
    gradient=_gradient,
    takes_tail=True,
    work=_work,
    operands=("left", "right"),
    right_first=True,
    cases=(
        lambda rng: (
            [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))],
            {"left": (0, 1), "right": (1, 2), "out": (0, 2), "over_rows": False},
        ),
        lambda rng: (
            [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))],
            {"left": (0, 1), "right": (1, 2), "out": (2, 0), "over_rows": True},
        ),
    ),
)


def contract(
    a: Node, b: Node, left: Labels, right: Labels, out: Labels, over_rows: bool = False
) -> Node:
    """The sum of products of `a` and `b` over the axes whose labels are not in `out`.

    Args:
        left, right, out: a label for each static axis of `a`, `b` and the result.
        over_rows: whether to sum over the dynamic axes too.
    """
    return apply(CONTRACT, a, b, left=left, right=right, out=out, over_rows=over_rows)


# CNTK's times: the operands' ranks determine how many axes are summed over

TIMES_NO_INFERRED_INPUT_RANK = -1
TIMES_REDUCE_SEQUENCE_AXIS_WITHOUT_INFERRED_INPUT_RANK = -2
_TIMES_OPERANDS = ("left", "right")


def _times_plan(
    a: Shape, b: Shape, output_rank: int, map_rank: int | None
) -> tuple[Labels, Labels, Labels, list[Shape]]:
    """Labels of the contraction, and the shapes with inferred dimensions filled in."""
    inner = len(b) - output_rank
    if inner < 0:
        raise GraphError(
            f"the right operand has only {len(b)} axes, too few for output_rank={output_rank}"
        )
    if map_rank is not None and b[:inner] == (INFERRED,):
        inner = len(a) - map_rank
        b = (INFERRED,) * inner + b[1:]
    if inner > len(a):
        raise GraphError(
            f"a left operand of shape {a} can't be multiplied by one of shape {b}: "
            f"it needs {inner} axes to sum over, but has {len(a)}"
        )
    outer = len(a) - inner
    tail, head = a[outer:], b[:inner]
    for x, y in zip(tail, head, strict=True):
        if x != y and INFERRED not in (x, y):
            raise GraphError(
                f"the last {inner} axes of the left operand, {tail}, must equal the first "
                f"{inner} of the right, {head}",
                hint="the weights of a layer get their shape from its first input; another "
                "shape needs a new layer",
            )
    filled = [
        a[:outer] + tuple(y if x == INFERRED else x for x, y in zip(tail, head, strict=True)),
        tuple(x if y == INFERRED else y for x, y in zip(tail, head, strict=True)) + b[inner:],
    ]
    left = tuple(range(len(a)))
    right = tuple(range(outer, outer + len(b)))
    return left, right, left[:outer] + right[inner:], filled


def _times_shape(
    a: Shape | None, b: Shape | None, *, output_rank: int, map_rank: int | None
) -> Shape | None:
    if a is None or b is None:
        whole = b is not None and map_rank == 0
        return b[len(b) - output_rank :] if whole and b is not None else None
    *_, out, (left, right) = _times_plan(a, b, output_rank, map_rank)
    outer = len(out) - output_rank
    return left[:outer] + right[len(right) - output_rank :]


def _times_arguments(node: Node) -> dict[str, object]:
    a, b = node.inputs
    return _arguments(node, *_times_plan(a.shape or (), b.shape or (), **node.attrs)[:3])


def _times_gradient(node: Node, g: Node) -> list[Node]:
    a, b = node.inputs
    left, right, out, _ = _times_plan(a.shape or (), b.shape or (), **node.attrs)
    return [_back(g, b, a, out, right, left), _back(g, a, b, out, left, right)]


def _is_sparse(node: Node) -> bool:
    return getattr(node, "is_sparse", False) if node.op is None else node.op.sparse(node)


TIMES = define(
    "times",
    shape=_times_shape,
    infer=lambda a, b, output_rank, map_rank: _times_plan(a, b, output_rank, map_rank)[3],
    kernel=_contract,
    arguments=_times_arguments,
    gradient=_times_gradient,
    takes_tail=True,
    work=_work,
    chosen_rows=lambda node: 1 if _is_sparse(node.inputs[0]) else None,
    operands=_TIMES_OPERANDS,
    right_first=True,
    guess=True,
    cases=(
        lambda rng: (
            [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 5))],
            {"output_rank": 1, "map_rank": None},
        ),
        lambda rng: (
            [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4, 2, 3))],
            {"output_rank": 2, "map_rank": None},
        ),
    ),
)


@operation
def times(
    left: OperandLike,
    right: OperandLike,
    output_rank: int = 1,
    infer_input_rank_to_map: int | None = None,
) -> Node:
    """The matrix product, or for tensors a sum over the axes that both operands share.

    The sum is over the last axes of `left` and the first axes of `right`.

    Args:
        left: a value of shape (*outer, *inner).
        right: a value of shape (*inner, *output).
        output_rank: the number of output axes, len(output).
        infer_input_rank_to_map: if `right` is a parameter with one inferred inner dimension, the
            number of leading axes of `left` that are not summed over (0: all axes are summed
            over). By default the inferred dimension is one axis.
            `C.ops.TIMES_REDUCE_SEQUENCE_AXIS_WITHOUT_INFERRED_INPUT_RANK`: sums the products of
            all frames of each sequence.

    Returns:
        a value of shape (*outer, *output).

    Raises:
        GraphError: the inner axes do not match.

    >>> C.times([[1, 2], [3, 4]], [[5], [6]]).eval()
    array([[17.],
           [39.]], dtype=float32)
    """
    map_rank, output_rank = infer_input_rank_to_map, whole(output_rank, "output_rank")
    if map_rank == TIMES_REDUCE_SEQUENCE_AXIS_WITHOUT_INFERRED_INPUT_RANK:
        product = apply(
            TIMES, as_node(left), as_node(right), output_rank=output_rank, map_rank=None
        )
        return over_time(product)
    if map_rank is not None and map_rank < 0:
        map_rank = None
    return apply(TIMES, as_node(left), as_node(right), output_rank=output_rank, map_rank=map_rank)


@operation
def times_transpose(left: OperandLike, right: OperandLike) -> Node:
    """The product with the transpose of `right`, a matrix (or a vector, treated as a row).

    >>> C.times_transpose([[1, 2], [3, 4]], [[5, 6]]).eval()
    array([[17.],
           [39.]], dtype=float32)
    """
    b = as_node(right)
    if b.shape is not None and len(b.shape) == 1:
        b = reshape_to(b, (1, *b.shape))
    return times(as_node(left), apply(TRANSPOSE, b, perm=(1, 0)))


def labels_of(node: Node) -> tuple[Labels, Labels, Labels]:
    """Labels of the static axes of a product: left operand, right operand, result."""
    a, b = node.inputs
    if node.op is CONTRACT:
        return node.attrs["left"], node.attrs["right"], node.attrs["out"]
    return _times_plan(a.shape or (), b.shape or (), **node.attrs)[:3]
