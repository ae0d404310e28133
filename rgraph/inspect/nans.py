"""Finds the origin of the first NaN in a run."""

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
    """An observer that raises an error at the operation that computes the first NaN."""

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
                        hint="check the source of these values; np.nan_to_num replaces NaN",
                    )
            result = kernel(run, *operands, **options)
            if at := _first_nan(result):
                raise GraphError(f"the result is NaN, first {_place(run, node, at)}")
            return result

        return checked


def _first_nan(array: Any) -> tuple[int, ...] | None:
    """The index of the first NaN; None if there is none."""
    found = np.argwhere(np.isnan(on_cpu(array)))
    return (*found[0].tolist(), 0) if len(found) else None


def _place(run: Any, node: Node, at: tuple[int, ...]) -> str:
    """An index in an array of rows, in terms of the user's minibatch."""
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
    """Checked mode in a `with` block, to find the origin of NaN in a second run."""
    with watching.observed_by(FINDER):
        yield
