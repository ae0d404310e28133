"""Initializers: fans and ranges as measured on Microsoft CNTK 2.7, distributions as SciPy's."""

import numpy as np
import pytest
import scipy.stats

import rgraph as C
from rgraph.engines.mersenne import Mersenne, twist

# (shape, ranks, fan in, fan out): solved from the largest values that CNTK 2.7 drew
FANS = [
    ((50, 30), {}, 50, 30),
    ((50, 30, 20), {}, 1500, 20),
    ((300,), {}, 1, 300),
    ((50, 30, 20), {"output_rank": 2}, 50, 600),
    ((50, 30, 20), {"output_rank": 3}, 1, 30000),
    ((50, 30, 20), {"filter_rank": 1}, 1000, 600),
    ((50, 30, 20), {"filter_rank": 1, "output_rank": 2}, 20, 30000),
    ((50, 30, 20), {"filter_rank": 1, "output_rank": -1}, 600, 1000),
    ((200, 300), {"filter_rank": 1}, 300, 60000),
    ((16, 8, 9, 7), {}, 1152, 7),
    ((16, 8, 9, 7), {"filter_rank": 2}, 1008, 504),
    ((16, 8, 9, 7), {"filter_rank": 2, "output_rank": -1}, 504, 1008),
]


@pytest.mark.parametrize(("shape", "ranks", "fan_in", "fan_out"), FANS)
def test_fans_are_cntks(shape, ranks, fan_in, fan_out):
    assert C.glorot_uniform(**ranks).fans(shape) == (fan_in, fan_out)


# (layer, input shape, fan in, fan out), measured the same way
LAYERS = [
    (lambda i: C.layers.Dense((4, 5), init=i), (60, 7), 420, 20),
    (lambda i: C.layers.Convolution((5, 4), 12, init=i), (6, 9, 9), 120, 240),
    (lambda i: C.layers.Convolution((5, 4), init=i), (26, 9, 9), 520, 20),
    (lambda i: C.layers.Embedding(12, init=i), (60,), 60, 12),
]


@pytest.mark.parametrize(("layer", "shape", "fan_in", "fan_out"), LAYERS)
def test_layers_tell_their_ranks(layer, shape, fan_in, fan_out):
    weights = {}
    for init in (C.he_uniform(seed=0), C.glorot_uniform(seed=0)):
        y = layer(init)(C.input_variable(shape))
        weights[len(weights)] = next(p.value for p in y.parameters if p.name in "WE")
    # one seed, so one is a multiple of the other: sqrt(6 / in) against sqrt(6 / (in + out))
    np.testing.assert_allclose(weights[0], weights[1] * np.sqrt((fan_in + fan_out) / fan_in), 1e-5)
    assert 0.95 < abs(weights[0]).max() / np.sqrt(6 / fan_in) <= 1


NAMES = ["uniform", "normal", "truncated_normal", "xavier", "glorot_uniform", "glorot_normal",
         "he_uniform", "he_normal"]  # fmt: skip
WIDTHS = {"uniform": 1, "normal": 1, "truncated_normal": 1, "xavier": 3 / 50,
          "glorot_uniform": 6 / 80, "glorot_normal": 2 / 80, "he_uniform": 6 / 50,
          "he_normal": 2 / 50}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_distribution(name):
    init = getattr(C.initializer, name)(0.5, seed=3)
    values = C.Parameter((50, 30), init=init).value.ravel() / (0.5 * WIDTHS[name] ** 0.5)
    kind = scipy.stats.uniform(-1, 2)
    if name == "truncated_normal":
        kind = scipy.stats.truncnorm(-2, 2)
    elif "normal" in name:
        kind = scipy.stats.norm
    assert scipy.stats.kstest(values, kind.cdf).pvalue > 0.01


def test_seeds():
    def draw(init):
        return C.Parameter((2, 3), init=init).value

    seeded, free = C.glorot_uniform(seed=5), C.glorot_uniform()
    assert (draw(seeded) == draw(C.glorot_uniform(seed=5))).all()
    assert (draw(seeded) == draw(seeded)).all()
    assert (draw(free) != draw(free)).any()
    C.set_seed(1)
    first = draw(free)
    C.set_seed(1)
    assert (draw(free) == first).all()


def test_own_ranks_stay():
    init = C.initializer.initializer_with_rank(C.he_normal(output_rank=1), -1, 2)
    assert (init.output_rank, init.filter_rank) == (1, 2)


def test_bilinear_is_cntks():
    kernels = C.Parameter((2, 2, 4, 4), init=C.bilinear(4, 4)).value
    row = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_array_equal(kernels[0, 0], np.outer(row, row))
    np.testing.assert_array_equal(kernels[1, 1], np.outer(row, row))
    assert not kernels[0, 1].any()
    assert not kernels[1, 0].any()


def test_bilinear_enlarges_a_ramp_to_a_ramp():
    ramp = np.arange(6.0) * np.ones((1, 6, 1))
    kernels = C.Parameter((1, 1, 4, 4), init=C.bilinear(4, 4))
    x = C.input_variable((1, 6, 6))
    y = C.convolution_transpose(kernels, x, strides=2, auto_padding=[False])
    inside = y.eval({x: ramp[None]})[0, 0, 3:-3, 3:-3]
    np.testing.assert_allclose(np.diff(inside, axis=1), 0.5, atol=1e-6)
    np.testing.assert_allclose(np.diff(inside, axis=0), 0, atol=1e-6)


def test_too_few_axes():
    with pytest.raises(C.GraphError, match="at least 3 axes, got shape"):
        C.glorot_uniform(output_rank=-1, filter_rank=2).fans((3, 4))


# (initializer, its scale, some of the first 400,000 values for the seed 7, their sum), by CNTK 2.7;
# the normal one at 3476 is beyond the ziggurat's last layer
DRAWN = [
    (
        "uniform",
        2,
        {
            0: 1.0175411701202393,
            1: 1.797204852104187,
            3477: 1.3827688694000244,
            399999: 0.35550910234451294,
        },
        -1291.071459066684,
    ),
    (
        "normal",
        1.5,
        {
            0: 1.4449235200881958,
            1: -2.48457670211792,
            3476: 5.504702568054199,
            399999: -1.0166652202606201,
        },
        -1530.8475624085336,
    ),
    (
        "truncated_normal",
        1.5,
        {
            0: 1.4449235200881958,
            1: -2.48457670211792,
            3477: -1.4271652698516846,
            399999: 1.7740066051483154,
        },
        -869.462217912886,
    ),
]


@pytest.mark.parametrize(("name", "scale", "some", "total"), DRAWN)
def test_values_of_a_seed_are_cntks(name, scale, some, total):
    init = getattr(C.initializer, name)(scale, seed=7)
    values = C.Parameter((4, 100_000), init=init).value.ravel()
    np.testing.assert_array_equal(values[list(some)], np.array(list(some.values()), np.float32))
    assert values.sum(dtype=float) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("make", [C.uniform, C.normal, C.glorot_uniform, C.truncated_normal])
@pytest.mark.parametrize("scale", [0, -1])
def test_scales_are_above_0(make, scale):
    """CNTK refuses the others, too."""
    with pytest.raises(C.GraphError, match=f"must be positive, got {scale}"):
        make(scale)


def test_what_has_no_seed_gets_cntks():
    """Which seed each parameter had was found out from the values that CNTK 2.7 drew; those that
    are left out are those of dropout and of random numbers."""
    layers, like = C.layers, C.layers.Dense
    x, s = C.input_variable(5), C.sequence.input_variable(5)
    C.cntk_py.reset_random_seed(0)
    with C.default_options(init=C.uniform(1)):
        dense = layers.Sequential([like(4), layers.Dropout(0.5), like(4), layers.Dropout(0.3)])(x)
        lstm = layers.Recurrence(layers.LSTM(4))(s)
        C.random.uniform((3,))
        clone = C.dropout(like(3)(x), 0.5).clone("clone")
        after = C.Parameter((3,), init=C.uniform(1))
    found = [*dense.parameters, *lstm.parameters, *clone.parameters, after]
    drawn = [p for p in found if p.name != "b"]
    for p, seed in zip(drawn, [2, 0, 4, 5, 7, 9], strict=True):
        expected = C.Parameter(p.shape, init=C.uniform(1, seed=seed))
        np.testing.assert_array_equal(p.value, expected.value)


def test_learners_take_seeds_as_cntks():
    """How many each took was found out from what real CNTK 2.7 drew for the next parameter."""
    w, rate = C.Parameter(2, init=0), C.learning_parameter_schedule(0.1)
    x, t = C.input_variable(3), C.input_variable(5)
    makers = [
        (lambda: C.sgd([w], rate), 1),
        (lambda: C.adam([w], rate, 0.9), 1),
        (lambda: C.universal(lambda p, g: C.assign(p[0], p[0] - g[0]), [w]), 1),
        (lambda: C.nce_loss(C.Parameter((5, 3)), C.Parameter((5, 1)), x, t, np.ones(5)), 2),
        (lambda: C.nce_loss(C.Parameter((5, 3)), C.Parameter((5, 1)), x, t, np.ones(5), seed=1), 0),
    ]
    for make, count in makers:
        C.cntk_py.reset_random_seed(0)
        make()
        found = C.Parameter(3, init=C.uniform(1)).value
        expected = C.Parameter(3, init=C.uniform(1, seed=count)).value
        np.testing.assert_array_equal(found, expected)


def test_a_fixed_seed_is_everybodys():
    C.cntk_py.set_fixed_random_seed(3)
    first, second = (C.Parameter((2, 3), init=C.he_normal()).value for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, C.Parameter((2, 3), init=C.he_normal(seed=3)).value)
    C.cntk_py.reset_random_seed(0)


def test_numpys_twister_is_cs():
    """The 10,000th word for the seed 5489 is in C++'s standard."""
    numbers = Mersenne(5489)
    begin, words = numbers._state.copy(), np.empty(312 * 33, np.uint64)
    twist(begin, words)
    assert words[9999] == 9981545732273789042
    np.testing.assert_array_equal(numbers._words(len(words)), words)
    np.testing.assert_array_equal(numbers._state, begin)
