"""Looking on while a plan runs: each call, with what it was given and what it gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..graph import Node
from . import Plan
from .call import Call
from .loop import Loop

if TYPE_CHECKING:
    from ..engines.base import Engine


class Observer(Protocol):
    """Something that looks at each call of a run.

    Attributes:
        hindrance: why no run can be one launch of a GPU's while it looks.
        separate: whether operations must be called one by one, as the user wrote them.
    """

    hindrance: str
    separate: bool

    def around(self, kernel: Callable[..., Any], nodes: tuple[Node, ...], engine: Engine) -> Any:
        """What is called in the place of a kernel that computes these nodes."""


def observe(plan: Plan, observer: Observer) -> None:
    """Has an observer look at all calls of a plan, from now on."""
    plan.hindrance = observer.hindrance

    def around(kernel: Callable[..., Any], *nodes: Node) -> Any:
        return observer.around(kernel, nodes, plan.engine)

    for step in plan.steps:
        calls = [step] if isinstance(step, Call) else []
        if isinstance(step, Loop):
            step.tape = None
            step.places = {}  # what was seen stays as it was
        for part in step.parts if isinstance(step, Loop) else ():
            if part.together and not observer.separate:
                part.in_one_go = around(part.in_one_go, *(c.node for c in part.calls))
            else:
                part.light = False  # one by one
                calls += part.calls
        for call in calls:
            call.kernel = around(call.kernel, call.node)
