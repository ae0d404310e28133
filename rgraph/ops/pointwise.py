"""The common part of element-wise operations.

The operations themselves are in `arithmetic`, `comparison`, `activations` and `trigonometry`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from ..graph import INFERRED, Axis, GraphError, Node, apply
from ..graph.node import Case, Shape
from ..graph.types import Array, Library, OperandLike
from .expressions import on_arrays, parsed
from .records import Operation, as_node, define, follow_axes, operation
from .repetition import sum_rows, sum_to
from .shaping import reshape_to

if TYPE_CHECKING:
    from ..plan import Run

PAIR = "left right"  # the names of the operands of most binary operations


def broadcast(*shapes: Shape | None, **_: object) -> Shape | None:
    """The shape of operands broadcast as in NumPy; unknown shapes (None) are ignored."""
    known = [s for s in shapes if s is not None]
    if not known:
        return None
    rank = max(map(len, known))
    padded = [(1,) * (rank - len(s)) + s for s in known]
    result = []
    for sizes in zip(*padded, strict=True):
        wider = {n for n in sizes if n not in (1, INFERRED)}
        if len(wider) > 1:
            raise GraphError(
                f"shapes {' and '.join(map(str, known))} do not fit: along one axis they have "
                f"{' and '.join(map(str, sorted(wider)))} elements, and only 1 can be repeated",
                hint=_broadcast_hint(known),
            )
        result.append(wider.pop() if wider else (INFERRED if INFERRED in sizes else 1))
    return tuple(result)


def _broadcast_hint(shapes: list[Shape]) -> str:
    vector, image = min(shapes, key=len), max(shapes, key=len)
    if len(vector) == 1 < len(image) and vector[0] == image[0]:
        ones = ", 1" * (len(image) - 1)
        return f"one number per channel has shape ({vector[0]}{ones}), not ({vector[0]},)"
    if len(vector) == 1 < len(image) and vector[0] == math.prod(image):
        return f"both have {vector[0]} elements: reshape {vector} to {image}"
    if len(vector) < len(image) or len(image) < 3:
        return ""
    one, other = shapes[0], shapes[-1]
    sizes = list(zip(one, other, strict=True))
    if one[0] == other[0] and all(a != b and 1 not in (a, b) for a, b in sizes[1:]):
        return "a convolution without padding makes images smaller, pad=True keeps their size"
    for last, first in ((one, other), (other, one)):
        if last[-1] == first[0] != last[0]:
            return f"channels come first: {(last[-1], *last[:-1])}, not {last}"
    return ""


def _fill_in(*shapes: Shape, **_: object) -> list[Shape]:
    whole = broadcast(*shapes) or ()
    return [
        tuple(w if n == INFERRED else n for n, w in zip(s[::-1], whole[::-1], strict=False))[::-1]
        for s in shapes
    ]


def _align(inputs: Sequence[Node], axes: tuple[Axis, ...], /, **_: object) -> list[Node]:
    """Reshape operands with rows to the result's rank, since the axis of rows comes first."""
    rank = max(len(i.shape or ()) for i in inputs)
    return [
        reshape_to(i, (1,) * (rank - len(i.shape or ())) + (i.shape or ())) if i.axes else i
        for i in follow_axes(inputs, axes)
    ]


_MAX_SEARCHED = 100  # the number of operations that `may_be_infinite` searches


def may_be_infinite(node: Node) -> bool:
    """Whether pointwise operations on finite data may have given an infinity or NaN.

    True without a search if there are very many operations: otherwise the gradient of a long
    product would take a full search per factor.
    """
    seen, pending = {node}, [node]
    while pending:
        op = (node := pending.pop()).op
        if op is None or not op.pointwise:
            continue
        if not op.finite or len(seen) > _MAX_SEARCHED:
            return True
        pending += [i for i in node.inputs if i not in seen]
        seen.update(node.inputs)
    return False


def shrink(g: Node, like: Node) -> Node:
    """Sum the adjoint `g` over the axes along which `like` was broadcast."""
    return sum_rows(sum_to(g, like.shape or ()), like.axes or ())


def pointwise(
    name: str,
    expression: str,
    *partials: Callable[..., Node] | None,
    doc: str,
    arrays: Callable[..., Array] | str = "",
    operands: str = "x",
    cheap: bool = False,
    constant: bool = False,
    variadic: bool = False,
    finite: bool = True,
    low: float = -2.0,
    high: float = 2.0,
) -> Operation[...]:
    """Define a pointwise operation; return the function that users call.

    Args:
        expression: the operation on single numbers, in terms of its operands; see `expressions`.
        partials: for each operand a function `partial(g, y, *operands)` that returns the operand's
            adjoint, given the adjoint g of the result y; None: no gradient flows to this operand.
        arrays: the operation on arrays, if it is faster or more accurate than the expression: a
            function `arrays(xp, *arrays, out=None)`, or the name of a function of the library.
        doc: the docstring.
        operands: the names of the operands.
        variadic: whether it takes any number of operands, as a left fold.
        cheap, constant, finite: see `Op`.
        low, high: the range of values in the test cases.
    """
    names = tuple(operands.split())

    by_functions = on_arrays(parsed(expression, names))

    @lru_cache(maxsize=8)
    def on_library(xp: Library) -> Callable[..., Array]:
        if not arrays:
            return by_functions(xp)
        return getattr(xp, arrays) if isinstance(arrays, str) else partial(arrays, xp)

    def compute(run: Run, *arrays: Array, out: Array | None = None) -> Array:
        if out is None and not any(
            a.ndim for a in arrays
        ):  # NumPy would return a scalar, not an array
            out = run.empty((), arrays[0].dtype)
        return on_library(run.xp)(*arrays, out=out)

    def gradient(node: Node, g: Node) -> list[Node | None]:
        return [
            None if p is None else shrink(p(g, node, *node.inputs), i)
            for p, i in zip(partials, node.inputs, strict=True)
        ]

    def case(*shapes: Shape) -> Case:
        return lambda rng: ([rng.uniform(low, high, (2, *s)) for s in shapes], {})

    arity = len(names)
    broadcasts = [case((2, 3, 2), *[(3, 1)] * (arity - 1)), case((1,), *[(4, 3)] * (arity - 1))]
    op = define(
        name,
        shape=broadcast,
        infer=_fill_in,
        align=_align,
        guess=True,
        kernel=compute,
        gradient=gradient if any(partials) else None,
        operands=names,
        pointwise=True,
        function=on_library,
        expression=expression,
        cheap=cheap,
        constant=constant,
        finite=finite,
        into=True,
        cases=(case(*[(3, 2)] * arity), *(broadcasts if arity > 1 else [])),
    )

    def build(*values: OperandLike, **named: OperandLike) -> Node:
        if named:
            values += tuple(named.pop(n) for n in names[len(values) :] if n in named)
        if named or len(values) != arity and not (variadic and len(values) > arity):
            raise TypeError(f"{name}() takes {arity} operands, {', '.join(names)}")
        nodes = list(map(as_node, values))
        result = apply(op, *nodes[:arity])
        for more in nodes[arity:]:
            result = apply(op, result, more)
        return result

    build.__name__ = build.__qualname__ = name
    build.__doc__ = doc
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    if variadic:
        parameters.append(inspect.Parameter("more", inspect.Parameter.VAR_POSITIONAL))
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return operation(build)
