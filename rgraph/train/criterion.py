"""What a trainer is given: a loss, perhaps a metric, and learners."""

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


def as_criterion(criterion: Any) -> tuple[Node, Node | None]:
    """The nodes of loss and metric, of a function with one or two outputs or a tuple."""
    parts = criterion if isinstance(criterion, (tuple, list)) else nodes_of(criterion)
    if not 1 <= len(parts) <= 2 or parts[0] is None:
        raise ValueError(
            f"a criterion is a loss, or a pair of a loss and a metric; got {len(parts)} values"
        )
    loss, metric = (*parts, None)[:2]
    return as_node(loss), None if metric is None else as_node(metric)


def loss_and_metric(criterion: Any) -> tuple[Function, Function | None]:
    """The same as functions: what some of CNTK's examples ask a trainer's class for."""
    loss, metric = as_criterion(criterion)
    return hold([loss]), None if metric is None else hold([metric])


def check_learners(learners: Sequence[Any]) -> None:
    """Raises `ValueError` for what are no learners."""
    if not learners:
        raise ValueError("a trainer needs at least one learner: C.sgd(model.parameters, 0.1)")
    for learner in learners:
        if not isinstance(learner, Learner):
            raise ValueError(f"a learner is what C.sgd(…) or the like gives, not {learner!r:.60}")


def learned_by(learners: Sequence[Learner], loss: Node) -> list[Any]:
    """The parameters that learners learn.

    Raises:
        ValueError: two learn one, or the loss does not depend on it.
    """
    own = set(graph.order([loss]))
    learned: dict[Any, None] = {}
    for learner in learners:
        for p in learner.parameters:
            if p in learned:
                raise ValueError(f"two learners learn {p!r}")
            if p.node not in own:
                raise ValueError(f"a learner is to learn {p!r}, which the loss does not use")
            learned[p] = None
    return list(learned)
