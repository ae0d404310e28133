"""cuDNN's graphs for convolutions and their two gradients, channels-last, and plans to run them.

A plan is made for each shape and kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..strides import Shape, channels_last
from . import options
from .options import Options

MOST_WORKSPACE = 1 << 30  # bytes
_TRIES = 3  # runs of a plan that is timed

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
    cudnn: Any,
    what: str,
    at: Geometry,
    chosen: Options,
    *,
    kind: str = "float32",
    handle: int | None = None,
    tail: Any = None,
    others: Sequence[Shape] = (),
) -> tuple[Any, list[Any]]:
    """A graph of cuDNN's that is described and validated; no device is needed.

    Args:
        what: `forward` (operand, kernel; result), `data` (result's gradient, kernel; operand's)
            or `weights` (operand, result's gradient; kernel's).
        kind: the arrays' type, float32 or float64. For bfloat16 compute the two operands are
            bfloat16 and the result is float32.
        tail: pointwise steps on the result, as `passes.fusion.Program.steps`: 0 is the result
            itself, then come `others`.
        others: the shapes of the tail's other operands, in the result's rank; channels-last.

    Returns:
        the graph, and its tensors: two operands, `others`, the result.

    Raises `Unsupported` for a tail that has no counterpart.
    """
    at = at.in_planes()
    own = cudnn.data_type.DOUBLE if kind == "float64" else cudnn.data_type.FLOAT
    low = kind == "float32" and chosen.precision == "bfloat16"
    made = cudnn.pygraph(
        io_data_type=own,
        intermediate_data_type=own,
        compute_data_type=own,
        handle=handle,
    )
    shapes = {"operand": at.operand, "kernel": at.kernel, "result": at.result}
    first, second, target = {
        "forward": ("operand", "kernel", "result"),
        "data": ("result", "kernel", "operand"),
        "weights": ("operand", "result", "kernel"),
    }[what]
    uids = iter(range(1, 100))

    def tensor(name: str, shape: Shape, strides: Shape, type_: Any) -> Any:
        return made.tensor(
            name=name, dim=list(shape), stride=list(strides), data_type=type_, uid=next(uids)
        )

    type_ = cudnn.data_type.BFLOAT16 if low else own
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
    value.set_dim(list(shape)).set_stride(list(channels_last(shape))).set_data_type(own)
    wide = [_wide(o) for o in others]
    more = [tensor(f"other {i}", o, channels_last(o), own) for i, o in enumerate(wide)]
    if tail is not None:
        values = [value, *more]
        whole = [True, *(o == shape for o in wide)]
        for name, reads in tail:
            values.append(_pointwise(made, name, [(values[i], whole[i]) for i in reads]))
            whole.append(any(whole[i] for i in reads))
        value = values[-1]
        value.set_data_type(own)
    value.set_output(True)
    value.set_uid(next(uids))
    made.validate()
    return made, [a, b, *more, value]


def _pointwise(made: Any, name: str, operands: list[tuple[Any, bool]]) -> Any:
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


def left_out(cudnn: Any, kind: str, chosen: Options) -> list[Any]:
    """The numerical notes of engines that the options rule out."""
    note = cudnn.numerical_note
    notes = [note.NONDETERMINISTIC] if chosen.deterministic else []
    if kind == "float32" and chosen.precision != "bfloat16":
        notes.append(note.DOWN_CONVERT_INPUTS)
    if kind == "float32" and chosen.precision == "float32":
        notes += [note.TENSOR_CORE, note.WINOGRAD, note.FFT]  # what is not exact
    return notes


class ConvolutionPlan:
    """A graph with the engine chosen for it, ready to run.

    Args:
        make: see `graph`; without its first argument.

    Raises `Unsupported`.
    """

    def __init__(self, library: Cudnn, what: str, at: Geometry, kind: str, **tail: Any) -> None:
        self.library = library
        cudnn = library.cudnn
        try:
            self.graph, tensors = graph(
                cudnn, what, at, library.options, kind=kind, handle=library.handle, **tail
            )
            self.graph.build_operation_graph()
            self.graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
            self.graph.deselect_numeric_notes(left_out(cudnn, kind, library.options))
            self.graph.deselect_workspace_greater_than(MOST_WORKSPACE)
            self.graph.check_support()
            self.timed = library.options.timed
            every = cudnn.build_plan_policy.ALL
            self.graph.build_plans(*[every] if self.timed else [])
        except library.errors as error:
            raise Unsupported(str(error)) from None
        self.uids = [t.get_uid() for t in tensors]
        self.fastest: int | None = None
        self.size = self.graph.get_workspace_size()

    def __call__(self, *arrays: Any) -> None:
        """Runs it on the two operands, the tail's others, and the result."""
        pointers = {u: a.data.ptr for u, a in zip(self.uids, arrays, strict=True)}
        if self.timed and self.fastest is None:
            self.fastest, self.size = self._fastest(pointers)
        workspace = self.library.cupy.cuda.alloc(max(self.size, 1))
        handle = self.library.handle
        try:
            if self.fastest is None:
                self.graph.execute(pointers, workspace.ptr, handle=handle)
            else:
                self.graph.execute_plan_at_index(
                    pointers, workspace.ptr, self.fastest, handle=handle
                )
        except self.library.errors as error:
            raise Unsupported(str(error)) from None

    def _fastest(self, pointers: dict[int, int]) -> tuple[int, int]:
        """The number of the fastest plan, measured, and its workspace."""
        cuda, handle = self.library.cupy.cuda, self.library.handle
        found: list[tuple[float, int, int]] = []
        for i in range(self.graph.get_execution_plan_count()):
            try:
                size = self.graph.get_workspace_size_plan_at_index(i)
                workspace = cuda.alloc(max(size, 1))
                best = math.inf
                for _ in range(_TRIES + 1):  # the first is a rehearsal that counts if it wins
                    start, end = cuda.Event(), cuda.Event()
                    start.record()
                    self.graph.execute_plan_at_index(pointers, workspace.ptr, i, handle=handle)
                    end.record()
                    end.synchronize()
                    best = min(best, cuda.get_elapsed_time(start, end))
            except self.library.errors:
                continue  # a plan that could not be built
            found.append((best, i, size))
        if not found:
            raise Unsupported("none of cuDNN's plans runs")
        return min(found)[1:]


class Cudnn:
    """cuDNN on one stream, and the plans made so far.

    Attributes:
        made: how many plans were made.
        plans: by shape and options; None where cuDNN has no engine.
        refusals: what cuDNN said where it has none.
        errors: what its frontend raises where it can't do something.
        exact: whether a number of rows gets a plan of its own, not blocks of a few sizes.
    """

    def __init__(self, cupy: Any, cudnn: Any, stream: Any) -> None:
        self.cupy, self.cudnn = cupy, cudnn
        self.handle = cudnn.create_handle()
        cudnn.set_stream(handle=self.handle, stream=stream.ptr)
        self.made = 0
        self.exact = False
        self.plans: dict[Any, ConvolutionPlan | None] = {}
        self.refusals: dict[Any, str] = {}
        self.errors = (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError)

    @property
    def options(self) -> Options:
        return options.current

    def run(self, what: str, at: Geometry, kind: str, arrays: Sequence[Any], **tail: Any) -> bool:
        """Runs the plan for a shape on arrays; whether cuDNN has an engine for it."""
        key = (what, at, kind, self.options, tuple(tail.items()))
        try:
            if key not in self.plans:
                self.made += 1
                self.plans[key] = ConvolutionPlan(self, what, at, kind, **tail)
            plan = self.plans[key]
            if plan is not None:
                plan(*arrays)
        except Unsupported as error:
            plan = self.plans[key] = None
            self.refusals[key] = str(error)
        return plan is not None
