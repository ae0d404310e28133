"""Pickles and deep copies of functions, by their saved form.

Leaves (inputs, parameters, constants) are objects of their own in it, so that what shares them goes
on to share them: a function, its parameters and their learner, pickled together, stay together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Axis, Node
from ..graph.types import Saved
from ..ops.records import hold
from ..ops.user import UserOperation
from .graph_format import Reader, Writer, described

if TYPE_CHECKING:
    from ..model.function import Function


class _Writer(Writer):
    """Sets leaves and their axes aside, as objects."""

    def __init__(self, roots: Sequence[Node]) -> None:
        super().__init__(roots)
        self.given: list[object] = []
        self.classes: list[type] = []  # of user functions: whoever unpickles must have them

    def leaf(self, node: Node) -> dict[str, object]:
        return self._given(hold(node))

    def attribute(self, value: object, node: Node) -> object:
        if isinstance(value, UserOperation):
            self.classes.append(type(value))
        return super().attribute(value, node)

    def axis_entries(self) -> list[dict[str, object]]:
        entries = zip(self.axes, super().axis_entries(), strict=True)
        return [e if e["source"] is not None else self._given(a) for a, e in entries]

    def _given(self, value: object) -> dict[str, object]:
        self.given.append(value)
        return {"given": len(self.given) - 1}


class _Reader(Reader):
    def __init__(
        self, saved: Saved, archive: Mapping[str, np.ndarray], given: Sequence[Any]
    ) -> None:
        self.given = given
        super().__init__(saved, archive)

    def _axis(self, entry: Saved) -> Axis:
        return self.given[entry["given"]] if "given" in entry else super()._axis(entry)

    def _bare(self, entry: Saved) -> Node:
        return self.given[entry["given"]].node if "given" in entry else super()._bare(entry)


def reduced_function(function: Function) -> tuple[Callable[..., Function], tuple[object, ...]]:
    writer = _Writer([*function._current(), *function._declared()])
    text = json.dumps(described(function, writer))
    is_user = isinstance(function, UserOperation)
    return _function, (text, writer.arrays, writer.given, is_user, writer.classes)


def _function(
    text: str,
    arrays: Sequence[np.ndarray],
    given: Sequence[Any],
    is_user: bool,
    classes: Sequence[type],
) -> Function:
    named = {f"array{i}": np.asarray(a) for i, a in enumerate(arrays)}
    function = _Reader(json.loads(text), named, given).function()
    return hold(function._nodes[0]) if is_user else function
