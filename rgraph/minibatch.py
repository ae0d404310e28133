"""What people feed becomes arrays in packed rows, and results become what people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import as_array, memory_of, on_gpu
from .graph import FREE, Axis, GraphError, Input, Layout, Node
from .graph.node import describe
from .values import Value, dense


class Minibatch:
    """The arrays of one minibatch.

    Attributes:
        arrays: for each input, its values in rows.
        layouts: for each time axis, how its frames lie.
        size: the number of samples or sequences.

    Raises `GraphError` for a missing input, a value of another shape or type than the input's,
    and inputs that disagree in the number or the lengths of their sequences.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        data: Mapping[Node, Any],
        engine: Any,
        read: Sequence[Input] | None = None,
    ) -> None:
        """`read`: those of `inputs` whose values are needed, not only their lengths."""
        for node in inputs:
            if node not in data:
                given = f"; given were {', '.join(map(describe, data))}" if data else ""
                raise GraphError(
                    f"input {describe(node)} was given no value\n  made at {node.origin}",
                    mend="pass it: eval({x: array, …})" + given,
                )
        samples = {n: samples_of(n, data[n]) for n in inputs}
        self.engine = engine
        self.layouts: dict[Axis, Layout] = {}
        self.size = _count(samples)
        self._order: np.ndarray | None = None
        lengths: dict[Axis, tuple[Input, list[int]]] = {}
        for node in inputs:
            if len(node.axes or ()) == 2:
                self._add_layout(node, [len(s) for s in samples[node]], lengths)
        self.arrays = {n: self._rows(n, samples[n]) for n in (inputs if read is None else read)}
        self._held: dict[int, Any] = {}  # memory that is someone else's, or was read before
        self.hold(a for n, a in self.arrays.items() if not n.axes)

    def _add_layout(
        self, node: Input, own: list[int], lengths: dict[Axis, tuple[Input, list[int]]]
    ) -> None:
        axis = node.time_axis
        other = lengths.setdefault(axis, (node, own))
        if other[1] != own:
            i = next(i for i, (a, b) in enumerate(zip(other[1], own, strict=True)) if a != b)
            raise GraphError(
                f"inputs {describe(other[0])} and {describe(node)} share a time axis, but their "
                f"sequences {i} have {other[1][i]} and {own[i]} frames\n"
                f"  made at {other[0].origin}\n  made at {node.origin}",
                mend="feed sequences of equal lengths, or give one input an axis of its own: "
                "sequence.input_variable(…, sequence_axis=C.Axis.new_unique_dynamic_axis('name'))",
            )
        if axis not in self.layouts:
            self.layouts[axis] = layout = Layout(own, self._order)
            self._order = layout.batch_order

    def _rows(self, node: Input, samples: Any) -> Any:
        axes, shape = node.axes or (), node.shape or ()
        engine = self.engine
        empty = getattr(engine, "staging", engine.empty)
        parts = samples if isinstance(samples, list) else [samples]
        if any(on_gpu(s) is not None for s in parts):
            _refuse_on_cpu(node, engine)
            if isinstance(samples, list):
                return self._packed_there(self.layouts[axes[1]], samples)
            empty = engine.empty
        if not axes:
            return engine.from_numpy(samples)
        if len(axes) == 2:
            layout = self.layouts[axes[1]]
            rows = layout.pack(samples, empty((layout.rows, *shape), node.dtype))
        else:
            rows = empty((len(samples), *shape), node.dtype)
            rows[...] = samples if self._order is None else samples[self._order]
        return engine.from_numpy(rows)

    def _packed_there(self, layout: Layout, samples: list[Any]) -> Any:
        """The sequences in packed rows, without a loop over them on the GPU."""
        joined = [self.engine.from_numpy(s) for s in samples]
        if layout.lengths[-1] == layout.steps and (layout.order == np.arange(len(samples))).all():
            rows = np.stack(joined, 1)
            return rows.reshape(layout.rows, *rows.shape[2:])
        places = np.argsort(np.concatenate(layout.rows_of_sequences))
        return np.concatenate(joined)[self.engine.from_numpy(places)]

    def read(self, node: Node, rows: Any, as_numpy: bool = True) -> Any:
        """The value of `node` as people read it: a list of sequences, a batch, or one array."""
        axes = node.axes or ()
        sparse = node.attrs.get("sparse_output")
        if as_numpy or sparse:
            array = self.engine.to_numpy(rows)
        else:  # a run's own memory may be written again by the next
            there = not isinstance(rows, (np.ndarray, np.generic))
            array = rows.copy(order="K") if there else rows
        if sparse:
            import scipy.sparse  # only who asks for such output needs SciPy

            return scipy.sparse.csr_matrix(array)
        if len(axes) == 1 and self._order is not None:
            result = np.empty_like(array)
            result[self._order] = array
            return result
        array = self.own(array)
        if len(axes) < 2:
            return array
        layout = self.layouts[axes[1]]
        there = not isinstance(array, np.ndarray)
        return self._unpacked_there(layout, array) if there else layout.unpack(array)

    def _unpacked_there(self, layout: Layout, rows: Any) -> list[Any]:
        """The sequences, without a loop over them on the GPU."""
        if len(layout) and layout.lengths[-1] == layout.steps:
            return layout.unpack(rows)
        joined = rows[self.engine.from_numpy(np.concatenate(layout.rows_of_sequences))]
        ends = np.cumsum(layout.given)
        return [joined[end - n : end] for end, n in zip(ends, layout.given, strict=True)]

    def hold(self, arrays: Iterable[Any]) -> None:
        """Takes note of arrays whose memory is someone else's."""
        self._held.update((id(m), m) for m in map(memory_of, arrays))

    def own(self, array: Any) -> Any:
        """The array, or a copy where it is someone else's memory, or repeated."""
        memory = memory_of(array)
        if id(memory) in self._held or not getattr(array.flags, "writeable", True):
            return array.copy()
        self._held[id(memory)] = memory
        return array


def _count(samples: Mapping[Input, Any]) -> int:
    sizes = {n: len(s) for n, s in samples.items() if n.axes}
    if len(set(sizes.values())) > 1:
        raise GraphError(
            "the inputs have different numbers of samples or sequences:\n"
            + "\n".join(f"  {describe(n)}: {size}" for n, size in sizes.items())
        )
    return next(iter(sizes.values()), 1)


def samples_of(node: Input, data: Any) -> Any:
    """The input's value as one array, an array with a batch axis, or a list of sequences."""
    shape, axes = node.shape or (), node.axes or ()
    if isinstance(data, Value) and not all(data.starts or ()):
        raise GraphError(
            f"input {describe(node)} was given sequences that go on from the minibatch before, "
            f"and no run keeps its states for the next\n  made at {node.origin}",
            mend="give whole sequences, or feed the state: layers.RecurrenceFrom takes it as an "
            "operand, return_full_state=True gives it",
        )
    data = dense(data)
    if not axes:
        return _array(node, data, 0)
    if len(axes) == 1:
        array = _array(node, data, 2)
        if array.ndim == len(shape) + 2:  # as CNTK gives batches: sequences of one frame
            if array.shape[1] != 1:
                raise _misfit(node, array, 1)
            array = array[:, 0]
        return array[None] if array.ndim == len(shape) else array
    if isinstance(data, (list, tuple)):
        frames = [_array(node, s, 1) for s in data]
        if frames and all(f.ndim == len(shape) for f in frames):  # one sequence, frame by frame
            return [np.stack(frames)]
        return [f if f.ndim > len(shape) else f[None] for f in frames]
    array = _array(node, data, 2)
    if array.ndim == len(shape) + 2:
        return list(array)
    return [array if array.ndim > len(shape) else array[None]]


def _array(node: Input, data: Any, most: int) -> np.ndarray:
    """`data` as an array of the input's type, with up to `most` axes before the sample's."""
    try:
        array = as_array(data)
    except ValueError:  # samples of different shapes
        array = np.empty(0, object)
    shape = node.shape or ()
    if array.dtype.kind not in "biuf":
        raise GraphError(
            f"input {describe(node)} was given values of type {array.dtype}, it needs numbers\n"
            f"  made at {node.origin}",
            mend="pass an array of numbers; samples of different shapes can't be one batch",
        )
    with np.errstate(over="ignore"):  # infinities are values; a warning names no line
        array = array.astype(node.dtype, copy=False)
    if shape == (1,) and (not array.ndim or array.shape[-1] != 1):
        array = array[..., None]
    lead = array.ndim - len(shape)
    if not 0 <= lead <= most or not _matches(array.shape[lead:], shape):
        raise _misfit(node, array, min(most, len(node.axes or ())))
    return array


def _refuse_on_cpu(node: Input, engine: Any) -> None:
    if not engine.name.startswith("cuda"):
        raise GraphError(
            f"input {describe(node)} was given an array on a GPU, and the CPU is to compute\n"
            f"  made at {node.origin}",
            mend="eval(…, device=C.gpu(0)), or bring the array to the CPU's memory",
        )


def _misfit(node: Input, array: np.ndarray, most: int) -> GraphError:
    return GraphError(
        f"input {describe(node)} was given an array of shape {array.shape}\n"
        f"  made at {node.origin}",
        mend=_shape_mend(array.shape, node.shape or (), most),
    )


def sizes(node: Input, data: Any) -> tuple[tuple[int, ...], int, int]:
    """What an input is fed with: a sample's shape, how many samples, the longest's frames."""
    samples, own = samples_of(node, data), node.shape or ()
    longest = max(map(len, samples), default=0) if len(node.axes or ()) == 2 else 1
    one = samples
    if isinstance(samples, list):
        one = samples[0] if samples else np.empty([max(n, 1) for n in own])  # free: of any size
    shape = one.shape[one.ndim - len(own) :]
    return shape, len(samples) if node.axes else 1, longest


def _matches(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(n == m or n < 0 for m, n in zip(own, shape, strict=True))


def _shape_mend(got: tuple[int, ...], shape: tuple[int, ...], most: int) -> str:
    rank = len(shape)
    if rank > 1 and got[-rank:] == (*shape[1:], shape[0]):
        return "channels come first here: np.moveaxis(array, -1, -%d)" % rank
    if rank > 1 and shape[0] == 1 and got[1 - rank :] == shape[1:] and len(got) < rank + most:
        whole = (*got[: 1 - rank], *shape)
        return f"the axis of the one channel is missing: array.reshape({whole})"
    wanted = {
        0: f"an array of shape {shape}",
        1: f"samples of shape {shape}, in a batch of shape {('N', *shape)}",
        2: f"a list of sequences of shape {('frames', *shape)} each",
    }[most]
    mend = "it takes " + wanted.replace("'", "").replace(str(FREE), "free")
    if most == 1 and len(got) == rank + 2:
        mend += f"; for sequences declare it with sequence.input_variable({shape})"
    return mend
