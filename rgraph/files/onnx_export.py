"""Functions as ONNX models; recurrences become `Scan`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import Axis, GraphError, Input, Node, Parameter, Placeholder, components, order
from ..graph.node import describe, failed
from ..passes import outside_training
from ..passes.rewriting import private
from .archives import replacing
from .onnx_expressions import pointwise
from .onnx_graph import Builder, Name, Proto
from .onnx_operations import OPERATIONS, At

OPSET = 20


def export(outputs: Sequence[Node], names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Writes an ONNX model.

    Its inputs and outputs with only a batch axis are (batch, *shape); those of sequences are
    (frames, batch, *shape), as ONNX's recurrent operators have them, all as long. A recurrence over
    any step function is a `Scan`. What training alone needs is left out.

    Args:
        names: of the outputs.

    Raises `GraphError` for an operation that can't be exported: it is named.
    """
    try:
        import onnx
    except ImportError:
        raise GraphError("the package onnx is missing", hint="pip install onnx") from None
    model = _Export(outside_training(private(outputs)), names).model()
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as file:
        file.write(model.SerializeToString())


def _is_double(node: Node) -> bool:
    return node.dtype == np.float64


class _Export:
    """A graph as it becomes ONNX's."""

    def __init__(self, outputs: Sequence[Node], names: Sequence[str]) -> None:
        self.outputs, self.output_names = outputs, names
        self.build = Builder()
        self.onnx = self.build.onnx
        self.known: dict[Node, Name] = {}
        self.inputs: list[Proto] = []
        self.rows: dict[tuple[Axis, ...], Name] = {}  # the sizes of axes of rows
        self.within: Axis | None = None  # the time axis of the loop whose step is being made

    def model(self) -> Proto:
        helper = self.onnx.helper
        groups = components(self.outputs)
        taken: set[str] = set(self.output_names)
        for leaf in (n for g in groups for n in g if isinstance(n, Input)):
            self._add_input(leaf, taken)
        for group in groups:
            if len(group) > 1 or group[0] in group[0].inputs:
                self._loop(group)
            else:
                self._node(group[0])
        results = []
        for node, name in zip(self.outputs, self.output_names, strict=True):
            self.build.nodes.append(helper.make_node("Identity", [self.known[node]], [name]))
            results.append(self._typed(name, node))
        graph = helper.make_graph(
            self.build.nodes, "rgraph", self.inputs, results, self.build.arrays
        )
        return helper.make_model(
            graph, producer_name="rgraph", opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=9,
        )  # fmt: skip

    def _typed(self, name: Name, node: Node, lead: Sequence[str] | None = None) -> Proto:
        kinds = {2: ["frames", "batch"], 1: ["batch"], 0: []}
        sizes = list(lead if lead is not None else kinds[len(node.axes or ())])
        if len(node.axes or ()) == 2 and lead is None:
            sizes[0] = f"frames of {node.time_axis.name}".replace(" ", "_")
        shape = [*sizes, *(n if n >= 0 else None for n in node.shape or ())]
        kind = self.onnx.TensorProto.DOUBLE if _is_double(node) else self.onnx.TensorProto.FLOAT
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def _add_input(self, node: Node, taken: set[str]) -> None:
        name = node.name or "input"
        while name in taken:
            name += "_"
        taken.add(name)
        self.known[node] = name
        self.inputs.append(self._typed(name, node))
        axes = node.axes or ()
        if axes:
            sizes = self.build("Shape", name, start=0, end=len(axes))
            self.rows.setdefault(axes, sizes)
            self.rows.setdefault(
                axes[:1], self.build("Shape", name, start=len(axes) - 1, end=len(axes))
            )

    def _lead(self, node: Node) -> int:
        axes = node.axes or ()
        inside = self.within is not None and len(axes) == 2 and axes[1] == self.within
        return len(axes) - inside

    def _rows(self, node: Node, build: Builder) -> Name:
        axes = node.axes or ()
        if not axes:
            return ""
        axes = axes[: self._lead(node)]
        if axes not in self.rows:
            raise GraphError(f"no input says how many rows {describe(node)} has")
        return self.rows[axes]

    def _name(self, node: Node) -> Name:
        if node in self.known:
            return self.known[node]
        if isinstance(node, Placeholder):
            raise GraphError(f"placeholder {describe(node)} has no value")
        value = node.value  # type: ignore[attr-defined]  # of a constant, parameter or statistic
        value = np.broadcast_to(value, node.shape or ()).astype(node.dtype)
        self.known[node] = self.build.array(value, node.name if isinstance(node, Parameter) else "")
        return self.known[node]

    def _node(self, node: Node) -> None:
        if node.op is None:
            self._name(node)
        elif node.is_delay:
            self.known[node] = self._shifted(node)
        else:
            self.known[node] = self._built(node, self.build, self.known)
        axes = node.axes or ()
        if axes and axes not in self.rows and self.within is None:
            self.rows[axes] = self.build("Shape", self.known[node], start=0, end=len(axes))

    def _built(self, node: Node, build: Builder, known: Mapping[Node, Name]) -> Name:
        assert node.op is not None
        names = [known[i] if i in known else self._name(i) for i in node.inputs]
        if node.op.pointwise:
            double = any(map(_is_double, (node, *node.inputs)))
            return pointwise(node.op, names, build, double)
        make = OPERATIONS.get(node.op.name)
        if make is None:
            raise failed(node, GraphError("it can't be exported to ONNX"))
        leads = [self._lead(i) for i in node.inputs]
        if node.axes and node.axes[: self._lead(node)] not in self.rows:
            first = next(n for n, i in enumerate(node.inputs) if i.axes == node.axes)
            self.rows[node.axes] = build("Shape", names[first], start=0, end=len(node.axes))
        rows = self._rows(node, build)
        arguments = node.op.arguments(node)
        return make(
            At(node, names, leads, self._lead(node), arguments, rows, build, _is_double(node))
        )

    # Delays

    def _initial(self, delay: Node, build: Builder) -> Name:
        """The initial state of each sequence: (batch, *shape)."""
        initial, shape = delay.inputs[1], delay.shape or ()
        name = self.known.get(initial) or self._name(initial)
        own = tuple(initial.shape or ())
        if initial.axes and len(own) < len(shape):
            name = build("Reshape", name, build.whole(0, *[1] * (len(shape) - len(own)), *own))
        batch = self.rows[(delay.axes or ())[:1]]
        sizes = build("Concat", batch, build.whole(*shape), axis=0) if shape else batch
        return build("Expand", name, sizes)

    def _shifted(self, delay: Node) -> Name:
        """A delay outside of loops: all frames at once."""
        build, offset = self.build, delay.attrs["offset"]
        count = abs(offset)
        x = self._name(delay.inputs[0])
        own = build("Unsqueeze", self._initial(delay, build), build.whole(0))
        before = build("Concat", *[own] * count, axis=0) if count > 1 else own
        frames = build("Shape", x, start=0, end=1)
        zero, one = build.whole(0), build.whole(1)
        if offset > 0:
            return build("Slice", build("Concat", before, x, axis=0), zero, frames, zero, one)
        whole = build("Concat", x, before, axis=0)
        end = build("Add", frames, build.whole(count))
        return build("Slice", whole, build.whole(count), end, zero, one)

    # Loops

    def _loop(self, group: Sequence[Node]) -> None:
        helper = self.onnx.helper
        delays = [n for n in group if n.is_delay]
        axis, forward = delays[0].time_axis, delays[0].attrs["offset"] > 0
        inside = set(group)
        step = Builder(self.build)
        known: dict[Node, Name] = {}
        states, initial, frames = [], [], []
        later: list[tuple[Name, Node | Name]] = []  # a state, and what it is after the step
        for delay in delays:
            names = [step.new("state") for _ in range(abs(delay.attrs["offset"]))]
            known[delay] = names[-1]
            states += names
            initial += [self._initial(delay, self.build)] * len(names)
            later += zip(names, [delay.inputs[0], *names], strict=False)
        read = dict.fromkeys(i for n in group for i in n.inputs if i not in inside)
        moving = [n for n in read if len(n.axes or ()) == 2 and n.time_axis == axis]
        for node in moving:
            known[node] = step.new("frame")
            frames.append(known[node])
        fixed = {n: self._name(n) for n in read if n not in known}
        self.within = axis
        try:
            for node in group:
                if not node.is_delay:
                    known[node] = self._built(node, step, {**fixed, **known})
        finally:
            self.within = None
        wanted = [n for n in group if n in self._read_outside(inside)]
        after = [self._result(step, n if isinstance(n, str) else known[n]) for _, n in later]
        kept = [self._result(step, known[n]) for n in wanted]
        types = self._types_of_states(delays)
        body = helper.make_graph(
            step.nodes, "step",
            [self._typed(n, t, ["batch"]) for n, t in zip(states, types, strict=True)]
            + [self._typed(n, m, ["batch"]) for n, m in zip(frames, moving, strict=True)],
            [self._typed(n, t, ["batch"]) for n, t in zip(after, types, strict=True)]
            + [self._typed(n, w, ["batch"]) for n, w in zip(kept, wanted, strict=True)],
        )  # fmt: skip
        back = int(not forward)
        results = self.build.several(
            "Scan", [*initial, *(self._name(n) for n in moving)], len(after) + len(kept),
            body=body, num_scan_inputs=len(moving),
            scan_input_directions=[back] * len(moving),
            scan_output_directions=[back] * len(kept),
        )  # fmt: skip
        self.known.update(zip(wanted, results[len(after) :], strict=True))

    @staticmethod
    def _types_of_states(delays: Sequence[Node]) -> list[Node]:
        return [d for d in delays for _ in range(abs(d.attrs["offset"]))]

    @staticmethod
    def _result(step: Builder, name: Name) -> Name:
        """An output of the step has a name that nothing else has."""
        own = step.new("after")
        step.nodes.append(step.onnx.helper.make_node("Identity", [name], [own]))
        return own

    def _read_outside(self, inside: set[Node]) -> set[Node]:
        nodes = order(self.outputs)
        found = {i for n in nodes if n not in inside for i in n.inputs if i in inside}
        return found | inside.intersection(self.outputs)
