"""Trigonometric and hyperbolic functions, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arithmetic import carried, element_divide, element_times, minus, negate, plus, sqrt, square
from .pointwise import pointwise

if TYPE_CHECKING:
    from ..graph.node import Node


def _leg(x: Node) -> Node:
    """sqrt(1 - x * x), accurate if x is almost 1."""
    return sqrt(element_times(minus(1.0, x), plus(1.0, x)))


tanh = pointwise(
    "tanh",
    "tanh(x)",
    lambda g, y, _: element_times(g, minus(1.0, square(y))),
    doc="""The hyperbolic tangent of `x`.

    >>> C.tanh([0, 1]).eval()
    array([0.       , 0.7615942], dtype=float32)
    """,
)
sin = pointwise(
    "sin",
    "sin(x)",
    lambda g, _, x: element_times(g, cos(x)),
    doc="""The sine of `x` (radians).

    >>> C.sin([0, 1]).eval()
    array([0.      , 0.841471], dtype=float32)
    """,
)
cos = pointwise(
    "cos",
    "cos(x)",
    lambda g, _, x: negate(element_times(g, sin(x))),
    doc="""The cosine of `x` (radians).

    >>> C.cos([0]).eval()
    array([1.], dtype=float32)
    """,
)
tan = pointwise(
    "tan",
    "tan(x)",
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
    "sinh(x)",
    lambda g, _, x: carried(g, cosh(x)),
    finite=False,
    doc="""The hyperbolic sine of `x`.

    >>> C.sinh([0]).eval()
    array([0.], dtype=float32)
    """,
)
cosh = pointwise(
    "cosh",
    "cosh(x)",
    lambda g, _, x: carried(g, sinh(x)),
    finite=False,
    doc="""The hyperbolic cosine of `x`.

    >>> C.cosh([0]).eval()
    array([1.], dtype=float32)
    """,
)
asin = pointwise(
    "asin",
    "asin(x)",
    lambda g, _, x: element_divide(g, _leg(x)),
    finite=False,
    low=-0.8,
    high=0.8,
    doc="""The angle (radians) whose sine is `x`; its gradient at -1 and 1 is 0.

    >>> C.asin([0]).eval()
    array([0.], dtype=float32)
    """,
)
acos = pointwise(
    "acos",
    "acos(x)",
    lambda g, _, x: negate(element_divide(g, _leg(x))),
    finite=False,
    low=-0.8,
    high=0.8,
    doc="""The angle (radians) whose cosine is `x`; its gradient at -1 and 1 is 0.

    >>> C.acos([1]).eval()
    array([0.], dtype=float32)
    """,
)
atan = pointwise(
    "atan",
    "atan(x)",
    lambda g, _, x: element_divide(g, plus(1.0, square(x))),
    doc="""The angle (radians) whose tangent is `x`.

    >>> C.atan([0]).eval()
    array([0.], dtype=float32)
    """,
)
asinh = pointwise(
    "asinh",
    "asinh(x)",
    lambda g, _, x: element_divide(g, sqrt(plus(1.0, square(x)))),
    doc="""The inverse of the hyperbolic sine.

    >>> C.asinh([0]).eval()
    array([0.], dtype=float32)
    """,
)
atanh = pointwise(
    "atanh",
    "atanh(x)",
    lambda g, _, x: element_divide(g, element_times(minus(1.0, x), plus(1.0, x))),
    finite=False,
    low=-0.8,
    high=0.8,
    doc="""The inverse of the hyperbolic tangent; its gradient at -1 and 1 is 0.

    >>> C.atanh([0]).eval()
    array([0.], dtype=float32)
    """,
)
