"""A learner with a rule that users write with operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import graph
from ..graph import Input, Node, Stored
from ..graph.context import context
from ..operands.operand import Operand
from ..operands.tracing import nodes_of
from ..ops.records import as_node, hold
from ..runtime.jobs import assigned
from ..runtime.values import device_of
from .learner import Learner
from .rule import Rule


class _Universal(Learner):
    def __init__(self, rule: Callable[..., Any], parameters: Sequence[Any]) -> None:
        super().__init__(parameters, 1.0)
        context().random.next_seed()  # like every learner in CNTK
        gradients = [Input(p.shape, (), p.dtype, "gradient") for p in self.parameters]
        result = rule(list(self.parameters), list(map(hold, gradients)))
        outputs = nodes_of(result) if isinstance(result, Operand) else map(as_node, result)
        self._inputs = gradients
        self._made: tuple[Sequence[Node], Rule | None] | None = None
        self._function = hold(list(outputs))
        kept = (*self._function.parameters, *self._function.constants)
        self._memory = [v for v in kept if isinstance(v.node, Stored) and v not in self.parameters]

    @property
    def rule(self) -> Rule | None:
        """See `Learner.rule`; None if a training step would compute a different result."""
        current = self._function._current()
        if self._made is None or self._made[0] != current:
            self._made = current, self._rule_of(current)
        return self._made[1]

    def _rule_of(self, current: Sequence[Node]) -> Rule | None:
        nodes = graph.order(current)
        fed = {n for n in nodes if isinstance(n, Input)}
        if fed - set(self._inputs) or any(n.op is not None and n.op.inference_form for n in nodes):
            return None
        return Rule(tuple(self._inputs), tuple(assigned(nodes)))

    def update(
        self,
        gradient_values: Mapping[Any, object],
        training_sample_count: int,
        is_sweep_end: bool = False,
    ) -> bool:
        gradients = self._gradients(gradient_values)
        feed = dict(zip(self._inputs, gradients, strict=True))
        known = {v.node for v in self._function.arguments}
        where = device_of(next(iter(feed.values())))
        used = {v: g for v, g in feed.items() if v in known}
        self._function.eval(used, device=where, as_numpy=False)
        return self.count(int(training_sample_count), is_sweep_end)

    _rules_update = update

    def create_checkpoint(self) -> dict[str, Any]:
        return super().create_checkpoint() | {"memory": [np.array(v.value) for v in self._memory]}

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        memory = checkpoint.get("memory")
        shapes = [v.node.shape for v in self._memory]
        if memory is not None and [np.shape(a) for a in memory] != shapes:
            raise ValueError("the checkpoint belongs to a rule with other state")
        older = {"memory": [v.value for v in self._memory]}  # missing in older checkpoints
        super().restore_from_checkpoint(older | dict(checkpoint))
        for variable, value in zip(self._memory, memory or [], strict=False):
            variable.value = value


def universal(update_func: Callable[..., object], parameters: Sequence[object]) -> Learner:
    """A learner with an update rule written with operations.

    Args:
        update_func: `update_func(parameters, gradients)` takes two lists of the same length and
            returns a function that sets the parameters: `C.combine([C.assign(p, …), …])`. The
            gradients are sums over the minibatch.
        parameters: the parameters to learn. Their shapes must be known.

    The rule keeps state in parameters of its own, which belong to no learner. A trainer computes
    the rule in the same plan as the gradients.

    Source: CNTK's `universal`.

    >>> def descend(parameters, gradients):
    ...     return C.combine([C.assign(p, p - 0.1 * g) for p, g in zip(parameters, gradients)])
    >>> w = C.Parameter(2, init=1)
    >>> C.universal(descend, [w]).update({w: np.array([1, 2])}, 1)
    True
    >>> w.value
    array([0.9, 0.8], dtype=float32)
    """
    if len(inspect.signature(update_func).parameters) != 2:
        raise ValueError("update_func must take two arguments, (parameters, gradients)")
    return _Universal(update_func, parameters)
