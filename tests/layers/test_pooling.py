import numpy as np
import pytest

import rgraph as C
from rgraph.layers import (
    AveragePooling,
    GlobalAveragePooling,
    GlobalMaxPooling,
    MaxPooling,
    MaxUnpooling,
)
from rgraph.testing import check_gradients

DATA = np.random.default_rng(0).normal(size=(2, 3, 4, 6))


@pytest.mark.parametrize("layer, reduce", [(MaxPooling, np.max), (AveragePooling, np.mean)])
def test_pooling(layer, reduce):
    x = C.input_variable((3, 4, 6))
    y = layer((2, 3), strides=(2, 3))(x)
    tiles = DATA.reshape(2, 3, 2, 2, 2, 3)
    np.testing.assert_allclose(y.eval({x: DATA}), reduce(tiles, axis=(3, 5)), rtol=1e-5)
    check_gradients(y, {x: DATA}, order=2)


@pytest.mark.parametrize(
    "layer, reduce", [(GlobalMaxPooling, np.max), (GlobalAveragePooling, np.mean)]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pooling(layer, reduce, rank):
    shape = (3, 4, 6)[-rank:]
    data = DATA[:, :, :, :] if rank == 3 else DATA[:, 0] if rank == 2 else DATA[:, 0, 0]
    x = C.input_variable(shape)
    y = layer()(x)
    assert y.shape == shape[:1] + (1,) * (rank - 1)
    space = tuple(range(2, rank + 1))
    expected = reduce(data, axis=space, keepdims=True)
    np.testing.assert_allclose(y.eval({x: data}), expected, rtol=1e-5)
    check_gradients(y, {x: data}, order=2)


def test_unpooling_puts_back_what_pooling_took():
    x = C.input_variable((3, 4, 6))
    y = MaxPooling((2, 2), strides=2)(x)
    z = MaxUnpooling((2, 2), strides=2)(y, x)
    values = z.eval({x: DATA})
    tiles = DATA.reshape(2, 3, 2, 2, 3, 2).astype("f")
    expected = np.where(tiles == tiles.max((3, 5), keepdims=True), tiles, 0)
    np.testing.assert_array_equal(values, expected.reshape(DATA.shape))
    check_gradients(z, {x: DATA})
