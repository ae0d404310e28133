"""Recomputes cheap values where they are read, rather than keeping them for all frames."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Node, order
from ..graph.node import same_type, twin
from ..ops.rewrites import filling
from .rewriting import loops, readers_of


def repeat(outputs: Sequence[Node]) -> list[Node]:
    """Give each reader its own copy of a value that is cheaper to compute than to write and read.

    That is a single operation on values that exist anyway: it reads one array, or it stands between
    loops (such as a value that a gradient needs again), where it would be kept for all frames, and
    its operands are kept for all frames in any case.
    """
    nodes = order(outputs)
    loop, readers, ends = loops(outputs), readers_of(nodes), set(outputs)

    def is_there(node: Node) -> bool:
        if node in ends or node.op is None or not node.op.pointwise:
            return True
        return len(readers.get(node, ())) > 1  # a copy that was made here has one reader

    def is_kept(node: Node) -> bool:
        """Whether all frames are kept already: a loop keeps values that are read outside."""
        if node in ends or node not in loop:
            return True
        outside = (r for r in readers[node] if loop.get(r) != loop[node])
        return any(r.op is not None and r.op.of_last_frames(r) is None for r in outside)

    for node in nodes:
        own = list(dict.fromkeys(readers[node]))
        if node in ends or len(own) < 2 or node.op is None or not node.op.cheap:
            continue
        arrays = [i for i in node.inputs if filling(i) is None]
        if not same_type(node, *arrays) or not all(map(is_there, arrays)):
            continue
        if not all(r.op is not None and r.op.pointwise and same_type(node, r) for r in own):
            continue
        between = len({loop.get(n) for n in (node, *own)}) > 1
        if len(arrays) == 1 or (between and all(map(is_kept, arrays))):
            for reader in own[1:]:
                again = twin(node)
                again.inputs = node.inputs
                reader.inputs = [again if i is node else i for i in reader.inputs]
    return list(outputs)
