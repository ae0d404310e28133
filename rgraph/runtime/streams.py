"""Sequences evaluated frame by frame, as frames arrive: `Function.stream`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .. import device as _device
from ..graph import GraphError, Input, Node, follows_data, order
from ..graph.node import describe
from ..graph.types import Array, ArrayLike, Data, Saved
from ..passes.cutting import Cut, cut
from ..plan import Plan
from .arrays import on_cpu
from .evaluation import Request, Runner
from .jobs import plan
from .values import Value
from .watching import is_observed

if TYPE_CHECKING:
    from ..device import DeviceDescriptor


class Stream:
    """A function of sequences that is fed one frame at a time. See `Function.stream`.

    It can run many sequences at once, each with its own key: `step` takes a frame of some or all of
        them.
    Their state stays on the device that computes; memory and time per frame do not depend on the
    number of previous frames.

    Attributes:
        keys: the keys of the current sequences.
    """

    def __init__(
        self,
        outputs: Sequence[Node],
        inputs: Sequence[Input],
        device: DeviceDescriptor | None = None,
    ) -> None:
        self._cut: Cut = cut(outputs)
        self._device = device
        self._frames = [self._cut.frames[i] for i in inputs if i in self._cut.frames]
        self._given = [i for i in inputs if i not in self._cut.frames]
        self._single = len(outputs) == 1
        before = [h.before for h in self._cut.held]
        values = (*self._cut.outputs, *(h.after for h in self._cut.held))
        self._request = Request(values)
        self._inputs = [*self._frames, *self._cut.given.values(), *before, self._cut.passed]
        self._runner = Runner(values)
        self.keys: list[Hashable] = []
        self._kept: list[Array] = []  # for each of given and held, a row for each key
        self._counts = np.zeros(0, np.float32)

    def __call__(self, *frames: Data) -> np.ndarray | list[np.ndarray]:
        """A frame of a single sequence: one value for each input with frames. Gives its output,
        or a list of several.

        >>> x = C.sequence.input_variable(1)
        >>> total = C.layers.Recurrence(lambda sum, x: sum + x)(x).stream()
        >>> [float(total(frame)[0]) for frame in ([1], [2], [3])]
        [1.0, 3.0, 6.0]
        """
        return self.step({None: frames[0] if len(self._frames) == 1 else frames})[None]

    def step(
        self, frames: Mapping[Hashable, Data]
    ) -> dict[Hashable, np.ndarray | list[np.ndarray]]:
        """A frame of each of these sequences; one that is new starts. Others stay as they are.

        Args:
            frames: by key a frame, or a tuple of one for each input.

        Returns:
            by key the output for the frame, an array of its shape; a list of several outputs.

        >>> x = C.sequence.input_variable(1)
        >>> total = C.layers.Recurrence(lambda sum, x: sum + x)(x).stream()
        >>> _ = total.step({"a": [1], "b": [10]})
        >>> found = total.step({"b": [5], "c": [7]})
        >>> {key: float(value[0]) for key, value in found.items()}
        {'b': 15.0, 'c': 7.0}
        """
        if not frames:
            return {}
        data = self._stacked(frames)
        for key in frames:
            if key not in self.keys:
                self.join(key)
        keys = list(frames)
        rows = None if keys == self.keys else [self.keys.index(k) for k in keys]
        kept = self._kept if rows is None else [a[rows] for a in self._kept]
        counts = self._counts if rows is None else self._counts[rows]
        data.update(zip(self._inputs[len(self._frames) :], [*kept, counts], strict=True))
        values = self._run(data)
        outputs, after = values[: len(self._cut.outputs)], values[len(self._cut.outputs) :]
        self._keep(after, rows)
        results = [_given_out(on_cpu(o), after) for o in outputs]
        if self._single:
            return dict(zip(keys, results[0], strict=True))
        return {key: [r[i] for r in results] for i, key in enumerate(keys)}

    def join(self, key: Hashable, given: Data = None) -> None:
        """Starts a sequence, or starts it anew. `step` does so with a key that is new.

        Args:
            given: the values of the inputs that have no frames here: one value, or a dict by input
                or name. Needed where there are such.
        """
        rows = [a[:1] for a in self._first(given)]
        if key in self.keys:
            self.leave(key)
        self._add(key, rows, 0)

    def reset(self, key: Hashable = None, given: Data = None) -> None:
        """Has a sequence start anew with its next frame; without a key the single one."""
        self.join(key, given)

    def leave(self, key: Hashable) -> None:
        """End a sequence and drop its state."""
        row = self._row(key)
        rest = [i for i in range(len(self.keys)) if i != row]
        self.keys = [self.keys[i] for i in rest]
        self._kept = [a[rest] for a in self._kept]
        self._counts = self._counts[rest]

    def state(self, key: Hashable = None) -> dict[str, object]:
        """The state of a sequence: numbers and arrays, to be saved and restored."""
        row = self._row(key)
        return {
            "frames": int(self._counts[row]),
            "held": [np.array(on_cpu(a[row])) for a in self._kept],
        }

    def set_state(self, state: Saved, key: Hashable = None) -> None:
        """Restore the state of a sequence, which may be a new one.

        Raises `GraphError` for the state of another function.
        """
        held, passed = [np.asarray(a) for a in state["held"]], int(state["frames"])
        wanted = [n.shape for n in self._inputs[len(self._frames) : -1]]
        if [a.shape for a in held] != wanted:
            raise GraphError(
                f"the state is another function's: it has {[a.shape for a in held]}, "
                f"this one holds {wanted}"
            )
        if key in self.keys:
            self.leave(key)
        nodes = self._inputs[len(self._frames) : -1]
        rows = [self._there(a[None], n) for a, n in zip(held, nodes, strict=True)]
        self._add(key, rows, passed)

    def _add(self, key: Hashable, rows: Sequence[Array], passed: float) -> None:
        join = _device.engine(self._device).xp.concatenate
        old = self._kept if self.keys else [r[:0] for r in rows]
        self._kept = [join([a, r]) for a, r in zip(old, rows, strict=True)]
        self._counts = np.append(self._counts, np.float32(passed))
        self.keys.append(key)

    def _row(self, key: Hashable) -> int:
        if key not in self.keys:
            raise KeyError(f"no sequence {key!r} is under way; there are {self.keys}")
        return self.keys.index(key)

    def _stacked(self, frames: Mapping[Hashable, Data]) -> dict[Node, Data]:
        """The frames of all sequences, for each input."""
        several = len(self._frames) > 1
        found: dict[Node, Data] = {}
        for i, node in enumerate(self._frames):
            parts = [np.asarray(f[i] if several else f, node.dtype) for f in frames.values()]
            for part in parts:
                if part.shape != node.shape:
                    raise GraphError(
                        f"a frame of {describe(node)} was given as an array of shape {part.shape}"
                        f"\n  made at {node.origin}",
                        hint=f"one frame has shape {node.shape}",
                    )
            found[node] = np.stack(parts)
        return found

    @cached_property
    def _plan(self) -> Plan | None:
        """The plan for a frame on the CPU if all sizes are known; None otherwise."""
        known = not any(map(follows_data, order(self._request.values)))
        on_cpu = _device.engine(self._device).xp is np
        return plan(self._request, self._device) if known and on_cpu else None

    @cached_property
    def _is_new(self) -> list[bool]:
        """Whether a result has memory of its own rather than an operand's."""
        assert self._plan is not None
        return [v.op is not None and v.op.into for v in self._plan.outputs]

    def _run(self, data: Mapping[Node, Data]) -> list[Array]:
        feed = self._runner.feed(data, self._device)
        if self._plan is None or is_observed():
            found = self._runner.run(self._request, feed, self._inputs, as_numpy=False)
            return [v.content for v in found]
        # As `Runner.run` does it, without what rows that are samples do not need.
        given = {n: data[n] for n in self._plan.inputs}
        size = len(data[self._cut.passed])
        rows = self._plan.run(given, {}, size, seed=feed.run, turn=feed.turn)
        return [r if own else r.copy() for r, own in zip(rows, self._is_new, strict=True)]

    def _keep(self, after: Sequence[Array], rows: Sequence[int] | None) -> None:
        first = len(self._cut.given)
        if rows is None:
            self._kept[first:] = after
            self._counts = self._counts + 1
            return
        for i, new in enumerate(after, first):
            self._kept[i] = self._kept[i].copy()
            self._kept[i][rows] = new
        self._counts[rows] += 1

    def _first(self, given: Data) -> list[Array]:
        """The state of a sequence before its first frame."""
        nodes = [*self._cut.given, *(h.initial for h in self._cut.held)]
        if not nodes:
            return []
        data = self._values_of(given)
        feed = Runner().feed(data, self._device)
        needed = [n for n in self._given if n in data]
        found = Runner(nodes).run(Request(tuple(nodes)), feed, needed, as_numpy=False)
        inputs = self._inputs[len(self._frames) :]
        return [
            self._there(on_cpu(v.content if isinstance(v, Value) else v), n)
            for v, n in zip(found, inputs, strict=False)
        ]

    def _values_of(self, given: Data) -> dict[Node, Data]:
        if not self._given:
            return {}
        if not isinstance(given, Mapping):
            given = {} if given is None else {self._given[0]: given}
        data: dict[Node, Data] = {}
        for node in self._given:
            keys = [k for k in given if k == node.name or getattr(k, "node", k) is node]
            if not keys:
                raise GraphError(
                    f"input {describe(node)} has no frames here: its value is needed when a "
                    f"sequence starts\n  made at {node.origin}",
                    hint="stream.join(key, {input: value}) gives it",
                )
            value = given[keys[0]]
            data[node] = [value] if len(node.axes or ()) == 2 else np.asarray(value)[None]
        return data

    def _there(self, value: ArrayLike, node: Node) -> Array:
        """A value in rows of `node`, on the device."""
        shape = (1, *(node.shape or ()))
        array = np.asarray(value, node.dtype)
        rank = len(shape)
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
        array = np.ascontiguousarray(np.broadcast_to(array, shape))
        return _device.engine(self._device).from_numpy(array)


def _given_out(array: np.ndarray, held: Sequence[Array]) -> np.ndarray:
    """A read-only copy of a state: PyTorch would write even to read-only memory."""
    if any(isinstance(h, np.ndarray) and np.may_share_memory(array, h) for h in held):
        array = array.copy()
    view = array.view()
    view.flags.writeable = False
    return view
