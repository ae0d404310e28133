"""Arithmetic and the elementary functions, element by element."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from .comparison import element_select, floor, greater, greater_equal, less, less_equal, sign
from .pointwise import PAIR, pointwise
from .records import as_node, operation

_SMALLEST_IN_LOG = math.exp(-85.1)  # CNTK's


def _reciprocal(xp: Any, x: Any, out: Any = None) -> Any:
    there = xp.not_equal(x, 0)
    out = xp.divide(1, xp.where(there, x, 1), out=out)
    return xp.multiply(out, there, out=out)


def _special(xp: Any) -> Any:
    """The special functions that go with an array library: SciPy's, or cupyx's for CuPy."""
    return import_module(("" if xp.__name__ == "numpy" else f"{xp.__name__}x.") + "scipy.special")


plus = pointwise(
    "plus",
    "add",
    lambda g, *_: g,
    lambda g, *_: g,
    operands=PAIR,
    variadic=True,
    doc="""The sum of two or more operands, shapes broadcast as NumPy's.

    >>> C.plus([1, 2, 3], [4, 5, 6]).eval()
    array([5., 7., 9.], dtype=float32)
    """,
)
minus = pointwise(
    "minus",
    "subtract",
    lambda g, *_: g,
    lambda g, *_: negate(g),
    operands=PAIR,
    doc="""The difference of two operands, shapes broadcast.

    >>> C.minus([4, 5, 6], 1).eval()
    array([3., 4., 5.], dtype=float32)
    """,
)
element_times = pointwise(
    "element_times",
    "multiply",
    lambda g, _, a, b: element_times(g, b),
    lambda g, _, a, b: element_times(g, a),
    operands=PAIR,
    variadic=True,
    doc="""The product of two or more operands, element by element, shapes broadcast.

    >>> C.element_times([1, 2, 3], 2).eval()
    array([2., 4., 6.], dtype=float32)
    """,
)
element_divide = pointwise(
    "element_divide",
    "divide",
    lambda g, _, a, b: element_divide(g, b),
    lambda g, y, a, b: negate(element_divide(element_times(g, y), b)),
    operands=PAIR,
    low=0.5,
    doc="""The quotient of two operands, element by element, shapes broadcast.

    >>> C.element_divide([1, 2, 3], 2).eval()
    array([0.5, 1. , 1.5], dtype=float32)
    """,
)
pow = pointwise(
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
element_max = pointwise(
    "element_max",
    "maximum",
    lambda g, _, a, b: element_times(g, greater_equal(a, b)),
    lambda g, _, a, b: element_times(g, less(a, b)),
    operands=PAIR,
    variadic=True,
    doc="""The larger of two or more operands, element by element, shapes broadcast.

    >>> C.element_max([1, 5], [3, 2]).eval()
    array([3., 5.], dtype=float32)
    """,
)
element_min = pointwise(
    "element_min",
    "minimum",
    lambda g, _, a, b: element_times(g, less_equal(a, b)),
    lambda g, _, a, b: element_times(g, greater(a, b)),
    operands=PAIR,
    variadic=True,
    doc="""The smaller of two or more operands, element by element, shapes broadcast.

    >>> C.element_min([1, 5], [3, 2]).eval()
    array([1., 2.], dtype=float32)
    """,
)
negate = pointwise(
    "negate",
    "negative",
    lambda g, *_: negate(g),
    doc="""Minus `x`.

    >>> C.negate([1, -2]).eval()
    array([-1.,  2.], dtype=float32)
    """,
)
exp = pointwise(
    "exp",
    "exp",
    lambda g, y, _: element_times(g, y),
    doc="""The exponential of `x`.

    >>> C.exp([0, 1]).eval()
    array([1.       , 2.7182817], dtype=float32)
    """,
)
log = pointwise(
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
expm1 = pointwise(
    "expm1",
    "expm1",
    lambda g, y, _: element_times(g, plus(y, 1.0)),
    doc="""exp(x) - 1, exact near 0.

    >>> C.expm1([0, 1e-10]).eval()
    array([0.e+00, 1.e-10], dtype=float32)
    """,
)
log1p = pointwise(
    "log1p",
    "log1p",
    lambda g, _, x: element_divide(g, plus(x, 1.0)),
    low=-0.5,
    doc="""log(1 + x), exact near 0; -inf at -1 and NaN below it, as NumPy's.

    >>> C.log1p([0, 1e-10]).eval()
    array([0.e+00, 1.e-10], dtype=float32)
    """,
)
erf = pointwise(
    "erf",
    lambda xp, x, out=None: _special(xp).erf(x, out=out),
    lambda g, _, x: element_times(g, element_times(2 / math.sqrt(math.pi), exp(negate(square(x))))),
    doc="""The error function, 2 / sqrt(π) times the integral of exp(-t²) from 0 to `x`.

    >>> C.erf([0, 1]).eval()
    array([0.       , 0.8427008], dtype=float32)
    """,
)
mod = pointwise(
    "mod",
    "remainder",
    lambda g, *_: g,
    lambda g, _, a, b: negate(element_times(g, floor(element_divide(a, b)))),
    operands=PAIR,
    low=0.5,
    doc="""What is left of the first operand when it is divided by the second, of the second's sign.

    Source: NumPy's `mod`; where the second operand is 0 it is NaN.

    >>> C.mod([5, -5], 3).eval()
    array([2., 1.], dtype=float32)
    """,
)
log_add_exp = pointwise(
    "log_add_exp",
    "logaddexp",
    lambda g, y, a, b: element_times(g, exp(minus(a, y))),
    lambda g, y, a, b: element_times(g, exp(minus(b, y))),
    operands=PAIR,
    variadic=True,
    doc="""log(exp(left) + exp(right) + …), without overflow.

    >>> C.log_add_exp([1000], [1000]).eval()
    array([1000.6931], dtype=float32)
    """,
)
sqrt = pointwise(
    "sqrt",
    lambda xp, x, out=None: xp.sqrt(xp.maximum(x, 0, out=out), out=out),
    lambda g, y, _: element_divide(g, element_times(2.0, y)),
    low=0.5,
    doc="""The square root of `x`, 0 where `x` is negative (as in CNTK).

    >>> C.sqrt([1, 4]).eval()
    array([1., 2.], dtype=float32)
    """,
)
square = pointwise(
    "square",
    "square",
    lambda g, _, x: element_times(g, element_times(2.0, x)),
    doc="""The square of `x`.

    >>> C.square([1, -3]).eval()
    array([1., 9.], dtype=float32)
    """,
)
reciprocal = pointwise(
    "reciprocal",
    _reciprocal,
    lambda g, y, _: negate(element_times(g, square(y))),
    low=0.5,
    doc="""One over `x`, 0 where `x` is 0 (as in CNTK).

    >>> C.reciprocal([2, -4]).eval()
    array([ 0.5 , -0.25], dtype=float32)
    """,
)
abs = pointwise(
    "abs",
    "absolute",
    lambda g, _, x: element_times(g, sign(x)),
    doc="""The absolute value of `x`; its gradient at 0 is 0.

    >>> C.abs([-1, 2]).eval()
    array([1., 2.], dtype=float32)
    """,
)
tanh = pointwise(
    "tanh",
    "tanh",
    lambda g, y, _: element_times(g, minus(1.0, square(y))),
    doc="""The hyperbolic tangent of `x`.

    >>> C.tanh([0, 1]).eval()
    array([0.       , 0.7615942], dtype=float32)
    """,
)
sin = pointwise(
    "sin",
    "sin",
    lambda g, _, x: element_times(g, cos(x)),
    doc="""The sine of `x` (radians).

    >>> C.sin([0, 1]).eval()
    array([0.      , 0.841471], dtype=float32)
    """,
)
cos = pointwise(
    "cos",
    "cos",
    lambda g, _, x: negate(element_times(g, sin(x))),
    doc="""The cosine of `x` (radians).

    >>> C.cos([0]).eval()
    array([1.], dtype=float32)
    """,
)
tan = pointwise(
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
sinh = pointwise(
    "sinh",
    "sinh",
    lambda g, _, x: element_times(g, cosh(x)),
    doc="""The hyperbolic sine of `x`.

    >>> C.sinh([0]).eval()
    array([0.], dtype=float32)
    """,
)
cosh = pointwise(
    "cosh",
    "cosh",
    lambda g, _, x: element_times(g, sinh(x)),
    doc="""The hyperbolic cosine of `x`.

    >>> C.cosh([0]).eval()
    array([1.], dtype=float32)
    """,
)
asin = pointwise(
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
acos = pointwise(
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
atan = pointwise(
    "atan",
    "arctan",
    lambda g, _, x: element_divide(g, plus(1.0, square(x))),
    doc="""The angle (radians) whose tangent is `x`.

    >>> C.atan([0]).eval()
    array([0.], dtype=float32)
    """,
)
asinh = pointwise(
    "asinh",
    "arcsinh",
    lambda g, _, x: element_divide(g, sqrt(plus(1.0, square(x)))),
    doc="""The inverse of the hyperbolic sine.

    >>> C.asinh([0]).eval()
    array([0.], dtype=float32)
    """,
)
atanh = pointwise(
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


@operation
def clip(x: Any, min_value: Any, max_value: Any) -> Any:
    """`x` cut to between `min_value` and `max_value`, numbers or arrays.

    >>> C.clip([-1, 0.5, 2], 0, 1).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return element_min(element_max(as_node(x), as_node(min_value)), as_node(max_value))
