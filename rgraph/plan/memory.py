"""The peak memory of a plan: results that have been computed and not yet released."""

from __future__ import annotations

import math

from ..graph import Node
from . import Plan
from .loop import Loop


def peak_bytes(plan: Plan, rows: int, sequences: int) -> int:
    """The peak size in bytes of the results of a plan's calls.

    Inputs, parameters and the workspaces of kernels are not counted.

    Args:
        rows: the number of frames in the minibatch.
        sequences: the number of sequences they belong to.
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
        # Results that overwrite a dead value need no memory of their own.
        shared = sum(held.get(place, 0) for place in step.places.values())
        held.update(made)
        most = max(most, sum(held.values()) - shared)
        for slot in step.dead:
            held.pop(slot, None)
    return most


def bytes_of(node: Node, rows: int, sequences: int) -> int:
    """The size in bytes of a value, for a minibatch of `sequences` with `rows` frames in total."""
    count = (1, sequences, rows)[len(node.axes or ())]
    item = node.dtype.itemsize if node.dtype is not None else 0
    return count * math.prod(node.shape or ()) * item
