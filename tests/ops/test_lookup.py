"""Elements by number, regions, and what rearranges shapes, against NumPy and hand-worked cases."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

RNG = np.random.default_rng(1)
TABLE = RNG.normal(size=(5, 4, 3))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("own", [False, True], ids=["shared table", "a table per sample"])
@pytest.mark.parametrize("chosen", [False, True], ids=["shared indices", "indices per sample"])
def test_gather_is_numpys_take(axis, own, chosen):
    tables = RNG.normal(size=(2, 5, 4, 3))
    indices = RNG.integers(0, 3, (2, 2, 2)).astype(float)
    x = C.input_variable((5, 4, 3), np.float64) if own else C.parameter(init=tables[0])
    i = C.input_variable((2, 2), np.float64) if chosen else C.constant(indices[0])
    f = C.gather(x, i, axis=axis)
    feed = ({x: tables} if own else {}) | ({i: indices} if chosen else {})
    per_sample = [
        np.take(tables[n if own else 0], indices[n if chosen else 0].astype(int), axis=axis)
        for n in range(2)
    ]
    expected = np.array(per_sample) if own or chosen else per_sample[0]
    np.testing.assert_array_equal(f.eval(feed), expected)
    check_gradients(C.square(f), feed, [x], order=2, elements=20, directions=2)


def test_one_hot_where_the_axis_says():
    x = np.array([[0, 2], [1, 1]])
    last = np.eye(3)[x]
    np.testing.assert_array_equal(C.one_hot(x, 3).eval(), last)
    np.testing.assert_array_equal(C.one_hot(x, 3, axis=0).eval(), np.moveaxis(last, -1, 0))
    np.testing.assert_array_equal(C.one_hot(x, 3, axis=1).eval(), np.moveaxis(last, -1, 1))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_top_k(axis):
    x = C.input_variable((4, 5), np.float64)
    values = RNG.normal(size=(3, 4, 5))
    top = C.top_k(x, 2, axis=axis)
    found = top.eval({x: values})
    at = axis + 1 if axis >= 0 else axis
    order = np.take(np.argsort(-values, axis=at), [0, 1], axis=at)
    np.testing.assert_array_equal(found[top.outputs[1]], order)
    np.testing.assert_array_equal(found[top.outputs[0]], np.take_along_axis(values, order, axis=at))
    check_gradients(C.square(C.combine([top.outputs[0]])), {x: values}, order=2, elements=20)


def test_more_than_there_are():
    with pytest.raises(GraphError, match="3 elements along axis"):
        C.top_k(C.input_variable(3), 4)


def test_regions_of_two_images():
    """Bins overlap where a region is smaller than the number of bins, as Fast R-CNN's do."""
    images = np.arange(18.0).reshape(2, 1, 3, 3)
    x, r = C.input_variable((1, 3, 3), np.float64), C.input_variable((1, 4), np.float64)
    f = C.roipooling(x, r, C.MAX_POOLING, (2, 2), 1.0)
    regions = np.array([[[1, 1, 2, 2]], [[0, 0, 2, 0]]], float)
    expected = [[[[[4, 5], [7, 8]]]], [[[[10, 11], [10, 11]]]]]
    np.testing.assert_array_equal(f.eval({x: images, r: regions}), expected)
    gradient = f.grad({x: images, r: regions}, [x])
    counts = np.zeros((2, 1, 3, 3))
    counts[0, 0, 1:, 1:] = 1
    counts[1, 0, 0, 1:] = 2
    np.testing.assert_array_equal(gradient, counts)


def test_corners_of_regions_are_rounded_as_in_cntk():
    image, r = C.constant(np.arange(16.0).reshape(1, 4, 4)), C.input_variable((1, 4))
    f = C.roipooling(image, r, C.MAX_POOLING, 2, 1.0)
    for corners, expected in (
        ((0.4, 0.6, 1.5, 2.5), [[9, 10], [13, 14]]),
        ((-0.4, -0.4, 1, 1), [[0, 1], [4, 5]]),
        ((3, 3, 9, 9), [[15, 0], [0, 0]]),
        ((5, 5, 7, 7), [[0, 0], [0, 0]]),
    ):
        np.testing.assert_array_equal(f.eval({r: [[corners]]}), [[[expected]]])
    with pytest.raises(GraphError, match="NaN or infinite"):
        f.eval({r: [[(0, np.nan, 1, 1)]]})


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric"])
def test_pad(mode):
    x = C.input_variable((4, 3), np.float64)
    values = RNG.normal(size=(2, 4, 3))
    number = ["constant", "reflect", "symmetric"].index(mode)
    f = C.pad(x, [(1, 2), (0, 2)], mode=number, constant_value=1.5)
    options = {"constant_values": 1.5} if mode == "constant" else {}
    expected = np.pad(values, ((0, 0), (1, 2), (0, 2)), mode=mode, **options)
    np.testing.assert_array_equal(f.eval({x: values}), expected)


def test_depth_to_space_and_back():
    x = C.input_variable((8, 2, 3))
    f = C.depth_to_space(x, 2)
    value = np.arange(8.0)[:, None, None] * np.ones((2, 3))
    tile = [[0, 2], [4, 6]]  # the first of two channels of each 2 by 2 block
    np.testing.assert_array_equal(f.eval({x: value})[0, 0], np.tile(tile, (2, 3)))
    random = RNG.normal(size=(1, 8, 2, 3)).astype("f")
    np.testing.assert_array_equal(C.space_to_depth(f, 2).eval({x: random}), random)


@pytest.mark.parametrize("axis", [None, 0, -2, (0, 2)])
def test_squeeze_within_a_layer(axis):
    layer = C.Function(lambda v: C.squeeze(v, axis))
    shape = (1, 2, 1) if axis != -2 else (2, 1, 2)
    x = RNG.normal(size=shape)
    np.testing.assert_array_equal(layer(C.constant(x)).eval(), np.squeeze(x, axis))


@pytest.mark.parametrize(
    "axis, shape",  # CNTK's: the new axis comes after the one that is named
    [
        *((0, (5, 1, 4, 3)), (1, (5, 4, 1, 3)), (2, (5, 4, 3, 1)), (C.Axis(0), (5, 1, 4, 3))),
        *((-1, (5, 4, 3, 1)), (-2, (5, 4, 1, 3)), (-4, (1, 5, 4, 3))),
        *((C.Axis.new_leading_axis(), (1, 5, 4, 3)), (C.Axis.end_static_axis(), (1, 5, 4, 3))),
    ],
)
def test_expand_dims(axis, shape):
    f = C.expand_dims(C.constant(TABLE), axis)
    assert f.shape == shape
    np.testing.assert_array_equal(f.eval(), TABLE.reshape(shape))


@pytest.mark.parametrize("axis", [3, -5])
def test_expand_dims_at_no_axis(axis):
    with pytest.raises(GraphError, match="does not exist"):
        C.expand_dims(C.constant(TABLE), axis)


def test_swapaxes_and_flatten():
    x = C.constant(TABLE)
    np.testing.assert_array_equal(C.swapaxes(x, 0, -1).eval(), np.swapaxes(TABLE, 0, -1))
    np.testing.assert_array_equal(C.flatten(x, 1).eval(), TABLE.reshape(5, 12))
    np.testing.assert_array_equal(C.flatten(x).eval(), TABLE.reshape(1, 60))
    shapes = {0: (1, 60), 2: (20, 3), 3: (60, 1), -1: (60, 1), -2: (20, 3), -4: (1, 60)}  # CNTK's
    assert {axis: C.flatten(x, axis).shape for axis in shapes} == shapes


def test_crop():
    x, like = C.input_variable((1, 4, 5), np.float64), C.input_variable((1, 2, 3), np.float64)
    values = RNG.normal(size=(2, 1, 4, 5))
    f = C.crop_manual(x, like, 2, 1)
    np.testing.assert_array_equal(
        f.eval({x: values, like: np.zeros((2, 1, 2, 3))}), values[..., 1:3, 2:5]
    )
    with pytest.raises(GraphError, match="do not lie within"):
        C.crop_manual(x, like, 3, 1)


def test_automatic_crop_finds_the_overlap():
    """A stride of 2 and its undoing: pixel i of `up` lies over pixel i - 0.5 of the image."""
    x, y = C.input_variable((1, 5, 5)), C.input_variable((1, 5, 5))
    down = C.convolution(np.ones((1, 1, 3, 3)), x, strides=2)
    up = C.convolution_transpose(np.ones((1, 1, 2, 2)), down, strides=2, auto_padding=[False])
    assert up.shape == (1, 6, 6)
    values = RNG.normal(size=(1, 1, 5, 5))
    whole = up.eval({x: values})
    zeros = np.zeros((1, 1, 5, 5))
    np.testing.assert_array_equal(C.crop_automatic(up, x).eval({x: values}), whole[..., :5, :5])
    other = C.crop_automatic_with_ancestors(up, y, x, y).eval({x: values, y: zeros})
    np.testing.assert_array_equal(other, whole[..., :5, :5])
    with pytest.raises(GraphError, match="same images"):
        C.crop_automatic(up, y)


def test_cast_there_and_back():
    x = C.input_variable(2, np.float32)
    f = C.square(C.cast(x, np.float64))
    assert f.dtype == np.float64
    value = f.eval({x: [[0.1, 2]]})
    assert value.dtype == np.float64 and value[0, 0] == np.float64(np.float32(0.1)) ** 2
    gradient = f.grad({x: [[0.1, 2]]}, [x])
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, [[0.2, 4]], rtol=1e-6)


@pytest.mark.parametrize("index", [4, -1, -5, np.nan, np.inf, 1e30])
@pytest.mark.parametrize("choose", [lambda x: C.gather(np.eye(4), x), lambda x: C.one_hot(x, 4)])
def test_choosing_what_is_not_there(choose, index):
    """On a CPU; a GPU would have to be waited for."""
    x = C.input_variable(1)
    y = choose(x)
    with pytest.raises(C.GraphError, match="is out of range for 4 elements") as caught:
        y.eval({x: [[index]]}, device=C.cpu())
    assert __file__ in str(caught.value)
    # Fractions are cut off, as in CNTK 2.7.
    for near, whole in ((3, 3), (1.9999999, 1), (2.0000002, 2), (3.99, 3), (-0.5, 0)):
        np.testing.assert_array_equal(y.eval({x: [[near]]}), [[np.eye(4)[whole]]])
