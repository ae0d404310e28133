"""What each pointwise operation is in C++, for the kernels that `pointwise` generates.

`{0}`, `{1}`, … are the operands, variables of the result's type `T`. They mean what the records'
own kernels mean, NaN and infinities included.
"""

from __future__ import annotations

from ..ops.arithmetic import SMALLEST_IN_LOG

_FLOOR = "(sizeof({{0}}) == 4 ? T({!r}) : T({!r}))".format(*map(SMALLEST_IN_LOG.get, (4, 8)))

# What is divided by 0 is 0: so the divisor is infinity then
_DIVISOR = "({0} == T(0) ? T(1) / T(0) : {0})"

# The larger and the smaller of two, NaN if either is
_MAX = "({0} >= {1} || {0} != {0} ? {0} : {1})"
_MIN = "({0} <= {1} || {0} != {0} ? {0} : {1})"


def _largest(x: str, least: str) -> str:
    return f"({x} < {least} ? {least} : {x})"


EXPRESSIONS: dict[str, str] = {
    "plus": "{0} + {1}",
    "minus": "{0} - {1}",
    "difference": "({0} == {1} ? T(0) : {0} - {1})",
    "element_times": "{0} * {1}",
    "adjoint_times": "({0} == T(0) ? T(0) : {0} * {1})",
    "element_divide": f"{{0}} / {_DIVISOR.format('{1}')}",
    "pow": "pow({0} == T(0) && {1} < T(0) ? T(1) / T(0) : {0}, {1})",
    "element_max": _MAX,
    "element_min": _MIN,
    "negate": "-{0}",
    "exp": "exp({0})",
    "log": f"log({_largest('{0}', _FLOOR)})",
    "expm1": "expm1({0})",
    "log1p": "log1p({0})",
    "erf": "erf({0})",
    "mod": (
        "(fmod({0}, {1}) != T(0) && (fmod({0}, {1}) < T(0)) != ({1} < T(0))"
        " ? fmod({0}, {1}) + {1} : fmod({0}, {1}))"
    ),
    "log_add_exp": (
        "({0} == {1} ? {0} + T(0.693147180559945309)"
        " : ({0} > {1} ? {0} : {1}) + log1p(exp({0} > {1} ? {1} - {0} : {0} - {1})))"
    ),
    "sqrt": f"sqrt({_largest('{0}', 'T(0)')})",
    "square": "{0} * {0}",
    "reciprocal": f"T(1) / {_DIVISOR}",
    "abs": "fabs({0})",
    "tanh": "tanh({0})",
    "sin": "sin({0})",
    "cos": "cos({0})",
    "tan": "tan({0})",
    "sinh": "sinh({0})",
    "cosh": "cosh({0})",
    "asin": "asin({0})",
    "acos": "acos({0})",
    "atan": "atan({0})",
    "asinh": "asinh({0})",
    "atanh": "atanh({0})",
    "floor": "floor({0})",
    "ceil": "ceil({0})",
    "round": "floor({0}) + T({0} - floor({0}) >= T(0.5))",
    "sign": "({0} != {0} ? {0} : T({0} > T(0)) - T({0} < T(0)))",
    "equal": "T({0} == {1})",
    "not_equal": "T({0} != {1})",
    "less": "T({0} < {1})",
    "less_equal": "T({0} <= {1})",
    "greater": "T({0} > {1})",
    "greater_equal": "T({0} >= {1})",
    "element_not": "T({0} == T(0))",
    "element_and": "T({0} != T(0) && {1} != T(0))",
    "element_or": "T({0} != T(0) || {1} != T(0))",
    "element_xor": "T(({0} != T(0)) != ({1} != T(0)))",
    "element_select": "({0} != T(0) ? {1} : {2})",
    "stop_gradient": "{0}",
    "sigmoid": "T(1) / (T(1) + exp(-{0}))",
    "softplus": f"{_largest('{0}', 'T(0)')} + log1p(exp(-fabs({{0}})))",
    "relu": _largest("{0}", "T(0)"),
    "expm1_negative": "expm1({0} > T(0) ? T(0) : {0})",
}


def expression(name: str, operands: list[str]) -> str:
    """The operation `name` on C++ variables."""
    return EXPRESSIONS[name].format(*operands)
