"""Where the first NaN of a run comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..engines.base import Engine
from ..graph import Constant, GraphError, Input, Node, Stored
from ..graph.node import describe
from ..runtime import watching
from ..runtime.arrays import on_cpu


class _NaNFinder:
    """An observer that stops a run at the operation that makes the first NaN."""

    hindrance = "its results are searched for NaN"
    separate = True

    def around(
        self, kernel: Callable[..., Any], nodes: tuple[Node, ...], engine: Engine
    ) -> Callable[..., Any]:
        (node,) = nodes

        def checked(run: Any, *operands: Any, **options: Any) -> Any:
            for leaf, array in zip(node.inputs, operands, strict=False):
                if isinstance(leaf, (Input, Stored, Constant)) and (at := _first_nan(array)):
                    kind = "input" if isinstance(leaf, Input) else leaf.kind.lower()
                    raise GraphError(
                        f"{kind} {describe(leaf)} has NaN, first {_place(run, leaf, at)}\n"
                        f"  made at {leaf.origin}",
                        hint="look where these values come from; np.nan_to_num replaces NaN",
                    )
            result = kernel(run, *operands, **options)
            if at := _first_nan(result):
                raise GraphError(f"the result is NaN, first {_place(run, node, at)}")
            return result

        return checked


def _first_nan(array: Any) -> tuple[int, ...] | None:
    """Where the first NaN is; an empty place, of a number, counts as one too."""
    found = np.argwhere(np.isnan(on_cpu(array)))
    return (*found[0].tolist(), 0) if len(found) else None


def _place(run: Any, node: Node, at: tuple[int, ...]) -> str:
    """A place in an array of rows, in the minibatch's own terms."""
    row, element = at[0], at[1:-1] if node.axes else at[:-1]
    where = f"at {element}" if element else "there"
    if not node.axes:
        return where
    if len(node.axes) == 1:
        order = run.order(node.batch_axis)
        what = "row" if node.batch_axis.is_made else "sample"
        return f"{where} of {what} {row if order is None else order[row]}"
    layout = run.layouts[node.axes[1]]
    row += run.block(node.axes[1]).start or 0
    sequence = layout.order[layout.sequence_of_row[row]]
    return f"{where} of frame {layout.step_of_row[row]} of sequence {sequence}"


FINDER = _NaNFinder()


@contextmanager
def checked_mode() -> Iterator[None]:
    """The checked mode for a while: to run again what gave NaN, and hear where that came from."""
    with watching.observed_by(FINDER):
        yield
