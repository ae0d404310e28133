"""Programs of pointwise operations as chains: one pass over memory each.

A chain starts with an operation of two operands, and each further one takes what is there and at
most one more operand. The library compiles a chain into a single loop (a binary primitive with
post-operations). What does not fit into the chain of the result becomes one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Ref = int  # an operand's number; ONE; or, from the number of operands on, an earlier chain's result

ONE = -1  # the operand that is the number one


class Post(NamedTuple):
    """One operation on what is there: with an operand, or with numbers alpha and beta."""

    name: str
    operand: Ref | None = None
    alpha: float = 0.0
    beta: float = 0.0


class Chain(NamedTuple):
    """`name(left, right)`, followed by `posts`."""

    name: str
    left: Ref
    right: Ref
    posts: tuple[Post, ...]


_NEGATIVE = Post("linear", None, -1.0, 0.0)

# Operations of two operands: the library's name, and what gives the same with the operands
# exchanged (not the larger and the smaller, for which the library takes a number before NaN; not
# which is greater, as NaN is to it; not the quotient, which is 0 for a divisor of 0)
_PAIRS: dict[str, tuple[str, tuple[Post, ...], str]] = {
    "plus": ("add", (), "add"),
    "minus": ("sub", (_NEGATIVE,), "add"),
    "element_times": ("mul", (), "mul"),
    "equal": ("eq", (), "eq"),
    "not_equal": ("ne", (), "ne"),
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

# Version 3.2 has no code for these after another operation (but on some sizes), and once it was
# asked for that it compiles nothing more.
_COMPARISONS = {"eq", "ne"}

MOST_POSTS = 24  # the library takes no more than 32


def chains(steps: Sequence[tuple[str, tuple[int, ...]]], arity: int) -> list[Chain] | None:
    """The steps of a program as chains, the last of which gives the result.

    None if there is an operation among them that the library does not have.
    """
    if any(name not in _PAIRS and name not in _SINGLES for name, _ in steps):
        return None
    uses = [0] * (arity + len(steps))
    for _, operands in steps:
        for i in operands:
            uses[i] += 1
    open_: dict[int, list[Any]] = {}  # chains that may go on, by the value at their end
    done: list[Chain] = []
    chain: list[Any]
    where: dict[int, Ref] = {i: i for i in range(arity)}

    def closed(value: int) -> Ref:
        """Where a value can be read: its chain ends here."""
        if value not in where:
            name, left, right, posts = open_.pop(value)
            where[value] = arity + len(done)
            done.append(Chain(name, left, right, tuple(posts)))
        return where[value]

    for i, (name, operands) in enumerate(steps):
        value = arity + i
        own = [o for o in operands if o in open_ and uses[o] == 1 and len(open_[o][3]) < MOST_POSTS]
        if name in _PAIRS and _PAIRS[name][0] in _COMPARISONS:
            own = []
        # Of two chains the longer goes on: the later it ends, the more has been read before it.
        first = max(own, key=lambda o: len(open_[o][3]), default=None)
        if name in _SINGLES:
            if first is None:
                chain = ["mul", closed(operands[0]), ONE, []]
            else:
                chain = open_.pop(first)
            chain[3] += _SINGLES[name]
        else:
            straight, before, exchanged = _PAIRS[name]
            left, right = operands
            if first is None:
                chain = [straight, closed(left), closed(right), []]
            elif first == left:
                other = closed(right)
                chain = open_.pop(first)
                chain[3].append(Post(straight, other))
            else:
                other = closed(left)
                chain = open_.pop(first)
                chain[3] += [*before, Post(exchanged, other)]
        open_[value] = chain
        if uses[value] > 1:
            closed(value)
    closed(arity + len(steps) - 1)
    return done


def tail(steps: Sequence[tuple[str, tuple[int, ...]]], arity: int) -> tuple[Post, ...] | None:
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
            posts += [Post(straight, right)] if left == here else [*before, Post(exchanged, left)]
        else:
            return None
    fits = len(posts) <= MOST_POSTS and not any(p.name in _COMPARISONS for p in posts)
    return tuple(posts) if fits else None


def turned(chain: Chain, repeated: Mapping[Ref, Sequence[bool]]) -> Chain:
    """The chain, begun with an operand that is not repeated: the library wants that on the left."""
    if not any(repeated[chain.left]) or any(repeated[chain.right]):
        return chain
    _, before, exchanged = next(p for p in _PAIRS.values() if p[0] == chain.name)
    if not before:
        return Chain(exchanged, chain.right, chain.left, chain.posts)
    posts = (*before, Post(exchanged, chain.left), *chain.posts)
    return Chain("mul", chain.right, ONE, posts)
