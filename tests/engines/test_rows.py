"""Every engine on values without rows, with none, with one and with a few: as on each by itself."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device


def constant(*shape):
    values = np.random.default_rng(0).normal(size=shape)
    return C.constant(values.astype(np.float32))


IMAGES, VOLUMES, WIDE = (16, 12, 12), (4, 6, 6, 6), (80,)
PROGRAMS = {
    "3x3": (IMAGES, lambda x: C.convolution(constant(16, 16, 3, 3), x)),
    "5x5": (IMAGES, lambda x: C.tanh(C.convolution(constant(8, 16, 5, 5), x, strides=2) + 1)),
    "volumes": (VOLUMES, lambda x: C.convolution(constant(4, 4, 3, 3, 3), x)),
    "transposed": (IMAGES, lambda x: C.convolution_transpose(constant(16, 8, 3, 3), x)),
    "in groups": (IMAGES, lambda x: C.convolution(constant(16, 4, 3, 3), x, groups=4)),
    "product": (WIDE, lambda x: C.sigmoid(C.times(x, constant(80, 70)) + constant(70))),
    "of matrices": ((30, 20), lambda x: C.times(x, constant(20, 40))),
    "softmax": (WIDE, lambda x: C.softmax(x) * constant(80) + C.log_softmax(x)),
    "of matrices' rows": ((5, 80), lambda x: C.softmax(x, axis=1)),
    "means": (IMAGES, lambda x: C.reduce_mean(x, axis=(1, 2)) * x),
    "a bias": (IMAGES, lambda x: C.exp(0.1 * x + constant(16, 1, 1)) / (1 + x * x)),
    "largest": (IMAGES, lambda x: C.pooling(x, C.MAX_POOLING, (3, 3), 2)),
    "mean pooling": (IMAGES, lambda x: C.pooling(x, C.AVG_POOLING, (3, 3), 2)),
}


@pytest.fixture(params=device.cpu_engines())
def engine(request):
    before = device.engine(C.cpu()).name
    yield device.use_cpu_engine(request.param)
    device.use_cpu_engine(before)


def found(make, shape, data):
    """The result, and gradients to the operand and to a weight beside it."""
    if data.ndim == len(shape):
        x, feed = C.parameter(shape, init=data), {}
    else:
        x = C.input_variable(shape, needs_gradient=True)
        feed = {x: data}
    weight = C.Parameter(shape, init=1.0)
    y = make(x * weight)
    gradients = C.reduce_sum(C.square(y)).grad(feed, wrt=[x, weight])
    return [y.eval(feed), gradients[x], gradients[weight]]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_few_rows_and_without(program, engine):
    shape, make = program
    data = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    together = found(make, shape, data)
    sums = np.zeros(shape, np.float32)
    for row in range(3):
        alone, single = found(make, shape, data[row]), found(make, shape, data[row : row + 1])
        for with_row, without, of_all in zip(single[:2], alone, together, strict=False):
            assert without.shape == with_row.shape[1:] == of_all.shape[1:]
            np.testing.assert_allclose(with_row[0], without, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(with_row[0], of_all[row], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(single[2], alone[2], rtol=1e-3, atol=1e-3)
        sums += alone[2]
    np.testing.assert_allclose(together[2], sums, rtol=1e-3, atol=1e-2)
    result, gradient, weights = found(make, shape, data[:0])
    assert result.shape == (0, *together[0].shape[1:]) and gradient.shape == (0, *shape)
    np.testing.assert_array_equal(weights, np.zeros(shape))
