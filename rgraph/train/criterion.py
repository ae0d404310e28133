"""Checks the criterion (a loss and an optional metric) and the learners of a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import graph
from ..graph import Node
from ..learners import Learner
from ..operands.tracing import nodes_of
from ..ops.records import as_node, hold

if TYPE_CHECKING:
    from ..model.function import Function


def as_criterion(criterion: object) -> tuple[Node, Node | None]:
    """The nodes of loss and metric, from a function with one or two outputs or a tuple."""
    parts = criterion if isinstance(criterion, (tuple, list)) else nodes_of(criterion)
    if not 1 <= len(parts) <= 2 or parts[0] is None:
        raise ValueError(
            f"a criterion must be a loss, or a pair of loss and metric; got {len(parts)} values"
        )
    loss, metric = (*parts, None)[:2]
    return as_node(loss), None if metric is None else as_node(metric)


def loss_and_metric(criterion: object) -> tuple[Function, Function | None]:
    """The same as functions; some of CNTK's examples use this private method of `Trainer`."""
    loss, metric = as_criterion(criterion)
    return hold([loss]), None if metric is None else hold([metric])


def check_learners(learners: Sequence[object]) -> None:
    """Raises `ValueError` if these are not learners."""
    if not learners:
        raise ValueError("a trainer needs at least one learner: C.sgd(model.parameters, 0.1)")
    for learner in learners:
        if not isinstance(learner, Learner):
            raise ValueError(f"expected a learner such as C.sgd(…), got {learner!r:.60}")


def learned_by(learners: Sequence[Learner], loss: Node) -> list[Any]:
    """The parameters of the learners.

    Raises:
        ValueError: two learners have the same parameter, or the loss does not depend on one.
    """
    own = set(graph.order([loss]))
    learned: dict[Any, None] = {}
    for learner in learners:
        for p in learner.parameters:
            if p in learned:
                raise ValueError(f"two learners have the same parameter {p!r}")
            if p.node not in own:
                raise ValueError(f"the loss does not depend on {p!r}, a parameter of a learner")
            learned[p] = None
    return list(learned)
