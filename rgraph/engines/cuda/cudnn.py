"""Convolutions through cuDNN's graphs: the product and its two gradients, channels-last.

A plan is made for each shape and kept. The first time that a number of rows comes, it goes through
in blocks of a few sizes, so that ragged minibatches do not mean ever new plans; see `rows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import tailed
from ..rows import row_blocks
from . import options
from .options import Options

Shape = tuple[int, ...]

MOST_WORKSPACE = 1 << 30  # bytes
_TRIES = 3  # runs of a plan that is timed

# Each pointwise operation that cuDNN can hang on a convolution: the graph's method
TAILS = {
    "plus": "add",
    "minus": "sub",
    "element_times": "mul",
    "element_divide": "div",
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
        wide = [_wide(s) for s in (self.operand, self.kernel, self.result)]
        return Geometry(
            *wide, (1, *self.strides), ((0, 0), *self.padding), (1, *self.dilation)
        )  # fmt: skip


def _wide(shape: Shape) -> Shape:
    """A shape with two spatial axes where there is one."""
    return (*shape[:2], 1, *shape[2:]) if len(shape) == 3 else shape


def channels_last(shape: Shape) -> Shape:
    """Strides, in elements, of (rows, channels, *size) with the channels innermost."""
    _, channels, *size = shape
    inner = [channels * math.prod(size[i + 1 :]) for i in range(len(size))]
    return (channels * math.prod(size), 1, *inner)


def is_dense(array: Any) -> bool:
    """Whether `array`, (rows, channels, *size), is channels-last in memory and without gaps."""
    steps = (n * array.itemsize for n in channels_last(array.shape))
    return all(n == 1 or a == b for n, a, b in zip(array.shape, array.strides, steps, strict=True))


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
        elif name == "element_divide":
            raise Unsupported("cuDNN does not repeat what is divided")
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
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError) as error:
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
        if self.fastest is None:
            self.graph.execute(pointers, workspace.ptr, handle=handle)
        else:
            self.graph.execute_plan_at_index(pointers, workspace.ptr, self.fastest, handle=handle)

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
            except (self.library.cudnn.cudnnGraphNotSupportedError, RuntimeError):
                continue  # a plan that could not be built
            found.append((best, i, size))
        if not found:
            raise Unsupported("none of cuDNN's plans runs")
        return min(found)[1:]


class Cudnn:
    """cuDNN on one stream, and the plans made so far.

    Attributes:
        made: how many plans were made; a run that makes none can be captured.
        exact: whether a number of rows gets a plan of its own, not blocks of a few sizes.
    """

    def __init__(self, cupy: Any, cudnn: Any, stream: Any) -> None:
        self.cupy, self.cudnn = cupy, cudnn
        self.handle = cudnn.create_handle()
        cudnn.set_stream(handle=self.handle, stream=stream.ptr)
        self.made = 0
        self.exact = False
        self._plans: dict[Any, ConvolutionPlan | None] = {}

    @property
    def options(self) -> Options:
        return options.current

    def plan(self, what: str, at: Geometry, kind: str, **tail: Any) -> ConvolutionPlan | None:
        """The plan for a shape; None if cuDNN has no engine for it."""
        key = (what, at, kind, self.options, tuple(tail.items()))
        if key not in self._plans:
            self.made += 1
            try:
                self._plans[key] = ConvolutionPlan(self, what, at, kind, **tail)
            except Unsupported:
                self._plans[key] = None
        return self._plans[key]


class Convolutions:
    """The kernels of the three convolution records.

    Args:
        library: cuDNN.
        reference: the records' own kernels, for what cuDNN can't do.
    """

    def __init__(self, library: Cudnn, reference: dict[str, Callable[..., Any]]) -> None:
        self.library, self.reference = library, reference
        self.cupy = library.cupy
        self._to_bfloat16 = self.cupy.RawKernel(TO_BFLOAT16, "to_bfloat16")

    def forward(self, run: Any, w: Any, x: Any, *, out: Any = None, **at: Any) -> Any:
        if x.ndim < w.ndim:
            return _into(self.forward(run, w, x[None], **at)[0], out)
        shape = (len(x), w.shape[0], *_result_size(w, x, at))
        where = _Where(x.shape, w.shape, shape, **at)
        found = self._by_rows(run, "forward", where, x, w, shape, out)
        if found is not None:
            return found
        if where.is_symmetric:
            return self.reference["convolution"](run, w, x, out=out, **at)
        at["padding"], x = _no_padding(x), self._padded(run, x, at["padding"])
        return self.forward(run, w, x, out=out, **at)

    def data(self, run: Any, w: Any, g: Any, *, spatial: Shape, out: Any = None, **at: Any) -> Any:
        if g.ndim < w.ndim:
            return _into(self.data(run, w, g[None], spatial=spatial, **at)[0], out)
        shape = (len(g), w.shape[1] * at["groups"], *spatial)
        where = _Where(shape, w.shape, g.shape, **at)
        found = self._by_rows(run, "data", where, g, w, shape, out)
        if found is not None:
            return found
        if where.is_symmetric:
            return self.reference["convolution_transpose"](
                run, w, g, spatial=spatial, out=out, **at
            )
        padding, at["padding"] = at["padding"], _no_padding(g)
        whole = tuple(n + low + high for n, (low, high) in zip(spatial, padding, strict=True))
        x = self.data(run, w, g, spatial=whole, **at)
        return _into(self._padded(run, x, tuple((-low, -high) for low, high in padding)), out)

    def tailed(
        self, run: Any, *arrays: Any, head: Any, arguments: Any, program: Any, out: Any = None
    ) -> Any:
        """A convolution and the pointwise group behind it (`passes.tails`), in one if cuDNN can."""
        w, x, *others = arrays
        ours = head.name in ("convolution", "convolution_transpose")
        if ours and self.library.exact and x.ndim == w.ndim:
            found = self._in_one(run, head.name, w, x, others, arguments, program, out)
            if found is not None:
                return found
        return tailed(run, *arrays, head=head, arguments=arguments, program=program, out=out)

    def _in_one(
        self, run: Any, name: str, w: Any, x: Any, others: Any, at: Any, program: Any, out: Any
    ) -> Any:
        """A convolution with its tail in one plan; None if cuDNN has no engine for that."""
        at = dict(at)
        spatial = at.pop("spatial", None)
        if name == "convolution":
            what, shape = "forward", (len(x), w.shape[0], *_result_size(w, x, at))
            where = _Where(x.shape, w.shape, shape, **at)
        else:
            what, shape = "data", (len(x), w.shape[1] * at["groups"], *spatial)
            where = _Where(shape, w.shape, x.shape, **at)
        others = [o.reshape((1,) * (len(shape) - o.ndim) + o.shape) for o in others]
        same = all(is_dense(o) and o.dtype == x.dtype for o in others)
        if not same or not self._fits(where, x, w):
            return None
        plan = self.library.plan(
            what,
            where.rows(slice(0, len(x))),
            x.dtype.name,
            tail=tuple(program.steps),
            others=tuple(o.shape for o in others),
        )
        if plan is None:
            return None
        target = self._result(shape, x.dtype.name, out)
        plan(self._operand(x), self._kernels(run, w), *others, target)
        return _into(target, out)

    def weights(
        self, run: Any, x: Any, g: Any, *, kernel: Shape, out: Any = None, **at: Any
    ) -> Any:
        if x.ndim == len(kernel) + 1:
            x, g = x[None], g[None]
        shape = (g.shape[1], x.shape[1] // at["groups"], *kernel)
        where = _Where(x.shape, shape, g.shape, **at)
        if self._fits(where, x, g):
            kind = x.dtype.name
            operand, result = self._operand(x), self._operand(g)
            total = None
            for rows in self._blocks(len(x)):
                plan = self.library.plan("weights", where.rows(rows), kind)
                if plan is None:
                    break
                part = self._result(shape, kind, out if total is None else None)
                plan(operand[rows], result[rows], part)
                if total is None:
                    total = part
                else:
                    total += part
            else:
                return _into(total, out)
        if where.is_symmetric:
            return self.reference["convolution_weights"](run, x, g, kernel=kernel, out=out, **at)
        at["padding"], x = _no_padding(x), self._padded(run, x, at["padding"])
        return self.weights(run, x, g, kernel=kernel, out=out, **at)

    def _by_rows(
        self, run: Any, what: str, where: _Where, a: Any, w: Any, shape: Shape, out: Any
    ) -> Any:
        """A convolution of all rows of `a`, block by block; None if cuDNN has no engine."""
        if not self._fits(where, a, w):
            return None
        kind = a.dtype.name
        a, w = self._operand(a), self._kernels(run, w)
        target = self._result(shape, kind, out)
        for rows in self._blocks(len(a)):
            plan = self.library.plan(what, where.rows(rows), kind)
            if plan is None:
                return None
            plan(a[rows], w, target[rows])
        return _into(target, out)

    def _fits(self, where: _Where, a: Any, b: Any) -> bool:
        known = a.dtype == b.dtype and a.dtype.name in ("float32", "float64")
        return known and where.is_whole and bool(a.size and b.size)

    def _blocks(self, rows: int) -> Any:
        return [slice(0, rows)] if self.library.exact else row_blocks(rows)

    def _result(self, shape: Shape, kind: str, out: Any) -> Any:
        if out is not None and is_dense(out):
            return out
        return self._channels_last(shape, kind)

    def _operand(self, a: Any) -> Any:
        """`a` channels-last, and in the type that cuDNN is to compute in."""
        if not is_dense(a):
            dense = self._channels_last(a.shape, a.dtype)
            dense[...] = a
            a = dense
        if a.dtype.name == "float32" and self.library.options.precision == "bfloat16":
            low = self._channels_last(a.shape, self.cupy.uint16)
            self._to_bfloat16((-(-a.size // 256),), (256,), (self.cupy.int64(a.size), a, low))
            a = low
        return a

    def _kernels(self, run: Any, w: Any) -> Any:
        """As `_operand`; once in a run for each."""
        key = ("cudnn", id(w))
        if key not in run.memo:
            run.memo[key] = w, self._operand(w)  # w stays alive
        return run.memo[key][1]

    def _channels_last(self, shape: Shape, dtype: Any) -> Any:
        rows, channels, *size = shape
        return self.cupy.moveaxis(self.cupy.empty((rows, *size, channels), dtype), -1, 1)

    def _padded(self, run: Any, x: Any, padding: Any) -> Any:
        """`x` with zeros around it, or with its edges cut off where `padding` is negative."""
        inner = [slice(max(-low, 0), n + min(high, 0)) for n, (low, high) in zip(
            x.shape[2:], padding, strict=True
        )]  # fmt: skip
        x = x[(slice(None), slice(None), *inner)]
        added = [(max(low, 0), max(high, 0)) for low, high in padding]
        if not any(map(any, added)):
            return x
        size = [n + low + high for n, (low, high) in zip(x.shape[2:], added, strict=True)]
        whole = self._channels_last((*x.shape[:2], *size), x.dtype)
        whole.fill(0)
        place = [slice(low, low + n) for n, (low, _) in zip(x.shape[2:], added, strict=True)]
        whole[(slice(None), slice(None), *place)] = x
        return whole


class _Where:
    """The geometry of a convolution for any rows of it."""

    def __init__(
        self, operand: Shape, kernel: Shape, result: Shape, *, strides: Shape, padding: Any,
        dilation: Shape, groups: int,
    ) -> None:  # fmt: skip
        self.shapes = operand, kernel, result
        self.rest = strides, padding, dilation
        flat = [n for sides in padding for n in sides]
        self.is_whole = min(flat) >= 0  # no edge is cut off
        self.is_symmetric = self.is_whole and all(low == high for low, high in padding)

    def rows(self, rows: slice) -> Geometry:
        operand, kernel, result = self.shapes
        count = rows.stop - rows.start
        return Geometry((count, *operand[1:]), kernel, (count, *result[1:]), *self.rest)


def _result_size(w: Any, x: Any, at: Any) -> Shape:
    return tuple(
        (n + low + high - (k - 1) * d - 1) // s + 1
        for n, k, s, (low, high), d in zip(
            x.shape[2:], w.shape[2:], at["strides"], at["padding"], at["dilation"], strict=True
        )
    )


def _no_padding(x: Any) -> tuple[tuple[int, int], ...]:
    return ((0, 0),) * (x.ndim - 2)


def _into(result: Any, out: Any) -> Any:
    if out is None or result is out:
        return result
    out[...] = result
    return out


# To the nearest bfloat16, ties to even; NaN stays NaN
TO_BFLOAT16 = r"""
extern "C" __global__ void to_bfloat16(long long size, const unsigned int* x, unsigned short* y) {
    long long i = (long long)blockIdx.x * 256 + threadIdx.x;
    if (i >= size) return;
    unsigned int bits = x[i];
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    y[i] = nan ? (unsigned short)(bits >> 16 | 64)
               : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
"""
