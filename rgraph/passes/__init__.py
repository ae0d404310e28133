"""Passes: from a graph to one that computes the same with less work."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node


def optimize(outputs: Sequence[Node]) -> list[Node]:
    """The same values by a graph that is faster to run."""
    return list(outputs)
