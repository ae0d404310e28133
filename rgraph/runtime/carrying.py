"""Sequences that continue from one minibatch to the next, and the state of their delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..graph import GraphError, Node
from ..graph.node import describe
from ..graph.types import Array, Data, Saved
from .arrays import on_cpu
from .values import Value, unwrapped

if TYPE_CHECKING:
    from .jobs import Request


class Held(NamedTuple):
    """What a run passes on to the next.

    Attributes:
        states: the state of each delay, with a row for each sequence in the minibatch's order.
        passed: how many frames each sequence has had so far.
    """

    states: list[Array]
    passed: np.ndarray

    def as_state(self) -> dict[str, object]:
        """The state as NumPy arrays, to be saved."""
        return {"states": [np.array(on_cpu(a)) for a in self.states], "passed": self.passed}

    @classmethod
    def of_state(cls, state: Saved) -> Held:
        """Restore a saved state."""
        return cls([np.asarray(a) for a in state["states"]], np.asarray(state["passed"]))


@dataclass
class Carry:
    """Which sequences of a run continue those of the previous minibatch.

    Attributes:
        request: the request that is run; every request has delays of its own.
        sources: for each sequence, its number in the previous minibatch; None if it starts anew.
        before: the state left by the previous run.
        after: the state left by this run, once it has been made.
    """

    request: Request
    sources: Sequence[int | None]
    before: Held | None = None
    after: Held | None = None

    @property
    def goes_on(self) -> np.ndarray:
        """For each sequence, whether it continues one."""
        return np.array([s is not None for s in self.sources], bool)

    def check(self) -> None:
        """Raise `GraphError` if a sequence has nothing to continue."""
        if not self.goes_on.any():
            return
        if self.before is None:
            raise GraphError(
                "sequences go on from the minibatch before, and the run before kept no states",
                hint="say of all minibatches, the first one too, which sequences start",
            )
        count = len(self.before.passed)
        for i, source in enumerate(self.sources):
            if source is not None and source >= count:
                raise GraphError(
                    f"sequence {i} goes on from sequence {source} of the minibatch before, "
                    f"which had {count}"
                )


def sources_of(data: Mapping[Node, Data]) -> list[int | None] | None:
    """For each sequence that is fed, which one of the previous minibatch it continues.

    None if the data does not say: then all sequences start anew.

    Raises `GraphError` if inputs disagree.
    """
    found: list[int | None] | None = None
    first: Node | None = None
    for node, given in data.items():
        value = unwrapped(given)
        own = value.sources if isinstance(value, Value) else None
        if own is None:
            continue
        if found is not None and own != found:
            raise GraphError(
                f"inputs {describe(first)} and {describe(node)} disagree on which sequences go on "
                "from the minibatch before"
            )
        found, first = own, node
    return found
