"""The update of a learner as a graph, which a trainer computes in one plan with the gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import graph
from ..graph import GraphError, Input, Node, Stored
from ..graph.node import describe
from ..operands.operand import Operand
from ..operands.variables import Parameter
from ..ops import cast, element_max, element_min, element_select, greater, reduce_sum, sqrt, square
from ..ops.records import as_node, hold
from ..runtime.arrays import as_array
from ..runtime.values import dense
from .options import Options
from .steps import Step


@dataclass(eq=False)
class Rule:
    """The update of a learner as a graph.

    Attributes:
        gradients: an input for the gradient of each parameter, in order.
        updates: pairs of a stored value and the node of its new value.
        numbers: the scalar inputs of a minibatch, such as rates, by name.
        noise: an input for the noise of each parameter; empty without noise.
    """

    gradients: tuple[Input, ...]
    updates: tuple[tuple[Node, Node], ...]
    numbers: tuple[Input, ...] = ()
    noise: tuple[Input, ...] = ()

    @property
    def reads(self) -> set[Node]:
        """The nodes that new values depend on."""
        return set(graph.order([value for _, value in self.updates]))

    @property
    def fed(self) -> tuple[Input, ...]:
        """The inputs whose values depend on the number of samples."""
        return (*self.numbers, *self.noise)


class _Numbers(dict[str, Operand]):
    """Scalar inputs of one type by name, made on first use."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self._dtype, self.inputs = dtype, list[Input]()

    def __missing__(self, name: str) -> Operand:
        self.inputs.append(Input((), (), self._dtype, name))
        made: Operand = hold(self.inputs[-1])
        self[name] = made
        return made


@dataclass
class Updates:
    """Makes the rule of a learner from its step.

    Attributes:
        options: clipping, regularization and noise.
        kept: the arrays that the step keeps for each parameter.
        count: the number of updates or samples, see `Step.counts`.
        is_mean: whether the step uses the mean gradient.
    """

    step: Step
    options: Options
    parameters: Sequence[Parameter]
    kept: Sequence[Mapping[str, Stored]]
    count: Stored
    is_mean: bool
    _numbers: dict[Any, _Numbers] = field(default_factory=dict)  # by type

    def rule(self, has_noise: bool) -> Rule:
        gradients, noise, updates = [], [], list[tuple[Node, Node]]()
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            p = parameter.node
            now = self._numbers.setdefault(p.dtype, _Numbers(p.dtype))
            if self.step.counts:
                now["count"] = self.step.count(cast(hold(self.count), p.dtype), now)
            gradients.append(Input(p.shape, (), p.dtype, "gradient"))
            if has_noise:
                noise.append(Input(p.shape, (), p.dtype, "noise"))
            g = self._prepared(parameter, hold(gradients[-1]), now)
            of = {name: hold(stored) for name, stored in kept.items()}
            new, news = self.step.step(parameter, g, of, now)
            new = self._finished(new, hold(noise[-1]) if has_noise else None, now)
            updates.append((p, as_node(new)))
            updates += [(kept[name], as_node(value)) for name, value in news.items()]
        if self.step.counts:
            updates.append((self.count, as_node(cast(now["count"], self.count.dtype))))
        numbers = (n for of in self._numbers.values() for n in of.inputs)
        return Rule(tuple(gradients), tuple(updates), tuple(numbers), tuple(noise))

    def _prepared(self, p: Operand, g: Operand, now: Mapping[str, Operand]) -> Operand:
        """The gradient after clipping and L2 regularization."""
        options = self.options
        if self.is_mean:
            g = g * now["part"]
        if options.gradient_clipping_threshold_per_sample < math.inf:
            limit = now["limit"]
            if options.gradient_clipping_with_truncation:
                g = element_max(element_min(g, limit), -limit)
            else:  # a norm that is NaN changes nothing
                norm = sqrt(reduce_sum(square(g)))
                g = g * element_select(greater(norm, limit), limit / norm, 1.0)
        if options.l2_regularization_weight > 0:
            g = g + now["l2"] * p
        return g

    def _finished(self, p: Operand, noise: Operand | None, now: Mapping[str, Operand]) -> Operand:
        """The new value after noise and L1 regularization."""
        if noise is not None:
            p = p + noise
        if self.options.l1_regularization_weight > 0:
            p = p - element_max(element_min(p, now["l1"]), -now["l1"])
        return p

    def numbers(self, rate: float, samples: int) -> dict[str, float]:
        """The scalar inputs that the options need; see `Now`."""
        options, size = self.options, 1 if self.is_mean else samples
        return {
            "part": 1 / samples,
            "limit": options.gradient_clipping_threshold_per_sample * size,
            "l2": options.l2_regularization_weight * size,
            "l1": rate * options.l1_regularization_weight * size,
        }


def as_gradient(node: Any, given: Any) -> Any:
    """Converts a gradient to an array of its node's type and shape.

    Raises:
        GraphError: it has the wrong number of elements.
    """
    if type(given) is np.ndarray and given.dtype == node.dtype and given.shape == node.shape:
        return given
    g = as_array(dense(given)).astype(node.dtype, copy=False)
    if g.size != math.prod(node.shape):
        raise GraphError(f"the gradient of {describe(node)} has shape {g.shape}")
    return g if g.shape == node.shape else g.reshape(node.shape)
