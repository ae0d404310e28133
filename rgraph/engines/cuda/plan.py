"""Plans for a GPU: the run of a minibatch shape that comes back is captured as one CUDA graph."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph import Axis, Constant, GraphError, Input, Layout, Node, Stored, order
from ...graph.node import describe
from ...graph.types import Array
from ...plan import Plan
from . import library, options
from .transfer import NotCapturable, Together, assign

if TYPE_CHECKING:
    from . import CudaEngine
    from .library import Stream

MOST_GRAPHS = 16  # captured graphs that a plan keeps; each has memory of its own
MOST_SHAPES = 1024  # minibatch shapes that it remembers

# How a run goes on from its feed: layouts, batch, training, seed, turn, first row
_Arguments = tuple[dict[Axis, Layout], int, bool, int, int, int]
_Places = Mapping[int, Array] | None


class CudaPlan(Plan):
    """A plan on a `CudaEngine`.

    The first run of a minibatch shape is a plain one. After the second its calls are captured,
    loop steps included, and from the third on they are one launch. Captured graphs have memory of
    their own, their results too: what `run` gives is valid until its next call.
    """

    engine: CudaEngine

    def __init__(self, outputs: Sequence[Node], engine: CudaEngine) -> None:
        with engine.active():
            super().__init__(outputs, engine)
            # What `from_numpy` gives may be written again as soon as nothing refers to it, even if
            # a run of this plan still reads it.
            self.stored = [(slot, array.copy(order="K")) for slot, array in self.stored]
            self.places = {p: engine.place(p) for p in self.parameters}
        operations = [n.op for n in order(outputs) if n.op is not None]
        self.draws = any(op.draws for op in operations)
        self.hindrance = _hindrance({op.name for op in operations if op.waits or op.new_axis})
        self._shapes: dict[Hashable, Captured | None] = {}  # the latest last
        self._name = ", ".join(describe(n) for n in outputs[:3])
        self._too_large: set[Hashable] = set()  # shapes whose graphs the memory has no room for
        engine.plans.add(self)

    def run(
        self,
        feed: Mapping[Input, Array],
        layouts: dict[Axis, Layout],
        batch: int,
        training: bool = False,
        seed: int = 0,
        turn: int = 0,
        first_row: int = 0,
        places: _Places = None,
        is_part: bool = False,
        ready: Callable[[int, Array], None] | None = None,
    ) -> list[Array]:
        """As `Plan.run`, but `ready` is never called; the results are on the GPU.

        A captured run leaves its results in memory of its own, not in `places`: those are others in
        each run.
        """
        engine = self.engine
        arguments = (layouts, batch, training, seed, turn, first_row)
        with engine.active():
            for place in self.places.values():
                place.refresh()
            if self.draws:
                engine.random.begin(seed, turn)
            with contextlib.suppress(engine.cupy.cuda.memory.OutOfMemoryError):
                return self._run(feed, arguments, places)
            self._make_room()
            try:
                return self._plain(feed, arguments, places)
            except engine.cupy.cuda.memory.OutOfMemoryError as error:
                raise library.out_of_memory(engine.cupy, engine.number, error) from None

    def _make_room(self) -> None:
        """Gives memory back: captured graphs hold some."""
        for plan in self.engine.plans:
            plan._shapes.clear()
        gc.collect()
        self.engine.cupy.get_default_memory_pool().free_all_blocks()

    def _run(
        self, feed: Mapping[Input, Array], arguments: _Arguments, places: _Places
    ) -> list[Array]:
        key = minibatch_shape(feed, *arguments[:3])
        if self.draws:  # where a window of frames begins is part of what it draws
            key = key, arguments[-1]
        comes_back = key in self._shapes
        captured, captures = self._shapes.pop(key, None), False
        if captured is None:
            captures = comes_back and not self.hindrance and key not in self._too_large
            self.engine.cudnn.exact, self.engine.cudnn.tails = comes_back, captures
            results = self._plain(feed, arguments, places)
            if captures:
                captured = self._captured(feed, arguments, key)
        else:
            with self._range("replay"):
                results = captured.replay(feed)
            self.engine.finish()
        self._shapes[key] = captured
        if captured is not None:
            self.engine.turn = captured.used = self.engine.turn + 1
        self._forget()
        if captures and captured is not None:
            self._keep_within(self.engine.most_graph_bytes)
        return results

    def _forget(self) -> None:
        """Lets go of what has not come for the longest time."""
        graphs = [key for key, captured in self._shapes.items() if captured]
        for key in graphs[:-MOST_GRAPHS]:
            self._shapes[key] = None
        while len(self._shapes) > MOST_SHAPES:
            del self._shapes[next(iter(self._shapes))]

    def _keep_within(self, most: int) -> None:
        """Lets go of graphs of any plan, those first that were not run for the longest time, until
        all that are left have so many bytes at most."""
        graphs = [
            (captured.used, plan, key)
            for plan in self.engine.plans
            for key, captured in plan._shapes.items()
            if captured
        ]
        graphs.sort(key=lambda g: g[0])
        total = sum(plan._shapes[key].size for _, plan, key in graphs)
        for _, plan, key in graphs[:-1]:  # the latest stays
            if total <= most:
                break
            total -= plan._shapes[key].size
            plan._shapes[key] = None

    def _plain(
        self, feed: Mapping[Input, Array], arguments: _Arguments, places: _Places
    ) -> list[Array]:
        transfers, small = self.engine.transfers, _on_cpu(feed)
        if small:
            together = Together(transfers, list(small.values()))
            together.write(list(small.values()))
            transfers.keep(together)
            feed = {**feed, **dict(zip(small, together.arrays, strict=True))}
        with transfers.known(), self._range("run"):
            return super().run(feed, *arguments, places)

    @contextlib.contextmanager
    def _range(self, what: str) -> Iterator[None]:
        """A range that NVIDIA's profilers show."""
        nvtx = self.engine.cupy.cuda.nvtx
        nvtx.RangePush(f"rgraph: {what} of {self._name}")
        try:
            yield
        finally:
            nvtx.RangePop()

    def value_of(self, node: Stored | Constant) -> Array:
        """The node's array on the GPU."""
        return self.places[node].array

    def _captured(
        self, feed: Mapping[Input, Array], arguments: _Arguments, key: Hashable
    ) -> Captured | None:
        """The run as a graph; None if that can't be.

        Where it can't be for any shape the reason is in `hindrance`. Where memory has no room for
        it, all other graphs are let go of, and it is tried once more.
        """
        full = self.engine.cupy.cuda.memory.OutOfMemoryError
        for _ in range(2):
            try:
                with self._range("capture"):
                    return self._capture(feed, arguments)
            except full:
                self._make_room()
            except Exception as error:
                self.hindrance = _reason(error)
                return None
        self._too_large.add(key)
        return None

    def _capture(self, feed: Mapping[Input, Array], arguments: _Arguments) -> Captured:
        engine, transfers, stream = self.engine, self.engine.transfers, self.engine.stream
        made = Captured(engine)
        with engine.cupy.cuda.using_allocator(made.pool.malloc), transfers.known() as known:
            made.make_room({n: feed[n] for n in self.inputs})
            transfers.capturing = True
            collects = gc.isenabled()
            gc.disable()  # what it lets go of might make the CPU wait for the GPU
            try:
                stream.begin_capture()
                made.results = super().run(made.inputs, *arguments)
                made.graph = stream.end_capture()
            except Exception:
                _give_up(stream)
                raise
            finally:
                transfers.capturing = False
                if collects:
                    gc.enable()
            made.held = dict(known), self.places
        made.size = made.pool.total_bytes()
        return made


class Captured:
    """A run as one CUDA graph, with the memory that it works in.

    Attributes:
        size: of the memory, in bytes.
        used: the number of its last run among those of all graphs.
    """

    def __init__(self, engine: CudaEngine) -> None:
        self.engine, self.pool = engine, engine.cupy.cuda.MemoryPool()
        self.size = self.used = 0
        self.graph: Any = None
        self.inputs: dict[Input, Array] = {}
        self.small: dict[Input, Array] = {}  # those of `inputs` that are copied together
        self.together: Together | None = None
        self.results: list[Array] = []
        self.held: Any = None

    def make_room(self, feed: Mapping[Input, Array]) -> None:
        """Makes arrays for the inputs."""
        small = _on_cpu(feed)
        if small:
            self.together = Together(self.engine.transfers, list(small.values()))
            self.small = dict(zip(small, self.together.arrays, strict=True))
        self.inputs = {
            n: self.small[n] if n in small else self.engine.empty(a.shape, a.dtype)
            for n, a in feed.items()
        }
        for node, array in self.inputs.items():
            if node not in small:
                assign(array, feed[node])

    def replay(self, feed: Mapping[Input, Array]) -> list[Array]:
        small, others = _on_cpu(feed), list(self.inputs)
        if self.together is not None and small.keys() == self.small.keys():
            self.together.write([small[n] for n in self.small])
            others = [n for n in others if n not in small]
        for node in others:
            assign(self.inputs[node], self.engine.from_numpy(feed[node]))
        self.graph.launch(self.engine.stream)
        return self.results

    def __del__(self) -> None:
        # A pool that is forgotten does not give its free blocks back.
        with contextlib.suppress(Exception):  # as when Python ends
            self.graph = self.held = None
            self.inputs, self.small, self.together, self.results = {}, {}, None, []
            with self.engine.device:
                self.pool.free_all_blocks()


def minibatch_shape(
    feed: Mapping[Input, Array], layouts: Mapping[Axis, Layout], batch: int, training: bool
) -> Hashable:
    """All that a run's calls depend on, but for the values that it is given.

    That is its own shape, and what is chosen of how cuDNN computes.
    """
    lengths = {
        (axis, layout.given.tobytes(), layout.batch_order.tobytes())
        for axis, layout in layouts.items()
    }
    inputs = {(node, array.shape) for node, array in feed.items()}
    return frozenset(inputs), frozenset(lengths), batch, training, options.current()


def _on_cpu(feed: Mapping[Input, Array]) -> dict[Input, np.ndarray]:
    """What is still in the CPU's memory: see `Engine.to_feed`."""
    return {node: array for node, array in feed.items() if isinstance(array, np.ndarray)}


def _hindrance(names: set[str]) -> str:
    return f"the CPU waits for values in {', '.join(sorted(names))}" if names else ""


def _reason(error: Exception) -> str:
    if isinstance(error, (NotCapturable, GraphError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _give_up(stream: Stream) -> None:
    # It was broken off, that is what was wanted; or it has ended, or never began.
    with contextlib.suppress(Exception):
        stream.end_capture()
