"""Pooling against PyTorch, and against what CNTK 2.7 gives."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

SIZE = {1: (9,), 2: (6, 7), 3: (4, 5, 6)}


def random(*shape):
    return np.random.default_rng(shape).normal(size=shape)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("window, stride", [(2, 2), (3, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_without_padding(torch, F, rank, window, stride, ceil):
    values = random(2, 3, *SIZE[rank])
    x = C.input_variable(values.shape[1:], np.float64)
    t = torch.from_numpy(values).requires_grad_()
    for kind, pool in (
        (C.MAX_POOLING, getattr(F, f"max_pool{rank}d")),
        (C.AVG_POOLING, getattr(F, f"avg_pool{rank}d")),
    ):
        expected = pool(t, window, stride, ceil_mode=ceil)
        f = C.pooling(x, kind, (window,) * rank, strides=stride, ceil_out_dim=ceil)
        assert f.shape == expected.shape[1:]
        np.testing.assert_allclose(f.eval({x: values}), expected.detach(), atol=1e-12)
        g = random(*expected.shape[1:])
        t.grad = None
        expected.backward(torch.from_numpy(g).expand(expected.shape))
        np.testing.assert_allclose((f * g).grad({x: values}, wrt=x), t.grad, atol=1e-12)


@pytest.mark.parametrize("include", [False, True])
def test_padded_means(torch, F, include):
    values = random(2, 3, 7, 9)
    x = C.input_variable(values.shape[1:], np.float64)
    f = C.pooling(
        x, C.AVG_POOLING, (3, 5), strides=2, auto_padding=[True, True], include_pad=include
    )
    expected = F.avg_pool2d(
        torch.from_numpy(values), (3, 5), 2, padding=(1, 2), count_include_pad=include
    )
    np.testing.assert_allclose(f.eval({x: values}), expected)


# What CNTK 2.7 gives for the operand 1, 2, 4, 8 …: size, window, stride, options -> result
CNTK_MAX = [
    (5, 2, 1, {"auto_padding": [True]}, [2, 4, 8, 16, 16]),
    (5, 2, 2, {"auto_padding": [True]}, [2, 8, 16]),
    (6, 3, 2, {"auto_padding": [True]}, [2, 8, 32]),
    (6, 3, 2, {"ceil_out_dim": True}, [4, 16, 32]),
    (6, 3, 2, {"ceil_out_dim": True, "auto_padding": [True]}, [2, 8, 32, 32]),
    (7, 3, 3, {"auto_padding": [True]}, [2, 16, 64]),
    (7, 3, 3, {"ceil_out_dim": True}, [4, 32, 64]),
    (6, 4, 2, {"auto_padding": [True]}, [4, 16, 32]),
    (6, 4, 2, {"ceil_out_dim": True, "auto_padding": [True]}, [4, 16, 32, 32]),
    (9, 3, 3, {"auto_padding": [True]}, [4, 32, 256]),
    # CNTK has a -inf more, of a window that lies over the edge altogether.
    (9, 2, 3, {"ceil_out_dim": True}, [2, 16, 128]),
    (4, 1, 2, {"ceil_out_dim": True}, [1, 4]),
    (9, 2, 3, {"ceil_out_dim": True, "auto_padding": [True]}, [2, 16, 128]),
    (7, 2, 4, {"ceil_out_dim": True, "auto_padding": [True]}, [1, 16]),
    # CNTK's first window lies over the edge too: as without ceil_out_dim.
    (3, 1, 5, {"ceil_out_dim": True, "auto_padding": [True]}, [2]),
    (5, 1, 3, {"ceil_out_dim": True, "auto_padding": [True]}, [1, 8]),
]
CNTK_MEAN = [
    (5, 2, 1, {"auto_padding": [True]}, [1.5, 3, 6, 12, 16]),
    (5, 2, 1, {"auto_padding": [True], "include_pad": True}, [1.5, 3, 6, 12, 8]),
    (5, 2, 2, {"ceil_out_dim": True}, [1.5, 6, 16]),
    (5, 2, 2, {"ceil_out_dim": True, "include_pad": True}, [1.5, 6, 8]),
    (6, 3, 2, {"auto_padding": [True]}, [1.5, 14 / 3, 56 / 3]),
    (6, 3, 2, {"auto_padding": [True], "include_pad": True}, [1, 14 / 3, 56 / 3]),
    (6, 4, 2, {"auto_padding": [True]}, [7 / 3, 7.5, 56 / 3]),
    (6, 4, 2, {"auto_padding": [True], "include_pad": True}, [1.75, 7.5, 14]),
    (7, 3, 3, {"ceil_out_dim": True, "include_pad": True}, [7 / 3, 56 / 3, 64 / 3]),
]


@pytest.mark.parametrize("size, window, stride, options, expected", CNTK_MAX)
def test_maxima_as_cntk(size, window, stride, options, expected):
    x = C.input_variable((1, size))
    f = C.pooling(x, C.MAX_POOLING, (window,), strides=stride, **options)
    np.testing.assert_array_equal(f.eval({x: [[2.0 ** np.arange(size)]]}), [[expected]])
    check_gradients(f, order=2)


@pytest.mark.parametrize("size, window, stride, options, expected", CNTK_MEAN)
def test_means_as_cntk(size, window, stride, options, expected):
    x = C.input_variable((1, size))
    f = C.pooling(x, C.AVG_POOLING, (window,), strides=stride, **options)
    np.testing.assert_allclose(f.eval({x: [[2.0 ** np.arange(size)]]}), [[expected]], rtol=1e-6)
    check_gradients(f, order=2)


def test_in_a_layer_whose_input_is_not_known_yet():
    layer = C.Function(lambda x: C.pooling(x, C.MAX_POOLING, (3, 3), strides=2, ceil_out_dim=True))
    x = C.sequence.input_variable((2, 6, 6))
    assert layer(x).shape == (2, 3, 3)


def test_equal_maxima_pass_the_gradient_to_the_first():
    x = C.input_variable((1, 4), needs_gradient=True)
    f = C.pooling(x, C.MAX_POOLING, (2,), strides=2)
    np.testing.assert_array_equal(f.grad({x: [[[3, 3, 1, 1]]]}), [[[1, 0, 1, 0]]])


@pytest.mark.parametrize(
    "shape, window, words",
    [
        ((2, 5), (2, 2, 2), "needs an operand with at least 3 axes"),
        ((2, 5, 5), (6, 2), "spans 6 elements, but the operand has only 5"),
        ((2, 5, 5), (2, 0), "pooling_window_shape: sizes must be at least 1"),
        ((2, 5, 5), (-1, 2), "pooling_window_shape: sizes must be at least 1"),
    ],
)
def test_what_does_not_fit(shape, window, words):
    x = C.input_variable(shape)
    for kind in (C.MAX_POOLING, C.AVG_POOLING):
        with pytest.raises(GraphError, match=words):
            C.pooling(x, kind, window, ceil_out_dim=True)


@pytest.mark.parametrize("stride", [0, -1, (1, 0)])
def test_windows_that_do_not_move_forward(stride):
    x, rois = C.input_variable((2, 5, 5)), C.input_variable((1, 4))
    w = C.Parameter((2, 2, 2, 2), init=1)
    frames = C.sequence.input_variable((2, 5))
    for build in (
        lambda: C.pooling(x, C.MAX_POOLING, (2, 2), strides=stride),
        lambda: C.unpooling(x, x, C.MAX_UNPOOLING, (2, 2), strides=stride),
        lambda: C.convolution(w, x, strides=stride),
        lambda: C.convolution(w, x, dilation=stride),
        lambda: C.convolution_transpose(w, x, strides=stride),
        lambda: C.roipooling(x, rois, C.MAX_POOLING, stride, 1.0),
        lambda: C.layers.SequentialConvolution((2, 2), 1, strides=stride)(frames),
        lambda: C.layers.SequentialConvolution((2, 2), 1, dilation=stride)(frames),
    ):
        with pytest.raises(GraphError, match="sizes must be at least 1"):
            build()
