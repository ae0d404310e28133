"""Training steps: loss, metric, gradients and updates, as one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import graph
from ..eval import Program, count_samples, counted_axes, total
from ..graph import Input, Node
from ..learners import Learner
from ..learners.rule import Rule
from ..ops.records import as_node
from ..runtime.cache import Cache
from ..runtime.carrying import sources_of
from ..runtime.evaluation import Feed, Request
from ..runtime.jobs import assigned, shown_to_users
from ..runtime.windows import Window
from .scaling import Scaling


def in_order(parameters: Sequence[Any], loss: Node) -> list[Any]:
    """Parameters in the order in which back-propagation reaches them, whatever a learner's is."""
    places = {node: place for place, node in enumerate(graph.order([loss]))}
    return sorted(parameters, key=lambda p: -places.get(p.node, -1))


class Step(NamedTuple):
    """A training step.

    Attributes:
        request: the loss and other requested values, gradients and updates, as one plan.
        given: the parameters whose gradients are passed to their learners.
        joined: the learners whose updates are part of the plan.
        unchecked: how many of the last updates are finite if the gradients are.
        may_overflow: whether the decision to learn depends on the passed gradients, because the
            loss has a dynamic scale. If no gradients are passed, the plan decides.
    """

    request: Request
    given: list[Any]
    joined: list[Learner]
    unchecked: int
    may_overflow: bool


class Steps:
    """The training steps of a trainer.

    Args:
        loss, metric: the loss, and the metric if there is one.
        model: further nodes of the trainer.
        learners: the learners, in their order.
        parameters: the parameters that they learn.
        window: how many frames of each sequence to compute at once; None: all.
        looks: whether to compute gradients only to check that they are finite.
        scaling: how the loss is scaled.

    Attributes:
        program: runs them.
        states: running statistics, with their new values.
        wanted: the results of each step: the loss, the number of samples, and the metric if there
            is one, as sums over the minibatch.
    """

    def __init__(
        self,
        loss: Node,
        metric: Node | None,
        model: Sequence[Node],
        learners: Sequence[Learner],
        parameters: Sequence[Any],
        window: Window | None,
        looks: bool,
        scaling: Scaling,
    ) -> None:
        self.loss, self._learners, self.parameters = loss, learners, in_order(parameters, loss)
        self._window, self._looks, self.scaling = window, looks, scaling
        parts = [n for n in (loss, metric, *model) if n is not None]
        self.program = Program(parts)
        # If the loss has no rows, what it is computed from says how many samples there are.
        count = count_samples(*parts)
        self._counted = counted_axes(count)
        self.wanted = [total(loss), count]
        if metric is not None:
            self.wanted.append(total(metric))
        self.states = graph.updates([loss])
        self._steps: Cache[Any, Step] = Cache()

    def samples(self) -> int:
        """How many samples (or frames) the last minibatch had."""
        return self.program.rows(self._counted)

    def step(self, wanted: Sequence[Any], given: Feed, may_join: bool = True) -> Step:
        """The step for a minibatch.

        Args:
            wanted: values to compute along with it.
            may_join: whether the updates of learners may be part of the plan. They can't if the
                step runs in windows, which give gradients last, or if the samples are only counted
                during the run, because rates depend on their number.
        """
        asked = (*self.wanted, *map(as_node, wanted))
        in_windows = self._window is not None or sources_of(given.data) is not None
        counted_before = not any(a.source or a.is_made for a in self._counted)
        joins = may_join and counted_before and not in_windows
        rules = tuple(k.rule if joins and not k.has_own_update else None for k in self._learners)
        return self._steps.get((asked, rules), self._made)

    def with_numbers(self, given: Feed, step: Step) -> Feed:
        """The data, with the rates that depend on the number of samples."""

        def numbers() -> dict[Input, Any]:
            fed: dict[Input, Any] = {}
            for learner in step.joined:
                fed |= learner.feed(max(self.samples(), 1))
            return fed

        return given._replace(numbers=numbers)

    def _made(self, key: tuple[tuple[Node, ...], tuple[Rule | None, ...]]) -> Step:
        joined, scaling = self._joined(*key), self.scaling
        news, ours = list(self.states.items()), list[tuple[Node, Node]]()
        learned = list[tuple[Node, Node]]()
        for learner, rule in joined:
            (ours if learner.is_by_step else news).extend(rule.updates)
            learned += zip(rule.gradients, (p.node for p in learner.parameters), strict=True)
        inside = {p for k, _ in joined for p in k.parameters}
        given = [p for p in self.parameters if p not in inside]
        seen = [p for k, _ in joined if k.is_by_step and self._looks for p in k.parameters]
        if scaling.dynamic and not given:
            gradients, seen = [g for g, _ in learned], []
            news = [*scaling.guarded(news, gradients), *scaling.updates(gradients)]
            ours = scaling.guarded(ours, gradients)
        request = Request(
            key[0],
            (self.loss,),
            tuple(p.node for p in (*given, *seen)),
            updates=(*news, *ours),
            learned=tuple(learned),
            window=self._window,
            shown=shown_to_users(self.loss),
            looked_at=len(seen),
            numbers=tuple(n for _, rule in joined for n in rule.fed),
            scale=scaling.factor,
        )
        own = [learner for learner, _ in joined]
        return Step(request, given, own, len(ours), bool(scaling.dynamic and given))

    def _joined(
        self, asked: Sequence[Node], rules: Sequence[Rule | None]
    ) -> list[tuple[Learner, Rule]]:
        """The learners whose updates can be part of the plan: the first ones whose rules don't read
        anything else that a step changes. Later learners wait for those before them. With a dynamic
        loss scale it is all or none, since one plan decides for all.
        """
        changed = {*self.states, *(stored for stored, _ in assigned(graph.order(asked)))}
        joined = []
        for learner, rule in zip(self._learners, rules, strict=True):
            others = {p.node for p in self.parameters if p not in learner.parameters}
            if rule is None or not rule.reads.isdisjoint(changed | others):
                break
            joined.append((learner, rule))
        return [] if self.scaling.dynamic and len(joined) < len(rules) else joined
