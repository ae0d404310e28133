"""Convolutions against PyTorch, and CNTK's automatic padding against what CNTK 2.7 does."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

SIZE = {1: (9,), 2: (6, 7), 3: (5, 5, 6)}


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def agree(f, expected, tensors):
    """Values and gradients; `tensors` are what PyTorch has for f's image and kernel."""
    image, kernel = tensors
    x = tensors[image].detach().numpy()
    assert f.shape == expected.shape[1:]
    np.testing.assert_allclose(f.eval({image: x}), expected.detach(), atol=1e-12)
    g = random(*expected.shape[1:])
    expected.backward(expected.new_tensor(g).expand(expected.shape))
    found = (f * g).grad({image: x}, wrt=[image, kernel])
    for variable, tensor in tensors.items():
        np.testing.assert_allclose(found[variable], tensor.grad, atol=1e-11)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("taps", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_without_padding(torch, F, rank, taps, stride, dilation, groups):
    x, w = random(2, 4, *SIZE[rank]), random(6, 4 // groups, *(taps,) * rank)
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    expected = getattr(F, f"conv{rank}d")(tx, tw, stride=stride, dilation=dilation, groups=groups)
    image = C.input_variable(x.shape[1:], np.float64)
    kernel = C.Parameter(w.shape, w, np.float64)
    f = C.convolution(
        kernel, image, strides=stride, dilation=dilation, groups=groups, auto_padding=[False]
    )
    agree(f, expected, {image: tx, kernel: tw})


@pytest.mark.parametrize("taps", [(3, 3), (1, 5), (5, 3)])
def test_same_size_with_odd_kernels(torch, F, taps):
    x, w = random(2, 3, 6, 7), random(4, 3, *taps)
    image = C.input_variable(x.shape[1:], np.float64)
    f = C.convolution(w, image)
    expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding="same")
    assert f.shape == (4, 6, 7)
    np.testing.assert_allclose(f.eval({image: x}), expected, atol=1e-12)


def test_anisotropic_strides_dilation_and_padding(torch, F):
    x, w = random(2, 2, 7, 9), random(3, 2, 3, 2)
    image = C.input_variable(x.shape[1:], np.float64)
    f = C.convolution(w, image, strides=(2, 1), dilation=(1, 3), auto_padding=[True, False])
    expected = F.conv2d(
        torch.from_numpy(x), torch.from_numpy(w), stride=(2, 1), dilation=(1, 3), padding=(1, 0)
    )
    np.testing.assert_allclose(f.eval({image: x}), expected, atol=1e-12)


def test_cntks_spelling_with_the_channels_in_front():
    x, w = C.input_variable((2, 7, 9)), C.Parameter((3, 2, 3, 3), init=C.glorot_uniform(seed=1))
    short = C.convolution(w, x, strides=(2, 3), auto_padding=[True, False])
    long = C.convolution(w, x, strides=(1, 2, 3), auto_padding=[False, True, False])
    at = {x: random(1, 2, 7, 9)}
    np.testing.assert_array_equal(short.eval(at), long.eval(at))


# What CNTK 2.7 does (asked of it): size, kernel, stride -> where the windows begin
CNTK_WINDOWS = [
    (5, 3, 1, [-1, 0, 1, 2, 3]),
    (6, 2, 1, [0, 1, 2, 3, 4, 5]),
    (6, 4, 1, [-1, 0, 1, 2, 3, 4]),
    (5, 3, 2, [-1, 1, 3]),
    (6, 3, 2, [-1, 1, 3]),
    (6, 2, 2, [0, 2, 4]),
    (6, 4, 2, [-1, 1, 3]),
    (7, 5, 2, [-2, 0, 2, 4]),
    (7, 4, 3, [-1, 2, 5]),
    (8, 5, 3, [-2, 1, 4]),
    (8, 3, 3, [-1, 2, 5]),
    (9, 3, 3, [0, 3, 6]),
    (10, 3, 4, [-1, 3, 7]),
    (9, 3, 4, [-1, 3, 7]),
]


def windows(matrix, taps):
    """Where each window begins, of a convolution of unit vectors with the kernel 1, 2, 3 …"""
    first = np.argmax(matrix > 0, axis=0)
    return [int(i - (matrix[i, o] - 1)) for o, i in enumerate(first)]


@pytest.mark.parametrize("size, taps, stride, begins", CNTK_WINDOWS)
def test_automatic_padding_is_cntks(size, taps, stride, begins):
    x = C.input_variable((1, size))
    f = C.convolution(np.arange(1.0, taps + 1).reshape(1, 1, taps), x, strides=stride)
    matrix = f.eval({x: np.eye(size)[:, None]})[:, 0]
    assert windows(matrix, taps) == begins


@pytest.mark.parametrize(
    "size, taps, stride", [(9, 1, 3), (9, 2, 3), (11, 1, 4), (9, 3, 3), (12, 5, 5)]
)
def test_gradients_where_strides_skip_elements(size, taps, stride):
    x = C.input_variable((2, size))
    w = C.Parameter((3, 2, taps), init=C.glorot_uniform(seed=1))
    check_gradients(C.convolution(w, x, strides=stride), order=2, elements=40)


@pytest.mark.parametrize(
    "stride, dilation, extra",
    [(1, 1, 0), (2, 1, 0), (2, 1, 1), (3, 1, 0), (3, 1, 2), (1, 2, 0), (3, 2, 0), (3, 2, 1)],
)
@pytest.mark.parametrize("taps", [2, 3])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_without_padding(torch, F, rank, taps, stride, dilation, extra):
    x, w = random(2, 3, *(3, 4, 2)[:rank]), random(3, 2, *(taps,) * rank)
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    expected = getattr(F, f"conv_transpose{rank}d")(
        tx, tw, stride=stride, dilation=dilation, output_padding=extra
    )
    image = C.input_variable(x.shape[1:], np.float64)
    kernel = C.Parameter(w.shape, w, np.float64)
    f = C.convolution_transpose(
        kernel,
        image,
        strides=stride,
        dilation=dilation,
        auto_padding=[False],
        output_shape=tuple(expected.shape[2:]) if extra else None,
    )
    agree(f, expected, {image: tx, kernel: tw})


# What CNTK 2.7 does: size, kernel, stride, output size asked for -> output size, first begins
CNTK_TRANSPOSED = [
    (4, 3, 1, None, 4, -1),
    (4, 3, 2, None, 7, -1),
    (4, 3, 2, 8, 8, -1),
    (4, 2, 2, None, 7, 0),
    (4, 2, 2, 8, 8, 0),
    (4, 4, 2, 8, 8, -1),
    (4, 3, 3, None, 10, -1),
    (4, 3, 3, 11, 11, -1),
    (4, 3, 3, 12, 12, 0),
    (3, 5, 4, 10, 10, -2),
    (3, 5, 4, 11, 11, -1),
    (4, 2, 3, 12, 12, 1),
]


@pytest.mark.parametrize("size, taps, stride, wanted, out, first", CNTK_TRANSPOSED)
def test_automatic_padding_of_the_transposed_is_cntks(size, taps, stride, wanted, out, first):
    x = C.input_variable((1, size))
    f = C.convolution_transpose(
        np.arange(1.0, taps + 1).reshape(1, 1, taps),
        x,
        strides=stride,
        output_shape=None if wanted is None else (1, wanted),
    )
    assert f.shape == (1, out)
    row = f.eval({x: np.eye(size)[:1, None]})[0, 0]
    at = int(np.argmax(row > 0))
    assert at - (row[at] - 1) == first


def test_without_a_channel_axis(torch, F):
    """The result has one, as in CNTK."""
    x, w = random(2, 6, 7), random(3, 2)
    image = C.input_variable((6, 7), np.float64)
    f = C.convolution(w, image, reduction_rank=0, auto_padding=[False])
    expected = F.conv2d(torch.from_numpy(x)[:, None], torch.from_numpy(w)[None, None])
    np.testing.assert_allclose(f.eval({image: x}), expected, atol=1e-12)
    layer = C.Function(lambda i: C.convolution(w, i, reduction_rank=0, auto_padding=[False]))
    np.testing.assert_allclose(layer(image).eval({image: x}), expected, atol=1e-12)


def test_frames_of_sequences_and_inferred_channels(torch, F):
    s = C.sequence.input_variable((2, 5, 6), np.float64)
    w = C.Parameter((3, C.InferredDimension, 3, 3), init=C.glorot_uniform(seed=1), dtype=np.float64)
    f = C.convolution(w, s)
    assert (w.shape, f.shape) == ((3, 2, 3, 3), (3, 5, 6))
    sequences = [random(n, 2, 5, 6) for n in (2, 4, 1)]
    for result, frames in zip(f.eval({s: sequences}), sequences):
        expected = F.conv2d(torch.from_numpy(frames), torch.tensor(w.value), padding=1)
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_one_image_for_all(torch, F):
    x, w = random(2, 6, 7), random(3, 2, 3, 3)
    p = C.Parameter(x.shape, x, np.float64)
    f = C.convolution(w, p)
    expected = F.conv2d(torch.from_numpy(x)[None], torch.from_numpy(w), padding=1)[0]
    np.testing.assert_allclose(f.eval(), expected, atol=1e-12)
    check_gradients(f, order=2, elements=20, directions=2)


@pytest.mark.parametrize(
    "kernel, shape, options, words",
    [
        ((4, 2, 3, 3), (2, 8), {}, "needs an operand with 3 axes"),
        ((4, 1, 3, 3), (8, 8), {}, r"reshape the operand to \(1, 8, 8\)"),
        ((4, 2, 3, 3), (16, 2, 8, 8), {}, r"sequence.input_variable\(\(2, 8, 8\)\)"),
        ((4, 3, 3, 3), (2, 8, 8), {}, "kernel is for 3 input channels, the operand has 2"),
        ((4, 3, 3, 3), (8, 8, 3), {}, "channels first"),
        ((4, 2, 9, 3), (2, 8, 8), {"auto_padding": [False]}, "spans 9 elements"),
        ((4, 2, 3, 3), (2, 8, 8), {"strides": (1, 1, 1, 1)}, "strides .* should have 1 or 2"),
        ((4, 1, 3, 3), (3, 8, 8), {"groups": 3}, "can't split .* into 3 groups"),
        ((4, 2), (2, 8, 8), {}, "1 to 3 spatial axes"),
    ],
)
def test_what_does_not_fit(kernel, shape, options, words):
    x, w = C.input_variable(shape), C.Parameter(kernel)
    with pytest.raises(GraphError, match=words):
        C.convolution(w, x, **options)


def test_kernels_that_differ_from_sample_to_sample_are_refused():
    x, w = C.input_variable((2, 5, 5)), C.input_variable((3, 2, 3, 3))
    with pytest.raises(GraphError, match="kernels of a convolution"):
        C.convolution(w, x)
    with pytest.raises(GraphError, match="kernels of a convolution"):
        C.convolution_transpose(C.input_variable((2, 3, 3, 3)), x)


def test_an_output_size_that_the_transposed_can_not_have():
    x, w = C.input_variable((3, 4, 4)), C.Parameter((3, 2, 3, 3))
    with pytest.raises(GraphError, match=r"from \(7, 7\) to \(8, 8\)"):
        C.convolution_transpose(w, x, strides=2, output_shape=(9, 9))
    with pytest.raises(GraphError, match="operand of shape"):
        C.convolution_transpose(C.Parameter((5, 2, 3, 3)), x)
    with pytest.raises(GraphError, match="operand of shape"):
        C.convolution_transpose(C.Parameter((5, 2, 3, 3)), C.constant(1))


class TestWhatMayBeLeftOut:
    """Kernels without an axis for output channels, and time; sums and shapes are CNTK 2.7's."""

    CASES = (
        ((2, 3, 3), (2, 5, 5), [True], (2, 5, 5), 10936),
        ((2, 3, 3), (2, 5, 5), [True, True], (2, 5, 5), 10936),
        ((2, 3, 3), (2, 5, 5), [False, True, True], (1, 5, 5), 8801),
        ((2, 3, 3), (2, 5, 5), [False, True], (1, 3, 5), 5904),
        ((2, 3, 3), (4, 5, 5), [True], (4, 5, 5), 27941),
        ((2, 3), (2, 5), [True], (2, 5), 199),
        ((1, 3, 1, 1), (1, 4, 5, 5), [True], (1, 4, 5, 5), 747),
        ((1, 3, 1, 1), (1, 4, 5, 5), [False], (1, 2, 5, 5), 447),
        ((1, 3, 1, 1), (1, 4, 5, 5), [False, True, True, True], (1, 4, 5, 5), 747),
        ((2, 2, 2, 2), (2, 4, 5, 5), [False, True, True, True], (1, 4, 5, 5), 23848),
    )

    @pytest.mark.parametrize("through_placeholder", [False, True])
    @pytest.mark.parametrize("kernel, shape, padding, result, total", CASES)
    def test_one_filter(self, kernel, shape, padding, result, total, through_placeholder):
        w = C.constant(np.arange(np.prod(kernel), dtype=np.float32).reshape(kernel))
        x = C.input_variable(shape)
        if through_placeholder:  # the operand is not known when the convolution is written down
            y = C.convolution(w, C.placeholder(), auto_padding=padding)(x)
        else:
            y = C.convolution(w, x, auto_padding=padding)
        image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) % 7
        assert y.shape == result
        assert y.eval({x: image}).sum() == total

    def test_a_filter_over_a_placeholder_learns(self):
        w, x = C.Parameter((1, 3, 1, 1), init=0.5), C.input_variable((1, 4, 5, 5))
        direct = C.reduce_sum(C.square(C.convolution(w, x)))
        bound = C.reduce_sum(C.square(C.convolution(w, C.placeholder())))(x)
        image = random(2, 1, 4, 5, 5)
        for f in (direct, bound):
            (found,) = [f.grad({x: image}, wrt=[w])]
            expected = direct.grad({x: image}, wrt=[w])
            np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_four_axes_to_move_along(self):
        x = C.input_variable((2, 4, 5, 5))
        with pytest.raises(GraphError, match=r"auto_padding=\[False"):
            C.convolution(C.Parameter((2, 2, 2, 2)), x)

    def test_along_time(self):
        x = C.sequence.input_variable((3, 2))
        w = C.constant(np.arange(36, dtype=np.float32).reshape(2, 3, 3, 2))
        y = C.convolution(w, x, sequential=True, auto_padding=[False, False])
        (frames,) = y.eval({x: np.arange(36, dtype=np.float32).reshape(1, 6, 3, 2)})
        assert y.shape == (2, 1)
        assert frames.ravel()[:3].tolist() == [1593, 4347, 2511]
        assert frames.shape == (4, 2, 1)

    def test_one_filter_along_time(self):
        """Real CNTK 2.7's numbers: the axis of filters is left out."""
        x = C.sequence.input_variable(3)
        w, values = np.arange(6, dtype="f").reshape(3, 2), np.arange(12, dtype="f").reshape(4, 3)
        for pad, expected in ((False, [50, 95, 140]), (True, [50, 95, 140, 64])):
            y = C.convolution(w, x, sequential=True, auto_padding=[False, pad])
            assert y.shape == (1,) and y.eval({x: [values]})[0].ravel().tolist() == expected
