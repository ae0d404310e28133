"""Scalar expressions of pointwise operations, and how to render them for each target.

A record states its expression once, in Python's syntax, in terms of its operands' names:
"1 / (1 + exp(-x))". One table renders it in C and CUDA, with an array library's functions, or with
ONNX operators.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import NamedTuple

from ..graph import Op
from ..graph.types import Array, Library


class Scalar(NamedTuple):
    """How each target writes a scalar function.

    Attributes:
        arrays: the array library's function, or a function that returns it.
        c: in C and CUDA.
        onnx: the operator; "" if several are needed.
    """

    arrays: str | Callable[[Library], Callable[..., Array]]
    c: str
    onnx: str = ""


class Smallest(NamedTuple):
    """The smallest argument of a logarithm, for each size of a number in bytes."""

    by_bytes: tuple[tuple[int, float], ...]

    def of(self, size: int) -> float:
        return dict(self.by_bytes)[size]


class Call(NamedTuple):
    """A call of a function in `FUNCTIONS`."""

    name: str
    operands: tuple[Tree, ...]

    @property
    def is_truth(self) -> bool:
        return self.name in _TRUTHS

    @property
    def takes_truths(self) -> Sequence[int]:
        """The operands that are truth values."""
        return range(1 if self.name == "where" else 2 if self.name in _LOGIC else 0)


Tree = Call | int | float | Smallest  # an int is an operand's number


def _erf(xp: Library) -> Callable[..., Array]:
    """SciPy's, or cupyx's for CuPy; neither supports float16."""
    name = ("" if xp.__name__ == "numpy" else f"{xp.__name__}x.") + "scipy.special"

    def erf(x: Array, out: Array | None = None) -> Array:
        found = import_module(name).erf(x, out=out)
        return found if found.dtype == x.dtype else found.astype(x.dtype)

    return erf


def negative(xp: Library, x: Array, out: Array | None = None) -> Array:
    """-x. NumPy 2.4's `negative` is wrong for two elements if operand and `out` are strided."""
    return xp.multiply(x, -1, out=out)


def _same(name: str, arrays: str = "", onnx: str = "") -> Scalar:
    return Scalar(arrays or name, name + "({0})", onnx or name.capitalize())


FUNCTIONS: dict[str, Scalar] = {
    "add": Scalar("add", "{0} + {1}", "Add"),
    "subtract": Scalar("subtract", "{0} - {1}", "Sub"),
    "multiply": Scalar("multiply", "{0} * {1}", "Mul"),
    "divide": Scalar("divide", "{0} / {1}", "Div"),
    "negative": Scalar(lambda xp: lambda x, out=None: negative(xp, x, out), "-{0}", "Neg"),
    "less": Scalar("less", "{0} < {1}", "Less"),
    "less_equal": Scalar("less_equal", "{0} <= {1}", "LessOrEqual"),
    "greater": Scalar("greater", "{0} > {1}", "Greater"),
    "greater_equal": Scalar("greater_equal", "{0} >= {1}", "GreaterOrEqual"),
    "equal": Scalar("equal", "{0} == {1}", "Equal"),
    "not_equal": Scalar("not_equal", "{0} != {1}"),
    "and": Scalar("logical_and", "{0} && {1}", "And"),
    "or": Scalar("logical_or", "{0} || {1}", "Or"),
    "xor": Scalar("logical_xor", "{0} != {1}", "Xor"),
    "where": Scalar("where", "{0} ? {1} : {2}", "Where"),
    "maximum": Scalar("maximum", "({0} >= {1} || {0} != {0} ? {0} : {1})", "Max"),
    "minimum": Scalar("minimum", "({0} <= {1} || {0} != {0} ? {0} : {1})", "Min"),
    # Maximum and minimum with a number, which can't be NaN: fewer comparisons
    "at_least": Scalar("maximum", "({0} < {1} ? {1} : {0})", "Max"),
    "at_most": Scalar("minimum", "({0} > {1} ? {1} : {0})", "Min"),
    "abs": Scalar("absolute", "fabs({0})", "Abs"),
    "pow": Scalar("power", "pow({0}, {1})", "Pow"),
    "fmod": Scalar("fmod", "fmod({0}, {1})"),
    "erf": Scalar(_erf, "erf({0})", "Erf"),
    "expm1": Scalar("expm1", "expm1({0})"),
    "log1p": Scalar("log1p", "log1p({0})"),
    **{n: _same(n) for n in ("exp", "log", "sqrt", "floor", "ceil", "sin", "cos", "tan")},
    **{n: _same(n) for n in ("sinh", "cosh", "tanh")},
    **{f"a{n}": _same(f"a{n}", f"arc{n}") for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
}

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide",
    ast.USub: "negative", ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater",
    ast.GtE: "greater_equal", ast.Eq: "equal", ast.NotEq: "not_equal", ast.And: "and",
    ast.Or: "or", ast.BitXor: "xor",
}  # fmt: skip
_LOGIC = {"and", "or", "xor"}  # of truth values
_TRUTHS = _LOGIC | {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}

# For float32 as in CNTK, for float64 likewise, for float16 the smallest positive number
SMALLEST_IN_LOG = Smallest(((2, 2.0**-24), (4, math.exp(-85.1)), (8, math.exp(-708))))
CONSTANTS: dict[str, Tree] = {"inf": math.inf, "smallest_in_log": SMALLEST_IN_LOG}


@lru_cache(maxsize=1024)
def parsed(text: str, operands: tuple[str, ...]) -> Tree:
    """Parse an expression.

    Args:
        text: in Python's syntax, with the table's functions and constants.
        operands: the names of its operands.
    """

    def tree(node: ast.expr) -> Tree:
        match node:
            case ast.Constant(value=int() | float() as value):
                return float(value)
            case ast.Name(id=name) if name in operands:
                return operands.index(name)
            case ast.Name(id=name) if name in CONSTANTS:
                return CONSTANTS[name]
            case ast.UnaryOp():
                return Call(_OPERATORS[type(node.op)], (tree(node.operand),))
            case ast.BinOp():
                return Call(_OPERATORS[type(node.op)], (tree(node.left), tree(node.right)))
            case ast.Compare():
                sides = tree(node.left), tree(node.comparators[0])
                return Call(_OPERATORS[type(node.ops[0])], sides)
            case ast.BoolOp():
                left, right = node.values
                return Call(_OPERATORS[type(node.op)], (tree(left), tree(right)))
            case ast.IfExp():
                return Call("where", (tree(node.test), tree(node.body), tree(node.orelse)))
            case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
                return Call(name, tuple(map(tree, node.args)))
        raise ValueError(f"unsupported expression: {text}")

    return tree(ast.parse(text, mode="eval").body)


def of(op: Op) -> Tree:
    """The parsed expression of a pointwise operation."""
    return parsed(op.expression, op.operands)


# In C and CUDA


def in_c(tree: Tree, variables: Sequence[str]) -> str:
    """The expression for variables of the type `T`; truth values are 1 or 0."""
    return f"T({_c(tree, variables)})" if _is_truth(tree) else _c(tree, variables)


def _is_truth(tree: Tree) -> bool:
    return isinstance(tree, Call) and tree.is_truth


def _c(tree: Tree, variables: Sequence[str]) -> str:
    if isinstance(tree, Call):
        form, truths = FUNCTIONS[tree.name].c, tree.takes_truths
        parts = []
        for i, operand in enumerate(tree.operands):
            part = (_c if i in truths else in_c)(operand, variables)
            # Function calls need no parentheses, and neither do arguments of functions.
            parts.append(f"({part})" if " " in form and _is_open(part) else part)
        if tree.name == "negative" and _is_open(parts[0]):
            parts = [f"({parts[0]})"]
        return form.format(*parts)
    if isinstance(tree, Smallest):
        return f"(sizeof(T(0)) == 4 ? {_c(tree.of(4), ())} : {_c(tree.of(8), ())})"
    if isinstance(tree, float):
        if math.isinf(tree):
            return "T(1) / T(0)"
        return f"T({int(tree) if tree.is_integer() else repr(tree)})"
    return variables[tree]


def _is_open(part: str) -> bool:
    """Whether an adjacent operator could bind to only a part of this C expression."""
    depth = 0
    for i, sign in enumerate(part):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and (sign == " " or sign == "-" and i == 0):
            return True
    return False


# With an array library's functions


# part(arrays, out) returns the value of a part of an expression, in `out` if that is not None
Part = Callable[[Sequence[Array], Array | None], Array]


def on_arrays(tree: Tree) -> Callable[[Library], Callable[..., Array]]:
    """Return `of(xp)`, which gives a function `f(*arrays, out=None)` that evaluates `tree`."""
    if not isinstance(tree, Call):
        return lambda xp: xp.positive
    count = len({*_reads(tree)})
    if tree.operands == tuple(range(count)) and not tree.is_truth and tree.name != "where":
        return lambda xp: _function(tree.name, xp)
    once = len(_reads(tree)) == 1  # then `out` may be the operand itself

    def bound(xp: Library) -> Callable[..., Array]:
        part = _part(tree, xp, once)
        if not tree.is_truth:
            return lambda *arrays, out=None: part(arrays, out)

        def truth(*arrays: Array, out: Array | None = None) -> Array:
            found = part(arrays, out)
            return found.astype(arrays[0].dtype) if out is None else found

        return truth

    return bound


def _reads(tree: Tree) -> list[int]:
    """The operands that an expression reads, with repetitions."""
    if isinstance(tree, Call):
        return [i for part in tree.operands for i in _reads(part)]
    return [tree] if isinstance(tree, int) else []


def _function(name: str, xp: Library) -> Callable[..., Array]:
    own = FUNCTIONS[name].arrays
    return getattr(xp, own) if isinstance(own, str) else own(xp)


def _part(tree: Tree, xp: Library, over: bool) -> Part:
    """A part of an expression, on arrays.

    Args:
        over: whether intermediate values may be written to `out`.
    """
    if isinstance(tree, Smallest):
        return lambda arrays, out: tree.of(arrays[0].dtype.itemsize)
    if isinstance(tree, float):
        return lambda arrays, out: tree
    if isinstance(tree, int):
        return lambda arrays, out: arrays[tree]
    function = _function(tree.name, xp)
    if tree.name == "where":
        return _where(function, *(_part(p, xp, False) for p in tree.operands))
    calls = [p for p in tree.operands if isinstance(p, Call)]
    parts = [_part(p, xp, over) for p in tree.operands]
    if calls and all(c.is_truth for c in calls) and len(calls) == len(parts) and not tree.is_truth:
        parts = [_as_numbers(p) for p in parts]
    if len(parts) == 1:
        return _unary(function, parts[0], over, bool(calls))
    first, second = parts
    if len(calls) == 1 and not calls[0].is_truth and len(_reads(tree)) == len(_reads(calls[0])):
        return _with_number(function, parts, over, tree.operands.index(calls[0]), tree.is_truth)
    return lambda arrays, out: function(first(arrays, None), second(arrays, None), out=out)


def _unary(function: Callable[..., Array], part: Part, over: bool, is_made: bool) -> Part:
    """A function of a part, written over the value of that part if it is temporary."""
    if not is_made:
        return lambda arrays, out: function(part(arrays, None), out=out)

    def compute(arrays: Sequence[Array], out: Array | None) -> Array:
        value = part(arrays, out if over else None)
        if out is None and value.ndim:
            out = value
        return function(value, out=out)

    return compute


def _with_number(
    function: Callable[..., Array], parts: Sequence[Part], over: bool, made: int, is_truth: bool
) -> Part:
    """Like `_unary`, for a function of a temporary part and a number."""
    part, number = parts[made], parts[1 - made]

    def compute(arrays: Sequence[Array], out: Array | None) -> Array:
        value = part(arrays, out if over else None)
        if out is None and value.ndim and not is_truth:
            out = value
        other = number(arrays, None)
        return function(other, value, out=out) if made else function(value, other, out=out)

    return compute


def _where(function: Callable[..., Array], condition: Part, yes: Part, no: Part) -> Part:
    def compute(arrays: Sequence[Array], out: Array | None) -> Array:
        type_ = arrays[0].dtype.type  # Python numbers would give float64
        sides = (p(arrays, None) for p in (yes, no))
        a, b = (type_(s) if isinstance(s, float) else s for s in sides)
        chosen = function(condition(arrays, None), a, b)
        if out is None:
            return chosen
        out[...] = chosen
        return out

    return compute


def _as_numbers(part: Part) -> Part:
    return lambda arrays, out: part(arrays, None).astype(arrays[0].dtype)
