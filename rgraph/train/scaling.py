"""Loss scaling, which keeps gradients from underflowing in float16."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from ..device import cpu
from ..graph import Constant, GraphError, Input, Node, Stored, copy
from ..ops import (
    abs,
    cast,
    element_max,
    element_min,
    element_select,
    greater,
    greater_equal,
    less,
    reduce_max,
)
from ..ops.records import as_node, hold
from ..runtime.evaluation import Request, Runner

Updates = list[tuple[Node, Node]]

LARGEST = 2.0**24


@dataclass(frozen=True)
class DynamicLossScale:
    """Dynamic loss scaling: see `Trainer`.

    A minibatch whose gradients are not finite is skipped, and the scale is halved. After
    `growth_interval` consecutive minibatches with finite gradients it is doubled.

    Args:
        init_scale: the initial scale.
        growth_interval: the number of minibatches after which the scale is doubled.

    Source: Micikevicius et al., 2018; the names are those of PyTorch's `GradScaler`.

    >>> C.train.DynamicLossScale(init_scale=1024, growth_interval=100)
    DynamicLossScale(init_scale=1024, growth_interval=100)
    """

    init_scale: float = 2.0**15
    growth_interval: int = 2000

    def __post_init__(self) -> None:
        if not 1 <= self.init_scale <= LARGEST:
            raise GraphError(f"init_scale must be from 1 to 2**24, got {self.init_scale!r:.60}")
        if self.growth_interval < 1:
            raise GraphError(
                f"growth_interval must be at least 1, got {self.growth_interval!r:.60}"
            )


LossScale = float | str | DynamicLossScale | None


class Scaling:
    """How a trainer scales its loss.

    Args:
        given: the `loss_scale` of the trainer.
        looks: whether the trainer checks that results are finite.

    Attributes:
        factor: the scale, as a node; None if there is none.
        dynamic: how it changes, or None.
    """

    def __init__(self, given: LossScale, looks: bool) -> None:
        self.given = given
        own = DynamicLossScale() if given == "dynamic" else given
        self.dynamic = own if isinstance(own, DynamicLossScale) else None
        self.factor: Any = None
        if self.dynamic is not None:
            self.factor = _number(self.dynamic.init_scale, "loss scale")
            self._in_a_row = _number(0, "minibatches in a row")
            self._largest_gradient = Input((), (), np.float32, "largest gradient")
            self._rule = self._as_graph(self.dynamic.growth_interval, looks)
            self._runner = Runner()
        elif given is not None:
            self.factor = Constant(_checked(given), dtype=np.float32, name="loss scale")

    @property
    def value(self) -> float:
        """The current scale."""
        return 1.0 if self.factor is None else float(self.factor.value)

    def _as_graph(self, interval: int, looks: bool) -> Updates:
        factor, in_a_row, largest = map(hold, (self.factor, self._in_a_row, self._largest_gradient))
        is_sound, count = less(largest, math.inf), in_a_row + 1
        grows = greater_equal(count, interval)
        larger = element_select(grows, element_min(factor * 2, LARGEST), factor)
        smaller = element_max(factor / 2, 1)
        if looks:  # where no smaller scale can help, so that it is seen as a fault
            smaller = element_select(greater(factor, 1), smaller, largest)
        count = element_select(is_sound, element_select(grows, 0, count), 0)
        factor = element_select(is_sound, larger, smaller)
        return [(self.factor, as_node(factor)), (self._in_a_row, as_node(count))]

    def guarded(self, updates: Updates, gradients: Sequence[Node]) -> Updates:
        """Updates that change nothing if gradients are not finite."""
        is_sound = less(hold(_largest(gradients)), math.inf)
        chosen = [element_select(is_sound, hold(new), hold(stored)) for stored, new in updates]
        return [(stored, as_node(new)) for (stored, _), new in zip(updates, chosen, strict=True)]

    def updates(self, gradients: Sequence[Node]) -> Updates:
        """The updates of the scale after a step with these gradients."""
        made = copy([new for _, new in self._rule], {self._largest_gradient: _largest(gradients)})
        return [(stored, new) for (stored, _), new in zip(self._rule, made, strict=True)]

    def note(self, is_sound: bool) -> None:
        """Update the scale after a step whose gradients have been checked already."""
        if self.dynamic is None:
            return
        largest = np.array(0 if is_sound else math.inf, np.float32)
        given = self._runner.feed({self._largest_gradient: largest}, cpu())
        self._runner.run(Request(updates=tuple(self._rule)), given, [])

    # Checkpoints

    @property
    def state(self) -> list[float]:
        """The state, for checkpoints."""
        return [float(s.value) for s in self._stored]

    @state.setter
    def state(self, state: Sequence[float]) -> None:
        for stored, value in zip(self._stored, state, strict=False):
            stored.value = value

    @property
    def _stored(self) -> list[Stored]:
        return [] if self.dynamic is None else [self.factor, self._in_a_row]


def _largest(gradients: Sequence[Node]) -> Node:
    """The largest absolute element of gradients; NaN if one is NaN."""
    each = [reduce_max(abs(hold(g))) for g in gradients]
    return as_node(reduce(element_max, [cast(m, np.float32) for m in each]))


def _number(value: float, name: str) -> Stored:
    return Stored((), np.float32, lambda shape, dtype: np.full(shape, value, dtype), name)


def _checked(given: object) -> float:
    scale = float(given) if isinstance(given, (int, float, np.number)) else math.nan
    if not 0 < scale < math.inf:
        raise GraphError(
            f"loss_scale must be 'dynamic', a positive number or None, got {given!r:.60}",
            hint="C.train.DynamicLossScale(init_scale, growth_interval) sets the details",
        )
    return scale
