"""Groups of pointwise operations, each as one generated CUDA kernel.

A kernel is specialized to the strides of its operands and to all sizes but the outermost, so that
ragged minibatches, whose numbers of rows hardly ever repeat, share kernels. The source is made
without a device; see `tests/engines/test_cuda_pointwise.py`, which also runs it on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...graph.types import Array, DTypeLike
from ...ops import expressions
from ...ops.fused import Program, Steps
from ...ops.records import TABLE
from ..strides import joined

if TYPE_CHECKING:
    from ...plan import Run
    from ..base import Kernel
    from .library import Module


THREADS = 256  # of a block
WIDEST = 16  # bytes that a thread loads at once

C_TYPES = {
    "float16": "Half",
    "float32": "float",
    "float64": "double",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "bool": "bool",
}


# Numbers of 16 bits, which are computed in float; the header that has them is not everywhere.
HALF = r"""
#ifdef __CUDACC_RTC__
struct Half {
    unsigned short bits;
    Half() = default;
    __device__ Half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
    __device__ operator float() const {
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
    }
};
#else
typedef _Float16 Half;
#endif
"""


class Layout(NamedTuple):
    """How a kernel goes through the arrays: in the result's memory order, few axes, widest loads.

    Attributes:
        sizes: of each axis, outermost first; the outermost is left open as 0.
        strides: in elements, of the result and each operand, for each axis.
        width: how many elements along the innermost axis a thread computes.
    """

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    width: int


@lru_cache(maxsize=4096)
def layout(
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    item: int,
    alignment: int,
) -> tuple[Layout, int]:
    """How to go through arrays, and how many pieces of the layout's width there are.

    Args:
        shape: the result's.
        strides: in elements, the result's first, then each operand's, 0 along what is repeated.
        item: bytes of the largest element.
        alignment: the bytes that every array's address is a multiple of.
    """
    sizes, steps = joined(shape, strides)
    width = max(1, WIDEST // item)
    inner = [s[-1] for s in steps]
    while width > 1 and not (
        sizes[-1] % width == 0
        and inner[0] == 1
        and all(i in (0, 1) for i in inner)
        and alignment % (width * item) == 0
        and all(n % width == 0 for s in steps if s[-1] == 1 for n in s[:-1])
    ):
        width //= 2
    pieces = math.prod(sizes) // width
    return Layout((0, *sizes[1:]), tuple(map(tuple, steps)), width), pieces


def _offsets(at: Layout, operand: int) -> str:
    """Where an operand's elements of a piece begin, from the indices i0, i1, … of the axes."""
    terms = [
        f"i{axis}" if step == 1 else f"i{axis} * (index){step}"
        for axis, step in enumerate(at.strides[operand])
        if step
    ]
    return " + ".join(terms) or "0"


def _indices(at: Layout) -> list[str]:
    """The indices of the axes, from the number of the piece."""
    lines = ["index left = piece;"]
    last = len(at.sizes) - 1
    for axis in range(last, 0, -1):
        size = at.sizes[axis] // (at.width if axis == last else 1)
        lines.append(f"index i{axis} = left % {size}; left /= {size};")
        if axis == last and at.width > 1:
            lines[-1] += f" i{axis} *= {at.width};"
    lines.append("index i0 = left;" if last or at.width == 1 else f"index i0 = left * {at.width};")
    return lines


def body(program: Program, types: Sequence[str], at: Layout) -> str:
    """The C++ statements that compute a piece; shared by the kernel and the test on the CPU.

    Args:
        types: C++ types of the results and of each operand.
        at: see `layout`.
    """
    first = len(program.results)
    results, operands = types[:first], types[first:]
    code = _indices(at)
    code += [f"index o{i} = {_offsets(at, first + i)};" for i in range(len(operands))]
    code += [f"index q{i} = {_offsets(at, i)};" for i in range(first)]
    code += [f"Pack<{t}, {at.width}> packed{i};" for i, t in enumerate(results)]
    wide = [at.width > 1 and at.strides[first + i][-1] == 1 for i in range(len(operands))]
    for i, type_ in enumerate(operands):
        if wide[i]:
            pack = f"Pack<{type_}, {at.width}>"
            code.append(f"{pack} p{i} = *reinterpret_cast<const {pack}*>(x{i} + o{i});")
        else:
            code.append(f"T v{i} = T(x{i}[o{i}]);")
    inner = [f"T v{i} = T(p{i}.item[k]);" for i in range(len(operands)) if wide[i]]
    count = len(operands)
    for name, reads in program.steps:
        value = expressions.in_c(expressions.of(TABLE[name]), [f"v{i}" for i in reads])
        inner.append(f"T v{count} = {value};")
        count += 1
    for i, (number, type_) in enumerate(zip(program.results, results, strict=True)):
        inner.append(f"packed{i}.item[k] = {type_}(v{number % count});")
    if at.width > 1:
        inner = [
            "#pragma unroll",
            f"for (int k = 0; k < {at.width}; ++k) {{",
            *(f"    {line}" for line in inner),
            "}",
        ]
        stores = [
            f"*reinterpret_cast<Pack<{t}, {at.width}>*>(y{i} + q{i}) = packed{i};"
            for i, t in enumerate(results)
        ]
    else:
        inner = ["const int k = 0;", *inner]
        stores = [f"y{i}[q{i}] = packed{i}.item[0];" for i in range(first)]
    return "\n".join([*code, *inner, *stores])


def prelude(types: Sequence[str], wide_index: bool) -> str:
    """The types that `body` is written with.

    Args:
        types: C++ types of the results and operands; values are computed in double if one is.
        wide_index: whether 32 bits are too few to number the elements.
    """
    return (
        (HALF if "Half" in types else "")
        + f"typedef {'double' if 'double' in types else 'float'} T;\n"
        f"typedef {'long long' if wide_index else 'int'} index;\n"
        "template <class E, int n> struct alignas(sizeof(E) * n) Pack { E item[n]; };\n"
    )


def parameters(program: Program, types: Sequence[str], alone: str = "") -> str:
    """What a kernel is called with: results, operands."""
    first = len(program.results)
    results = [f"{t}*{alone} y{i}" for i, t in enumerate(types[:first])]
    operands = [f"const {t}*{alone} x{i}" for i, t in enumerate(types[first:])]
    return ", ".join([*results, *operands])


def source(
    program: Program,
    types: Sequence[str],
    at: Layout,
    wide_index: bool = False,
    in_place: bool = False,
) -> str:
    """The CUDA source of a kernel `pointwise(pieces, y0, …, x0, …, c0, …)`.

    Args:
        in_place: whether an operand may be a result's own array.
    """
    given = parameters(program, types, "" if in_place else " __restrict__")
    code = "\n    ".join(body(program, types, at).splitlines())
    return (
        prelude(types, wide_index) + f'extern "C" __global__ void __launch_bounds__({THREADS})\n'
        f"pointwise(index pieces, {given}) {{\n"
        f"    index piece = (index)blockIdx.x * {THREADS} + threadIdx.x;\n"
        "    if (piece >= pieces) return;\n"
        f"    {code}\n}}\n"
    )


def strides_of(array: Array, shape: Sequence[int]) -> tuple[int, ...]:
    """An operand's strides, in elements, as it is repeated to `shape`."""
    own = [
        0 if n == 1 else s // array.itemsize
        for n, s in zip(array.shape, array.strides, strict=True)
    ]
    return (0,) * (len(shape) - len(own)) + tuple(own)


def _alignment(addresses: Sequence[int]) -> int:
    """The largest power of two, up to `WIDEST`, that divides all addresses."""
    low = WIDEST
    for a in addresses:
        low |= a
    return low & -low


class Pointwise:
    """The kernel "fused" of the engine.

    Args:
        cupy: the library.
    """

    def __init__(self, cupy: Module) -> None:
        self.cupy = cupy
        self._kernel = lru_cache(maxsize=4096)(self._compile)

    def _compile(
        self, program: Program, types: tuple[str, ...], at: Layout, wide: bool, in_place: bool
    ) -> Kernel:
        code = source(program, types, at, wide, in_place)
        return self.cupy.RawKernel(code, "pointwise")

    def __call__(
        self, run: Run, *arrays: Array, program: Program, out: Array | None = None
    ) -> Array:
        """Evaluates a program on arrays broadcast to the result."""
        dtype = np.result_type(*(a.dtype for a in arrays)) if out is None else out.dtype
        return self.apply(run, program.steps, arrays, dtype, out)

    def apply(
        self, run: Run, steps: Steps, arrays: Sequence[Array], dtype: DTypeLike, out: Array | None
    ) -> Array:
        """Evaluates the steps into `out`, or into an array of its own."""
        if out is None:
            shape = self.cupy.broadcast_shapes(*(a.shape for a in arrays))
            same = (a for a in arrays if a.shape == shape and all(a.strides))
            out = run.engine.empty(shape, dtype, next(same, None))
        self.launch(Program(steps, len(arrays)), (out,), arrays)
        return out

    def together(self, program: Program, *arrays: Array) -> None:
        """Evaluates a program into the last arrays, its results, from the first."""
        self.launch(program, arrays[program.arity :], arrays[: program.arity])

    def launch(self, program: Program, results: Sequence[Array], arrays: Sequence[Array]) -> None:
        """Evaluates a program into `results`, arrays of one shape."""
        shape = results[0].shape
        if not results[0].size:
            return
        everything = (*results, *arrays)
        at, pieces = layout(
            shape,
            tuple([strides_of(a, shape) for a in everything]),
            max(a.itemsize for a in everything),
            _alignment([a.data.ptr for a in everything]),
        )
        types = tuple(C_TYPES[a.dtype.name] for a in everything)
        wide = max(map(_reach, everything)) >> 31 > 0
        in_place = not {a.data.ptr for a in arrays}.isdisjoint(r.data.ptr for r in results)
        kernel = self._kernel(program, types, at, wide, in_place)
        number = np.int64 if wide else np.int32
        kernel((-(-pieces // THREADS),), (THREADS,), (number(pieces), *everything))


def _reach(array: Array) -> int:
    """How many elements lie between an array's first and last in memory."""
    steps = (abs(s) * (n - 1) for s, n in zip(array.strides, array.shape, strict=True))
    return max(sum(steps) // array.itemsize, array.size) + 1
