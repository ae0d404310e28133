"""The extension modules that the build makes, of each level, and what they refuse."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

from rgraph.engines.native import library
from rgraph.engines.native.programs import Programs
from rgraph.ops import expressions
from rgraph.ops.fused import Program
from rgraph.ops.records import TABLE

MODULES = library.built()
if not MODULES:
    pytest.skip(library.WHY_NOT, allow_module_level=True)

C = MODULES[1]
RNG = np.random.default_rng(0)
SOURCES = Path(library.__file__).parent


def test_it_is_built_from_these_sources():
    """Or else: pip install -e . builds it anew."""
    files = [*sorted(SOURCES.glob("*.c")), *sorted(SOURCES.glob("*.h"))]
    if not files:
        pytest.skip("the sources are not beside the modules")
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
    assert {m.sources for m in MODULES.values()} == {digest}


def test_a_build_by_a_newer_python_serves_older_ones():
    """Headers of 3.12 and later write these as what 3.10 and 3.11 crash on."""
    files = [*SOURCES.glob("*.c"), *SOURCES.glob("*.h")]
    if not files:
        pytest.skip("the sources are not beside the modules")
    code = re.sub(r"/\*.*?\*/", "", "".join(p.read_text() for p in files), flags=re.S)
    assert not re.findall(r"Py_RETURN_\w+|\"[\w|():]*#[\w|():]*\"", code)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(params=MODULES, ids="level {}".format)
def module(request):
    return MODULES[request.param]


def test_a_program(module):
    x, y = numbers(300, 70), numbers(70)
    found = np.empty_like(x)
    compiled = Programs(module).compiled(Program((("plus", (0, 1)), ("tanh", (2,))), 2, (3,)))
    assert not compiled.run(x, y, found)
    np.testing.assert_allclose(found, np.tanh(x + y), rtol=1e-5, atol=1e-6)


def test_a_product(module):
    product = module.product(False, False, True, None)
    a, b, found = numbers(33, 20), numbers(70, 20), np.empty((33, 70), np.float32)
    assert not module.multiply(product, None, a, b, found)
    np.testing.assert_allclose(found, a @ b.T, rtol=1e-5, atol=1e-5)
    panels = np.empty((20, 2 * module.lanes * -(-70 // (2 * module.lanes))), np.float32)
    found[:] = 0
    assert not module.pack(product, b, panels)
    assert not module.multiply(product, panels, a, b, found)
    np.testing.assert_allclose(found, a @ b.T, rtol=1e-5, atol=1e-5)
    found, b = np.empty((20, 256), np.float32), numbers(33, 256)
    assert not module.multiply_over_rows(a, b, found)
    np.testing.assert_allclose(found, a.T @ b, rtol=1e-5, atol=1e-5)


def test_a_convolution(module):
    x = np.moveaxis(numbers(2, 9, 13, 16), -1, 1)
    w, y = numbers(32, 16, 3, 3), np.moveaxis(np.empty((2, 9, 13, 32), np.float32), -1, 1)
    u = np.empty((36, 32 * 16), np.float32)
    assert not module.kernels_at_points(u, w)
    assert not module.convolve(module.convolution((3, 3), (1, 1), (1, 1), (1, 1), None), u, w, x, y)
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = [[correlate(image, k, "valid")[0] for k in w] for image in padded]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("results", [3, 20, 64])
@pytest.mark.parametrize("deep, width", [(1, 40), (3, 40), (70, 40), (5, 4)])
def test_a_convolution_as_products(module, results, deep, width):
    x = np.moveaxis(numbers(2, 9, width, deep), -1, 1)
    w = numbers(results, deep, 5, 3)
    y = np.moveaxis(np.empty((2, 9, width, results), np.float32), -1, 1)
    whole = 2 * module.lanes
    panels = np.empty((15 * deep, -(-results // whole) * whole), np.float32)
    form = module.convolution((5, 3), (1, 1), (1, 1), (2, 1), None)
    assert not module.kernels_in_panels(panels, w)
    assert not module.convolve(form, panels, w, x, y)
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (2, 2), (1, 1)))
    expected = np.array([[correlate(image, k, "valid")[0] for k in w] for image in padded])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    g, found = np.moveaxis(numbers(2, 9, width, results), -1, 1), np.empty_like(w)
    assert not module.convolve_weights(form, found, x, g, False)
    seen = np.lib.stride_tricks.sliding_window_view(padded, (5, 3), (2, 3))
    exact = np.einsum("nchwij,nohw->ocij", seen, g, optimize=True)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("channels", [1, 20, 300])
def test_pooling(module, channels):
    """Windows of 3x2, two apart, that reach one row beyond the image."""
    images = np.moveaxis(numbers(2, 7, 9, channels), -1, 1)
    windows = module.convolution((3, 2), (2, 2), (1, 1), (1, 0), None)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 2), (2, 3))[:, :, ::2, ::2]
    found = np.moveaxis(np.empty((2, 4, 4, channels), np.float32), -1, 1)
    assert not module.pool(windows, 0, found, images, None, False)
    np.testing.assert_array_equal(found, seen.max((-1, -2)))
    assert not module.pool(windows, 2, found, images, None, False)
    inside = np.isfinite(seen)
    total = np.where(inside, seen, 0).sum((-1, -2), dtype=float)
    np.testing.assert_allclose(found, total / inside.sum((-1, -2)), rtol=1e-5, atol=1e-6)
    back, g = np.empty_like(images), np.moveaxis(numbers(2, 4, 4, channels), -1, 1)
    assert not module.pool(windows, 1, back, g, images, False)
    exact = np.zeros((2, channels, 9, 9))
    for n, c, i, j in np.ndindex(g.shape):
        row, column = divmod(int(seen[n, c, i, j].argmax()), 2)
        exact[n, c, 2 * i + row, 2 * j + column] += g[n, c, i, j]
    np.testing.assert_allclose(back, exact[:, :, 1:8], rtol=1e-5, atol=1e-6)
    assert not module.pool(windows, 3, back, g, None, True)
    exact[...] = 0
    for i, j in np.ndindex(4, 4):
        exact[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2] += g[:, :, i, j, None, None] / 6
    np.testing.assert_allclose(back, exact[:, :, 1:8], rtol=1e-5, atol=1e-6)


def test_sums(module):
    x, found = numbers(3, 900, 17), np.empty((3, 17), np.float32)
    assert not module.sum_rows(found, x)
    np.testing.assert_allclose(found, x.sum(axis=1, dtype=float), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="there is no objdump here")
@pytest.mark.skipif(library.LEVELS != {4: "_v4", 3: "_v3", 1: "_baseline"}, reason="not x86-64")
@pytest.mark.parametrize(("name", "foreign"), [("_baseline", "xyz"), ("_v3", "z")])
def test_no_level_has_instructions_of_a_higher_one(name, foreign):
    """AVX and its like have names that begin with v; what asks the processor has `xgetbv`."""
    made = library._module(name).__file__
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", made], capture_output=True, text=True, check=True
    ).stdout
    if "elf64-x86-64" not in code:
        pytest.skip("not a library for x86-64")
    of_vectors = re.findall(rf"\tv\w+ .*%[{foreign}]mm", code)
    assert of_vectors == []


def test_the_operations_are_those_of_the_records():
    header = SOURCES / "expressions.h"
    if not header.exists():
        pytest.skip("the sources are not beside the modules")
    text = header.read_text()
    written = dict(re.findall(r"^OPERATION\((\w+), (.*)\)$", text, flags=re.M))
    written.pop("sigmoid")
    rendered = {n: expressions.in_c(expressions.of(TABLE[n]), ("x", "y", "z")) for n in written}
    assert written == rendered


CONVOLUTION = C.convolution((3, 3), (1, 1), (1, 1), (0, 0), None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: C.program((0, 2, 0, 0, 0), 1, 1, 0),  # a value that there is not
        lambda: C.program((0, 0, 0, 0, 0), 1, 1, 0),  # an operand as the target
        lambda: C.program((999, 1, 0, 0, 0), 1, 1, 0),
        lambda: C.program((0, 1, 0, 0), 1, 1, 0),
        lambda: C.program((), 39, 39, 0),
        lambda: C.program((), 1, 1, -1),
        lambda: C.run(PLUS, np.zeros(3, np.float32)),  # too few arrays
        lambda: C.run(C.product(False, False, False, None)),
        lambda: C.multiply(C.product(False, False, False, None), None, *[np.zeros((2, 2))] * 4),
        lambda: C.convolve(
            C.convolution((3, 3), (1, 1), (1, 1), (0, 0), None),
            *[np.zeros((1, 16, 8, 8), np.float32)] * 3,
        ),
        lambda: C.loop(((9, 0, 0, 0, 0, 0),), (), (), (), COPY, 1),
        lambda: C.loop(((2, 1, 0, 0, 0, 0),), (), (), (), COPY, 1),  # an array that there is not
        lambda: C.loop(((6, 0, 0, 0, 1, 0),), (), (), (), COPY, 1),  # a part of itself
        lambda: C.loop(((2, 0, 0, 0, 0, 0),), ((COPY, (0, 1)),), (), (), COPY, 1),
        lambda: C.loop(((2, 0, 0, 0, 0, 0),), ((COPY, (0,)),), (), (), COPY, 1),
        lambda: C.loop((), (), (((5, 0, 0, 1, 2, 0), 1, 0),), (), COPY, 1),  # one array, not two
        lambda: C.loop((), (), (((4, 0, 0, 0, 0, 0), 1, 0),), (), COPY, 1),  # no delay's
        lambda: C.go_through(LOOP, (), (), np.arange(3), 1),
        lambda: C.go_through(LOOP, (np.zeros((9, 1), np.float32),), (), np.arange(3.0), 1),
        lambda: C.go_through(LOOP, (np.zeros((9, 1), np.float32),), (), np.array([0, 1, 5]), 1),
        lambda: C.parse_text(b"", ((b"x", 4, False, *[np.zeros(3, np.float32)] * 4),)),
    ],
)
def test_what_is_wrong_raises(call):
    with pytest.raises(ValueError, match=r"[a-z]"):
        call()


PLUS = C.program((0, 2, 0, 1, 1), 2, 1, 0)
COPY = C.program((C.operations.index("element_max"), 1, 0, 0, 0), 1, 1, 0)
LOOP = C.loop(((2, 0, 0, 0, 0, 0),), ((COPY, (0, 0)),), (), (), COPY, 1)


def test_what_does_not_suit_is_refused():
    """Types, sizes, and what may not be written."""
    x, out = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    fixed = out.copy()
    fixed.flags.writeable = False
    shifted = np.frombuffer(bytes(65), np.uint8)[1:].view(np.float32).reshape(4, 4)
    product = C.product(False, False, False, None)
    assert C.run(COPY, x, fixed) and C.run(COPY, x[:3], out) and C.run(COPY, shifted, out)
    assert C.run(COPY, x.astype(">f4"), out) and C.run(COPY, None, out)
    assert C.multiply(product, None, x, x[:3], out) and C.multiply(product, None, x, x, out[:3])
    assert C.multiply(product, x, x, x, out)  # no panels
    assert C.multiply(product, None, x, x, fixed)
    assert C.sum_rows(out[:3], x) and C.sum_rows(out[:, :3], x)
    images = [np.zeros((1, 16, 8, 8), np.float32)] * 2  # channels first
    assert C.convolve(
        C.convolution((3, 3), (1, 1), (1, 1), (0, 0), None),
        np.zeros((36, 256), np.float32),
        x,
        *images,
    )
    assert C.go_through(LOOP, (np.zeros((1, 1), np.float32),), (), np.arange(3), 1)  # too few rows
    assert not out.any() and not fixed.any()
