"""What a step of training computes: loss, metric, gradients and updates, as one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import graph
from ..eval import Program, count_samples, counted_axes, total
from ..graph import Node
from ..learners import Learner
from ..ops.records import as_node
from ..runtime.carrying import sources_of
from ..runtime.evaluation import Feed, Request
from ..runtime.jobs import assigned, shown_to_users
from ..runtime.latest import Latest
from ..runtime.windows import Window


class Step(NamedTuple):
    """What a step of training computes.

    Attributes:
        request: the loss and what else is wanted, gradients and updates, as one plan.
        given: the parameters whose gradients are given to their learners.
        joined: the learners whose updates are in the plan.
    """

    request: Request
    given: list[Any]
    joined: list[Learner]


class Steps:
    """The steps of a trainer.

    Args:
        loss, metric: what they are to find, the metric if there is one.
        model: further nodes that the trainer has.
        learners: what learns, in their order.
        parameters: what they learn.
        window: how much of each sequence is computed at once; None: all.

    Attributes:
        program: what runs them.
        states: running statistics, and what they become.
        wanted: what each step finds: the loss, the number of samples, and the metric if there is
            one, as sums over the minibatch.
    """

    def __init__(
        self,
        loss: Node,
        metric: Node | None,
        model: Sequence[Node],
        learners: Sequence[Learner],
        parameters: Sequence[Any],
        window: Window | None,
    ) -> None:
        self.loss, self._learners, self.parameters = loss, learners, parameters
        self._window = window
        parts = [n for n in (loss, metric, *model) if n is not None]
        self.program = Program(parts)
        # If the loss has no rows, what it is computed from says how many samples there are.
        count = count_samples(*parts)
        self._counted = counted_axes(count)
        self.wanted = [total(loss), count]
        if metric is not None:
            self.wanted.append(total(metric))
        self.states = graph.updates([loss])
        self._steps: Latest[Any, Step] = Latest()

    def samples(self) -> int:
        """How many samples (or frames) the last minibatch had."""
        return self.program.rows(self._counted)

    def step(self, wanted: Sequence[Any], given: Feed, may_join: bool = True) -> Step:
        """What a step computes that is given a minibatch.

        Args:
            wanted: values to compute along with it.
            may_join: whether rules of learners that are graphs have their part in it. They have
                none in a step in windows, which finds its gradients last.
        """
        asked = (*self.wanted, *map(as_node, wanted))
        in_windows = self._window is not None or sources_of(given.data) is not None
        joins = may_join and not in_windows
        return self._steps.get((asked, joins), self._made)

    def _made(self, key: tuple[tuple[Node, ...], bool]) -> Step:
        asked, may_join = key
        joined = self._joined(asked) if may_join else []
        updates, learned = list(self.states.items()), list[tuple[Node, Node]]()
        for learner, rule in joined:
            updates += rule.updates
            learned += zip(rule.gradients, (p.node for p in learner.parameters), strict=True)
        inside = {p for learner, _ in joined for p in learner.parameters}
        given = [p for p in self.parameters if p not in inside]
        request = Request(
            asked,
            (self.loss,),
            tuple(p.node for p in given),
            updates=tuple(updates),
            learned=tuple(learned),
            window=self._window,
            shown=shown_to_users(self.loss),
        )
        return Step(request, given, [learner for learner, _ in joined])

    def _joined(self, asked: Sequence[Node]) -> list[tuple[Learner, Any]]:
        """The learners whose rules are graphs that do not read what else a step changes: they
        would have to come after that."""
        changed = {*self.states, *(stored for stored, _ in assigned(graph.order(asked)))}
        joined = []
        for learner in self._learners:
            others = {p.node for p in self.parameters if p not in learner.parameters}
            rule = learner.rule
            if rule is not None and rule.reads.isdisjoint(changed | others):
                joined.append((learner, rule))
        return joined
