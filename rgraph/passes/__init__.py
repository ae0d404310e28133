"""Passes: from a graph to one that computes the same with less work.

Each is a function from outputs to outputs, in a module of its own. They work on a copy of the
graph that nobody else holds, so they may change its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..graph import Node
from . import algebra, constants, fusion, recomputation, sharing, tails
from .rewriting import private

Pass = Callable[[Sequence[Node]], list[Node]]

PASSES: dict[str, Pass] = {
    "algebra": algebra.simplify,
    "constants": constants.fold,
    "sharing": sharing.share,
    "recomputation": recomputation.repeat,
    "tails": tails.hang,
    "fusion": fusion.fuse,
}


def optimize(outputs: Sequence[Node], without: Sequence[str] = ()) -> list[Node]:
    """The same values by a graph that is faster to run.

    Args:
        without: names of `PASSES` to leave out.
    """
    outputs = private(outputs)
    for name, step in PASSES.items():
        if name not in without:
            outputs = step(outputs)
    return outputs
