"""Operations on each element by itself: arithmetic, functions, comparisons, selection."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..graph import INFERRED, Axis, GraphError, Node, apply
from ..graph.node import Shape
from .records import as_node, define, follow_axes, operation
from .repetition import gather_up, sum_to
from .shaping import reshape_to


def broadcast(*shapes: Shape | None, **_: Any) -> Shape | None:
    """NumPy's broadcasting; an unknown shape agrees with the others."""
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
                mend=_broadcast_mend(known),
            )
        result.append(wider.pop() if wider else (INFERRED if INFERRED in sizes else 1))
    return tuple(result)


def _broadcast_mend(shapes: list[Shape]) -> str:
    vector, image = min(shapes, key=len), max(shapes, key=len)
    if len(vector) == 1 < len(image) and vector[0] == image[0]:
        ones = ", 1" * (len(image) - 1)
        return f"one number per channel has shape ({vector[0]}{ones}), not ({vector[0]},)"
    return ""


def _fill_in(*shapes: Shape, **_: Any) -> list[Shape]:
    whole = broadcast(*shapes) or ()
    return [
        tuple(w if n == INFERRED else n for n, w in zip(s[::-1], whole[::-1], strict=False))[::-1]
        for s in shapes
    ]


def _align(inputs: Sequence[Node], axes: tuple[Axis, ...]) -> list[Node]:
    """Rows come first in memory, so an operand with rows must have the result's rank."""
    rank = max(len(i.shape or ()) for i in inputs)
    return [
        reshape_to(i, (1,) * (rank - len(i.shape or ())) + (i.shape or ())) if i.axes else i
        for i in follow_axes(inputs, axes)
    ]


def shrink(g: Node, like: Node) -> Node:
    """The adjoint `g` of `like` repeated, summed back over what it was repeated along."""
    return sum_to(gather_up(g, like.axes or ()), like.shape or ())


def _pointwise(
    name: str,
    kernel: Callable[..., Any] | str,
    *partials: Callable[..., Node] | None,
    doc: str,
    operands: str = "x",
    variadic: bool = False,
    low: float = -2.0,
    high: float = 2.0,
) -> Callable[..., Any]:
    """Enters a pointwise record and gives the function that people call.

    Args:
        kernel: `kernel(xp, *arrays, out=None)`, or the name of the array library's function.
        partials: for each operand, `partial(g, y, *operands)`: the adjoint g of the result y
            carried back to that operand; None for all of them: no gradient flows.
        low, high: the range of values to test it on.
    """
    names = tuple(operands.split())

    def on_library(xp: Any) -> Callable[..., Any]:
        return getattr(xp, kernel) if isinstance(kernel, str) else partial(kernel, xp)

    def compute(run: Any, *arrays: Any, out: Any = None) -> Any:
        if out is None and not any(a.ndim for a in arrays):  # NumPy would make a number of it
            out = run.empty((), arrays[0].dtype)
        return on_library(run.xp)(*arrays, out=out)

    compute.on_library = on_library  # type: ignore[attr-defined]  # for `passes.fusion`

    def gradient(node: Node, g: Node) -> list[Node | None]:
        return [
            None if p is None else shrink(p(g, node, *node.inputs), i)
            for p, i in zip(partials, node.inputs, strict=True)
        ]

    def case(*shapes: Shape) -> Callable[[Any], Any]:
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
        into=True,
        cases=(case(*[(3, 2)] * arity), *(broadcasts if arity > 1 else [])),
    )

    def build(*values: Any) -> Any:
        if len(values) != arity and not (variadic and len(values) > arity):
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
    parameters.append(inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=""))
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return operation(build)


def _comparison(name: str) -> Callable[..., Any]:
    def kernel(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
        if out is None:
            return getattr(xp, name)(a, b).astype(np.result_type(a, b))
        return getattr(xp, name)(a, b, out=out)

    return kernel


_PAIR = "left right"
_SMALLEST_IN_LOG = math.exp(-85.1)  # CNTK's


def _reciprocal(xp: Any, x: Any, out: Any = None) -> Any:
    zero = xp.equal(x, 0)
    out = xp.divide(1, xp.where(zero, 1, x), out=out)
    out[zero] = 0
    return out


plus = _pointwise(
    "plus",
    "add",
    lambda g, *_: g,
    lambda g, *_: g,
    operands=_PAIR,
    variadic=True,
    doc="""The sum of two or more operands, shapes broadcast as NumPy's.

    >>> C.plus([1, 2, 3], [4, 5, 6]).eval()
    array([5., 7., 9.], dtype=float32)
    """,
)
minus = _pointwise(
    "minus",
    "subtract",
    lambda g, *_: g,
    lambda g, *_: negate(g),
    operands=_PAIR,
    doc="""The difference of two operands, shapes broadcast.

    >>> C.minus([4, 5, 6], 1).eval()
    array([3., 4., 5.], dtype=float32)
    """,
)
element_times = _pointwise(
    "element_times",
    "multiply",
    lambda g, _, a, b: element_times(g, b),
    lambda g, _, a, b: element_times(g, a),
    operands=_PAIR,
    variadic=True,
    doc="""The product of two or more operands, element by element, shapes broadcast.

    >>> C.element_times([1, 2, 3], 2).eval()
    array([2., 4., 6.], dtype=float32)
    """,
)
element_divide = _pointwise(
    "element_divide",
    "divide",
    lambda g, _, a, b: element_divide(g, b),
    lambda g, y, a, b: negate(element_divide(element_times(g, y), b)),
    operands=_PAIR,
    low=0.5,
    doc="""The quotient of two operands, element by element, shapes broadcast.

    >>> C.element_divide([1, 2, 3], 2).eval()
    array([0.5, 1. , 1.5], dtype=float32)
    """,
)
pow = _pointwise(
    "pow",
    "power",
    lambda g, _, a, b: element_times(g, element_times(b, pow(a, minus(b, 1.0)))),
    lambda g, y, a, b: element_times(
        g, element_times(y, log(element_select(greater(a, 0.0), a, 1.0)))
    ),
    operands="base exponent",
    low=0.5,
    doc="""`base` to the power of `exponent`, element by element, shapes broadcast.

    The gradient to the exponent is 0 where the base is not positive.

    >>> C.pow([1, 2, 3], 2).eval()
    array([1., 4., 9.], dtype=float32)
    """,
)
element_max = _pointwise(
    "element_max",
    "maximum",
    lambda g, _, a, b: element_times(g, greater_equal(a, b)),
    lambda g, _, a, b: element_times(g, less(a, b)),
    operands=_PAIR,
    variadic=True,
    doc="""The larger of two or more operands, element by element, shapes broadcast.

    >>> C.element_max([1, 5], [3, 2]).eval()
    array([3., 5.], dtype=float32)
    """,
)
element_min = _pointwise(
    "element_min",
    "minimum",
    lambda g, _, a, b: element_times(g, less_equal(a, b)),
    lambda g, _, a, b: element_times(g, greater(a, b)),
    operands=_PAIR,
    variadic=True,
    doc="""The smaller of two or more operands, element by element, shapes broadcast.

    >>> C.element_min([1, 5], [3, 2]).eval()
    array([1., 2.], dtype=float32)
    """,
)
negate = _pointwise(
    "negate",
    "negative",
    lambda g, *_: negate(g),
    doc="""Minus `x`.

    >>> C.negate([1, -2]).eval()
    array([-1.,  2.], dtype=float32)
    """,
)
exp = _pointwise(
    "exp",
    "exp",
    lambda g, y, _: element_times(g, y),
    doc="""The exponential of `x`.

    >>> C.exp([0, 1]).eval()
    array([1.       , 2.7182817], dtype=float32)
    """,
)
log = _pointwise(
    "log",
    lambda xp, x, out=None: xp.log(xp.maximum(x, _SMALLEST_IN_LOG, out=out), out=out),
    lambda g, _, x: element_divide(g, element_max(x, _SMALLEST_IN_LOG)),
    low=0.5,
    doc="""The natural logarithm of `x`, of at least exp(-85.1): what is 0 or negative gives -85.1.

    So the logarithm of a probability that was rounded to 0 stays finite, as in CNTK.

    >>> C.log([1, 2]).eval()
    array([0.       , 0.6931472], dtype=float32)
    """,
)
sqrt = _pointwise(
    "sqrt",
    lambda xp, x, out=None: xp.sqrt(xp.maximum(x, 0, out=out), out=out),
    lambda g, y, _: element_divide(g, element_times(2.0, y)),
    low=0.5,
    doc="""The square root of `x`, 0 where `x` is negative (as in CNTK).

    >>> C.sqrt([1, 4]).eval()
    array([1., 2.], dtype=float32)
    """,
)
square = _pointwise(
    "square",
    "square",
    lambda g, _, x: element_times(g, element_times(2.0, x)),
    doc="""The square of `x`.

    >>> C.square([1, -3]).eval()
    array([1., 9.], dtype=float32)
    """,
)
reciprocal = _pointwise(
    "reciprocal",
    _reciprocal,
    lambda g, y, _: negate(element_times(g, square(y))),
    low=0.5,
    doc="""One over `x`, 0 where `x` is 0 (as in CNTK).

    >>> C.reciprocal([2, -4]).eval()
    array([ 0.5 , -0.25], dtype=float32)
    """,
)
abs = _pointwise(
    "abs",
    "absolute",
    lambda g, _, x: element_times(g, sign(x)),
    doc="""The absolute value of `x`; its gradient at 0 is 0.

    >>> C.abs([-1, 2]).eval()
    array([1., 2.], dtype=float32)
    """,
)
tanh = _pointwise(
    "tanh",
    "tanh",
    lambda g, y, _: element_times(g, minus(1.0, square(y))),
    doc="""The hyperbolic tangent of `x`.

    >>> C.tanh([0, 1]).eval()
    array([0.       , 0.7615942], dtype=float32)
    """,
)
sin = _pointwise(
    "sin",
    "sin",
    lambda g, _, x: element_times(g, cos(x)),
    doc="""The sine of `x` (radians).

    >>> C.sin([0, 1]).eval()
    array([0.      , 0.841471], dtype=float32)
    """,
)
cos = _pointwise(
    "cos",
    "cos",
    lambda g, _, x: negate(element_times(g, sin(x))),
    doc="""The cosine of `x` (radians).

    >>> C.cos([0]).eval()
    array([1.], dtype=float32)
    """,
)
tan = _pointwise(
    "tan",
    "tan",
    lambda g, y, _: element_times(g, plus(1.0, square(y))),
    high=1,
    low=-1,
    doc="""The tangent of `x` (radians).

    >>> C.tan([0]).eval()
    array([0.], dtype=float32)
    """,
)
sinh = _pointwise(
    "sinh",
    "sinh",
    lambda g, _, x: element_times(g, cosh(x)),
    doc="""The hyperbolic sine of `x`.

    >>> C.sinh([0]).eval()
    array([0.], dtype=float32)
    """,
)
cosh = _pointwise(
    "cosh",
    "cosh",
    lambda g, _, x: element_times(g, sinh(x)),
    doc="""The hyperbolic cosine of `x`.

    >>> C.cosh([0]).eval()
    array([1.], dtype=float32)
    """,
)
asin = _pointwise(
    "asin",
    "arcsin",
    lambda g, _, x: element_divide(g, sqrt(minus(1.0, square(x)))),
    low=-0.8,
    high=0.8,
    doc="""The angle (radians) whose sine is `x`.

    >>> C.asin([0]).eval()
    array([0.], dtype=float32)
    """,
)
acos = _pointwise(
    "acos",
    "arccos",
    lambda g, _, x: negate(element_divide(g, sqrt(minus(1.0, square(x))))),
    low=-0.8,
    high=0.8,
    doc="""The angle (radians) whose cosine is `x`.

    >>> C.acos([1]).eval()
    array([0.], dtype=float32)
    """,
)
atan = _pointwise(
    "atan",
    "arctan",
    lambda g, _, x: element_divide(g, plus(1.0, square(x))),
    doc="""The angle (radians) whose tangent is `x`.

    >>> C.atan([0]).eval()
    array([0.], dtype=float32)
    """,
)
asinh = _pointwise(
    "asinh",
    "arcsinh",
    lambda g, _, x: element_divide(g, sqrt(plus(1.0, square(x)))),
    doc="""The inverse of the hyperbolic sine.

    >>> C.asinh([0]).eval()
    array([0.], dtype=float32)
    """,
)
atanh = _pointwise(
    "atanh",
    "arctanh",
    lambda g, _, x: element_divide(g, minus(1.0, square(x))),
    low=-0.8,
    high=0.8,
    doc="""The inverse of the hyperbolic tangent.

    >>> C.atanh([0]).eval()
    array([0.], dtype=float32)
    """,
)

# Steps: no gradient flows through them.
floor = _pointwise(
    "floor",
    "floor",
    doc="""The largest integer not above `x`. No gradient flows through it.

    >>> C.floor([0.2, -1.5]).eval()
    array([ 0., -2.], dtype=float32)
    """,
)
ceil = _pointwise(
    "ceil",
    "ceil",
    doc="""The smallest integer not below `x`. No gradient flows through it.

    >>> C.ceil([0.2, -1.5]).eval()
    array([ 1., -1.], dtype=float32)
    """,
)
round = _pointwise(
    "round",
    lambda xp, x, out=None: xp.floor(xp.add(x, 0.5, out=out), out=out),
    doc="""The nearest integer, halves going up as in CNTK. No gradient flows through it.

    >>> C.round([0.5, 1.2, -0.5]).eval()
    array([1., 1., 0.], dtype=float32)
    """,
)
sign = _pointwise(
    "sign",
    "sign",
    doc="""-1, 0 or 1. No gradient flows through it.

    >>> C.ops.sign([-3, 0, 2]).eval()
    array([-1.,  0.,  1.], dtype=float32)
    """,
)


def _comparing(name: str, words: str, example: str) -> Callable[..., Any]:
    doc = f"""1 where `left` is {words} `right`, 0 elsewhere. No gradient flows through it.

    >>> C.{name}([1, 2, 3], 2).eval()
    array({example}, dtype=float32)
    """
    return _pointwise(name, _comparison(name), operands=_PAIR, doc=doc)


equal = _comparing("equal", "equal to", "[0., 1., 0.]")
not_equal = _comparing("not_equal", "not equal to", "[1., 0., 1.]")
less = _comparing("less", "less than", "[1., 0., 0.]")
less_equal = _comparing("less_equal", "at most", "[1., 1., 0.]")
greater = _comparing("greater", "greater than", "[0., 0., 1.]")
greater_equal = _comparing("greater_equal", "at least", "[0., 1., 1.]")


def _sigmoid(xp: Any, x: Any, out: Any = None) -> Any:
    out = xp.multiply(x, 0.5, out=out)  # by tanh, which can't overflow
    out = xp.tanh(out, out=out)
    out = xp.multiply(out, 0.5, out=out)
    return xp.add(out, 0.5, out=out)


def _softplus(xp: Any, x: Any, out: Any = None) -> Any:
    tail = xp.log1p(xp.exp(-xp.absolute(x)))
    return xp.add(xp.maximum(x, 0, out=out), tail, out=out)


def _select(xp: Any, condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    chosen = xp.where(condition != 0, a, b)
    if out is None:
        return chosen
    out[...] = chosen
    return out


sigmoid = _pointwise(
    "sigmoid",
    _sigmoid,
    lambda g, y, _: element_times(g, element_times(y, minus(1.0, y))),
    doc="""The logistic function, 1 / (1 + exp(-x)).

    >>> C.sigmoid([0]).eval()
    array([0.5], dtype=float32)
    """,
)
softplus = _pointwise(
    "softplus",
    _softplus,
    lambda g, _, x: element_times(g, sigmoid(x)),
    doc="""log(1 + exp(x)).

    >>> C.softplus([0]).eval()
    array([0.6931472], dtype=float32)
    """,
)
relu = _pointwise(
    "relu",
    lambda xp, x, out=None: xp.maximum(x, 0, out=out),
    lambda g, y, _: element_times(g, greater(y, 0.0)),
    doc="""The larger of `x` and 0; its gradient at 0 is 0.

    >>> C.relu([-1, 2]).eval()
    array([0., 2.], dtype=float32)
    """,
)
# exp(x) - 1 below zero, 0 above: what elu and selu are made of
_expm1_negative = _pointwise(
    "expm1_negative",
    lambda xp, x, out=None: xp.expm1(xp.minimum(x, 0, out=out), out=out),
    lambda g, y, x: element_times(g, element_times(less(x, 0.0), plus(y, 1.0))),
    doc="exp(x) - 1 where x is below 0, else 0.",
)
element_select = _pointwise(
    "element_select",
    _select,
    None,
    lambda g, _, c, a, b: element_select(c, g, 0.0),
    lambda g, _, c, a, b: element_select(c, 0.0, g),
    operands="flag value_if_true value_if_false",
    doc="""`value_if_true` where `flag` is not 0, `value_if_false` elsewhere, shapes broadcast.

    >>> C.element_select([1, 0], [5, 6], [7, 8]).eval()
    array([5., 8.], dtype=float32)
    """,
)
stop_gradient = _pointwise(
    "stop_gradient",
    "positive",
    doc="""`x`, through which no gradient flows.

    >>> x = C.input_variable(1, needs_gradient=True)
    >>> (C.stop_gradient(x) * x).grad({x: [[3.0]]})
    array([[3.]], dtype=float32)
    """,
)


def _positive(x: Node) -> Node:
    """`x` where it is positive, else 0; unlike relu's its gradient at 0 is 1."""
    return element_max(x, 0.0)


@operation
def leaky_relu(x: Any, alpha: float = 0.01) -> Any:
    """`x` where it is positive, `alpha` times `x` elsewhere.

    >>> C.leaky_relu([-1, 2], 0.1).eval()
    array([-0.1,  2. ], dtype=float32)
    """
    x = as_node(x)
    return minus(_positive(x), element_times(alpha, relu(negate(x))))


@operation
def param_relu(alpha: Any, x: Any) -> Any:
    """`leaky_relu` whose `alpha` is learned (He et al., 2015), broadcast to `x`.

    >>> C.param_relu(C.constant([0.5, 0.5]), [-1, 2]).eval()
    array([-0.5,  2. ], dtype=float32)
    """
    x = as_node(x)
    return minus(_positive(x), element_times(as_node(alpha), relu(negate(x))))


@operation
def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where it is positive, `alpha * (exp(x) - 1)` elsewhere (Clevert et al., 2015).

    >>> C.elu([-1, 2]).eval()
    array([-0.63212055,  2.        ], dtype=float32)
    """
    x = as_node(x)
    return plus(_positive(x), element_times(alpha, _expm1_negative(x)))


@operation
def selu(x: Any, scale: float = 1.0507009873554805, alpha: float = 1.6732632423543772) -> Any:
    """`scale` times `elu(x, alpha)`: self-normalizing (Klambauer et al., 2017).

    >>> C.selu([-1, 0]).eval()
    array([-1.1113307,  0.       ], dtype=float32)
    """
    return element_times(scale, elu(as_node(x), alpha))


@operation
def hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    """`alpha * x + beta` cut to between 0 and 1.

    >>> C.hard_sigmoid([-2.5, 0, 4], 0.2, 0.5).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return clip(plus(element_times(as_node(x), alpha), beta), 0.0, 1.0)


@operation
def clip(x: Any, min_value: Any, max_value: Any) -> Any:
    """`x` cut to between `min_value` and `max_value`, numbers or arrays.

    >>> C.clip([-1, 0.5, 2], 0, 1).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return element_min(element_max(as_node(x), as_node(min_value)), as_node(max_value))


@operation
def softsign(x: Any) -> Any:
    """`x / (1 + |x|)`.

    >>> C.softsign([-1, 1]).eval()
    array([-0.5,  0.5], dtype=float32)
    """
    x = as_node(x)
    return element_divide(x, plus(1.0, abs(x)))


@operation
def log_add_exp(left: Any, right: Any, *more: Any) -> Any:
    """log(exp(left) + exp(right) + …), without overflow.

    >>> C.log_add_exp([1000], [1000]).eval()
    array([1000.6931], dtype=float32)
    """
    total = as_node(left)
    for operand in (right, *more):
        total = _log_add_exp(total, as_node(operand))
    return total


_log_add_exp = _pointwise(
    "log_add_exp",
    "logaddexp",
    lambda g, y, a, b: element_times(g, exp(minus(a, y))),
    lambda g, y, a, b: element_times(g, exp(minus(b, y))),
    operands=_PAIR,
    doc="log(exp(left) + exp(right)).",
)


@operation
def element_not(x: Any) -> Any:
    """1 where `x` is 0, else 0.

    >>> C.element_not([0, 1]).eval()
    array([1., 0.], dtype=float32)
    """
    return equal(as_node(x), 0.0)


@operation
def element_and(x: Any, y: Any) -> Any:
    """1 where neither operand is 0, else 0.

    >>> C.element_and([0, 1], [1, 1]).eval()
    array([0., 1.], dtype=float32)
    """
    return element_times(not_equal(as_node(x), 0.0), not_equal(as_node(y), 0.0))


@operation
def element_or(x: Any, y: Any) -> Any:
    """1 where one operand is not 0, else 0.

    >>> C.element_or([0, 0], [1, 0]).eval()
    array([1., 0.], dtype=float32)
    """
    return element_max(not_equal(as_node(x), 0.0), not_equal(as_node(y), 0.0))


@operation
def element_xor(x: Any, y: Any) -> Any:
    """1 where one operand is 0 and the other is not, else 0.

    >>> C.element_xor([0, 1], [1, 1]).eval()
    array([1., 0.], dtype=float32)
    """
    return not_equal(not_equal(as_node(x), 0.0), not_equal(as_node(y), 0.0))
