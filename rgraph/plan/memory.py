"""How much memory a plan works in: what it computes and has not let go of yet."""

from __future__ import annotations

import math

from ..graph import Node
from . import Plan
from .loop import Loop


def peak_bytes(plan: Plan, rows: int, sequences: int) -> int:
    """The most bytes that results of a plan's calls take at a time.

    What is fed, parameters and the workspaces of kernels are left out.

    Args:
        rows: the frames of a minibatch.
        sequences: how many sequences they belong to.
    """
    sizes = {slot: bytes_of(node, rows, sequences) for node, slot in plan.slots.items()}
    held: dict[int, int] = {}
    most = 0
    for step in plan.steps:
        if isinstance(step, Loop):
            kept = {*step.whole, *step.lasts}
            share = max(rows // max(sequences, 1), 1)  # the frames of one step
            made = {s: sizes[s] if s in kept else sizes[s] // share for s in step.made}
        else:
            made = {s: sizes[s] for s in step.made}
        # Results that take the place of a value that dies need no memory beside it.
        shared = sum(held.get(place, 0) for place in step.places.values())
        held.update(made)
        most = max(most, sum(held.values()) - shared)
        for slot in step.dead:
            held.pop(slot, None)
    return most


def bytes_of(node: Node, rows: int, sequences: int) -> int:
    """The bytes of a value of a minibatch of so many sequences with so many frames in all."""
    count = (1, sequences, rows)[len(node.axes or ())]
    item = node.dtype.itemsize if node.dtype is not None else 0
    return count * math.prod(node.shape or ()) * item
