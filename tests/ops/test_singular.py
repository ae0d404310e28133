"""Values and gradients where a function has a corner, a pole or an infinity, on each engine of the
CPU, with the passes and without: what is documented, and never a NaN that spreads.
"""

import numpy as np
import pytest

import rgraph as C
from rgraph import device, passes
from rgraph.testing import check_gradients

INF = np.inf


@pytest.fixture(params=C.device.cpu_engines(), autouse=True)
def engine(request):
    before = device.engine(C.cpu()).name
    device.use_cpu_engine(request.param)
    yield request.param
    device.use_cpu_engine(before)


@pytest.fixture(params=["passes", "no passes"], autouse=True)
def optimized(request, monkeypatch):
    if request.param == "no passes":
        monkeypatch.setattr(passes, "PASSES", {})


def at(build, values, dtype=np.float32):
    """The function's value and gradient at one sample, and its second derivative along ones."""
    values = np.asarray(values, dtype)
    x = C.input_variable(values.shape, dtype)
    y = build(x)
    (slope,) = y.gradients([x])
    feed = {x: values[None]}
    return y.eval(feed)[0], slope.eval(feed)[0], slope.grad(feed, wrt=[x])[0]


CASES = {
    # The first of several largest has the gradient.
    "reduce_max": (C.reduce_max, [2, 5, 5, 1], 5, [0, 1, 0, 0]),
    "reduce_min": (C.reduce_min, [2, 1, 5, 1], 1, [0, 1, 0, 0]),
    "reduce_max over two axes": (C.reduce_max, [[1, 2], [2, 2]], 2, [[0, 1], [0, 0]]),
    "element_max": (lambda x: C.element_max(x[0], x[1]), [3, 3], [3], [1, 0]),
    "element_min": (lambda x: C.element_min(x[0], x[1]), [3, 3], [3], [1, 0]),
    "max pooling": (lambda x: C.pooling(x, C.MAX_POOLING, (2,)), [1, 1, 1], [1, 1], [1, 1, 0]),
    # CNTK has 1 in the bounds of a clip too, and 0 in those of a hard sigmoid.
    "clip": (lambda x: C.clip(x, 0, 1), [0, 1, 2, -1], [0, 1, 1, 0], [1, 1, 0, 0]),
    "hard_sigmoid": (lambda x: C.hard_sigmoid(x, 1, 0.5), [-0.5, 0.5, 0], [0, 1, 0.5], [0, 0, 1]),
    "relu": (C.relu, [0, -1, 1], [0, 0, 1], [0, 0, 1]),
    "leaky_relu": (C.leaky_relu, [0, -1, 1], [0, -0.01, 1], [1, 0.01, 1]),
    "abs": (C.abs, [0, -1, 1], [0, 1, 1], [0, -1, 1]),
    # What is divided by 0 is 0, so a slope that would be infinite is too.
    "sqrt": (C.sqrt, [0, 4, -1], [0, 2, 0], [0, 0.25, 0]),
    "reduce_l2": (C.reduce_l2, [0, 0, 0], 0, [0, 0, 0]),
    "a norm by hand": (lambda x: C.sqrt(C.reduce_sum(C.square(x))), [0, 0], 0, [0, 0]),
    "x ** 2": (lambda x: C.pow(x, 2), [0, 2, -2], [0, 4, 4], [0, 4, -4]),
    "x ** 1": (lambda x: C.pow(x, 1), [0, 2, -2], [0, 2, -2], [1, 1, 1]),
    "x ** 0": (lambda x: C.pow(x, 0), [0, 2, -2], [1, 1, 1], [0, 0, 0]),
    "x ** 0.5": (lambda x: C.pow(x, 0.5), [0, 4], [0, 2], [0, 0.25]),
    "x ** -1": (lambda x: C.pow(x, -1), [0, 2, -2], [0, 0.5, -0.5], [0, -0.25, -0.25]),
    "0 ** x": (lambda x: C.pow(0, x), [0, 2, -1], [1, 0, 0], [0, 0, 0]),
    # CNTK 2.7's values, whose gradients are NaN
    "mean_variance_normalization": (
        C.mean_variance_normalization,
        np.ones((1, 2, 2)),
        np.zeros((1, 2, 2)),
        np.zeros((1, 2, 2)),
    ),
    "LayerNormalization": (C.layers.LayerNormalization(), [3, 3, 3], [0, 0, 0], [0, 0, 0]),
    "its first element": (lambda x: C.layers.LayerNormalization()(x)[0], [3, 3], [0], [5e4, -5e4]),
    "cosine_distance": (lambda x: C.cosine_distance(x, [1, 1]), [0, 0], 0, [0, 0]),
    "of a small vector": (lambda x: C.cosine_distance(x, [1, 0]), [3e-18, 4e-18], 0.6, None),
    "of a large vector": (lambda x: C.cosine_distance(x, [1, 0]), [3e30, 4e30], 0.6, None),
    "log_add_exp": (lambda x: C.log_add_exp(x[0], x[1]), [-INF, -INF], [-INF], [0.5, 0.5]),
    # The product of the others, whatever is 0
    "a product with a zero": (C.reduce_prod, [0, 2, 3], 0, [6, 0, 0]),
    "a product with two zeros": (C.reduce_prod, [0, 2, 0], 0, [0, 0, 0]),
    "a product of nine": (C.reduce_prod, [1] * 4 + [0] + [2] * 4, 0, [0] * 4 + [16] + [0] * 4),
    # The limit, where equal infinities go together
    "log of no sum": (C.reduce_log_sum_exp, [-INF, -INF], -INF, [0.5, 0.5]),
    "log of an infinite sum": (C.reduce_log_sum_exp, [1, INF, 0], INF, [0, 1, 0]),
    "two infinities": (C.reduce_log_sum_exp, [INF, INF, 0], INF, [0.5, 0.5, 0]),
    "a masked sum": (C.reduce_log_sum_exp, [0, -INF, 0], np.log(2), [0.5, 0, 0.5]),
    "softmax": (lambda x: C.softmax(x)[0], [-INF, -INF], [0.5], [0.25, -0.25]),
    "softmax of an infinity": (lambda x: C.softmax(x)[1], [0, INF], [1], [0, 0]),
    "log_softmax": (lambda x: C.log_softmax(x)[0], [0, -INF, 0], [-np.log(2)], [0.5, 0, -0.5]),
}


@pytest.mark.parametrize("build, x, value, gradient", CASES.values(), ids=CASES)
def test_singular_points(build, x, value, gradient):
    found, slope, second = at(build, x)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    if gradient is not None:
        np.testing.assert_allclose(slope, gradient, rtol=1e-6, atol=1e-7)
    assert np.isfinite([slope, second]).all()


@pytest.mark.parametrize("row", [[0, 2, 3, 1.5, 2], [0, 2, 0, 3, 1], [0, 0, 0, 2, 1], [0] * 5])
def test_the_gradients_of_a_product_with_zeros(row):
    """A product is a polynomial, so finite differences are exact."""
    x = C.input_variable((1, 5), np.float64)
    check_gradients(C.reduce_prod(x), {x: [[row], [row[::-1]]]}, order=3)
    rows = C.reduce_prod(x, axis=C.Axis.all_axes())
    check_gradients(rows, {x: [[row], [[1, 2, 1, 2, 1]]]}, order=2)


def test_the_first_of_equal_samples_and_frames_has_the_gradient():
    x, s = C.input_variable(2), C.sequence.input_variable(2)
    values = np.array([[1, 7], [3, 7], [3, 0]], np.float32)
    expected = [[0, 1], [1, 0], [0, 0]]
    over_batch = C.reduce_max(x, axis=C.Axis.default_batch_axis())
    np.testing.assert_array_equal(over_batch.grad({x: values}, wrt=[x]), expected)
    sequences = [values, values[:1], values[::-1]]
    found = C.sequence.reduce_max(s).grad({s: sequences}, wrt=[s])
    for g, e in zip(found, (expected, [[1, 1]], [[1, 0], [0, 1], [0, 0]])):
        np.testing.assert_array_equal(g, e)


LOGITS = [
    ([1e4, 1e4], [0, 1], np.log(2)),
    ([1e30, 1e30], [0, 1], np.log(2)),
    ([-1e30, -1e30], [0.5, 0.5], np.log(2)),
    ([1e4, 0], [0.25, 0.75], 7500),
    ([-INF, 1], [0, 1], 0),  # a class that is masked out
    ([1, INF], [0, 1], 0),
    # CNTK 2.7's numbers where the target is no distribution
    ([1, 2], [0.5, 0.2], 1.4132618),
    ([1, 2], [1, 1], -0.68673825),
    ([1, 2], [0, 0], 2.3132617),
]


@pytest.mark.parametrize("scores, target, loss", LOGITS)
def test_cross_entropy_of_large_scores(scores, target, loss):
    t = np.asarray(target, np.float32)
    value, slope, second = at(lambda x: C.cross_entropy_with_softmax(x, t), scores)
    np.testing.assert_allclose(value, [loss], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slope, at(C.softmax, scores)[0] - t, atol=1e-6)
    assert np.isfinite(second).all()


def test_cross_entropy_of_frames():
    s, t = C.sequence.input_variable(3), C.sequence.input_variable(3)
    feed = {
        s: [np.array([[1e5, 0, 1e5], [0, -1e5, 0]])],
        t: [np.eye(3)[[0, 2]]],
    }
    loss = C.cross_entropy_with_softmax(s, t)
    np.testing.assert_allclose(loss.eval(feed)[0], np.full((2, 1), np.log(2)), rtol=1e-6)
    expected = [[-0.5, 0, 0.5], [0.5, 0, -0.5]]
    np.testing.assert_allclose(loss.grad(feed, wrt=[s])[0], expected, atol=1e-6)


def test_what_a_selection_leaves_out_does_no_harm():
    """Neither the infinity itself, nor what is multiplied with it or divided by it."""
    x, w = C.input_variable(1, np.float64), C.Parameter(1, init=2.0, dtype=np.float64)
    kept = C.greater(x, 0)
    values = [[1e10], [-1.0]]
    e = np.exp(-1)
    for branch, d_x, d_w in (
        (C.exp(x), e, 0),
        (w * C.exp(x), 2 * e, e),
        (w * (C.exp(x) - 1), 2 * e, e - 1),
        (C.exp(x) / w, e / 2, -e / 4),
        (C.reduce_sum(C.square(C.exp(x))), 2 * e**2, 0),
        (C.sinh(x) * w, 2 * np.cosh(1), np.sinh(-1)),
        (C.pow(w, x), np.log(2) / 2, -0.25),
        (C.pow(-x, 1.5) * w, -3, 1),
    ):
        y = C.element_select(kept, x * 0, branch)
        found = y.grad({x: values}, wrt=[x, w])
        np.testing.assert_allclose(found[x], [[0], [d_x]], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(found[w], [d_w], rtol=1e-6, atol=1e-12)
        (slope,) = y.gradients([x])
        assert np.isfinite(slope.grad({x: values}, wrt=[x])).all()


def test_an_adjoint_that_is_0_has_a_derivative():
    """(exp(x) - 1)² has the slope 0 at 0 and is curved there."""
    x = C.input_variable(1, np.float64)
    check_gradients(C.square(C.exp(x) - 1), {x: [[0.0]]}, order=3)


@pytest.mark.parametrize(
    "score, target", [(-20, 1), (20, 0), (20, 1), (-200, 1), (200, 0), (3, 0.5)]
)
@pytest.mark.parametrize(
    "sigmoid", [C.sigmoid, C.layers.Dense(1, C.sigmoid, init=1.0)], ids=["plain", "in a layer"]
)
def test_binary_cross_entropy_of_a_saturated_sigmoid(torch, F, sigmoid, score, target):
    t = torch.tensor([float(target)])
    z = torch.tensor([float(score)], requires_grad=True)
    expected = F.binary_cross_entropy_with_logits(z, t)
    expected.backward()
    feeds = np.array([target], np.float32)
    value, slope, second = at(lambda x: C.binary_cross_entropy(sigmoid(x), feeds), [score])
    np.testing.assert_allclose(value, [expected.item()], rtol=1e-6)
    np.testing.assert_allclose(slope, z.grad, rtol=1e-6, atol=1e-8)
    assert np.isfinite(second).all()
    x = C.input_variable(1)
    weighted = C.weighted_binary_cross_entropy(sigmoid(x), feeds, [2.0])
    np.testing.assert_allclose(weighted.eval({x: [[score]]}), expected.item(), rtol=1e-6)


def test_binary_cross_entropy_of_probabilities_is_cntks():
    y, t = C.input_variable(1), C.input_variable(1)
    loss = C.binary_cross_entropy(y, t)
    for p, target, value, gradient in (
        (0, 1, 13.815511, -1e6), (1, 0, 13.862944, 1048576), (0.25, 1, 1.3862903, -3.9999838)
    ):  # fmt: skip
        feed = {y: [[p]], t: [[target]]}
        np.testing.assert_allclose(loss.eval(feed), [[value]], rtol=1e-6)
        np.testing.assert_allclose(loss.grad(feed, wrt=[y]), [[gradient]], rtol=1e-6)


def test_softmax_over_time_of_infinities():
    s = C.sequence.input_variable(1)
    f = C.sequence.softmax(s)
    rows = [[-INF, 0, 0], [-INF, -INF], [INF, 1]]
    feed = {s: [np.array(r, np.float32)[:, None] for r in rows]}
    for found, expected in zip(f.eval(feed), ([0, 0.5, 0.5], [0.5, 0.5], [1, 0])):
        np.testing.assert_allclose(found.ravel(), expected)
    for slope in C.square(f).grad(feed, wrt=[s]):
        assert np.isfinite(slope).all()


def test_a_state_of_zeros_that_is_normalized():
    """As a recurrence's first state is, and a film's black frame."""
    s, W = C.sequence.input_variable(3), C.Parameter((3, 3), init=C.glorot_uniform(seed=1))
    normal = C.layers.LayerNormalization()
    y = C.layers.Recurrence(lambda h, x: C.tanh(C.times(normal(h), W) + x))(s)
    frames = np.random.default_rng(0).normal(size=(4, 3))
    assert np.isfinite(y.grad({s: [frames]}, wrt=[W])).all()
    film = C.sequence.input_variable((1, 4, 4))
    kernels = C.Parameter((2, 1, 3, 3), init=C.glorot_uniform(seed=1))
    clip = np.random.default_rng(0).normal(size=(3, 1, 4, 4))
    clip[0] = 0
    net = C.square(C.layers.LayerNormalization()(C.convolution(kernels, film)))
    slopes = net.grad({film: [clip]}, wrt=[kernels])
    np.testing.assert_allclose(slopes, net.grad({film: [clip[1:]]}, wrt=[kernels]), rtol=1e-4)
