"""A graph becomes a flat list of calls, with a loop for each cycle.

Made once for a graph; nothing here depends on how many rows a minibatch has.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from .graph import (
    Axis,
    Constant,
    GraphError,
    Input,
    Layout,
    Node,
    Placeholder,
    Stored,
    components,
)
from .graph.errors import located
from .graph.node import describe, failed
from .ops.delays import delayed_block, initial_rows
from .segments import bring_together, is_light, written_out

Env = list[Any]

_SMALL = 1 << 15  # bytes: the memory of smaller results is left to their kernels


class Run:
    """What kernels may ask of the run that they are part of.

    Attributes:
        xp: the array library.
        matmul: the product of two arrays, as the library's function of that name.
        layouts: the layout of each time axis.
        batch: the number of samples (or sequences) of the minibatch.
        training: whether what is random in training only is random.
        memo: what an engine wants to remember until the run ends.
        step: the step of the loop that is being run, as (axis, rows), or None.
    """

    def __init__(
        self,
        engine: Any,
        layouts: dict[Axis, Layout],
        batch: int,
        training: bool = False,
        seed: int = 0,
        turn: int = 0,
    ) -> None:
        self.engine, self.layouts, self.batch = engine, layouts, batch
        self.training, self.seed, self.turn = training, seed, turn
        self.xp = engine.xp
        self.empty = engine.empty
        self.matmul = engine.kernels.get("matmul", engine.xp.matmul)
        self.step: tuple[Axis, slice] | None = None
        self.memo: dict[Any, Any] = {}

    def rows(self, axes: tuple[Axis, ...]) -> int:
        if len(axes) < 2:
            return self.batch
        if self.step and self.step[0] == axes[1]:
            return self.step[1].stop - self.step[1].start
        return self.layouts[axes[1]].rows

    def block(self, axis: Axis) -> slice:
        """The rows that are being computed: one step's in a loop, all outside."""
        return self.step[1] if self.step and self.step[0] == axis else slice(None)

    def index(self, layout: Layout, which: str) -> Any:
        return self.engine.from_numpy(getattr(layout, which))

    def random(self, seed: Any, key: int) -> Any:
        """A generator of random numbers for one operation in this run."""
        row = self.step[1].start if self.step else 0  # each step of a loop draws anew
        if seed is None:
            return self.engine.generator((self.seed, key, row))
        return self.engine.generator((int(seed), self.turn, row))


class Call:
    """One kernel with where its operands come from and where its result goes."""

    def __init__(self, node: Node, engine: Any, slot: Callable[[Node], int]) -> None:
        assert node.op is not None and node.shape is not None
        arguments = node.op.arguments(node)
        self.node = node
        self.kernel = partial(engine.kernels.get(node.op.name, node.op.kernel), **arguments)
        # An engine's ways of doing pointwise work cost more than a few elements of it.
        self.on_few = partial(node.op.kernel, **arguments) if node.op.pointwise else self.kernel
        self.few = getattr(engine, "few", 0) if node.axes or node.shape else 0  # bytes
        self.operands = [slot(i) for i in node.inputs]
        self.result = slot(node)
        self.into = node.op.into
        self.follows = node.op.pointwise or node.op.name == "splice"  # the operands' memory order
        self.axes = node.axes or ()
        self.shape, self.dtype = node.shape, node.dtype
        self.row_bytes = math.prod(self.shape) * node.dtype.itemsize if node.dtype else 0
        self.dead: list[int] = []

    def __call__(self, run: Run, env: Env) -> None:
        self.on_rows(run, env, run.rows(self.axes) if self.axes and self.into else None)

    def on_rows(self, run: Run, env: Env, rows: int | None, out: Any = None) -> None:
        """Computes the result, into `out` if that is given."""
        operands = [env[i] for i in self.operands]
        try:
            if not self.into:
                env[self.result] = self._copied(self.kernel(run, *operands), out)
                return
            size = self.row_bytes if rows is None else self.row_bytes * rows
            if size <= self.few:
                env[self.result] = self.on_few(run, *operands, out=out)
                return
            if out is None and size >= _SMALL:
                out = self._room(run, operands, rows)
            env[self.result] = self.kernel(run, *operands, out=out)
        except GraphError as error:
            raise failed(self.node, error) from None

    def _room(self, run: Run, operands: Sequence[Any], rows: int | None) -> Any:
        lead = () if rows is None else (rows,)
        like = _model(operands, len(lead + self.shape)) if self.follows else None
        return run.empty(lead + self.shape, self.dtype, like)

    @staticmethod
    def _copied(result: Any, out: Any) -> Any:
        if out is None:
            return result
        out[...] = result
        return out


def _model(operands: Sequence[Any], rank: int) -> Any:
    """The operand whose memory order the result takes: the first that is not a repeated one."""
    for a in operands:
        if a.ndim == rank and all(s or n == 1 for s, n in zip(a.strides, a.shape, strict=True)):
            return a
    return None


class Loop:
    """The steps of a cycle: what it reads from outside, what it keeps, what it computes."""

    def __init__(
        self,
        nodes: Sequence[Node],
        whole: set[Node],
        engine: Any,
        slot: Callable[[Node], int],
    ) -> None:
        self.nodes = nodes
        delays = [n for n in nodes if n.is_delay]
        self.axis, self.forward = _direction(nodes, delays)
        self.calls = bring_together([Call(n, engine, slot) for n in nodes if not n.is_delay])
        self.delays = [
            (
                slot(d),
                slot(d.inputs[0]),
                slot(d.inputs[1]),
                len(d.inputs[1].axes or ()),
                d.attrs["offset"],
                d.shape or (),
            )
            for d in delays
        ]
        inside = set(nodes)
        read = {i: None for n in nodes for i in (n.inputs[1:] if n.is_delay else n.inputs)}
        outer = [i for i in read if i not in inside]
        self.frames = [slot(i) for i in outer if len(i.axes or ()) == 2]
        self.whole = [(slot(n), n.shape or (), n.dtype) for n in nodes if n in whole]
        self.parts = _parts(self.calls, {i for i, *_ in self.whole}, engine.xp)
        reach: dict[int, int] = {}
        for _, source, *_, offset, _ in self.delays:
            reach[source] = max(reach.get(source, 0), abs(offset))
        self.reach = reach
        self.result = {slot(n) for n in nodes}
        self.reads = {slot(i) for i in outer} | {slot(d.inputs[1]) for d in delays}
        self.dead: list[int] = []

    def __call__(self, run: Run, env: Env) -> None:
        layout = run.layouts[self.axis]
        starts, counts = layout.offsets, layout.counts
        kept = {i: run.empty((layout.rows, *shape), dtype) for i, shape, dtype in self.whole}
        initial = [
            initial_rows(run, env[first], own, layout, shape)
            for _, _, first, own, _, shape in self.delays
        ]
        frames = [(i, env[i]) for i in self.frames]
        history: dict[int, deque[Any]] = {i: deque(maxlen=n) for i, n in self.reach.items()}
        sign = 1 if self.forward else -1
        for t in range(layout.steps)[::sign]:
            block, rows = slice(starts[t], starts[t + 1]), counts[t]
            run.step = (self.axis, block)
            for i, value in frames:
                env[i] = value[block]
            for (result, source, _, _, offset, _), first in zip(self.delays, initial, strict=True):
                earlier = partial(_earlier, history[source], t)
                env[result] = delayed_block(run, earlier, first, counts, t, offset)
            for part in self.parts:
                part.on_rows(run, env, rows, kept, block)
            for i, past in history.items():
                past.append(env[i])
            for result, *_ in self.delays:
                if result in kept:
                    kept[result][block] = env[result]
        run.step = None
        for i in self.result:
            env[i] = kept.get(i)
        for i, value in frames:
            env[i] = value


class _Part:
    """Calls of a step that follow one another, written out as a function if that can be."""

    def __init__(self, calls: Sequence[Call], kept: set[int], xp: Any) -> None:
        self.calls = calls
        light = len(calls) > 1 or is_light(calls[0])
        self.written = written_out(calls, kept, xp) if light else None
        self.row_bytes = max(c.row_bytes for c in calls)
        self.few = calls[0].few

    def on_rows(self, run: Run, env: Env, rows: int, kept: Mapping[int, Any], block: slice) -> None:
        if self.written is not None and self.row_bytes * rows <= self.few:
            self.written(run, env, kept, block, rows)
            return
        for call in self.calls:
            whole = kept.get(call.result)
            call.on_rows(run, env, rows, None if whole is None else whole[block])


def _parts(calls: Sequence[Call], kept: set[int], xp: Any) -> list[_Part]:
    runs = groupby(enumerate(calls), lambda c: -1 if is_light(c[1]) else c[0])
    return [_Part([c for _, c in group], kept, xp) for _, group in runs]


def _earlier(history: Sequence[Any], t: int, step: int) -> Any:
    """A value as it was at another step of a loop that is at step t."""
    return history[-abs(t - step)]


def _direction(nodes: Sequence[Node], delays: Sequence[Node]) -> tuple[Axis, bool]:
    """The time axis of a loop and whether it runs forward.

    Raises `GraphError` if its delays look both ways, or if something in it needs all frames.
    """
    offsets = [d.attrs["offset"] for d in delays]
    if min(offsets) < 0 < max(offsets):
        lines = [
            f"  {'past' if d.attrs['offset'] > 0 else 'future'}_value at {d.origin}" for d in delays
        ]
        raise GraphError(
            "a cycle looks both into the past and into the future, so no step can be first:\n"
            + "\n".join(lines),
            mend="use two recurrences, one per direction, and splice their outputs",
        )
    for n in nodes:
        if n.op is not None and not n.op.framewise and not n.is_delay:
            raise located(
                GraphError(
                    "it needs all frames of a sequence, and stands in a recurrence that computes "
                    "them one by one",
                    mend="take it out of the step function, or put past_value in its place",
                ),
                n.op.name,
                n.origin,
                [],
            )
    return delays[0].time_axis, offsets[0] > 0


class Plan:
    """The calls that compute `outputs` from inputs and parameters, on an engine.

    Raises `GraphError` for a graph that can't run: a placeholder in it is not bound, or a shape
    can't be known.
    """

    def __init__(self, outputs: Sequence[Node], engine: Any) -> None:
        self.engine = engine
        self.outputs = list(outputs)
        self.slots: dict[Node, int] = {}
        groups = components(outputs)
        _check([n for group in groups for n in group])
        self.inputs = [n for g in groups for n in g if isinstance(n, Input)]
        self.constants = [n for g in groups for n in g if isinstance(n, Constant)]
        self.parameters = [n for g in groups for n in g if isinstance(n, Stored)]
        self.axes = {a for g in groups for n in g for a in (n.axes or ()) if a.source is None}
        self.steps = self._schedule(groups)
        self.results = [self._slot(n) for n in outputs]
        self._mark_dead()
        self.stored = [(self._slot(c), engine.from_numpy(c.value)) for c in self.constants]

    def _slot(self, node: Node) -> int:
        return self.slots.setdefault(node, len(self.slots))

    def _schedule(self, groups: Sequence[Sequence[Node]]) -> list[Call | Loop]:
        loops = [g for g in groups if len(g) > 1 or g[0] in _fed(g[0])]
        home = {n: id(g) for g in loops for n in g}
        whole = {n for n in self.outputs if n in home}
        for group in groups:
            for n in group:
                whole.update(i for i in n.inputs if i in home and home[i] != home.get(n))
        return [
            Loop(g, whole, self.engine, self._slot)
            if g[0] in home
            else Call(g[0], self.engine, self._slot)
            for g in groups
            if g[0].op
        ]

    def _mark_dead(self) -> None:
        """Each value is let go after the last step that reads it."""
        needed = set(self.results)
        for step in reversed(self.steps):
            reads = step.reads if isinstance(step, Loop) else set(step.operands)
            made = step.result if isinstance(step, Loop) else {step.result}
            step.dead = [i for i in reads | made if i not in needed]
            needed |= reads

    def run(
        self,
        feed: Mapping[Input, Any],
        layouts: dict[Axis, Layout],
        batch: int,
        training: bool = False,
        seed: int = 0,
        turn: int = 0,
    ) -> list[Any]:
        """The outputs' arrays, in rows.

        Args:
            feed: an array in rows for each input.
            layouts: for each time axis of an input.
            batch: the number of samples.
            seed: for what is random.
            turn: for what is random and has a seed of its own: it draws anew in each.
        """
        for axis in self.axes:
            if axis.is_sequence_axis and axis not in layouts:
                raise GraphError(
                    f"nothing says how long the sequences along {axis.name} are",
                    mend="give the value of an input that has this time axis",
                )
        run = Run(self.engine, layouts, batch, training, seed, turn)
        env: Env = [None] * len(self.slots)
        for node in self.inputs:
            env[self.slots[node]] = feed[node]
        for slot, array in self.stored:
            env[slot] = array
        for p in self.parameters:
            env[self.slots[p]] = self.engine.from_numpy(p.value)
        with np.errstate(all="ignore"):  # infinities and NaN are values; a warning names no line
            for step in self.steps:
                step(run, env)
                for i in step.dead:
                    env[i] = None
        self.engine.finish()
        return [env[i] for i in self.results]


def _fed(node: Node) -> tuple[Node, ...]:
    return node.inputs[:1] if node.is_delay else ()


def _check(nodes: Sequence[Node]) -> None:
    for node in nodes:
        if isinstance(node, Placeholder):
            raise GraphError(
                f"placeholder {describe(node)} has no value\n  made at {node.origin}",
                mend="call the function with an input, or use replace_placeholders",
            )
    for node in nodes:
        if not node.is_complete:
            raise GraphError(
                f"the shape of {node.op.name if node.op else node.kind} can't be known: it "
                f"depends on itself\n  made at {node.origin}",
                mend="give the recurrence's initial_state its shape",
            )
