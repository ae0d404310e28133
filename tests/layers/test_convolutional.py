"""Convolutional layers against SciPy's correlations."""

import numpy as np
import pytest
import scipy.signal

import rgraph as C
from rgraph.layers import (
    Convolution,
    Convolution1D,
    Convolution2D,
    Convolution3D,
    ConvolutionTranspose,
    ConvolutionTranspose1D,
    ConvolutionTranspose2D,
    ConvolutionTranspose3D,
    SequentialConvolution,
)
from rgraph.testing import check_gradients

RNG = np.random.default_rng(0)


def correlate(W, x):
    """(outputs, inputs, *kernel) with (inputs, *size), no padding."""
    return np.stack(
        [
            sum(scipy.signal.correlate(c, k, "valid") for c, k in zip(x, kernels, strict=True))
            for kernels in W
        ]
    )


@pytest.mark.parametrize("size", [(3,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
def test_convolution(size, pad, strides):
    rank = len(size)
    x = C.input_variable((2, 5, 6, 4)[: rank + 1])
    f = Convolution(size, 3, pad=pad, strides=strides, init_bias=0.5)
    y = f(x)
    assert f.W.shape == (3, 2, *size)
    assert f.b.shape == (3,) + (1,) * rank
    data = RNG.normal(size=x.shape)
    padded = data
    if pad:
        around = [((k - 1) // 2, k) for k in size]
        padded = np.pad(data, [(0, 0), *around])
    whole = correlate(f.W.value, padded)[(slice(None), *[slice(None, None, strides)] * rank)]
    expected = whole[tuple(slice(0, n) for n in y.shape)] + 0.5
    np.testing.assert_allclose(y.eval({x: data[None]})[0], expected, atol=1e-5)
    check_gradients(y, elements=30)


def test_convolution_without_channels_and_with_one_filter():
    x = C.input_variable((5, 6))
    kernel = RNG.normal(size=(3, 3)).astype("f")
    data = RNG.normal(size=(5, 6))
    expected = scipy.signal.correlate(data, kernel, "same")
    f = Convolution((3, 3), init=kernel, pad=True, reduction_rank=0)
    y = f(x)
    assert (f.W.shape, y.shape) == ((1, 1, 3, 3), (5, 6))
    np.testing.assert_allclose(y.eval({x: data[None]})[0], expected, atol=1e-5)
    several = Convolution((3, 3), 4, pad=True, reduction_rank=0)(x)
    assert several.shape == (4, 5, 6)
    check_gradients(y)


def test_dilation_groups_activation():
    x = C.input_variable((4, 7, 6))
    f = Convolution((2, 2), 6, activation=C.tanh, dilation=2, groups=2)
    y = f(x)
    assert f.W.shape == (6, 2, 2, 2)
    data = RNG.normal(size=(4, 7, 6))
    spread = np.zeros((6, 2, 3, 3))
    spread[:, :, ::2, ::2] = f.W.value
    halves = [correlate(spread[:3], data[:2]), correlate(spread[3:], data[2:])]
    expected = np.tanh(np.concatenate(halves))
    np.testing.assert_allclose(y.eval({x: data[None]})[0], expected, atol=1e-5)
    check_gradients(y, elements=30)


def test_one_number_is_a_square_filter():
    assert Convolution1D(3, 2)(C.input_variable((1, 5))).shape == (2, 3)
    assert Convolution2D(3, 2)(C.input_variable((1, 5, 6))).shape == (2, 3, 4)
    assert Convolution3D((3, 2, 1), 2)(C.input_variable((1, 5, 6, 7))).shape == (2, 3, 5, 7)
    with pytest.raises(ValueError, match="Convolution1D: filter_shape must have 1 axes"):
        Convolution1D((2, 3))
    with pytest.raises(ValueError, match="Convolution2D: filter_shape must have 2 axes"):
        Convolution2D((2, 3, 4))


def test_what_a_convolution_refuses():
    with pytest.raises(C.GraphError, match="needs an operand with 3 axes"):
        Convolution((3, 3), 1)(C.input_variable(5))
    with pytest.raises(ValueError, match="reduction_rank"):
        Convolution((3, 3), 1, reduction_rank=2)
    with pytest.raises(NotImplementedError):
        Convolution((3, 3), 1, sharing=False)


@pytest.mark.parametrize("layer, rank", [
    (ConvolutionTranspose1D, 1), (ConvolutionTranspose2D, 2), (ConvolutionTranspose3D, 3)
])  # fmt: skip
def test_transposed_convolution_is_the_adjoint(layer, rank):
    """<conv(a), b> = <a, transposed(b)> for all a and b, with the same weights."""
    small, large = (4, 3, 3)[:rank], (9, 7, 7)[:rank]
    x, z = C.input_variable((2, *small)), C.input_variable((3, *large))
    f = layer(3, 3, strides=2, bias=False)
    y = f(x)
    assert y.shape == (3, *large)
    assert f.W.shape == (2, 3) + (3,) * rank
    down = Convolution((3,) * rank, 2, strides=2, bias=False, init=f.W.value)(z)
    a, b = RNG.normal(size=(1, 3, *large)), RNG.normal(size=(1, 2, *small))
    left = (down.eval({z: a}) * b).sum()
    np.testing.assert_allclose((a * y.eval({x: b})).sum(), left, rtol=1e-4)
    check_gradients(layer(3, 3, C.tanh, strides=2, init_bias=0.5)(x), elements=30)


def test_transposed_convolution_to_a_chosen_size():
    x = C.input_variable((2, 4, 4))
    f = ConvolutionTranspose((3, 3), 5, strides=2, pad=True, output_shape=(8, 8))
    assert f(x).shape == (5, 8, 8)
    assert ConvolutionTranspose((3, 3), 5, strides=2, pad=True)(x).shape == (5, 7, 7)


LENGTHS = (5, 3, 4)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(3,), (2, 3), (3, 2, 2)])
def test_sequential_convolution(size, pad, stride):
    """A sequence (frames, channels, *size) is one image (channels, frames, *size)."""
    frame = (2, 4, 3)[: len(size)]
    x = C.sequence.input_variable(frame)
    f = SequentialConvolution(size, 3, pad=(pad,) + (False,) * (len(size) - 1),
                              strides=(stride,) + (1,) * (len(size) - 1))  # fmt: skip
    y = f(x)
    assert f.W.shape == (3, 2, *size)
    assert f.b.shape == (3,) + (1,) * (len(size) - 1)
    f.b.value = RNG.normal(size=f.b.shape)
    data = [RNG.normal(size=(n, *frame)) for n in LENGTHS]
    for ours, frames in zip(y.eval({x: data}), data, strict=True):
        image = np.moveaxis(frames, 0, 1)
        if pad:
            before = (size[0] - 1) // 2
            around = [(0, 0), (before, size[0] - 1 - before), *[(0, 0)] * (len(size) - 1)]
            image = np.pad(image, around)
        expected = correlate(f.W.value, image)[:, ::stride] + f.b.value[:, None]
        np.testing.assert_allclose(ours, np.moveaxis(expected, 1, 0), atol=1e-5)
    check_gradients(y, {x: data}, elements=20)


def test_sequential_convolution_of_scalars():
    """The numbers of CNTK's test_sequential_convolution_1d_without_reduction_dim_old."""
    x = C.sequence.input_variable(())
    f = SequentialConvolution(3, init=np.array([4.0, 2, 1]), reduction_rank=0, bias=False)
    np.testing.assert_array_equal(f(x).eval({x: [np.array([2.0, 6, 4, 8, 6])]})[0], [24, 40, 38])
    older = Convolution(
        3, init=np.array([4.0, 2, 1]), sequential=True, reduction_rank=0, bias=False
    )
    np.testing.assert_array_equal(
        older(x).eval({x: [np.array([2.0, 6, 4, 8, 6])]})[0], [24, 40, 38]
    )


def test_sequential_convolution_with_dilation():
    """The numbers of CNTK's test_1D_sequential_convolution_with_dilation."""
    x = C.sequence.input_variable(())
    f = SequentialConvolution(
        3, init=np.array([4, 2, 1]), reduction_rank=0, bias=False, dilation=2, pad=True
    )
    ours = f(x).eval({x: [np.array([2.0, 6, 4, 8, 6])]})[0]
    np.testing.assert_array_equal(ours, [8, 20, 22, 40, 28])


def test_a_convolution_along_time_may_be_followed_by_a_recurrence():
    x = C.sequence.input_variable((1, 6, 6))
    model = C.layers.Sequential(
        [
            SequentialConvolution((2, 3, 3), 2, strides=2),
            C.layers.Dense(3),
            C.layers.Fold(C.layers.GRU(2)),
        ]
    )
    y = model(x)
    data = [RNG.normal(size=(n, 1, 6, 6)) for n in (6, 3)]
    alone = [y.eval({x: [d]})[0] for d in data]
    np.testing.assert_allclose(y.eval({x: data}), alone, atol=1e-6)
    check_gradients(y, {x: data}, elements=20)
