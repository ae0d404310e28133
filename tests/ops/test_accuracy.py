"""Every pointwise operation on every engine beside the same function in a wider type.

docs/ACCURACY.md says by how many units in the last place they may differ.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.engines.cpu import reference_run
from rgraph.engines.native.library import NativeError
from rgraph.engines.native.programs import Programs
from rgraph.engines.onednn.chains import tail
from rgraph.ops.fused import Program
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.engines.binding import Kernels
from tests.engines.test_cuda_pointwise import COMPILER, call, compiled, flat, one

try:
    PROGRAMS = Programs()
except NativeError:
    PROGRAMS = None

DOCUMENT = Path(__file__).parents[2] / "docs" / "ACCURACY.md"
ROWS = re.findall(
    r"^\| ([a-z_0-9, ]+?) +\| ([0-9.]+) +\| ([0-9.]+) +\|$", DOCUMENT.read_text(), re.M
)
BOUNDS = {
    (name, dtype): float(bound)
    for names, *bounds in ROWS
    for name in names.split(", ")
    for dtype, bound in zip((np.float32, np.float64), bounds)
}
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
SMALLEST = {np.float32: math.exp(-85.1), np.float64: math.exp(-708)}  # that `log` knows
wide = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="no type is wider than float64"
)
TYPES = [np.float32, pytest.param(np.float64, marks=wide)]


def truth(f):
    return lambda *x: np.where(f(*x), 1.0, 0.0)


def divisor(x):
    return np.where(x == 0, np.inf, x)


def power(a, b):
    return np.power(np.where((a == 0) & (b < 0), np.inf, a), b)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def erf(x):
    if x.dtype == np.float64:
        return scipy.special.erf(x)
    return np.vectorize(math.erf)(x.astype(float)).astype(x.dtype)


# Each operation in a wider type, the same for all engines; `log` needs to know what it is cut at
EXACTLY = {
    "plus": np.add, "minus": np.subtract, "element_times": np.multiply, "square": np.square,
    "adjoint_times": lambda g, slope: np.where(g == 0, 0, g * slope),
    "difference": lambda a, b: np.where(a == b, 0, a - b),
    "element_divide": lambda a, b: a / divisor(b), "reciprocal": lambda x: 1 / divisor(x),
    "pow": power, "element_max": np.maximum, "element_min": np.minimum, "negate": np.negative,
    "exp": np.exp, "log_add_exp": np.logaddexp, "sqrt": lambda x: np.sqrt(np.maximum(x, 0)),
    "expm1": np.expm1, "log1p": np.log1p, "erf": erf, "mod": np.remainder,
    "abs": np.abs, "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh,
    "cosh": np.cosh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "atanh": np.arctanh, "floor": np.floor, "ceil": np.ceil, "sign": np.sign,
    "round": lambda x: np.floor(x) + (x - np.floor(x) >= 0.5),
    "equal": truth(np.equal), "not_equal": truth(np.not_equal), "less": truth(np.less),
    "less_equal": truth(np.less_equal), "greater": truth(np.greater),
    "greater_equal": truth(np.greater_equal), "element_not": truth(np.logical_not),
    "element_and": truth(np.logical_and), "element_or": truth(np.logical_or),
    "element_xor": truth(np.logical_xor),
    "element_select": lambda c, a, b: np.where(c != 0, a, b), "stop_gradient": np.positive,
    "labels_to_graph": np.positive,
    "sigmoid": sigmoid, "softplus": softplus, "relu": lambda x: np.maximum(x, 0),
    "expm1_negative": lambda x: np.expm1(np.minimum(x, 0)),
}  # fmt: skip


def operands(arity, dtype):
    """Numbers of all sizes, also 0 and infinity; each with one nearby and with one far off."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    bits = np.uint32 if dtype == np.float32 else np.uint64
    most = np.iinfo(bits).max
    every = (np.arange(1 << 14, dtype=bits) * (most >> 14) + bits(4321)).view(dtype)
    deep = 110 if dtype == np.float32 else 750  # where exponentials end
    ranges = [(-deep, deep), (-9, 9), (-1, 1), (1 - 1e-3, 1 + 1e-3)]
    edges = [0, 0.5, 1, 2, 3, 1e-30, 1e30, 80, info.tiny, info.max, info.smallest_subnormal]
    edges = np.array([*edges, 2**23 + 1, np.inf, np.nan], dtype)
    drawn = [rng.uniform(*r, 1 << 13).astype(dtype) for r in ranges]
    x = np.concatenate([every, *drawn, edges, -edges])
    x[np.isnan(x)] = np.nan  # none that signals
    if arity == 1:
        return [x]
    with np.errstate(all="ignore"):
        near = x * rng.uniform(0.5, 2, x.size).astype(dtype)
    small = rng.integers(-3, 4, x.size).astype(dtype) / 2
    a, b = np.meshgrid(np.concatenate([edges, -edges]), np.concatenate([edges, -edges]))
    first = np.concatenate([x, x, x, np.abs(x), a.ravel()])
    second = np.concatenate([near, rng.permutation(x), small, small, b.ravel()])
    return [first, second, rng.permutation(second)][:arity]


# Operations put together from others
COMPOSED = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "softsign": lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))),
}


def exact(name, dtype, given):
    given = [g.astype(WIDER[dtype]) for g in given]
    if name == "log":
        return np.log(np.maximum(given[0], dtype(SMALLEST[dtype])))
    return (EXACTLY | COMPOSED)[name](*given)


def far(found, expected, unit):
    """By how many units in the last place of `unit`; what is below normal numbers may be 0."""
    info = np.finfo(found.dtype)
    with np.errstate(all="ignore"):
        spacing = np.spacing(np.maximum(np.abs(unit), info.tiny).astype(found.dtype))
        rounded = expected.astype(found.dtype)
        away = np.abs(found.astype(expected.dtype) - expected) / spacing
    special = ~np.isfinite(rounded) | ~np.isfinite(found)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    almost = np.abs(expected) >= info.max * (1 - 4 * info.eps)  # where rounding is to infinity
    flushed = (found == 0) & (np.abs(expected) < 2.5 * info.tiny)
    away = np.where(special, np.where(same | almost, 0, np.inf), away)
    return np.where(flushed, 0, away)


def check(name, dtype, found, given):
    with np.errstate(all="ignore"):
        expected = exact(name, dtype, given)
        unit = np.abs(expected)
        if name == "log_add_exp":  # digits are lost where the logarithms are almost opposite
            unit = np.maximum(unit, np.abs(np.maximum(*given)))
    away = far(found, expected, unit)
    worst = away.argmax()
    at = [g[worst] for g in given]
    bound = BOUNDS.get((name, dtype), 0.5)
    assert away[worst] <= bound, f"{name}{at} is {found[worst]!r}, {away[worst]:.3g} units off"


NAMES = sorted(n for n, op in TABLE.items() if op.pointwise)


def test_all_are_told_of():
    assert set(NAMES) - set(EXACTLY) == {"log"}
    assert {name for name, _ in BOUNDS} <= {*NAMES, *COMPOSED}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", NAMES)
def test_numpy(name, dtype):
    given = operands(len(TABLE[name].operands), dtype)
    with np.errstate(all="ignore"):
        check(name, dtype, TABLE[name].kernel(reference_run(), *given), given)


@pytest.mark.parametrize("name", NAMES)
def test_native(name):
    given = operands(len(TABLE[name].operands), np.float32)
    numbers = tuple(range(len(given)))
    ready = PROGRAMS and PROGRAMS.compiled(Program(((name, numbers),), len(given), (len(given),)))
    if not ready:
        pytest.skip("not in C")
    found = np.empty_like(given[0])
    assert not ready.run(*given, found)
    check(name, np.float32, found, given)


@pytest.mark.skipif("onednn" not in device.cpu_engines(), reason="oneDNN is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_onednn(name):
    """As the tail of a convolution that changes nothing."""
    engine = cpu.CpuEngine("onednn", ["onednn"])

    class Program:
        arity = len(TABLE[name].operands)
        steps = ((name, tuple(range(arity))),)

    if tail(Program.steps, Program.arity) is None:
        pytest.skip("not in the library")
    x, *others = (g.reshape(1, 1, 1, -1) for g in operands(Program.arity, np.float32))
    found = np.empty_like(x)
    at = {"strides": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    what = {"head": TABLE["convolution"], "arguments": at, "program": Program()}
    run, one_ = Run(engine, {}, 1), np.ones((1, 1, 1, 1), np.float32)
    Kernels(engine.providers[0], refused)["tailed"](run, one_, x, *others, out=found, **what)
    check(name, np.float32, found.ravel(), [g.ravel() for g in (x, *others)])


def refused(*_, **__):
    raise AssertionError("the library has it, but did not do it")


C_TYPES = {np.float32: "float", np.float64: "double"}


@pytest.fixture(scope="module")
def expressions(tmp_path_factory):
    functions = {}
    for name in NAMES:
        for type_ in C_TYPES.values():
            n = len(TABLE[name].operands)
            functions[f"{name}_{type_}"] = one(name), [type_] * (n + 1), flat(n)
    return compiled(functions, tmp_path_factory.mktemp("records"))


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler here")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", NAMES)
def test_expressions_for_gpus(name, dtype, expressions):
    given = operands(len(TABLE[name].operands), dtype)
    found = np.empty_like(given[0])
    call(expressions, f"{name}_{C_TYPES[dtype]}", found.size, found, given)
    check(name, dtype, found, given)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("engine", device.cpu_engines())
def test_composed(engine, dtype, engines):
    engines(engine)
    (given,) = operands(1, dtype)
    x = C.input_variable(given.shape, dtype)
    for name in COMPOSED:
        check(name, dtype, getattr(C, name)(x).eval({x: given[None]})[0], [given])
