"""A GPU, played on the CPU: CuPy's rules, kernels by a C++ compiler, cuDNN and cuBLAS by NumPy.

All of the engine runs but the vendor's libraries: which calls are made on which memory, what is
copied when, what is captured. It says nothing about speed, nor whether cuDNN has an engine.
"""

import ctypes
import enum
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

from rgraph import device
from rgraph.engines.cpu import reference_run
from rgraph.graph.context import context
from rgraph.ops.fused import evaluate
from rgraph.ops.records import TABLE
from tests.engines.strict_arrays import LIBRARY, Array, State

COMPILER = shutil.which("g++") or shutil.which("clang++")
_folder = Path(tempfile.mkdtemp(prefix="played-gpu-"))


def at_address(pointer, shape, strides, dtype):
    """The array that lies at an address; strides in elements."""
    dtype = np.dtype(dtype)
    count = 1 + sum((n - 1) * s for n, s in zip(shape, strides))
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    flat = np.frombuffer(memory, dtype)
    steps = [s * dtype.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(flat, shape, steps)


def _played(call):
    """Makes a call now, and again whenever the graph that is being captured is launched."""
    call()
    if State.tape is not None:
        State.tape.append(call)


_NAMES = "exp expm1 log log1p sqrt fabs sin cos tan sinh cosh tanh asin acos atan asinh atanh"
_MATHS = "".join(  # a header of the compiler's would take most of the time
    f"inline float {n}(float x) {{ return __builtin_{n}f(x); }}\n"
    f"inline double {n}(double x) {{ return __builtin_{n}(x); }}\n"
    for n in [*_NAMES.split(), "floor", "ceil"]
) + (
    "inline float pow(float x, float y) { return __builtin_powf(x, y); }\n"
    "inline double pow(double x, double y) { return __builtin_pow(x, y); }\n"
)


_C_TYPES = {
    "int32": ctypes.c_int,
    "uint32": ctypes.c_uint,
    "int64": ctypes.c_longlong,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}


class RawKernel:
    """A CUDA kernel, compiled for the CPU: its threads one after the other."""

    def __init__(self, code, name, options=()):
        self.code, self.name = code, name
        self._library = None

    def _compiled(self):
        path = _folder / (hashlib.sha1(self.code.encode()).hexdigest() + ".so")
        if not path.exists():
            signature = re.search(self.name + r"\(([^)]*)\) {", self.code)
            parameters = [p.strip() for p in signature.group(1).split(",") if p]
            names = [re.split(r"[ *]", p)[-1] for p in parameters]
            code = (
                _MATHS + "#define __global__\n#define __device__\n#define __launch_bounds__(n)\n"
                "static thread_local struct { unsigned x; } blockIdx, threadIdx;\n"
                + self.code.replace("#pragma unroll", "")
                + '\nextern "C" void launch(unsigned grid, '
                + f"{', '.join(['unsigned block', *parameters])}) {{\n"
                "for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)\n"
                "for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)\n"
                f"{self.name}({', '.join(names)});\n}}\n"
            )
            source = path.with_suffix(".cc")
            source.write_text(code)
            command = [COMPILER, "-std=c++17", "-O0", "-shared", "-fPIC", str(source)]
            subprocess.run([*command, "-o", str(path)], check=True)
        return ctypes.CDLL(str(path))

    def __call__(self, grid, block, arguments):
        self._library = self._library or self._compiled()
        given = [ctypes.c_uint(grid[0]), ctypes.c_uint(block[0])]
        for a in arguments:
            if isinstance(a, Array):
                given.append(ctypes.c_void_p(a.data.ptr))
            else:
                given.append(_C_TYPES[a.dtype.name](a.item()))
        held = arguments
        _played(lambda: (self._library.launch(*given), held))


LIBRARY.RawKernel = RawKernel


# cuBLAS


class Cublas:
    """The five functions of cuBLAS that the engine calls."""

    def __getattr__(self, name):
        if name in ("cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2"):
            return lambda *arguments: 0
        raise AttributeError(name)

    def cublasGemmStridedBatchedEx(
        self, _handle, of_a, of_b, m, n, k, _alpha, a, kind, lda, step_a,
        b, _kind_b, ldb, step_b, _beta, c, _kind_c, ldc, step_c, count, compute, _algorithm,
    ):  # fmt: skip
        dtype = {0: np.float32, 1: np.float64, 2: np.float16}[kind.value]
        assert compute.value == (70 if dtype is np.float64 else 68)

        def matrices(pointer, operation, rows, columns, leading, step):
            if operation.value:
                rows, columns = columns, rows
            assert leading.value >= rows, "the leading dimension is too small"
            shape, strides = (count.value, rows, columns), (step.value, 1, leading.value)
            stack = at_address(pointer.value, shape, strides, dtype)
            return stack.swapaxes(1, 2) if operation.value else stack

        def call():
            left = matrices(a, of_a, m.value, k.value, lda, step_a)
            right = matrices(b, of_b, k.value, n.value, ldb, step_b)
            out = types.SimpleNamespace(value=0)
            matrices(c, out, m.value, n.value, ldc, step_c)[...] = left @ right

        _played(call)
        return 0


# cuDNN


class Unsupported(Exception):
    pass


class Tensor:
    def __init__(self, dim=None, stride=None, data_type=None, uid=None, value=None):
        self.dim, self.stride, self.type, self.uid, self.value = dim, stride, data_type, uid, value
        self.output = False

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self

    def set_data_type(self, data_type):
        self.type = data_type
        return self

    def set_output(self, output):
        self.output = output
        return self

    def set_uid(self, uid):
        self.uid = uid
        return self

    def get_uid(self):
        return self.uid

    def _memory(self, pointers):
        assert pointers[self.uid] % 16 == 0, "the frontend declares that tensors are aligned so"
        return at_address(pointers[self.uid], self.dim, self.stride, _TYPES[self.type.name])

    def at(self, pointers):
        memory = self._memory(pointers)
        if self.type is not Cudnn.data_type.BFLOAT16:
            return memory
        return (memory.astype(np.uint32) << 16).view(np.float32)

    def put(self, pointers, value):
        memory = self._memory(pointers)
        if self.type is Cudnn.data_type.BFLOAT16:
            bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
            value = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        memory[...] = value


_TYPES = {"FLOAT": np.float32, "DOUBLE": np.float64, "HALF": np.float16, "BFLOAT16": np.uint16}


def _pointwise(function):
    def method(self, *operands):
        whole = operands[0].dim
        for t in operands[1:]:  # only these can be repeated
            assert t.dim is None or whole is None or all(n in (1, m) for n, m in zip(t.dim, whole))
        return self._made(lambda of: function(*map(of, operands)), operands[0])

    return method


class Graph:
    """`cudnn.pygraph`."""

    def __init__(self, **types_):
        self.types, self.tensors, self.notes = types_, [], []

    def tensor(self, name, dim, stride, data_type, uid):
        made = Tensor(dim, stride, data_type, uid)
        assert len(dim) == len(stride) in (4, 5), "two or three spatial axes"
        self.tensors.append(made)
        return made

    def _made(self, value, like=None):
        made = Tensor(value=value)
        if like is not None:
            made.dim, made.stride = like.dim, like.stride
        self.tensors.append(made)
        return made

    unsupported = False

    def _convolution(self, name, first, second, at, of_result):
        padding = tuple(zip(at["pre_padding"], at["post_padding"]))
        self.unsupported |= not Cudnn.supports(name, padding)
        rest = {
            "strides": tuple(at["stride"]),
            "padding": padding,
            "dilation": tuple(at["dilation"]),
        }

        def value(of):
            return TABLE[name].kernel(
                reference_run(), of(first), of(second), **of_result(made.dim), **rest
            )

        made = self._made(value)
        return made

    def conv_fprop(self, image, weight, **at):
        groups = {"groups": image.dim[1] // weight.dim[1]}
        return self._convolution("convolution", weight, image, at, lambda dim: groups)

    def conv_dgrad(self, loss, filter, **at):
        def of_result(dim):
            return {"groups": dim[1] // filter.dim[1], "spatial": tuple(dim[2:])}

        return self._convolution("convolution_transpose", filter, loss, at, of_result)

    def conv_wgrad(self, image, loss, **at):
        def of_result(dim):
            return {"groups": image.dim[1] // dim[1], "kernel": tuple(dim[2:])}

        return self._convolution("convolution_weights", image, loss, at, of_result)

    add = _pointwise(np.add)
    sub = _pointwise(np.subtract)
    mul = _pointwise(np.multiply)
    div = _pointwise(np.divide)
    max = _pointwise(np.maximum)
    min = _pointwise(np.minimum)
    neg = _pointwise(np.negative)
    abs = _pointwise(np.absolute)
    exp = _pointwise(np.exp)
    tanh = _pointwise(np.tanh)
    relu = _pointwise(lambda x: np.maximum(x, 0))
    sigmoid = _pointwise(lambda x: 1 / (1 + np.exp(-x)))

    def validate(self):
        uids = [t.uid for t in self.tensors if t.uid is not None]
        assert len(set(uids)) == len(uids)

    def build_operation_graph(self):
        if State.tape is not None:
            raise AssertionError("a plan is made while a stream is captured")

    def create_execution_plans(self, modes):
        pass

    def deselect_numeric_notes(self, notes):
        self.notes = notes

    def deselect_workspace_greater_than(self, size):
        pass

    def check_support(self):
        given, out = self.tensors[0], next(t for t in self.tensors if t.output)
        plain = sum(t.value is not None for t in self.tensors) == 1
        if self.unsupported or (plain and given.type is not out.type):
            raise Cudnn.cudnnGraphNotSupportedError("no engine")

    def build_plans(self):
        pass

    def build_plan_at_index(self, index):
        if State.tape is not None:
            raise AssertionError("a plan is built while a stream is captured")
        if index == 0:
            raise Cudnn.cudnnGraphNotSupportedError("this plan is ruled out")

    def get_workspace_size(self):
        return 128

    def get_workspace_size_plan_at_index(self, index):
        return 64 * index

    def get_execution_plan_count(self):
        return 3

    def execute_plan_at_index(self, pointers, workspace, index, handle=None):
        assert index, "this plan was not built"
        self.execute(pointers, workspace, handle)

    def execute(self, pointers, workspace, handle=None):
        pointers = dict(pointers)

        def call():
            values = {}

            def of(tensor):
                if id(tensor) not in values:
                    if tensor.value is None:
                        values[id(tensor)] = tensor.at(pointers)
                    else:
                        values[id(tensor)] = tensor.value(of)
                return values[id(tensor)]

            (out,) = (t for t in self.tensors if t.output)
            out.put(pointers, of(out))

        _played(call)


class Cudnn:
    """The module `cudnn`."""

    data_type = enum.Enum("data_type", "FLOAT DOUBLE HALF BFLOAT16")
    heur_mode = enum.Enum("heur_mode", "A B FALLBACK")
    numerical_note = enum.Enum(
        "numerical_note", "TENSOR_CORE DOWN_CONVERT_INPUTS NONDETERMINISTIC WINOGRAD FFT"
    )
    cudnnGraphNotSupportedError = Unsupported
    pygraph = Graph
    create_handle = staticmethod(lambda: 1)
    set_stream = staticmethod(lambda handle, stream: None)
    backend_version = staticmethod(lambda: 92800)
    supports = staticmethod(lambda name, padding: True)  # tests may say otherwise


def make_engine():
    """A `CudaEngine` on the GPU that is played."""
    from unittest import mock

    from rgraph.engines.cuda import CudaEngine, blas, library

    with (
        mock.patch.object(library, "problem", return_value=None),
        mock.patch.object(library, "cupy", return_value=LIBRARY),
        mock.patch.object(library, "cudnn", return_value=Cudnn),
        mock.patch.object(blas, "_open", return_value=Cublas()),
    ):
        return CudaEngine()


def play():
    """Has all functions computed by the played GPU, from here on."""
    made = make_engine()
    interpret(made)
    sys.modules["cupy"] = LIBRARY
    device._cuda_engine = lambda number: made
    device._gpu_count = lambda: 1
    context().device = device.gpu(0)


def interpret(engine):
    """Has pointwise groups done by NumPy: compiling a kernel for each would take long."""
    engine.kernels["fused"] = evaluate
    engine.pointwise.launch = _launch
    if COMPILER is None:
        make = engine.make_guard
        engine.make_guard = lambda: _looking(make())


def _looking(guard):
    def look(array, infinite_too):
        bad = ~np.isfinite(array.memory) if infinite_too else np.isnan(array.memory)
        guard.found.memory[...] |= bad.any()

    guard.look = look
    return guard


def _launch(program, results, arrays):
    dtype, run = results[0].dtype.type, types.SimpleNamespace(xp=LIBRARY, empty=LIBRARY.empty)
    values = [a if a.dtype == dtype else a.astype(dtype) for a in arrays]
    for name, reads in program.steps:
        values.append(TABLE[name].kernel(run, *(values[i] for i in reads), out=None))
    found = [values[i].copy() for i in program.results]
    for result, value in zip(results, found):
        result[...] = value
