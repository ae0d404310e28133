"""Learners and schedules against CNTK 2.7's numbers, and against their formulas."""

import numpy as np
import pytest

import rgraph as C
from tests.train.training import LEARNERS, SPECS, UPDATES, made, rate, train_on_a_ragged_film


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_six_updates_are_cntks(number):
    """Minibatches of 1 to 7 samples, two of them at the end of a sweep."""
    spec = SPECS[number]
    options = {k: made(v) for k, v in spec.items() if k != "learner"}
    parameters = [C.parameter(init=UPDATES["a"]), C.parameter(init=UPDATES["b"])]
    learner = getattr(C, spec["learner"])(parameters, **options)
    for i, count in enumerate(UPDATES["counts"]):
        gradients = {parameters[0]: UPDATES["grad_a"][i], parameters[1]: UPDATES["grad_b"][i]}
        assert learner.update(gradients, count, UPDATES["ends"][i])
        got = np.concatenate([p.value.ravel() for p in parameters])
        np.testing.assert_allclose(got, UPDATES["values"][number, i], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_training_a_convolutional_gru_is_cntks(name):
    train_on_a_ragged_film(name)


# Schedules


@pytest.mark.parametrize(
    "schedule, at, values",
    [
        (C.learning_parameter_schedule(0.2), [0, 100], [0.2, 0.2]),
        (C.learning_parameter_schedule([0.2, 0.4], 1, 5), [0, 4, 5, 99], [0.2, 0.2, 0.4, 0.4]),
        (
            C.learning_parameter_schedule([(3, 0.2), (2, 0.4), (1, 0.8)], 1, 5),
            [14, 15, 24, 25, 100],
            [0.2, 0.4, 0.4, 0.8, 0.8],
        ),
        (
            C.momentum_schedule([(999, 0.99), (888, 0.88), (0, 0.77)]),
            [0, 998, 999, 999 + 887, 999 + 888],
            [0.99, 0.99, 0.88, 0.88, 0.77],
        ),
        (C.momentum_as_time_constant_schedule([10, 20]), [0, 1], np.exp([-0.1, -0.05])),
    ],
)
def test_schedules(schedule, at, values):
    assert [schedule[i] for i in at] == list(values)


def test_minibatch_sizes_of_schedules():
    assert C.learning_parameter_schedule(0.1).minibatch_size == C.learners.IGNORE
    assert C.learning_parameter_schedule(0.1, 7).minibatch_size == 7
    assert C.momentum_as_time_constant_schedule(9).minibatch_size == 1
    assert C.learning_rate_schedule(0.1, C.UnitType.sample).minibatch_size == 1
    assert C.learning_rate_schedule(0.1, C.UnitType.minibatch).minibatch_size == 0


def test_a_learner_gives_its_minibatch_size_to_what_has_none():
    w = C.Parameter(1)
    learner = C.sgd([w], C.learning_parameter_schedule(0.1), minibatch_size=25)
    assert learner.minibatch_size == learner._learning_rate_schedule.minibatch_size == 25
    learner = C.sgd([w], C.learning_parameter_schedule(0.1, 20), minibatch_size=25)
    assert learner._learning_rate_schedule.minibatch_size == 20
    assert not learner.is_compatible_mode()
    learner = C.sgd([w], 0.1, minibatch_size=C.learners.IGNORE)
    assert learner.is_compatible_mode()


def test_an_epoch_size_for_one_number_is_warned_of():
    with pytest.warns(RuntimeWarning, match="epoch_size"):
        C.momentum_schedule(0.9, 1000)


def test_what_is_no_schedule():
    with pytest.raises(ValueError, match="a number, a list or a schedule"):
        C.sgd([C.Parameter(1)], "fast")
    with pytest.raises(ValueError, match="hour"):
        C.training_parameter_schedule(0.1, "hour")
    with pytest.raises(ValueError, match="epoch_size"):
        C.learning_parameter_schedule([0.1], epoch_size=0)


def test_a_schedule_set_later_begins_then():
    w = C.Parameter(1, init=1)
    learner = C.sgd([w], rate([0.1, 0.2], epoch_size=10))
    learner.update({w: np.ones(1)}, 10)
    assert learner.learning_rate() == 0.2
    learner.reset_learning_rate(rate([0.3, 0.4], epoch_size=10))
    assert learner.learning_rate() == 0.3
    learner.update({w: np.ones(1)}, 10)
    assert learner.learning_rate() == 0.4


@pytest.mark.parametrize(
    "make",
    [C.sgd, lambda w, rate: C.momentum_sgd(w, rate, 0.9), lambda w, rate: C.adam(w, rate, 0)],
)
def test_a_rate_of_0_changes_nothing_and_does_not_last(make):
    w = C.Parameter(1, init=1)
    learner = make([w], C.learning_parameter_schedule([0.5, 0.0, 0.25], epoch_size=4))
    values = []
    for _ in range(6):
        assert learner.update({w: np.ones(1)}, 2) is True
        values.append(w.value.item())
    assert values[0] > values[1] == values[2] == values[3] > values[4] > values[5]
    assert learner.total_number_of_samples_seen() == 12
    assert learner.total_number_of_minibatches_seen() == 6
    assert learner.total_number_of_sweeps_seen() == 0


@pytest.mark.parametrize("make", [lambda ps: C.sgd(ps, 1.0), lambda ps: C.universal(descend, ps)])
@pytest.mark.parametrize("second", [None, np.ones(3)])
def test_a_gradient_that_is_missing_or_of_another_size_changes_no_parameter(make, second):
    a, b = C.Parameter(1, init=1), C.Parameter(2, init=1, name="b")
    learner = make([a, b])
    with pytest.raises(C.GraphError, match=r"gradient .*'b'"):
        learner.update({a: np.ones(1)} if second is None else {a: np.ones(1), b: second}, 1)
    assert a.value == 1


def descend(parameters, gradients):
    return C.combine([C.assign(p, p - g) for p, g in zip(parameters, gradients)])


def test_a_schedule_that_two_learners_share():
    """The second learner's minibatch size is not the first one's: rates are 0.1/32 and 0.1 each."""
    schedule = C.learning_parameter_schedule(0.1)
    a, b = C.Parameter(1), C.Parameter(1)
    first = C.sgd([a], schedule, minibatch_size=32)
    second = C.sgd([b], schedule, minibatch_size=1)
    first.update({a: np.full(1, 8.0)}, 8)
    second.update({b: np.full(1, 8.0)}, 8)
    np.testing.assert_allclose([a.value, b.value], [[-0.025], [-0.8]], rtol=1e-6)
    assert schedule.minibatch_size == C.learners.IGNORE


# Options


@pytest.mark.parametrize("shape", [(5,), ()])
def test_adam_is_the_papers(shape):
    """With the default of unit gain, against the algorithm of Kingma and Ba."""
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=shape), rng.normal(size=(4, *shape))
    w = C.Parameter(shape, dtype=np.float64)
    w.value = start
    learner = C.adam([w], 0.01, 0.9, variance_momentum=0.99, epsilon=1e-8)
    m = v = 0
    expected = start
    for i, g in enumerate(gradients, 1):
        learner.update({w: g}, 1)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        step = m / (1 - 0.9**i) / (np.sqrt(v / (1 - 0.99**i)) + 1e-8 / np.sqrt(1 - 0.99**i))
        expected = expected - 0.01 * step
        np.testing.assert_allclose(w.value, expected, rtol=1e-12)


def test_noise_has_its_deviation_and_is_each_learners_own():
    parameters = [C.Parameter((200, 200)) for _ in range(2)]
    for p in parameters:
        C.sgd([p], 1.0, gaussian_noise_injection_std_dev=0.5).update({p: np.zeros(p.shape)}, 1)
    first, second = (p.value for p in parameters)
    assert abs(first.std() - 0.5) < 0.01 and abs(first.mean()) < 0.01
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("truncate", [True, False])
def test_clipping(truncate):
    w = C.parameter(init=np.zeros(2, np.float32))
    options = {"gradient_clipping_with_truncation": truncate}
    C.sgd([w], rate(1.0), gradient_clipping_threshold_per_sample=0.5, **options).update(
        {w: np.array([3.0, 4.0])}, 2
    )
    np.testing.assert_allclose(w.value, [-1, -1] if truncate else [-0.6, -0.8])


def test_l1_pulls_to_0_and_not_beyond():
    w = C.parameter(init=np.array([1, -1, 0.01], np.float32))
    C.sgd([w], rate(0.1), l1_regularization_weight=0.5).update({w: np.zeros(3)}, 2)
    np.testing.assert_allclose(w.value, [0.9, -0.9, 0], rtol=1e-6)


# Misuse


def test_a_learner_checks_its_parameters():
    w = C.Parameter(1)
    with pytest.raises(ValueError, match="at least one parameter"):
        C.sgd([], 0.1)
    with pytest.raises(ValueError, match="twice"):
        C.sgd([w, w], 0.1)
    with pytest.raises(ValueError, match="takes parameters"):
        C.sgd([C.input_variable(1)], 0.1)
    with pytest.raises(C.GraphError, match="shape follows"):
        C.sgd([C.Parameter(C.InferredDimension)], 0.1)
    with pytest.raises(C.GraphError, match="no gradient"):
        C.sgd([w], 0.1).update({}, 1)
    with pytest.raises(ValueError, match="empty minibatch"):
        C.sgd([w], 0.1).update({w: np.ones(1)}, 0)


def test_gradients_are_not_written_over():
    w, g = C.Parameter(3), np.ones(3, np.float32)
    for learner in (C.sgd([w], 0.5), C.adam([w], 0.5, 0.9), C.adagrad([w], 0.5)):
        learner.update({w: g}, 2)
    np.testing.assert_array_equal(g, np.ones(3))


def test_a_value_that_was_read_does_not_change_with_training():
    w = C.Parameter(2, init=1)
    before = w.value
    C.sgd([w], 1.0).update({w: np.ones(2)}, 1)
    np.testing.assert_array_equal(before, [1, 1])


# Checkpoints


MAKERS = [
    lambda ps: C.sgd(ps, rate([0.1, 0.2], epoch_size=3)),
    lambda ps: C.momentum_sgd(ps, 0.1, 0.9, gaussian_noise_injection_std_dev=0.1),
    lambda ps: C.nesterov(ps, 0.1, 0.9),
    lambda ps: C.adagrad(ps, 0.1),
    lambda ps: C.adadelta(ps),
    lambda ps: C.rmsprop(ps, 0.1, 0.9, 1.2, 0.5, 10, 0.01),
    lambda ps: C.fsadagrad(ps, 0.1, 0.9),
    lambda ps: C.adam(ps, 0.1, 0.9),
    lambda ps: C.adam(ps, 0.1, 0.9, adamax=True),
]


@pytest.mark.parametrize("make", MAKERS)
def test_after_a_checkpoint_learning_goes_on_as_before(make):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 3))
    w, other = C.Parameter(3), C.Parameter(3)
    learner, again = make([w]), make([other])
    for g in gradients[:3]:
        learner.update({w: g}, 2, True)
    other.value = w.value
    again.restore_from_checkpoint(learner.create_checkpoint())
    for g in gradients[3:]:
        learner.update({w: g}, 2)
        again.update({other: g}, 2)
    np.testing.assert_array_equal(w.value, other.value)


def test_a_checkpoint_of_other_parameters():
    a, b = C.Parameter(3), C.Parameter(4)
    learner = C.momentum_sgd([a], 0.1, 0.9)
    learner.update({a: np.ones(3)}, 1)
    with pytest.raises(ValueError, match="other parameters"):
        C.momentum_sgd([b], 0.1, 0.9).restore_from_checkpoint(learner.create_checkpoint())


def test_a_checkpoint_of_another_rule_or_with_something_missing():
    made = [make([C.Parameter(3)]) for make in MAKERS]
    for i, learner in enumerate(made):
        checkpoint = learner.create_checkpoint()
        for j, other in enumerate(made):
            before = other.create_checkpoint()
            if i == j:
                continue
            with pytest.raises(ValueError, match="rule"):
                other.restore_from_checkpoint(checkpoint)
            assert str(other.create_checkpoint()) == str(before)
        with pytest.raises(ValueError, match="lacks rate"):
            learner.restore_from_checkpoint({k: checkpoint[k] for k in checkpoint if k != "rate"})
        with pytest.raises(ValueError, match="not the state of a schedule"):
            learner.restore_from_checkpoint({**checkpoint, "rate": {"values": [1.0]}})


def test_noise_goes_on_after_a_checkpoint_as_before():
    a, b = C.Parameter((5, 5)), C.Parameter((5, 5))
    first, second = (C.sgd([p], 1.0, gaussian_noise_injection_std_dev=1.0) for p in (a, b))
    second.restore_from_checkpoint(first.create_checkpoint())
    for learner, p in ((first, a), (second, b)):
        learner.update({p: np.zeros((5, 5))}, 1)
    np.testing.assert_array_equal(a.value, b.value)


def test_rmsprop_without_a_largest_factor_does_not_overflow():
    w = C.Parameter(2, init=0)
    learner = C.rmsprop([w], 1.0, gamma=0.1, inc=3.0, dec=0.1, max=np.inf, min=1e-8)
    for _ in range(120):
        learner.update({w: np.array([1.0, -1.0])}, 1)
    assert np.isfinite(w.value).all()


# Rules as graphs


def test_gradient_descent_as_a_graph():
    def descend(parameters, gradients):
        return C.combine([C.assign(p, p - 0.1 * g) for p, g in zip(parameters, gradients)])

    a, b = C.Parameter((2, 3), init=1), C.Parameter(4, init=2)
    learner = C.universal(descend, [a, b])
    for _ in range(2):
        assert learner.update({a: np.ones((2, 3)), b: np.arange(4)}, 5)
    np.testing.assert_allclose(a.value, np.full((2, 3), 0.8), rtol=1e-6)
    np.testing.assert_allclose(b.value, 2 - 0.2 * np.arange(4), rtol=1e-6)


def adagrad_as_a_graph(parameters, gradients):
    (p,), (g,) = parameters, gradients
    total = C.Parameter(p.shape)
    new = C.assign(total, total + g * g)
    return C.assign(p, p - 0.1 * g / C.sqrt(new + 1e-16))


def test_a_rule_with_a_memory_is_adagrad():
    rng = np.random.default_rng(0)
    a, b = C.Parameter(3), C.Parameter(3)
    own = C.universal(adagrad_as_a_graph, [a])
    builtin = C.adagrad([b], 0.1, need_ave_multiplier=False)
    for g in rng.normal(size=(4, 3)):
        own.update({a: g}, 1)
        builtin.update({b: g}, 1)
        # a checkpoint has the memory too
        another = C.universal(adagrad_as_a_graph, [a])
        another.restore_from_checkpoint(own.create_checkpoint())
        own = another
    np.testing.assert_allclose(a.value, b.value, rtol=1e-5)
    with pytest.raises(ValueError, match="other state"):
        C.universal(adagrad_as_a_graph, [C.Parameter(2)]).restore_from_checkpoint(
            own.create_checkpoint()
        )


def test_a_rule_takes_parameters_and_gradients():
    with pytest.raises(ValueError, match="two arguments"):
        C.universal(lambda parameters: None, [C.Parameter(1)])


@pytest.mark.parametrize("before, after", [(None, C.learners.IGNORE), (C.learners.IGNORE, 2)])
def test_another_minibatch_size_after_an_update(before, after):
    """A rate without a minibatch size is for the mean: 0.1 * 4 / 4 a step, however it is said."""
    w = C.parameter((1,), init=0.0)
    gradient = {w: np.array([4.0], np.float32)}
    learner = C.sgd([w], 0.1, **({} if before is None else {"minibatch_size": before}))
    learner.update(gradient, 4)
    learner.minibatch_size = after
    w.value = np.zeros(1, np.float32)
    learner.update(gradient, 4)
    np.testing.assert_allclose(w.value, [-0.1], rtol=1e-6)
