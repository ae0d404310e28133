"""Lifetimes of values: when each is released, and which memory can be reused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .call import Call
from .group import Group
from .loop import Loop

Step = Call | Group | Loop


def mark_dead(steps: Sequence[Step], results: Iterable[int]) -> Memory:
    """Release each value after the last step that reads it, and let steps overwrite some of them.

    Args:
        results: the slots that are read after all steps.
    """
    memory = Memory(steps)
    needed = set(results)
    for step in reversed(steps):
        step.dead = [i for i in step.reads | step.made if i not in needed]
        needed |= step.reads
        there = needed - step.made
        if isinstance(step, Loop):
            step.take_places([i for i in step.frames if memory.is_lone(i, there)])
        elif isinstance(step, Call):
            step.take_place(
                [i for i in step.operands if i in step.dead and memory.is_own(i, there)]
            )
    return memory


class Memory:
    """Which values may share memory.

    Kernels with `into`, groups and loops write their results to new memory. The result of any other
    kernel may share memory with an operand.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._owner: dict[int, int] = {}  # the value whose memory it uses, if known
        self._may_be: dict[int, set[int]] = {}  # all values whose memory it may use
        for step in steps:
            self._may_be |= {i: {i} for i in step.made}
            if not isinstance(step, Call) or step.into:
                self._owner |= {i: i for i in step.made}
                continue
            i = step.result
            self._may_be[i].update(*(self._may_be.get(o, {o}) for o in step.operands))
            if step.part is not None and step.operands[0] in self._owner:
                self._owner[i] = self._owner[step.operands[0]]

    def may_be(self, value: int) -> set[int]:
        """The values whose memory it may use, including itself."""
        return self._may_be.get(value, {value})

    def alone(self, values: Sequence[int]) -> frozenset[int]:
        """The indices, in a list of values, of those that are whole new arrays whose memory none of
        the others uses."""
        readers = Counter(m for i in values for m in self.may_be(i))
        own = (n for n, i in enumerate(values) if self._owner.get(i) == i and readers[i] == 1)
        return frozenset(own)

    def is_own(self, value: int, others: Iterable[int]) -> bool:
        """Whether it is a whole new array whose memory none of the others uses."""
        return self.may_be(value) == {value} and self.is_lone(value, others)

    def is_lone(self, value: int, others: Iterable[int]) -> bool:
        """Whether its memory belongs to a value of the plan and none of the others uses it."""
        owner = self._owner.get(value)
        return owner is not None and not any(owner in self.may_be(i) for i in others if i != value)
