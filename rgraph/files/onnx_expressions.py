"""Pointwise operations in ONNX: the expression that a record has for C, read and built anew."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .onnx_graph import Builder, Name

# How ONNX writes each scalar function of the expressions
FUNCTIONS = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "fabs": "Abs", "floor": "Floor", "ceil": "Ceil",
    "tanh": "Tanh", "erf": "Erf", "pow": "Pow", "sin": "Sin", "cos": "Cos", "tan": "Tan",
    "sinh": "Sinh", "cosh": "Cosh", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "asinh": "Asinh", "atanh": "Atanh",
}  # fmt: skip
SIGNS = {
    "+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "<": "Less", "<=": "LessOrEqual",
    ">": "Greater", ">=": "GreaterOrEqual", "==": "Equal", "&&": "And", "||": "Or",
}  # fmt: skip
_LEVELS = [["||"], ["&&"], ["==", "!="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/"]]
_LOGIC = {"<", "<=", ">", ">=", "==", "!=", "&&", "||"}

_TOKEN = re.compile(
    r"\s*(\{\d\}|[A-Za-z_]\w*|\d+\.?\d*(?:e[-+]?\d+)?|[<>=!]=|&&|\|\||[-+*/<>?:(),])"
)

Part = tuple[Name, bool]  # a value, and whether it is a truth value


class Expression:
    """A recursive descent through an expression; each part becomes a node of the graph.

    Args:
        operands: the names of what `{0}`, `{1}`, … stand for.
        double: whether numbers are of 64 bits.
    """

    def __init__(self, text: str, operands: Sequence[Name], build: Builder, double: bool) -> None:
        self.tokens: list[str] = _TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s", "", text):
            raise ValueError(f"an expression that can't be read: {text}")
        self.operands, self.build, self.double = operands, build, double
        self.place = 0

    def built(self) -> Name:
        found, is_truth = self._choice()
        assert self.place == len(self.tokens)
        return self._number(found) if is_truth else found

    def _next(self, wanted: str = "") -> str:
        token = self.tokens[self.place]
        assert not wanted or token == wanted, self.tokens
        self.place += 1
        return token

    def _peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _number(self, truth: Name) -> Name:
        return self.build("Cast", truth, to=11 if self.double else 1)

    def _choice(self) -> Part:
        condition = self._level(0)
        if self._peek() != "?":
            return condition
        self._next("?")
        yes, _ = self._choice()
        self._next(":")
        no, _ = self._choice()
        return self.build("Where", condition[0], yes, no), False

    def _level(self, level: int) -> Part:
        if level == len(_LEVELS):
            return self._single()
        left = self._level(level + 1)
        while self._peek() in _LEVELS[level]:
            sign = self._next()
            right = self._level(level + 1)
            left = self._pair(sign, left, right)
        return left

    def _pair(self, sign: str, left: tuple[Name, bool], right: tuple[Name, bool]) -> Part:
        (a, truth), (b, other) = left, right
        if truth and other and sign == "!=":
            return self.build("Xor", a, b), True
        if sign == "!=":
            return self.build("Not", self.build("Equal", a, b)), True
        if sign not in _LOGIC:
            a, b = (self._number(n) if t else n for n, t in (left, right))
        return self.build(SIGNS[sign], a, b), sign in _LOGIC

    def _single(self) -> Part:
        token = self._next()
        if token == "-":
            return self.build("Neg", self._single()[0]), False
        if token == "(":
            inside = self._choice()
            self._next(")")
            return inside
        if token.startswith("{"):
            return self.operands[int(token[1:-1])], False
        if token[0].isdigit():
            return self.build.number(float(token), self.double), False
        return self._call(token), False

    def _call(self, name: str) -> Name:
        self._next("(")
        if name == "sizeof":
            self._next()
            self._next(")")
            return self.build.number(8.0 if self.double else 4.0, self.double)
        arguments = [self._choice()]
        while self._peek() == ",":
            self._next()
            arguments.append(self._choice())
        self._next(")")
        names = [self._number(n) if truth else n for n, truth in arguments]
        if name == "T":
            return names[0]
        return self._function(name, names)

    def _one(self) -> Name:
        return self.build.number(1.0, self.double)

    def _function(self, name: str, names: Sequence[Name]) -> Name:
        if name in FUNCTIONS:
            return self.build(FUNCTIONS[name], *names)
        if name == "expm1":
            return self.build("Sub", self.build("Exp", *names), self._one())
        if name == "log1p":
            return self.build("Log", self.build("Add", *names, self._one()))
        if name == "fmod":
            return self.build("Mod", *names, fmod=1)
        raise ValueError(f"ONNX has no {name}")


# Records that ONNX has an operator for: one node instead of several
WHOLE: dict[str, str] = {
    "sigmoid": "Sigmoid", "relu": "Relu", "softplus": "Softplus", "element_max": "Max",
    "element_min": "Min", "stop_gradient": "Identity", "sign": "Sign",
}  # fmt: skip


def pointwise(record: str, text: str, names: Sequence[Name], build: Builder, double: bool) -> Name:
    """A pointwise operation on these operands."""
    if record in WHOLE:
        return build(WHOLE[record], *names)
    return Expression(text, names, build, double).built()
