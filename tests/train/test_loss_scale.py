"""Scaling of the loss, for gradients that float16 has no numbers for."""

import pickle

import numpy as np
import pytest

import rgraph as C

from .workers import block_momentum, data_parallel, together

# NumPy, which plays the GPU, warns where a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore:overflow|invalid:RuntimeWarning")

HALF = np.float16
SOON = C.train.DynamicLossScale(growth_interval=2)
# From 2**15 on, of a gradient of 8 in float16, which ends at 65504: 2**13 * 8 is too much.
SCALES = [2**14, 2**13, 2**12, 2**12, 2**13, 2**12, 2**12, 2**13]
ARE_MADE = [False, False, False, True, True, False, True, True]


class Line:
    """w * x in float16, and its sum; its gradient with respect to w is x."""

    def __init__(self, make=lambda ps: C.sgd(ps, 0.5), of=lambda product: product, **options):
        self.x, self.w = C.input_variable(1), C.Parameter(1, init=1)
        product = C.cast(self.w, HALF) * C.cast(self.x, HALF)
        self.loss = of(C.cast(product, np.float32))
        options = {"loss_scale": SOON} | options
        self.trainer = C.Trainer(None, (self.loss,), make([self.w]), **options)

    def train(self, *values):
        """The scales and weights after minibatches of one sample each."""
        found = []
        for value in values:
            assert self.trainer.train_minibatch({self.x: [[value]]})
            found.append((self.trainer.loss_scale, self.w.value.item()))
        return tuple(np.array(found).T)


class Own(C.UserLearner):
    """Descends by half the gradient."""

    def __init__(self, parameters):
        super().__init__(parameters, C.learning_parameter_schedule(0.5))

    def update(self, gradient_values, training_sample_count, sweep_end):
        for p, g in gradient_values.items():
            p.value = p.value - 0.5 * np.asarray(g)
        return True


def descend(parameters, gradients):
    return C.combine([C.assign(p, p - 0.5 * g) for p, g in zip(parameters, gradients)])


@pytest.mark.parametrize(
    "make",
    [lambda ps: C.sgd(ps, 0.5), lambda ps: C.universal(descend, ps), Own],
    ids=["in the plan", "a graph of the user's", "a function of the user's"],
)
@pytest.mark.parametrize("on_nan", ["raise", "skip", "ignore"])
def test_what_overflows_is_left_out_and_the_scale_halved(make, on_nan):
    scales, weights = Line(make, on_nan=on_nan).train(*[8] * 8)
    np.testing.assert_array_equal(scales, SCALES)
    np.testing.assert_array_equal(weights, 1 - 4 * np.cumsum(ARE_MADE))


@pytest.mark.parametrize("window", [1, 2, 9])
def test_in_windows(window):
    """The first of two frames, which goes back through a delay, has all."""
    x = C.sequence.input_variable(1)
    w = C.Parameter(1, init=1)
    steps = C.layers.Recurrence(lambda h, x: h + C.cast(w, HALF) * C.cast(x, HALF))(x)
    loss = C.cast(C.sequence.last(steps), np.float32)
    trainer = C.Trainer(None, (loss,), C.sgd([w], 0.5), window=window, loss_scale=SOON)
    found = []
    for _ in range(8):
        trainer.train_minibatch({x: [np.array([[8], [0]])]})
        found.append((trainer.loss_scale, w.value.item()))
    np.testing.assert_array_equal(np.array(found)[:, 1], 1 - 4 * np.cumsum(ARE_MADE))
    np.testing.assert_array_equal(np.array(found)[:, 0], SCALES)


LEARNERS = {
    "momentum": lambda ps: C.momentum_sgd(ps, 0.1, 0.9),
    "adam": lambda ps: C.adam(ps, 0.1, 0.9),
    "adamax": lambda ps: C.adam(ps, 0.1, 0.9, adamax=True),
    "fsadagrad": lambda ps: C.fsadagrad(ps, 0.1, 0.9),
    "rmsprop": lambda ps: C.rmsprop(ps, 0.1, 0.9, 1.2, 0.5, 10, 1e-3),
    "noise": lambda ps: C.sgd(ps, 0.1, l2_regularization_weight=0.1),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_goes_on_as_if_what_was_left_out_had_not_been(name):
    """Its counts and first step too: in a plan nobody hears of what was left out."""
    values = 3, 2000, -1, 2, 1000, 2
    _, weights = Line(LEARNERS[name]).train(6000, *values)
    _, others = Line(LEARNERS[name], loss_scale=None).train(3, -1, 2, 2)
    np.testing.assert_array_equal(weights[[1, 3, 4, 6]], others)


def test_adam_and_the_scale_are_pytorchs():
    """What its GradScaler("cpu", 2.0**15, growth_interval=2) and Adam gave, in 2.13."""
    line = Line(lambda ps: C.adam(ps, 0.01, 0.9, variance_momentum=0.999))
    scales, weights = line.train(8, 1, 3, 16, 0.5, 2, 1, 4, 16, 2, 0.25, 1)
    np.testing.assert_array_equal(np.log2(scales), [14, 14, 15, 14, 14, 15, 15, 14, 13, 13, 14, 14])
    expected = [
        *(1, 0.99, 0.980822, 0.980822, 0.972817, 0.964176),
        *(0.955717, 0.955717, 0.955717, 0.946848, 0.938826, 0.93083),
    ]
    np.testing.assert_allclose(weights, expected, atol=5e-6)


def test_schedules_count_what_is_left_out():
    rates = C.learning_parameter_schedule([1, 0.5, 0.25, 0.125], epoch_size=1)
    line = Line(lambda ps: C.sgd(ps, rates))
    _, weights = line.train(8, 8, 8, 8)
    assert weights[-1] == 1 - 8 * 0.125
    assert line.trainer.parameter_learners[0].total_number_of_samples_seen() == 4


def small_net(dtype, scale):
    """Weights after 20 steps along gradients that are far below float16's least number."""
    cast = (lambda v: C.cast(v, HALF)) if dtype == HALF else lambda v: v
    rng = np.random.default_rng(0)
    x, t = C.input_variable(4), C.input_variable(1)
    first, second = rng.normal(size=(4, 8)) / 2, rng.normal(size=(8, 1)) / 2
    ws = [C.Parameter(w.shape, init=w.astype(np.float32)) for w in (first, second)]
    y = C.times(C.tanh(C.times(cast(x), cast(ws[0]))), cast(ws[1]))
    loss = C.squared_error(C.cast(y, np.float32), t) * 2.0**-28
    trainer = C.Trainer(None, (loss,), C.sgd(ws, 2.0**28 / 4), loss_scale=scale)
    xs = rng.normal(size=(16, 4))
    for _ in range(20):
        trainer.train_minibatch({x: xs, t: np.sin(xs[:, :1])})
    start = np.concatenate([first.ravel(), second.ravel()])
    return np.concatenate([w.value.ravel() for w in ws]) - start.astype(np.float32)


@pytest.mark.parametrize("scale", ["dynamic", 2.0**24, C.train.DynamicLossScale(2**20, 2)])
def test_gradients_too_small_for_float16_are_learned_from(scale):
    expected = small_net(np.float32, None)
    without = small_net(HALF, None)
    assert abs(expected).max() > 0.15 and not without.any()
    np.testing.assert_allclose(small_net(HALF, scale), expected, atol=1e-3)


def test_a_scale_of_float32_changes_nothing():
    expected = small_net(np.float32, None)
    np.testing.assert_array_equal(small_net(np.float32, "dynamic"), expected)


def test_the_scale_grows_to_a_bound():
    scale = C.train.DynamicLossScale(2**23, 1)
    scales, _ = Line(of=lambda p: p * 2.0**-20, loss_scale=scale).train(1, 1, 1)
    np.testing.assert_array_equal(scales, 2**24)


def test_running_statistics_are_left_out_too():
    normalized = []

    def of(product):
        normalized.append(C.layers.BatchNormalization(map_rank=1)(product))
        return product + 0 * normalized[0]

    line = Line(of=of)
    states = {c.name: c for c in normalized[0].constants if c.name.startswith("aggregate")}
    line.train(8, 8, 8)
    assert states["aggregate_count"].value == 0
    line.train(8)
    assert states["aggregate_count"].value == 1


# Faults


@pytest.mark.parametrize("make", [lambda ps: C.sgd(ps, 0.5), Own])
def test_a_loss_that_is_nan_is_a_fault(make):
    line = Line(make)
    with pytest.raises(C.GraphError, match="the loss is NaN"):
        line.train(np.nan, 8)  # of a GPU nobody waits
    assert line.trainer.loss_scale == 2**15 and line.w.value == 1


@pytest.mark.parametrize(
    "make, told",
    [(lambda ps: C.sgd(ps, 0.5), "a gradient at a loss scale of 1"), (Own, "Parameter")],
)
def test_gradients_that_no_scale_helps_are_a_fault(make, told):
    """An adjoint of 1e5 is infinite in float16."""
    line = Line(make, of=lambda p: p * 1e5, loss_scale=C.train.DynamicLossScale(4))
    scales, _ = line.train(8, 8)
    np.testing.assert_array_equal(scales, [2, 1])
    with pytest.raises(C.GraphError, match=f"{told}.* is (NaN|infinite)"):
        line.train(8, 8)
    assert line.trainer.loss_scale == 1 and line.w.value == 1


def test_gradients_that_no_scale_helps_can_be_left_out():
    for on_nan in ("skip", "ignore"):
        line = Line(of=lambda p: p * 1e5, on_nan=on_nan)
        scales, weights = line.train(*[8] * 17)
        assert scales[-1] == 1 and weights[-1] == 1


def test_a_fixed_scale_leaves_nothing_out():
    line = Line(loss_scale=2**15)
    with pytest.raises(C.GraphError, match=r"the gradient of Parameter.* is infinite"):
        line.train(8, 1)
    assert line.trainer.loss_scale == 2**15


@pytest.mark.parametrize("scale", ["static", 0, -1, np.inf, np.nan, [2]])
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(C.GraphError, match="must be 'dynamic', a positive number or None"):
        Line(loss_scale=scale)


@pytest.mark.parametrize("numbers", [(0.5,), (2**25,), (np.nan,), (1, 0)])
def test_numbers_of_a_dynamic_scale_are_checked(numbers):
    with pytest.raises(C.GraphError, match=r"init_scale|growth_interval"):
        C.train.DynamicLossScale(*numbers)


# Checkpoints


def test_a_checkpoint_has_the_scale(tmp_path):
    line, file = Line(), str(tmp_path / "state")
    line.train(*[8] * 4)
    line.trainer.save_checkpoint(file)
    again = Line()
    again.trainer.restore_from_checkpoint(file)
    assert again.trainer.loss_scale == 2**12
    np.testing.assert_array_equal(again.train(*[8] * 4), line.train(*[8] * 4))
    Line(loss_scale=None).trainer.restore_from_checkpoint(file)


def test_a_pickle_has_the_scale():
    line = Line()
    line.train(8)
    again = pickle.loads(pickle.dumps(line.trainer))
    assert again.loss_scale == 2**14
    again.train_minibatch({again.loss_function.arguments[0]: [[8]]})
    assert again.loss_scale == 2**13


def test_function_train_takes_it():
    x, w = C.input_variable(1), C.Parameter(1, init=1)
    loss = C.cast(C.cast(w, HALF) * C.cast(x, HALF), np.float32)
    data = np.full((5, 1), 8)
    loss.train(data, 1, parameter_learners=C.sgd([w], 0.5), loss_scale="dynamic")
    assert w.value == 1 - 2 * 4


# Several workers


@pytest.mark.parametrize("learner", [data_parallel, lambda k, w: block_momentum(k, w, 2, 0.0)])
def test_workers_agree(learner):
    """One of them has too much in each step, or nothing at all; the others wait for it."""

    def run(workers):
        line = Line(lambda ps: learner(C.sgd(ps, 0.5), workers))
        found = []
        for step, value in enumerate([6000, 8, 6000, 0]):
            own = (value, 1)[(workers.rank + step) % 2]
            data = {} if step == 3 and workers.rank else {line.x: [[own]]}
            line.trainer.train_minibatch(data)
            found.append((line.trainer.loss_scale, line.w.value.item()))
        return found

    first, second = together(2, run)
    assert first[:3] == second[:3] == [(2**14, 1), (2**13, 1), (2**12, 1)]
    assert first[3][0] == second[3][0] == 2**12


def test_workers_learn_from_the_sum():
    def run(workers):
        scale = C.train.DynamicLossScale(2**10)
        line = Line(lambda ps: data_parallel(C.sgd(ps, 0.5), workers), loss_scale=scale)
        return line.train(8 * (1 + workers.rank))

    first, second = together(2, run)
    assert first[1] == second[1] == 1 - 0.5 * (8 + 16) / 2
