"""Activation functions of neural networks, element by element."""

from __future__ import annotations

from numbers import Real

from ..graph import Node
from ..graph.types import OperandLike
from .arithmetic import (
    abs,
    element_divide,
    element_max,
    element_min,
    element_times,
    minus,
    negate,
    plus,
)
from .comparison import greater, less
from .pointwise import PAIR, pointwise
from .records import TABLE, as_node, operation

difference = pointwise(
    "difference",
    "0 if left == right else left - right",
    lambda g, *_: g,
    lambda g, *_: negate(g),
    operands=PAIR,
    doc="left - right; 0 if both are the same infinity.",
)
sigmoid = pointwise(
    "sigmoid",
    "1 / (1 + exp(-x))",
    lambda g, y, _: element_times(g, element_times(y, minus(1.0, y))),
    doc="""The logistic function, 1 / (1 + exp(-x)).

    >>> C.sigmoid([0]).eval()
    array([0.5], dtype=float32)
    """,
)


def logit_of(y: Node) -> Node | None:
    """The operand of the sigmoid `y`, seen through aliases; None if `y` is not a sigmoid."""
    while y.op is TABLE["alias"]:
        y = y.inputs[0]
    return y.inputs[0] if y.op is TABLE["sigmoid"] else None


log_add_exp = pointwise(
    "log_add_exp",
    "left + 0.6931471805599453 if left == right else (left if left > right else right)"
    " + log1p(exp(right - left if left > right else left - right))",
    lambda g, _, a, b: element_times(g, sigmoid(difference(a, b))),
    lambda g, _, a, b: element_times(g, sigmoid(difference(b, a))),
    operands=PAIR,
    variadic=True,
    arrays="logaddexp",
    doc="""log(exp(left) + exp(right) + …), without overflow.

    For two equal infinities the gradient is one half each.

    >>> C.log_add_exp([1000], [1000]).eval()
    array([1000.6931], dtype=float32)
    """,
)
softplus_of = pointwise(
    "softplus",
    "at_least(x, 0) + log1p(exp(-abs(x)))",
    lambda g, _, x: element_times(g, sigmoid(x)),
    doc="log(1 + exp(x)).",
)
relu = pointwise(
    "relu",
    "at_least(x, 0)",
    lambda g, y, _: element_times(g, greater(y, 0.0)),
    doc="""max(x, 0); the gradient at 0 is 0.

    >>> C.relu([-1, 2]).eval()
    array([0., 2.], dtype=float32)
    """,
)
# exp(x) - 1 below zero, 0 above: the negative part of elu and selu
_expm1_negative = pointwise(
    "expm1_negative",
    "expm1(at_most(x, 0))",
    lambda g, y, x: element_times(g, element_times(less(x, 0.0), plus(y, 1.0))),
    doc="exp(x) - 1 where x is below 0, else 0.",
)


def _positive(x: Node) -> Node:
    """`x` where it is positive, else 0; unlike that of relu, the gradient at 0 is 1."""
    return element_max(x, 0.0)


def _leaky(x: Node, alpha: float | Node) -> Node:
    """`leaky_relu` for any `alpha`; for a number, a maximum or minimum does the same."""
    return minus(_positive(x), element_times(alpha, relu(negate(x))))


@operation
def leaky_relu(x: OperandLike, alpha: float = 0.01) -> Node:
    """`x` where `x` is positive, `alpha * x` elsewhere.

    >>> C.leaky_relu([-1, 2], 0.1).eval()
    array([-0.1,  2. ], dtype=float32)
    """
    x = as_node(x)
    if not isinstance(alpha, Real) or alpha == 0:  # 0 * inf is NaN
        return _leaky(x, alpha)
    return (element_min if alpha > 1 else element_max)(x, element_times(alpha, x))


@operation
def param_relu(alpha: OperandLike, x: OperandLike) -> Node:
    """`leaky_relu` with a learned `alpha`, broadcast to `x` (He et al., 2015).

    >>> C.param_relu(C.constant([0.5, 0.5]), [-1, 2]).eval()
    array([-0.5,  2. ], dtype=float32)
    """
    return _leaky(as_node(x), as_node(alpha))


@operation
def elu(x: OperandLike, alpha: float = 1.0) -> Node:
    """`x` where `x` is positive, `alpha * (exp(x) - 1)` elsewhere (Clevert et al., 2015).

    >>> C.elu([-1, 2]).eval()
    array([-0.63212055,  2.        ], dtype=float32)
    """
    x = as_node(x)
    return plus(_positive(x), element_times(alpha, _expm1_negative(x)))


@operation
def selu(
    x: OperandLike, scale: float = 1.0507009873554805, alpha: float = 1.6732632423543772
) -> Node:
    """`scale` times `elu(x, alpha)`: self-normalizing (Klambauer et al., 2017).

    >>> C.selu([-1, 0]).eval()
    array([-1.1113307,  0.       ], dtype=float32)
    """
    return element_times(scale, elu(as_node(x), alpha))


@operation
def hard_sigmoid(x: OperandLike, alpha: float, beta: float) -> Node:
    """`alpha * x + beta` clipped to [0, 1]; the gradient at 0 and 1 is 0.

    >>> C.hard_sigmoid([-2.5, 0, 4], 0.2, 0.5).eval()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return element_min(1.0, element_max(0.0, plus(element_times(as_node(x), alpha), beta)))


@operation
def softplus(x: OperandLike, steepness: float = 1) -> Node:
    """log(1 + exp(steepness * x)) / steepness.

    Source: CNTK's `softplus`.

    >>> C.softplus([0]).eval()
    array([0.6931472], dtype=float32)
    """
    x = as_node(x)
    if steepness == 1:
        return softplus_of(x)
    return element_divide(softplus_of(element_times(steepness, x)), steepness)


_SATURATED = 1e30  # softsign rounds to 1 well below this, even in float64


@operation
def softsign(x: OperandLike, steepness: float = 1) -> Node:
    """`x / (1 + |x|)`.

    Args:
        steepness: accepted for compatibility with CNTK, without effect.

    >>> C.softsign([-1, 1]).eval()
    array([-0.5,  0.5], dtype=float32)
    """
    node = element_min(element_max(as_node(x), -_SATURATED), _SATURATED)  # inf / inf is NaN
    return element_divide(node, plus(1.0, abs(node)))
