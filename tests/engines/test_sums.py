"""Sums of very many numbers, against NumPy in float64: rounding does not grow with their number."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines.cpu import reference_run
from rgraph.ops.records import TABLE
from rgraph.ops.sums import total

pytestmark = pytest.mark.cpu

KERNEL = TABLE["sum_to"].kernel
CLOSE = 4e-6  # a million equal numbers, one added after the other, are off by a per cent


@pytest.mark.parametrize("size", [(90, 91), (20, 21, 22), (8200,), (3, 2)], ids=str)
@pytest.mark.parametrize("order", ["channels first", "channels last"])
def test_to_channels(size, order):
    rank = len(size) + 1
    x = np.random.default_rng(0).normal(1, 1, (5, *size, 8)).astype(np.float32)
    x = np.moveaxis(x, -1, 1)
    if order == "channels first":
        x = np.ascontiguousarray(x)
    shape = (8, *[1] * len(size))
    found = KERNEL(reference_run(), x, shape=shape, rank=rank)
    truth = x.sum(axis=tuple(range(2, x.ndim)), keepdims=True, dtype=np.float64)
    assert found.shape == (5, *shape) and found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=CLOSE)


def test_to_other_shapes_as_the_record():
    x = np.ones((5, 100, 400, 2), np.float32)
    assert KERNEL(reference_run(), x, shape=(1, 400, 1), rank=3).shape == (5, 1, 400, 1)
    assert KERNEL(reference_run(), x, shape=(), rank=3).tolist() == [80000.0] * 5


LAYOUTS = {
    "rows": (lambda x: x.reshape(-1, 3), (0,)),
    "channels last": (lambda x: x.reshape(2, 500, 300, 3).transpose(0, 3, 1, 2), (2, 3)),
    "in the middle": (lambda x: x.reshape(30, -1, 3), (1,)),
    "outside and inside": (lambda x: x.reshape(900, 2, 500), (-3, -1)),
    "backwards": (lambda x: x.reshape(-1, 3)[::-1], (0,)),
    "repeated": (lambda x: np.broadcast_to(x[:3], (x.size, 3)), (0,)),
    "every second": (lambda x: x.reshape(-1, 6)[:, ::2], (0,)),
    "many axes": (lambda x: x[: 6**7].reshape((6,) * 7), (0, 1, 2, 3, 5)),
    "all": (lambda x: x, (0,)),
    "none": (lambda x: x.reshape(-1, 3), ()),
}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_totals(layout, keepdims):
    arrange, axis = LAYOUTS[layout]
    x = arrange(np.full(900_000, 0.1, np.float32))
    found = total(np, x, axis, keepdims)
    truth = x.sum(axis=axis, keepdims=keepdims, dtype=np.float64)
    assert found.shape == truth.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=CLOSE)


@pytest.mark.parametrize("engine", device.cpu_engines())
def test_sums_and_means_of_a_million(engine, engines):
    engines(engine)
    tenth = float(np.float32(0.1))
    image, row = np.full((1, 3, 1000, 1000), 0.1, "f"), np.full((1_000_000, 3), 0.1, "f")
    x, y, s = C.input_variable((3, 1000, 1000)), C.input_variable(3), C.sequence.input_variable(3)
    k, b = C.Parameter((3, 1, 1)), C.Parameter(3)
    batch = C.Axis.default_batch_axis()

    def close(found, expected):
        np.testing.assert_allclose(np.ravel(found), expected, rtol=CLOSE)

    close(C.layers.GlobalAveragePooling()(x).eval({x: image}), tenth)
    close(C.pooling(x, C.AVG_POOLING, (500, 400), (250, 300)).eval({x: image}), tenth)
    close(C.reduce_sum(x, axis=(1, 2)).eval({x: image}), 1e6 * tenth)
    close((x * k).grad({x: image}, wrt=[k]), 1e6 * tenth)
    close(C.reduce_mean(y, axis=batch).eval({y: row}), tenth)
    close((y * b).grad({y: row}, wrt=[b]), 1e6 * tenth)
    close(C.sequence.reduce_sum(s).eval({s: [row[:50_000], row[:2]]})[0], 5e4 * tenth)
    close(C.cumsum(y, axis=0).eval({y: row[:1]}), np.arange(1, 4) * tenth)
    long = C.input_variable(1_000_000)
    close(C.cumsum(long).eval({long: row.reshape(-1)[None, :1_000_000]})[0, -1], 1e6 * tenth)
