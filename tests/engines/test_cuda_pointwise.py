"""The kernels generated for CUDA: they compile for GPUs, and mean what NumPy's kernels mean.

No GPU is needed: the compiler is NVRTC, and the meaning is tested by the same statements compiled
for the CPU.
"""

import ctypes
import itertools
import shutil
import subprocess

import numpy as np
import pytest

import rgraph as C
from rgraph import passes
from rgraph.engines.cpu import reference_run
from rgraph.engines.cuda import guard, pointwise, random, sums
from rgraph.engines.cuda.convolution import FROM_BFLOAT16, TO_BFLOAT16
from rgraph.ops.fused import Program
from rgraph.ops.records import TABLE
from tests.engines.compiling import cubin

RECORDS = {name: op for name, op in TABLE.items() if op.pointwise}
TYPES = {"float": np.float32, "double": np.float64}
COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler here")


def test_every_pointwise_record_has_its_expression():
    assert {n for n, op in TABLE.items() if op.expression} == set(RECORDS)


def flat(operands, width=1):
    return pointwise.Layout((0,), ((1,),) * (operands + 1), width)


def one(name):
    """A program of one operation."""
    arity = len(RECORDS[name].operands)
    return Program(((name, tuple(range(arity))),), arity)


def everything():
    """A program with all records in it, one after the other, each reading the latest values."""
    steps, count = [], 3
    for name, op in RECORDS.items():
        steps.append((name, tuple(range(count - len(op.operands), count))))
        count += 1
    return Program(tuple(steps), 3)


# For GPUs


@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("type_", [*TYPES, "Half"])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_compiles_for_gpus(architecture, type_, width):
    source = pointwise.source(everything(), [type_] * 4, flat(3, width))
    assert b"pointwise" in cubin(source, architecture)


@pytest.mark.parametrize("wide", [False, True])
def test_strided_and_mixed_types_compile(wide):
    at = pointwise.Layout((0, 5, 7), ((35, 7, 1), (0, 1, 5), (70, 14, 2)), 1)
    source = pointwise.source(one("plus"), ["float", "float", "unsigned char"], at, wide)
    assert cubin(source, 90)


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_the_other_kernels_compile(architecture):
    assert b"to_bfloat16" in cubin(TO_BFLOAT16, architecture)
    assert b"from_bfloat16" in cubin(FROM_BFLOAT16, architecture)
    assert b"look" in cubin(guard.source("float16"), architecture)
    for type_ in ("float32", "float64"):
        assert b"draw" in cubin(random.source(type_), architecture)
        assert b"look" in cubin(guard.source(type_), architecture)
        assert b"strips" in cubin(sums.source(type_), architecture)


def test_loads_are_vectorized():
    """A kernel over contiguous float32 reads 16 bytes at once: its PTX says so."""
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        source = pointwise.source(one("plus"), ["float"] * 3, flat(2, 4))
        program = nvrtc.createProgram(source, "kernel.cu", (), ())
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    nvrtc.compileProgram(program, ("-arch=compute_80",))
    ptx = nvrtc.getPTX(program)
    ptx = ptx if isinstance(ptx, str) else ptx.decode()
    assert ptx.count("ld.global.nc.v4") == 2 and ptx.count("st.global.v4") == 1


# On the CPU


def compiled(functions, folder):
    """Functions of C++ on the CPU: a dict from names to (program, types, layout)."""
    code = ["#include <cmath>", "using namespace std;"]
    for name, (program, types, at) in functions.items():
        statements = pointwise.body(program, types, at).replace("#pragma unroll", "")
        code += [
            f"namespace {name}_ {{",
            pointwise.prelude(types, False),
            f'extern "C" void {name}(int pieces, {pointwise.parameters(program, types)}) {{',
            "for (index piece = 0; piece < pieces; ++piece) {",
            statements,
            "}}}",
        ]
    path, library = folder / "kernels.cc", folder / "kernels.so"
    path.write_text("\n".join(code))
    command = [COMPILER, "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([*command, str(path), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def call(library, name, pieces, out, arrays):
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (out, *arrays)]
    getattr(library, name)(ctypes.c_int(pieces), *pointers)


SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.0, 2.5, -3.0, 1e30, -1e30, np.inf, -np.inf, np.nan]


@pytest.fixture(scope="module")
def records_on_cpu(tmp_path_factory):
    functions = {}
    for (name, op), type_ in itertools.product(RECORDS.items(), TYPES):
        n = len(op.operands)
        functions[f"{name}_{type_}"] = one(name), [type_] * (n + 1), flat(n)
    return compiled(functions, tmp_path_factory.mktemp("records"))


@needs_compiler
def test_numbers_of_16_bits_are_computed_in_32(tmp_path):
    """Rounded once, at the end, even where values on the way have no place in 16 bits."""
    program = Program((("element_times", (0, 0)), ("minus", (2, 1))), 2)
    library = compiled({"half": (program, ["Half"] * 3, flat(2))}, tmp_path)
    x = np.array([300, 2.5, np.nan, 0.1], np.float16)
    y = np.array([65504, -1, 1, 0], np.float16)
    out = np.empty_like(x)
    call(library, "half", 4, out, [x, y])
    wide = x.astype(np.float32) * x.astype(np.float32) - y.astype(np.float32)
    np.testing.assert_array_equal(out, wide.astype(np.float16))
    assert out[0] == 24496


@needs_compiler
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", RECORDS)
def test_an_expression_means_what_the_record_means(name, type_, records_on_cpu):
    op, dtype = RECORDS[name], TYPES[type_]
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([case(rng)[0][0].ravel() for case in op.cases[:1]])]
    drawn += [case(rng)[0][i].ravel() for case in op.cases[:1] for i in range(1, len(op.operands))]
    grids = np.meshgrid(*[SPECIAL] * len(op.operands))
    operands = [
        np.concatenate([a, g.ravel()]).astype(dtype) for a, g in zip(drawn, grids, strict=True)
    ]
    out = np.empty_like(operands[0])
    call(records_on_cpu, f"{name}_{type_}", out.size, out, operands)
    with np.errstate(all="ignore"):
        truth = op.kernel(reference_run(), *operands)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(out, truth, rtol=4 * tolerance, atol=tolerance)


ORDERS = {
    "contiguous": np.ascontiguousarray,
    "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "a prefix": lambda a: np.concatenate([a, a], axis=1)[:, : a.shape[1]],
    "one per channel": lambda a: a[:1, :, :1, :1][0],
    "one per row": lambda a: a[:, :1, :1, :1],
    "one for all": lambda a: np.array(a[0, 0, 0, 0]),
    "one channel": lambda a: a[:, :1],
}
SHAPES = [(3, 8, 4, 5), (2, 3, 1, 7), (1, 1, 1, 1), (4, 4, 2, 2)]


@pytest.fixture(scope="module")
def layouts_on_cpu(tmp_path_factory):
    rng = np.random.default_rng(0)
    functions, calls = {}, []
    targets = [ORDERS[o] for o in ("contiguous", "channels last", "a prefix")]
    for shape, target, (i, j) in itertools.product(
        SHAPES, targets, itertools.combinations_with_replacement(ORDERS, 2)
    ):
        arrays = [ORDERS[o](rng.normal(size=shape).astype(np.float32)) for o in (i, j)]
        out = target(np.zeros(shape, np.float32))
        everything = (out, *arrays)
        strides = tuple(pointwise.strides_of(a, shape) for a in everything)
        alignment = pointwise._alignment([a.ctypes.data for a in everything])
        at, pieces = pointwise.layout(shape, strides, 4, alignment)
        name = f"layout_{len(calls)}"
        functions[name] = one("minus"), ["float"] * 3, at
        calls.append((name, at, pieces, out, arrays))
    return compiled(functions, tmp_path_factory.mktemp("layouts")), calls


@needs_compiler
def test_any_strides(layouts_on_cpu):
    library, calls = layouts_on_cpu
    widths = set()
    for name, at, pieces, out, arrays in calls:
        call(library, name, pieces, out, arrays)
        np.testing.assert_array_equal(out, np.broadcast_to(arrays[0] - arrays[1], out.shape))
        widths.add(at.width)
    assert widths == {1, 2, 4}


@needs_compiler
def test_a_fused_group(tmp_path):
    x, y = C.input_variable((4, 3, 2)), C.input_variable((4, 3, 2))
    b = C.Parameter((4, 1, 1), init=0.25)
    (node,) = passes.optimize([(C.tanh(x * y + b) * x - 2).node])
    program = node.attrs["program"]
    rng = np.random.default_rng(0)
    values = {n.node: rng.normal(size=(5, 4, 3, 2)).astype(np.float32) for n in (x, y)}
    arrays = [np.asarray(values.get(i, getattr(i, "value", None))) for i in node.inputs]
    out = np.empty((5, 4, 3, 2), np.float32)
    strides = tuple(pointwise.strides_of(a, out.shape) for a in (out, *arrays))
    at, pieces = pointwise.layout(out.shape, strides, 4, 4)
    library = compiled(
        {"group": (program, ["float"] * (len(arrays) + 1), at)},
        tmp_path,
    )
    call(library, "group", pieces, out, arrays)
    a, c = (values[n.node] for n in (x, y))
    np.testing.assert_allclose(out, np.tanh(a * c + 0.25) * a - 2, rtol=1e-5, atol=1e-6)


def test_ragged_minibatches_share_kernels():
    """Only the number of rows differs: the kernel does not."""
    layouts = set()
    for rows in (3, 7, 20):
        shape = (rows, 8, 4, 4)
        last = (128, 1, 32, 8)  # channels-last
        layouts.add(pointwise.layout(shape, (last, last, (0, 1, 0, 0)), 4, 16)[0])
    assert len(layouts) == 1
    assert layouts.pop().width == 4
