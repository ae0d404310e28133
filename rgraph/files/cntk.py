"""Reads the models that CNTK 2 saved (`Function.save`), of the versions 2.0 to 2.7."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .. import ops
from ..graph import (
    BATCH,
    FREE,
    SEQUENCE,
    Axis,
    Constant,
    GraphError,
    Input,
    Node,
    Parameter,
    Placeholder,
    bind,
    complete,
)
from ..graph.types import Saved
from ..ops.records import hold, named
from . import cntk_operations as numbers
from .cntk_dictionary import AxisIn, read
from .cntk_operations import OPERATIONS, At

if TYPE_CHECKING:
    from ..model.function import Function

_BROKEN = (
    *(AttributeError, IndexError, KeyError, NotImplementedError, OverflowError),
    *(TypeError, ValueError),
)

_INPUT, _OUTPUT, _PARAMETER, _CONSTANT, _PLACEHOLDER = range(5)


def load(content: bytes) -> Function:
    """The function that a file of CNTK's holds.

    Raises `GraphError` for a file that is broken, and for an operation that can't be read, which is
    named.
    """
    found = read(content)
    if found.get("type") != "CompositeFunction":
        raise GraphError(
            f"the file holds {found.get('type') or 'something'} of CNTK, not a function",
            hint="load_model reads models written by Function.save, not checkpoints of trainers",
        )
    try:
        return _Reader(found).function()
    except GraphError:
        raise
    except _BROKEN as error:
        raise GraphError(
            f"the file is not a model of CNTK, or is damaged: {error!r:.200}"
        ) from None


class _Reader:
    """The graph of a file. Values go by the names that they have there."""

    def __init__(self, content: Saved) -> None:
        self.content = content
        self.leaves = {v["uid"]: v for v in content["inputs"]}
        self.operations = {f["uid"]: f for f in content["primitive_functions"]}
        self.instead: dict[str, str] = {}  # what stands for a block's placeholders
        for f in self.operations.values():
            keys = f.get("block_function_composite_arguments_map_keys", ())
            values = f.get("block_function_composite_arguments_map_values", ())
            self.instead.update(zip(keys, values, strict=True))
        self.blocks: dict[str, str] = {}  # names of blocks, by the value that they give
        self.made: dict[str, list[Node]] = {}  # by operation, or by leaf
        self.later: dict[Placeholder, str] = {}  # what a delay delays, made after it
        self.axes: dict[str, Axis] = {}

    def function(self) -> Function:
        root = self.content["root"]
        outputs = self._outputs(root)
        for name in outputs:
            self._make(name)
        while self.later:
            tied, self.later = self.later, {}
            for name in tied.values():
                self._make(name)
            bind({placeholder: self._value(name) for placeholder, name in tied.items()})
        nodes = [self._value(name) for name in outputs]
        name = self.content.get("name")
        if name and len(nodes) == 1 and nodes[0].name != name:
            nodes = [named(nodes[0], name)]
        complete(nodes)
        found: Function = hold(nodes)
        if name and not found.name:
            found.name = name
        return found

    def _outputs(self, uid: str) -> list[str]:
        """The values that an operation gives."""
        f = self._operation(uid)
        if f["op"] == numbers.COMBINE:
            return list(f["inputs"])
        if f["op"] == numbers.BLOCK:
            return self._outputs(f["block_function_composite"]["root"])
        return [f"{uid}_Output_0"]

    def _operation(self, uid: str) -> Saved:
        if uid not in self.operations:
            raise GraphError(f"the file lacks the operation {uid}")
        return self.operations[uid]

    def _resolved(self, name: str) -> str:
        """The value that a name stands for: blocks are seen through."""
        block = ""  # the name of the innermost block around it
        for _ in range(len(self.operations) + len(self.instead) + 1):
            if name in self.instead:
                name, block = self.instead[name], ""
                continue
            uid, output, number = name.rpartition("_Output_")
            f = self._operation(uid) if output else {"op": None}
            if f["op"] not in _SEEN_THROUGH:
                if block:
                    self.blocks[name] = block
                return name
            if f["op"] == numbers.BLOCK:
                block = f.get("name") or block
            name = self._outputs(uid)[int(number)]
        raise GraphError("the file has blocks that contain each other")

    def _value(self, name: str) -> Node:
        name = self._resolved(name)
        uid, output, number = name.rpartition("_Output_")
        return self.made[uid][int(number)] if output else self.made[name][0]

    def _make(self, name: str) -> None:
        """Makes a value and all that it is made of, the deepest first."""
        pending = [self._resolved(name)]
        entered: set[str] = set()
        while pending:
            name = pending[-1]
            uid, output, _ = name.rpartition("_Output_")
            key = uid if output else name
            if key in self.made:
                pending.pop()
                continue
            operands = self._operands(uid) if output else []
            missing = [n for n in operands if not self._is_made(n)]
            if missing and key in entered:
                raise GraphError(f"the file has a cycle without a delay, through {key}")
            entered.add(key)
            if missing:
                pending += missing
                continue
            self.made[key] = self._built(uid, operands) if output else [self._leaf(name)]
            pending.pop()

    def _is_made(self, name: str) -> bool:
        uid, output, _ = name.rpartition("_Output_")
        return (uid if output else name) in self.made

    def _operands(self, uid: str) -> list[str]:
        """What must be there before an operation: all but what a delay on a cycle delays."""
        f = self._operation(uid)
        names = [self._resolved(n) for n in f["inputs"]]
        is_delay = f["op"] in (numbers.PAST_VALUE, numbers.FUTURE_VALUE)
        return names[1:] if is_delay and uid in self._cyclic else names

    @cached_property
    def _cyclic(self) -> set[str]:
        """The operations that depend on themselves."""
        numbers = {uid: i for i, uid in enumerate(self.operations)}
        edges = set[tuple[int, int]]()
        for uid, f in self.operations.items():
            operands = (self._resolved(n).rpartition("_Output_") for n in f["inputs"])
            edges |= {(numbers[uid], numbers[o]) for o, output, _ in operands if output}
        ends = np.array(sorted(edges), int).reshape(-1, 2).T
        ones = np.ones(len(edges), bool)
        graph = coo_array((ones, tuple(ends)), (len(numbers), len(numbers)))
        _, component = connected_components(graph, connection="strong")
        several = np.bincount(component, minlength=1) > 1
        return {u for u, i in numbers.items() if several[component[i]] or (i, i) in edges}

    def _leaf(self, uid: str) -> Node:
        if uid not in self.leaves:
            raise GraphError(f"the file lacks the value {uid}")
        about = self.leaves[uid]
        kind, name = about["kind"], about.get("name", "")
        dtype = np.float64 if about["data_type"] == 2 else np.float32
        if kind in (_PARAMETER, _CONSTANT):
            if "value" not in about:
                raise GraphError(f"the file has no value of {name or uid}")
            value = about["value"]
            if kind == _CONSTANT:
                return Constant(value, None, value.dtype, name)
            return Parameter(value.shape, value.dtype, lambda shape, dtype: value, name)
        shape = tuple(FREE if n < 0 else n for n in about["shape"])
        if kind == _INPUT:
            axes = tuple(map(self._axis, reversed(about["dynamic_axis"])))
            made = Input(shape, axes, dtype, name)
            made.needs_gradient = bool(about["needs_gradient"])
            made.is_sparse = bool(about["is_sparse"])
            return made
        return Placeholder(None, None, None, name)

    def _axis(self, axis: AxisIn) -> Axis:
        known = {"defaultBatchAxis": BATCH, "defaultDynamicAxis": SEQUENCE}
        if axis.name in known:
            return known[axis.name]
        if axis.name not in self.axes:
            self.axes[axis.name] = Axis.new_unique_dynamic_axis(axis.name)
        return self.axes[axis.name]

    def _built(self, uid: str, operands: Sequence[str]) -> list[Node]:
        f = self._operation(uid)
        nodes = [self._value(n) for n in operands]
        if len(nodes) < len(f["inputs"]):  # a delay on a cycle
            tie = Placeholder()
            self.later[tie] = f["inputs"][0]
            nodes = [tie, *nodes]
        try:
            result = self._result(f, nodes)
        except (GraphError, KeyError, TypeError, ValueError) as error:
            what = error.problem if isinstance(error, GraphError) else repr(error)
            raise GraphError(f"operation {uid} of the file can't be read: {what}") from None
        made = list(result) if isinstance(result, (list, tuple)) else [result]
        names = [f.get("name") or self.blocks.get(f"{uid}_Output_{i}") for i in range(len(made))]
        return [named(n, name) if name else n for n, name in zip(made, names, strict=True)]

    def _result(self, f: Saved, nodes: Sequence[Node]) -> Node:
        number = f["op"]
        if number == numbers.PACKED_INDEX:  # of frames that a condition chooses
            return self._value(self._operand(f, 1)["inputs"][0])
        if number == numbers.GATHER_PACKED:
            return self._gathered(f, nodes)
        if number == numbers.SCATTER_PACKED:
            return ops.sequence.scatter(nodes[0], nodes[1])
        if number not in OPERATIONS:
            raise GraphError(f"operation number {number} is unknown")
        return OPERATIONS[number](At(nodes, f["attributes"]))

    def _operand(self, f: Saved, operand: int) -> Saved:
        """The operation that gives an operand."""
        return self._operation(self._resolved(f["inputs"][operand]).rpartition("_Output_")[0])

    def _gathered(self, f: Saved, nodes: Sequence[Node]) -> Node:
        """The chosen frames; one of each sequence where the result has no time axis."""
        frames = ops.sequence.gather(nodes[0], nodes[1])
        where = self._operand(self._operand(f, 1), 1)
        if len(where["attributes"].get("newDynamicAxes", ())) == 1:
            return ops.sequence.first(frames)
        return frames


_SEEN_THROUGH = (numbers.COMBINE, numbers.BLOCK)
