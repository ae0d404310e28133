"""oneDNN's convolutions against the records' own kernels, which say what is meant."""

import numpy as np
import pytest

from rgraph import device
from rgraph.ops.records import TABLE
from rgraph.plan import Run

if "onednn" not in device.cpu_engines():
    pytest.skip("oneDNN is not installed: pip install rgraph[onednn]", allow_module_level=True)

from rgraph.engines.onednn import OnednnEngine
from rgraph.engines.onednn.sizes import row_blocks

ENGINE = OnednnEngine()
GEOMETRIES = [
    # operand, kernel, strides, padding, dilation, groups
    ((3, 9), (4, 3, 3), (1,), ((1, 1),), (1,), 1),
    ((3, 9, 8), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 9, 8), (16, 1, 2, 3), (2, 1), ((0, 1), (1, 1)), (1, 1), 1),
    ((4, 9, 8), (6, 2, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 2),
    ((16, 5, 6, 4), (16, 16, 3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1), 1),
    ((32, 14, 14), (32, 32, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
]


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


@pytest.fixture(params=GEOMETRIES, ids=str)
def case(request):
    operand, kernel, strides, padding, dilation, groups = request.param
    at = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(11, *operand)).astype(np.float32)
    w = rng.normal(size=kernel).astype(np.float32)
    run = Run(ENGINE, {}, 11)
    y = TABLE["convolution"].kernel(run, w, x, **at)
    g = rng.normal(size=y.shape).astype(np.float32)
    return run, x, w, y, g, at


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
def test_convolution(case, order):
    run, x, w, y, _, at = case
    close(ENGINE.kernels["convolution"](run, w, order(x), **at), y)
    out = order(np.empty_like(y))
    assert ENGINE.kernels["convolution"](run, w, x, out=out, **at) is out
    close(out, y)


def test_gradient_to_the_operand(case):
    run, x, w, _, g, at = case
    at = {**at, "spatial": x.shape[2:]}
    truth = TABLE["convolution_transpose"].kernel(run, w, g, **at)
    close(ENGINE.kernels["convolution_transpose"](run, w, g, **at), truth)


def test_gradient_to_the_kernels(case):
    run, x, w, _, g, at = case
    at = {**at, "kernel": w.shape[2:]}
    truth = TABLE["convolution_weights"].kernel(run, x, g, **at)
    close(ENGINE.kernels["convolution_weights"](run, x, channels_last(g), **at), truth)


def test_float64_is_the_numpy_engine_s(case):
    run, x, w, _, _, at = case
    x, w = x.astype(np.float64), w.astype(np.float64)
    y = ENGINE.kernels["convolution"](run, w, x, **at)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, TABLE["convolution"].kernel(run, w, x, **at), rtol=1e-10)


def test_rows_come_in_few_sizes():
    sizes = set()
    for rows in range(1, 400):
        blocks = list(row_blocks(rows))
        assert [b.start for b in blocks] == [0, *[b.stop for b in blocks[:-1]]]
        assert blocks[-1].stop == rows
        sizes |= {b.stop - b.start for b in blocks}
    assert len(sizes) < 25
