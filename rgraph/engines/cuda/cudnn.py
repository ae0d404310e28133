"""cuDNN's graphs for convolutions and their two gradients, channels-last, and plans to run them.

A plan is made for each shape and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ...graph.types import Array
from ..strides import Shape, channels_last, empty_channels_last
from . import options
from .options import Options
from .transfer import assign

if TYPE_CHECKING:
    from ...ops.fused import Steps
    from .library import Module, Stream


Graph: TypeAlias = Any  # of cuDNN's frontend, which has no types
Tensor: TypeAlias = Any

MOST_WORKSPACE = 1 << 30  # bytes
ALIGNMENT = 16  # bytes that every tensor's address is a multiple of: the frontend declares that
_TRIES = 3  # runs of what is timed
_TAILS = 3  # engines of a convolution with a tail that are compiled to be timed
_LONG = 2e-3  # seconds, of which those that the CPU needs to begin it are a small part
_REPEATS = 10  # of what is shorter, in one graph

# The types of operands, and cuDNN's names
TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF", "bfloat16": "BFLOAT16"}

# Each pointwise operation that cuDNN can hang on a convolution: the graph's method
TAILS = {
    "plus": "add",
    "minus": "sub",
    "element_times": "mul",
    "element_max": "max",
    "element_min": "min",
    "negate": "neg",
    "abs": "abs",
    "exp": "exp",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}


class Unsupported(Exception):
    """cuDNN has no engine for this."""


class Geometry(NamedTuple):
    """A convolution with its rows.

    Attributes:
        operand: (rows, channels, *size).
        kernel: (output channels, input channels / groups, *size).
        result: (rows, output channels, *size).
        padding: before and after each axis.
    """

    operand: Shape
    kernel: Shape
    result: Shape
    strides: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape

    def in_planes(self) -> Geometry:
        """With two spatial axes where there is one: cuDNN has convolutions in two and three."""
        if len(self.strides) > 1:
            return self
        return Geometry(
            _wide(self.operand),
            _wide(self.kernel),
            _wide(self.result),
            (1, *self.strides),
            ((0, 0), *self.padding),
            (1, *self.dilation),
        )


def _wide(shape: Shape) -> Shape:
    """A shape with two spatial axes where there is one."""
    return (*shape[:2], 1, *shape[2:]) if len(shape) == 3 else shape


def graph(
    cudnn: Module,
    what: str,
    at: Geometry,
    kind: str,
    *,
    handle: int | None = None,
    described: object = None,
    tail: Steps | None = None,
    others: Sequence[Shape] = (),
) -> tuple[Graph, list[Tensor]]:
    """A graph of cuDNN's that is described and validated; no device is needed.

    Args:
        what: `forward` (operand, kernel; result), `data` (result's gradient, kernel; operand's)
            or `weights` (operand, result's gradient; kernel's).
        kind: the type of the two operands and of the result; sums are of float32 or wider. Behind
            a tail the result of bfloat16 ones is float32, and so are the tail's other operands.
        described: properties of a device that is not there, instead of a handle.
        tail: pointwise steps on the result, as `ops.fused.Program.steps`: 0 is the result
            itself, then come `others`.
        others: the shapes of the tail's other operands, in the result's rank; channels-last.

    Returns:
        the graph, and its tensors: two operands, `others`, the result.

    Raises `Unsupported` for a tail that has no counterpart.
    """
    at = at.in_planes()
    types = cudnn.data_type
    type_ = getattr(types, TYPES[kind])
    wide = types.DOUBLE if kind == "float64" else types.FLOAT
    own = wide if tail is not None and kind == "bfloat16" else type_
    where_it_runs = {"handle": handle} if described is None else {"device_property": described}
    made = cudnn.pygraph(
        io_data_type=own, intermediate_data_type=wide, compute_data_type=wide, **where_it_runs
    )
    shapes = {"operand": at.operand, "kernel": at.kernel, "result": at.result}
    first, second, target = {
        "forward": ("operand", "kernel", "result"),
        "data": ("result", "kernel", "operand"),
        "weights": ("operand", "result", "kernel"),
    }[what]
    uids = iter(range(1, 100))

    def tensor(name: str, shape: Shape, strides: Shape, type_: object) -> Tensor:
        return made.tensor(
            name=name, dim=list(shape), stride=list(strides), data_type=type_, uid=next(uids)
        )

    a, b = (tensor(n, shapes[n], channels_last(shapes[n]), type_) for n in (first, second))
    before, after = ([p[i] for p in at.padding] for i in (0, 1))
    where = {
        "pre_padding": before,
        "post_padding": after,
        "stride": list(at.strides),
        "dilation": list(at.dilation),
    }
    if what == "forward":
        value = made.conv_fprop(image=a, weight=b, **where)
    elif what == "data":
        value = made.conv_dgrad(loss=a, filter=b, **where)
    else:
        value = made.conv_wgrad(image=a, loss=b, **where)
    shape = shapes[target]
    value.set_dim(list(shape)).set_stride(list(channels_last(shape)))
    value.set_data_type(own if tail is None else wide)
    repeated = [_wide(o) for o in others]
    more = [tensor(f"other {i}", o, channels_last(o), own) for i, o in enumerate(repeated)]
    if tail is not None:
        values = [value, *more]
        whole = [True, *(o == shape for o in repeated)]
        for name, reads in tail:
            values.append(_pointwise(made, name, [(values[i], whole[i]) for i in reads]))
            whole.append(any(whole[i] for i in reads))
        value = values[-1]
        value.set_data_type(own)
    value.set_output(True)
    value.set_uid(next(uids))
    made.validate()
    return made, [a, b, *more, value]


def _pointwise(made: Graph, name: str, operands: list[tuple[Tensor, bool]]) -> Tensor:
    """A pointwise operation on tensors, each with whether it has the result's whole shape.

    What is repeated must be the second of two.
    """
    tensors = [t for t, _ in operands]
    if name == "square":
        return made.mul(tensors[0], tensors[0])
    method = TAILS.get(name)
    if method is None:
        raise Unsupported(f"cuDNN has no {name} behind a convolution")
    if len(operands) == 2 and not operands[0][1] and operands[1][1]:
        if name == "minus":
            method, tensors = "add", [made.neg(tensors[1]), tensors[0]]
        else:
            tensors.reverse()
    return getattr(made, method)(*tensors)


def left_out(cudnn: Module, kind: str, chosen: Options) -> list[object]:
    """The numerical notes of engines that the options rule out."""
    note = cudnn.numerical_note
    notes = [note.NONDETERMINISTIC] if chosen.deterministic else []
    if kind == "float32":
        notes.append(note.DOWN_CONVERT_INPUTS)
    if kind == "float32" and chosen.precision == "float32":
        notes += [note.TENSOR_CORE, note.WINOGRAD, note.FFT]  # what is not exact
    return notes


def planned(
    cudnn: Module, what: str, at: Geometry, kind: str, chosen: Options, **more: Any
) -> tuple[Graph, list[Tensor]]:
    """As `graph`, with the engines that are left to choose from, cuDNN's favourite built.

    Raises `Unsupported` if there is none.
    """
    try:
        made, tensors = graph(cudnn, what, at, kind, **more)
        made.build_operation_graph()
        made.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        made.deselect_numeric_notes(left_out(cudnn, kind, chosen))
        made.deselect_workspace_greater_than(MOST_WORKSPACE)
        made.check_support()
        made.build_plans()
    except cudnn.cudnnGraphNotSupportedError as error:
        raise Unsupported(str(error)) from None
    return made, tensors


class ConvolutionPlan:
    """A graph with the engine chosen for it, ready to run.

    Args:
        what, at, kind, tail: see `graph`.

    Raises `Unsupported`.
    """

    def __init__(self, library: Cudnn, what: str, at: Geometry, kind: str, **tail: Any) -> None:
        self.library = library
        self.graph, tensors = planned(
            library.cudnn, what, at, kind, library.options, handle=library.handle, **tail
        )
        self.uids = [t.get_uid() for t in tensors]
        self.choice: int | None = None
        self.has_tail, self.is_timed = "tail" in tail, False
        self.size = self.graph.get_workspace_size()

    def __call__(self, *arrays: Array) -> None:
        """Runs it on the two operands, the tail's others, and the result."""
        pointers = {u: a.data.ptr for u, a in zip(self.uids, arrays, strict=True)}
        if self.library.times and not self.is_timed:
            self._choose(pointers)
        self._execute(pointers, self.choice, self.size)

    def _execute(self, pointers: dict[int, int], choice: int | None, size: int) -> None:
        workspace, handle = self.library.cupy.cuda.alloc(max(size, 1)), self.library.handle
        if self.has_tail:
            self.library.separate()
        if choice is None:
            self.graph.execute(pointers, workspace.ptr, handle=handle)
        else:
            self.graph.execute_plan_at_index(pointers, workspace.ptr, choice, handle=handle)

    def _choose(self, pointers: dict[int, int]) -> None:
        """Takes the fastest engine, measured: of all, or of the first few of a tail's, which are
        compiled when they are built."""
        self.is_timed = True
        found: list[tuple[float, int, int]] = []
        count = self.graph.get_execution_plan_count()
        for i in range(min(count, _TAILS) if self.has_tail else count):
            try:
                self.graph.build_plan_at_index(i)
                size = self.graph.get_workspace_size_plan_at_index(i)
                best = min(found)[0] if found else math.inf
                work = partial(self._execute, pointers, i, size)
                seconds = self.library.seconds(work, best)
            except self.library.refused:
                self.library.synchronize()  # raises if more is wrong than that it does not run
                continue
            found.append((seconds, i, size))
        if found:
            _, self.choice, self.size = min(found)


NOTHING = 'extern "C" __global__ void nothing() {}'


class Cudnn:
    """cuDNN on one stream, and the plans made so far.

    Attributes:
        made: how many plans were made.
        plans: by shape and options; None where cuDNN has no engine.
        refusals: what cuDNN said where it has none.
        refused: what is raised by an engine that can't be built, or has no room.
        exact: whether a number of rows gets a plan of its own, not blocks of a few sizes.
        tails: whether pointwise operations are hung on convolutions; their engines are compiled,
            so only for runs that come back and are captured.
    """

    def __init__(self, cupy: Module, cudnn: Module, stream: Stream, gpu: int = 0) -> None:
        self.cupy, self.cudnn, self._stream = cupy, cudnn, stream
        self.handle = cudnn.create_handle()
        cudnn.set_stream(handle=self.handle, stream=stream.ptr)
        self.made = 0
        self.exact = self.tails = False
        self.plans: dict[Hashable, ConvolutionPlan | None] = {}
        self.refusals: dict[Hashable, str] = {}
        # From Hopper on, a kernel of cuDNN's may begin before the one before it has ended; it waits
        # where it reads what that writes. Those with a tail don't wait for the tail's operands:
        # wrong results wherever launches follow one another at once (cuDNN 9.19 on an H200). A
        # kernel of anyone else's between them ends first.
        self._overlaps = cupy.cuda.runtime.getDeviceProperties(gpu)["major"] >= 9
        self._nothing = cupy.RawKernel(NOTHING, "nothing")
        memory = cupy.cuda.memory.OutOfMemoryError
        self.refused = cudnn.cudnnGraphNotSupportedError, RuntimeError, memory

    @property
    def options(self) -> Options:
        return options.current()

    @property
    def times(self) -> bool:
        """Whether engines are timed: once, for shapes that come back. Which of them wins may
        differ from process to process."""
        return self.exact and self.options.timed and not self.options.deterministic

    def key(self, what: str, at: Geometry, kind: str, **tail: Any) -> Hashable:
        """What a plan is made for."""
        return what, at, kind, self.options, tuple(tail.items())

    def run(self, what: str, at: Geometry, kind: str, arrays: Sequence[Array], **tail: Any) -> bool:
        """Runs the plan for a shape on arrays, the result's last; whether cuDNN has an engine."""
        key = self.key(what, at, kind, **tail)
        if key not in self.plans:
            self.made += 1
            try:
                self.plans[key] = ConvolutionPlan(self, what, at, kind, **tail)
            except Unsupported as error:
                self.plans[key], self.refusals[key] = None, str(error)
        plan = self.plans[key]
        if plan is None:
            return False
        *operands, result = arrays
        target = result if _is_aligned(result) else self._room(result)
        plan(*(a if _is_aligned(a) else self._copy(a) for a in operands), target)
        if target is not result:
            assign(result, target)
        return True

    def _room(self, like: Array) -> Array:
        return empty_channels_last(self.cupy.empty, like.shape, like.dtype)

    def _copy(self, array: Array) -> Array:
        copy = self._room(array)
        assign(copy, array)
        return copy

    def separate(self) -> None:
        """Lets what comes next begin only when what was launched before has ended."""
        if self._overlaps:
            self._nothing((1,), (1,), ())

    def seconds(self, work: Callable[[], object], rival: float = math.inf) -> float:
        """How long it takes on the GPU, the best of a few times.

        Args:
            rival: what is far slower than this is not tried further.
        """
        work()  # what is loaded at the first call is loaded now
        seconds = self._elapsed(work)
        if seconds > max(_LONG, 2 * rival):
            return seconds
        if seconds < _LONG:  # the CPU's part in it is not small: see how long it is as a graph
            self._stream.begin_capture()
            try:
                for _ in range(_REPEATS):
                    work()
            finally:
                graph = self._stream.end_capture()
            launch = partial(graph.launch, self._stream)
            launch()
            return min(self._elapsed(launch) for _ in range(_TRIES)) / _REPEATS
        return min(seconds, *(self._elapsed(work) for _ in range(_TRIES - 1)))

    def _elapsed(self, work: Callable[[], object]) -> float:
        """The seconds from the beginning of some work to its end, on the GPU."""
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record(self._stream)
        work()
        end.record(self._stream)
        end.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(start, end)) / 1e3

    def synchronize(self) -> None:
        """Waits for the stream; raises what went wrong on it."""
        self._stream.synchronize()


def _is_aligned(array: Array) -> bool:
    return array.data.ptr % ALIGNMENT == 0
