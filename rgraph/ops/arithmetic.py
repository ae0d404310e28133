"""Arithmetic and the elementary functions, element by element.

Division by 0 gives 0, as in CNTK, in all operations and in their gradients. So a derivative that
would be infinite is 0, such as that of `sqrt` at 0. Where an operation clips small operands (`log`,
`sqrt`), its derivative is 0 too. Accuracy is documented in docs/ACCURACY.md.
"""

from __future__ import annotations

import math

import numpy as np

from ..graph import Node
from ..graph.types import Array, Library, OperandLike
from .comparison import element_select, floor, greater, greater_equal, less, less_equal, sign
from .expressions import SMALLEST_IN_LOG
from .pointwise import PAIR, may_be_infinite, pointwise
from .records import as_node, operation


def _divide(xp: Library, a: Array, b: Array, out: Array | None = None) -> Array:
    seen = (
        b if any(b.strides) else b[(slice(1),) * b.ndim]
    )  # one element is enough for a broadcast number
    if xp is not np or not seen.all():  # on a GPU the check would have to wait for the result
        b = xp.where(xp.equal(b, 0), b.dtype.type(math.inf), b)
    return xp.divide(a, b, out=out)


def _log_gradient(g: Node, y: Node, x: Node) -> Node:
    smallest = SMALLEST_IN_LOG.of(np.dtype(y.dtype).itemsize)
    return element_divide(g, element_select(less(x, smallest), 0.0, x))


def _adjoint_times(xp: Library, g: Array, slope: Array, out: Array | None = None) -> Array:
    return xp.multiply(g, xp.where(xp.equal(g, 0), slope.dtype.type(0), slope), out=out)


adjoint_times = pointwise(
    "adjoint_times",
    "0 if adjoint == 0 else adjoint * slope",
    lambda h, _, g, slope: carried(h, slope),
    lambda h, _, g, slope: adjoint_times(g, h),
    operands="adjoint slope",
    arrays=_adjoint_times,
    doc="adjoint * slope; 0 where the adjoint is 0, even if the slope is infinite or NaN.",
)


def carried(g: Node, slope: Node) -> Node:
    """An adjoint times a slope.

    Elements that `element_select` discards have adjoint 0; they must not give NaN where the slope
    is infinite.
    """
    return (adjoint_times if may_be_infinite(slope) else element_times)(g, slope)


plus = pointwise(
    "plus",
    "left + right",
    lambda g, *_: g,
    lambda g, *_: g,
    operands=PAIR,
    variadic=True,
    cheap=True,
    doc="""The sum of two or more operands, with broadcasting as in NumPy.

    >>> C.plus([1, 2, 3], [4, 5, 6]).eval()
    array([5., 7., 9.], dtype=float32)
    """,
)
minus = pointwise(
    "minus",
    "left - right",
    lambda g, *_: g,
    lambda g, *_: negate(g),
    operands=PAIR,
    cheap=True,
    doc="""The difference of two operands, with broadcasting.

    >>> C.minus([4, 5, 6], 1).eval()
    array([3., 4., 5.], dtype=float32)
    """,
)
element_times = pointwise(
    "element_times",
    "left * right",
    lambda g, _, a, b: carried(g, b),
    lambda g, _, a, b: carried(g, a),
    operands=PAIR,
    variadic=True,
    cheap=True,
    doc="""The element-wise product of two or more operands, with broadcasting.

    >>> C.element_times([1, 2, 3], 2).eval()
    array([2., 4., 6.], dtype=float32)
    """,
)
element_divide = pointwise(
    "element_divide",
    "left / (inf if right == 0 else right)",
    lambda g, _, a, b: element_divide(g, b),
    lambda g, y, a, b: negate(element_divide(carried(g, y), b)),
    operands=PAIR,
    low=0.5,
    arrays=_divide,
    doc="""The element-wise quotient of two operands, with broadcasting.

    Division by 0 gives 0, and the gradient of both operands is 0 there, as in CNTK; so the
    mean of no elements is 0. Infinity and NaN divided by 0 are NaN. The same holds for `/`.

    >>> C.element_divide([1, 2, 3], 2).eval()
    array([0.5, 1. , 1.5], dtype=float32)
    """,
)
pow = pointwise(
    "pow",
    "pow(inf if base == 0 and exponent < 0 else base, exponent)",
    lambda g, _, a, b: carried(g, element_times(b, pow(a, minus(b, 1.0)))),
    lambda g, y, a, b: carried(g, element_select(greater(a, 0.0), element_times(y, log(a)), 0.0)),
    finite=False,
    operands="base exponent",
    low=0.5,
    doc="""`base` to the power of `exponent`, element by element, with broadcasting.

    0 to a negative power is 0 (in CNTK, division by 0 gives 0); 0 to the power of 0 is 1. The
    gradient with respect to a base of 0 is 1 for the exponent 1, otherwise 0. The gradient with
    respect to the exponent is 0 where the base is not positive. A negative base with a fractional
    exponent gives NaN.

    >>> C.pow([1, 2, 3], 2).eval()
    array([1., 4., 9.], dtype=float32)
    """,
)
element_max = pointwise(
    "element_max",
    "maximum(left, right)",
    lambda g, _, a, b: element_times(g, greater_equal(a, b)),
    lambda g, _, a, b: element_times(g, less(a, b)),
    operands=PAIR,
    variadic=True,
    doc="""The element-wise maximum of two or more operands, with broadcasting.

    If operands are equal, the first one gets the gradient.

    >>> C.element_max([1, 5], [3, 2]).eval()
    array([3., 5.], dtype=float32)
    """,
)
element_min = pointwise(
    "element_min",
    "minimum(left, right)",
    lambda g, _, a, b: element_times(g, less_equal(a, b)),
    lambda g, _, a, b: element_times(g, greater(a, b)),
    operands=PAIR,
    variadic=True,
    doc="""The element-wise minimum of two or more operands, with broadcasting.

    If operands are equal, the first one gets the gradient.

    >>> C.element_min([1, 5], [3, 2]).eval()
    array([1., 2.], dtype=float32)
    """,
)
negate = pointwise(
    "negate",
    "-x",
    lambda g, *_: negate(g),
    cheap=True,
    doc="""Minus `x`.

    >>> C.negate([1, -2]).eval()
    array([-1.,  2.], dtype=float32)
    """,
)
exp = pointwise(
    "exp",
    "exp(x)",
    lambda g, y, _: carried(g, y),
    finite=False,
    doc="""The exponential of `x`.

    >>> C.exp([0, 1]).eval()
    array([1.       , 2.7182817], dtype=float32)
    """,
)
log = pointwise(
    "log",
    "log(at_least(x, smallest_in_log))",
    _log_gradient,
    low=0.5,
    doc="""The natural logarithm of `x`, at least -85.1 (as in CNTK), in float64 at least -708.

    Operands below exp(-85.1) (exp(-708) in float64), including 0 and negative numbers, give this
    minimum, with gradient 0. So the logarithm of a probability that was rounded to 0 stays finite.

    >>> C.log([1, 2]).eval()
    array([0.       , 0.6931472], dtype=float32)
    """,
)
expm1 = pointwise(
    "expm1",
    "expm1(x)",
    lambda g, y, _: carried(g, plus(y, 1.0)),
    finite=False,
    doc="""exp(x) - 1, accurate near 0.

    >>> C.expm1([0, 1e-10]).eval()
    array([0.e+00, 1.e-10], dtype=float32)
    """,
)
log1p = pointwise(
    "log1p",
    "log1p(x)",
    lambda g, _, x: element_divide(g, plus(x, 1.0)),
    finite=False,
    low=-0.5,
    doc="""log(1 + x), accurate near 0; -inf at -1 and NaN below, as in NumPy.

    >>> C.log1p([0, 1e-10]).eval()
    array([0.e+00, 1.e-10], dtype=float32)
    """,
)
erf = pointwise(
    "erf",
    "erf(x)",
    lambda g, _, x: element_times(g, element_times(2 / math.sqrt(math.pi), exp(negate(square(x))))),
    doc="""The error function, 2 / sqrt(π) times the integral of exp(-t²) from 0 to `x`.

    >>> C.erf([0, 1]).eval()
    array([0.       , 0.8427008], dtype=float32)
    """,
)
mod = pointwise(
    "mod",
    "fmod(left, right) + right"
    " if fmod(left, right) != 0 and ((fmod(left, right) < 0) ^ (right < 0))"
    " else fmod(left, right)",
    lambda g, *_: g,
    lambda g, _, a, b: negate(element_times(g, floor(element_divide(a, b)))),
    operands=PAIR,
    low=0.5,
    arrays="remainder",
    doc="""The remainder of the division of the first operand by the second, with the second's sign.

    The result is NaN where the second operand is 0. Source: NumPy's `mod`.

    >>> C.mod([5, -5], 3).eval()
    array([2., 1.], dtype=float32)
    """,
)
sqrt = pointwise(
    "sqrt",
    "sqrt(at_least(x, 0))",
    lambda g, y, _: element_divide(g, element_times(2.0, y)),
    low=0.5,
    doc="""The square root of `x`, 0 where `x` is negative (as in CNTK).

    The gradient is 0 where the root is 0: division by 0 gives 0, as in `element_divide`.

    >>> C.sqrt([1, 4]).eval()
    array([1., 2.], dtype=float32)
    """,
)
square = pointwise(
    "square",
    "x * x",
    lambda g, _, x: carried(g, element_times(2.0, x)),
    arrays="square",
    doc="""The square of `x`.

    >>> C.square([1, -3]).eval()
    array([1., 9.], dtype=float32)
    """,
)
reciprocal = pointwise(
    "reciprocal",
    "1 / (inf if x == 0 else x)",
    lambda g, y, _: negate(element_times(g, square(y))),
    low=0.5,
    arrays=lambda xp, x, out=None: _divide(xp, 1, x, out),
    doc="""1 / x; where `x` is 0, the result and its gradient are 0, as in CNTK.

    >>> C.reciprocal([2, -4]).eval()
    array([ 0.5 , -0.25], dtype=float32)
    """,
)
abs = pointwise(
    "abs",
    "abs(x)",
    lambda g, _, x: element_times(g, sign(x)),
    doc="""The absolute value of `x`; its gradient at 0 is 0.

    >>> C.abs([-1, 2]).eval()
    array([1., 2.], dtype=float32)
    """,
)


@operation
def clip(x: OperandLike, min_value: OperandLike, max_value: OperandLike) -> Node:
    """`x` clipped to the range from `min_value` to `max_value`, numbers or arrays.

    Where `x` equals one of the bounds, `x` gets the gradient.

    >>> C.clip([-1, 0.5, 2], 0, 1).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return element_min(element_max(as_node(x), as_node(min_value)), as_node(max_value))
