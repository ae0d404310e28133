"""Observers of a running plan: they see each call with its operands and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..graph import Node
from . import Plan
from .group import Group

if TYPE_CHECKING:
    from ..engines.base import Engine, Kernel


class Observer(Protocol):
    """Something that sees each call of a run.

    Attributes:
        hindrance: why runs can't be captured as one GPU graph while it is active.
        separate: whether operations must be called one by one, as the user wrote them.
    """

    hindrance: str
    separate: bool

    def around(self, kernel: Kernel, nodes: tuple[Node, ...], engine: Engine) -> Kernel:
        """The replacement of a kernel that computes these nodes."""


def observe(plan: Plan, observer: Observer) -> None:
    """Attach an observer to all calls of a plan."""
    plan.hindrance = observer.hindrance

    def around(kernel: Kernel, *nodes: Node) -> Kernel:
        return observer.around(kernel, nodes, plan.engine)

    if observer.separate:
        apart = (step.apart() if isinstance(step, Group) else [step] for step in plan.steps)
        plan.steps = [step for steps in apart for step in steps]
    for step in plan.steps:
        step.observe(around, observer.separate)
