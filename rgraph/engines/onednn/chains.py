"""Tails of pointwise operations, as the library's post-operations: they are done along with what
gives the result that they begin with.
"""

from __future__ import annotations

from typing import NamedTuple

from ...ops.fused import Steps


class Post(NamedTuple):
    """One operation on what is there: with an operand, or with numbers alpha and beta."""

    name: str
    operand: int | None = None
    alpha: float = 0.0
    beta: float = 0.0


_NEGATIVE = Post("linear", None, -1.0, 0.0)

# Operations of two operands: the library's name, and what gives the same with the operands
# exchanged (not the larger and the smaller, for which the library takes a number before NaN; not
# the quotient, which is 0 for a divisor of 0; not comparisons, for which version 3.2 has no code)
_PAIRS: dict[str, tuple[str, tuple[Post, ...], str]] = {
    "plus": ("add", (), "add"),
    "minus": ("sub", (_NEGATIVE,), "add"),
    "element_times": ("mul", (), "mul"),
}

# Operations of one operand: not softplus, which the library rounds as log(1 + exp(x)); not exp and
# its own relu, which make numbers of NaN. Relu is x or 0 (exp(x) - 1), and -0.0 + 0.
_SINGLES: dict[str, tuple[Post, ...]] = {
    "negate": (_NEGATIVE,),
    "sigmoid": (Post("logistic"),),
    "tanh": (Post("tanh"),),
    "relu": (Post("elu", None, 0.0), Post("linear", None, 1.0, 0.0)),
    "square": (Post("square"),),
    "abs": (Post("abs"),),
}

MOST_POSTS = 24  # the library takes no more than 32


def tail(steps: Steps, arity: int) -> tuple[Post, ...] | None:
    """The steps of a program that goes straight on from its first operand.

    None if there is an operation among them that the library does not have.
    """
    posts: list[Post] = []
    for i, (name, operands) in enumerate(steps):
        here = arity + i - 1 if i else 0
        if name in _SINGLES:
            posts += _SINGLES[name]
        elif name in _PAIRS:
            straight, before, exchanged = _PAIRS[name]
            left, right = operands
            other = right if left == here else left
            if not 0 < other < arity:  # what was computed on the way
                return None
            posts += [Post(straight, right)] if left == here else [*before, Post(exchanged, left)]
        else:
            return None
    return tuple(posts) if len(posts) <= MOST_POSTS else None
