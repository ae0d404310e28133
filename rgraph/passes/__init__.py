"""Passes: from a graph to one that computes the same values with less work.

Each is a function from outputs to outputs, in a module of its own. Passes work on a private copy of
the graph, so they may change its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar

from ..graph import Node, order
from ..graph.node import Type
from . import algebra, constants, fusion, recomputation, sharing, tails
from .rewriting import private, substitute
from .verify import verify

Pass = Callable[[Sequence[Node]], list[Node]]

PASSES: dict[str, Pass] = {
    "algebra": algebra.simplify,
    "constants": constants.fold,
    "sharing": sharing.share,
    "recomputation": recomputation.repeat,
    "tails": tails.hang,
    "fusion": fusion.fuse,
}


verifying: ContextVar[bool] = ContextVar("verifying", default=False)  # each pass's graph


def optimize(
    outputs: Sequence[Node], without: Sequence[str] = (), training: bool | None = None
) -> list[Node]:
    """A graph that computes the same values faster.

    Args:
        without: names of `PASSES` to skip.
        training: whether the graph will be run in training mode; None if it may be both.
    """
    outputs = private(outputs)
    types = [Type.of(o) for o in outputs]
    if training is False:
        outputs = outside_training(outputs)
    for name, step in PASSES.items():
        if name not in without:
            outputs = step(outputs)
            if verifying.get():
                verify(name, types, outputs)
    return outputs


def outside_training(outputs: Sequence[Node]) -> list[Node]:
    """The same values outside training: no dropout, no minibatch statistics."""
    nodes = order(outputs)
    return substitute(
        outputs,
        {n: n.op.inference_form(n) for n in nodes if n.op is not None and n.op.inference_form},
    )
