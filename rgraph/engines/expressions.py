"""What each pointwise operation is in C and CUDA: see `Op.expression`."""

from __future__ import annotations

from ..ops.records import TABLE

EXPRESSIONS = {name: op.expression for name, op in TABLE.items() if op.expression}


def expression(name: str, operands: list[str]) -> str:
    """The operation `name` on variables."""
    return EXPRESSIONS[name].format(*operands)
