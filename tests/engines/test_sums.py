"""Sums of images to one number per channel, against NumPy in float64."""

import numpy as np
import pytest

from rgraph.device import reference_run
from rgraph.engines.numpy.sums import sum_to
from rgraph.ops.records import TABLE

KERNEL = sum_to(TABLE["sum_to"].kernel)


@pytest.mark.parametrize("size", [(90, 91), (20, 21, 22), (8200,), (3, 2)], ids=str)
@pytest.mark.parametrize("order", ["channels first", "channels last"])
def test_to_channels(size, order):
    rank = len(size) + 1
    x = np.random.default_rng(0).normal(1, 1, (5, *size, 8)).astype(np.float32)
    x = np.moveaxis(x, -1, 1)
    if order == "channels first":
        x = np.ascontiguousarray(x)
    shape = (8, *[1] * len(size))
    total = KERNEL(reference_run(), x, shape=shape, rank=rank)
    truth = x.sum(axis=tuple(range(2, x.ndim)), keepdims=True, dtype=np.float64)
    assert total.shape == (5, *shape) and total.dtype == np.float32
    np.testing.assert_allclose(total, truth, rtol=2e-6)


def test_to_other_shapes_as_the_record():
    x = np.ones((5, 100, 400, 2), np.float32)
    assert KERNEL(reference_run(), x, shape=(1, 400, 1), rank=3).shape == (5, 1, 400, 1)
    assert KERNEL(reference_run(), x, shape=(), rank=3).tolist() == [80000.0] * 5
