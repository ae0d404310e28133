"""Conversion of user data to arrays in packed rows, and of results back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..engines.base import Engine
from ..graph import FREE, Axis, GraphError, Input, Layout, Node
from ..graph.layout import layout_of
from ..graph.node import describe
from ..graph.types import Array, Data
from . import samples
from .arrays import memory_of, on_gpu
from .values import Value, dense, unwrapped


class Minibatch:
    """The arrays of one minibatch.

    Attributes:
        arrays: the values of each input, in packed rows.
        layouts: the layout of the frames, for each time axis.
        size: the number of samples or sequences.

    Raises `GraphError` if an input is missing or has a value of the wrong shape or type, or if
    inputs disagree in the number or the lengths of their sequences.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        data: Mapping[Node, Data],
        engine: Engine,
        read: Sequence[Input] | None = None,
    ) -> None:
        """`read`: those of `inputs` whose values are needed, not only their lengths."""
        fed: dict[Input, Array | list[Array]] = {}
        sequences: list[Input] = []
        for node in inputs:
            if node not in data:
                raise _missing(node, data)
            fed[node] = samples_of(node, data[node])
            if len(node.axes or ()) == 2:
                sequences.append(node)
        self.engine = engine
        self.layouts: dict[Axis, Layout] = {}
        self.size = _count(fed)
        self._order: np.ndarray | None = None
        lengths: dict[Axis, tuple[Input, list[int]]] = {}
        sequences.sort(key=_is_derived)  # the others decide the samples' order
        for node in sequences:
            self._add_layout(node, [len(s) for s in fed[node]], lengths)
        self._held: dict[int, object] = {}  # memory that is someone else's, or was read before
        self.arrays = {n: self._rows(n, fed[n]) for n in (inputs if read is None else read)}

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
                hint="feed sequences of equal lengths, or give one input an axis of its own: "
                "sequence.input_variable(…, sequence_axis=C.Axis.new_unique_dynamic_axis('name'))",
            )
        if axis not in self.layouts:
            order = self._order_along(node, len(own))
            known = None if order is None else tuple(order.tolist())
            self.layouts[axis] = layout = layout_of(tuple(own), known)
            if not _is_derived(node):
                self._order = layout.batch_order

    def _order_along(self, node: Node, count: int) -> np.ndarray | None:
        """The order of rows along a node's batch axis; None if it is that of the samples."""
        axes = node.axes or ()
        if axes[0].is_made or self._order is None and axes[-1].source is not None:
            return np.arange(count)
        return self._order

    def _rows(self, node: Input, samples: Array | list[Array]) -> Array:
        axes, shape = node.axes or (), node.shape or ()
        engine = self.engine
        empty = engine.staging
        if isinstance(samples, list):
            layout = self.layouts[axes[1]]
            if any(on_gpu(s) is not None for s in samples):
                _refuse_on_cpu(node, engine)
                return self._packed_there(layout, samples)
            return engine.to_feed(layout.pack(samples, empty((layout.rows, *shape), node.dtype)))
        if not isinstance(samples, np.ndarray):
            _refuse_on_cpu(node, engine)
            empty = engine.empty
        order = self._order_along(node, len(samples)) if axes else None
        if order is not None:
            samples = samples[order]
        elif not axes or _is_as_computed(samples):
            rows = engine.to_feed(samples)
            memory = memory_of(rows)
            self._held[id(memory)] = memory
            return rows
        rows = empty((len(samples), *shape), node.dtype)
        rows[...] = samples
        return engine.to_feed(rows)

    def _packed_there(self, layout: Layout, samples: list[Array]) -> Array:
        """The sequences in packed rows, without a loop over them on the GPU."""
        joined = [self.engine.from_numpy(s) for s in samples]
        if layout.lengths[-1] == layout.steps and (layout.order == np.arange(len(samples))).all():
            rows = np.stack(joined, 1)
            return rows.reshape(layout.rows, *rows.shape[2:])
        return np.concatenate(joined)[self.engine.from_numpy(layout.places_in_order)]

    def read(self, node: Node, rows: Array, as_numpy: bool = True, in_order: bool = False) -> Data:
        """The value of `node` as the user reads it: a list of sequences, a batch, or one array.

        Args:
            in_order: whether its frames are in the minibatch's order, one sequence after the other.
        """
        axes = node.axes or ()
        sparse = node.attrs.get("sparse_output")
        there = not (as_numpy or sparse or isinstance(rows, (np.ndarray, np.generic)))
        if there and len(axes) > 1:
            return self._unpacked_there(self.layouts[axes[1]], rows)
        # A run's own memory may be written again by the next.
        array = self.engine.copy(rows) if there else self.engine.to_numpy(rows)
        if sparse:
            import scipy.sparse  # only who asks for such output needs SciPy

            return scipy.sparse.csr_matrix(array)
        if len(axes) == 1 and self._order is not None and not axes[0].is_made:
            result = np.empty_like(array)
            result[self._order] = array
            return result
        array = self.own(array)
        if len(axes) < 2:
            return array
        layout = self.layouts[axes[1]]
        return layout.split(array) if in_order else layout.unpack(array)

    def _unpacked_there(self, layout: Layout, rows: Array) -> list[Array]:
        """Copies of the sequences, without a loop over them on the GPU."""
        if not layout.is_ragged:
            return layout.unpack(self.engine.copy(rows))
        places = self.engine.from_numpy(layout.rows_in_order)
        return layout.split(self.engine.copy(rows, places))

    def hold(self, arrays: Iterable[Array]) -> None:
        """Note arrays whose memory belongs to something else."""
        for array in arrays:
            memory = memory_of(array)
            self._held[id(memory)] = memory

    def own(self, array: Array) -> Array:
        """The array, or a copy if its memory belongs to something else or it is broadcast."""
        memory = memory_of(array)
        if id(memory) in self._held or not getattr(array.flags, "writeable", True):
            return array.copy()
        self._held[id(memory)] = memory
        return array


def _missing(node: Node, data: Mapping[Node, Data]) -> GraphError:
    given = f"; given were {', '.join(map(describe, data))}" if data else ""
    return GraphError(
        f"input {describe(node)} was given no value\n  made at {node.origin}",
        hint="give it one: {x: array, …}" + given,
    )


def _is_as_computed(samples: Array) -> bool:
    """Whether an array can be used as it is; images are copied to channels-last order."""
    flags = samples.flags
    return samples.ndim < 4 and flags.c_contiguous and getattr(flags, "aligned", True)


def _is_derived(node: Node) -> bool:
    """Whether its rows and frames are laid out by another computation, as those of weights are."""
    axes = node.axes or ()
    return axes[0].is_made or axes[-1].source is not None


def _count(samples: Mapping[Input, Array | list[Array]]) -> int:
    sizes: dict[Input, int] = {}
    for node, given in samples.items():
        if node.axes and not node.axes[0].is_made:
            sizes[node] = len(given)
    if len(sizes) > 1 and len(set(sizes.values())) > 1:
        raise GraphError(
            "the inputs have different numbers of samples or sequences:\n"
            + "\n".join(f"  {describe(n)}: {size}" for n, size in sizes.items())
        )
    return next(iter(sizes.values()), 1)


def samples_of(node: Input, data: Data) -> Array | list[Array]:
    """The value of an input as one array, an array with a batch axis, or a list of sequences."""
    if type(data) is np.ndarray:
        return samples.samples_of(node, data)
    data = _as_declared(node, unwrapped(data)) if unwrapped(data) is not data else data
    if not isinstance(data, Value):
        return samples.samples_of(node, dense(data))
    known = isinstance(data.content, list)
    return (samples.sequences_of if known else samples.samples_of)(node, data.content)


def _as_declared(node: Input, read: Data) -> Data:
    """Data from a source, reshaped to the input's shape if it has as many elements."""
    shape = node.shape or ()
    if not isinstance(read, Value) or FREE in shape:
        return read
    content = read.content
    frames = content if isinstance(content, list) else [content.reshape(-1, *content.shape[2:])]
    own = {f.shape[1:] for f in frames}
    if own == {shape} or any(math.prod(s) != math.prod(shape) for s in own):
        return read
    if isinstance(content, list):
        reshaped = Value.of_run([f.reshape(len(f), *shape) for f in content])
    else:
        reshaped = Value.of_run(content.reshape(*content.shape[:2], *shape))
    reshaped.starts = read.starts
    return reshaped


def _refuse_on_cpu(node: Input, engine: Engine) -> None:
    if not engine.is_gpu:
        raise GraphError(
            f"input {describe(node)} was given an array on a GPU, and the CPU is to compute\n"
            f"  made at {node.origin}",
            hint="eval(…, device=C.gpu(0)), or bring the array to the CPU's memory",
        )


def sizes(node: Input, data: Data) -> tuple[tuple[int, ...], int, int]:
    """The shape of a sample, the number of samples, and the most frames of a sequence."""
    given, own = samples_of(node, data), node.shape or ()
    longest = max(map(len, given), default=0) if len(node.axes or ()) == 2 else 1
    one: Array = given
    if isinstance(given, list):
        one = given[0] if given else np.empty([max(n, 1) for n in own])  # free: of any size
    shape = one.shape[one.ndim - len(own) :]
    return shape, len(given) if node.axes else 1, longest
