"""Learners whose rule is a graph: a step of training, their updates included, is one plan."""

import numpy as np
import pytest

import rgraph as C

from .training import train_on_a_ragged_film


def descend(parameters, gradients):
    return C.combine([C.assign(p, p - 0.02 * g) for p, g in zip(parameters, gradients)])


def smoothed(parameters, gradients):
    """CNTK's momentum with unit gain, at a rate of 0.02 per sample."""
    made = []
    for p, g in zip(parameters, gradients):
        v = C.Parameter(p.shape, init=0)
        made.append(C.assign(p, p - C.assign(v, 0.9 * v + 0.1 * 0.02 * g)))
    return C.combine(made)


RULES = {"sgd": descend, "momentum": smoothed}


def by_rule(rule, given=None):
    """A learner by a rule; the gradients that its `update` takes are noted."""

    def make(parameters):
        learner = C.universal(rule, parameters)
        take = learner._gradients

        def noted(gradients):
            if given is not None:
                given.append(gradients)
            return take(gradients)

        learner._gradients = noted
        return learner

    return make


@pytest.mark.parametrize("name", RULES)
def test_numbers_are_cntks(name):
    """And no gradient is given: the plan has the updates."""
    given = []
    train_on_a_ragged_film(name, by_rule(RULES[name], given))
    assert not given


@pytest.mark.parametrize("name", RULES)
def test_in_windows_gradients_are_given_and_numbers_are_the_same(name):
    given = []
    train_on_a_ragged_film(name, by_rule(RULES[name], given), window=2)
    assert given


def two_parameters():
    x = C.input_variable(2, name="x")
    a, b = C.Parameter(2, init=1, name="a"), C.Parameter(2, init=2, name="b")
    return x, a, b, C.reduce_sum(a * x + b * C.square(x))


X = np.array([[1, 2], [3, 5]], np.float32)  # gradients: [4, 7] of a, [10, 29] of b


def test_a_rule_beside_another_learner():
    x, a, b, loss = two_parameters()
    learners = [by_rule(descend)([a]), C.sgd([b], C.learning_parameter_schedule_per_sample(0.5))]
    trainer = C.Trainer(None, loss, learners)
    assert trainer.train_minibatch({x: X})
    np.testing.assert_allclose(a.value, [1 - 0.02 * 4, 1 - 0.02 * 7], rtol=1e-6)
    np.testing.assert_allclose(b.value, [2 - 0.5 * 10, 2 - 0.5 * 29], rtol=1e-6)
    assert [k.total_number_of_samples_seen() for k in learners] == [2, 2]
    assert [k.total_number_of_minibatches_seen() for k in learners] == [1, 1]


def test_a_rule_sees_what_came_before_it():
    """The other learner's new values, and what the loss assigns."""
    x, a, b, loss = two_parameters()
    count = C.Parameter((), init=0)
    given = []

    def rule(parameters, gradients):
        (p,), (g,) = parameters, gradients
        return C.assign(p, b + count + 0 * g)

    learners = [
        C.sgd([b], C.learning_parameter_schedule_per_sample(0.5)),
        by_rule(rule, given)([a]),
    ]
    trainer = C.Trainer(None, loss + 0 * C.assign(count, count + 1), learners)
    trainer.train_minibatch({x: X})
    assert len(given) == 1
    np.testing.assert_allclose(a.value, [2 - 0.5 * 10 + 1, 2 - 0.5 * 29 + 1], rtol=1e-6)


def test_outputs_are_those_before_the_update():
    x, a, b, loss = two_parameters()
    trainer = C.Trainer(None, loss, by_rule(descend)([a, b]))
    _, values = trainer.train_minibatch({x: X}, outputs=[loss, a * 1])
    found, before = values.values()
    np.testing.assert_allclose(found, [1 + 2 + 2 * 5, 3 + 5 + 2 * 34])
    np.testing.assert_allclose(before, [1, 1])
    np.testing.assert_allclose(a.value, [0.92, 0.86], rtol=1e-6)


@pytest.mark.cpu  # a GPU says it with the next minibatch
def test_an_infinite_gradient_names_its_parameter_and_no_operation_of_the_learner():
    x, a, b, loss = two_parameters()
    trainer = C.Trainer(None, 1e38 * loss, C.adam([a, b], 1e-3, 0.9))
    with pytest.raises(C.GraphError) as caught:
        trainer.train_minibatch({x: [[3, 4]]})
    first, second, *_ = str(caught.value).splitlines()
    assert first == "the gradient of Parameter('a', (2,)) is infinite in 1 of 2 elements"
    assert second == "  no parameter was changed"


def test_nan_changes_nothing_and_is_named():
    x, a, b, loss = two_parameters()
    trainer = C.Trainer(None, loss, C.universal(smoothed, [a, b]))
    trainer.train_minibatch({x: X})
    learner = trainer.parameter_learners[0]
    before = str([a.value, b.value, learner.create_checkpoint()])
    with pytest.raises(C.GraphError, match=r"(?s)the loss is NaN.*no parameter was changed"):
        trainer.train_minibatch({x: [[1, np.nan]]})
    assert str([a.value, b.value, learner.create_checkpoint()]) == before
    big = np.full((1, 2), 1e19, np.float32)  # the loss is finite, a square of it is not
    x, a, b, loss = two_parameters()

    def squares(parameters, gradients):
        return C.combine([C.assign(p, p - g * g) for p, g in zip(parameters, gradients)])

    trainer = C.Trainer(None, loss, C.universal(squares, [a, b]))
    with pytest.raises(C.GraphError, match=r"the new value of 'b' .* infinite in 2 of 2"):
        trainer.train_minibatch({x: big})
    assert a.value.tolist() == [1, 1] and b.value.tolist() == [2, 2]


def test_a_minibatch_of_no_samples_changes_nothing():
    x, a, b, loss = two_parameters()
    trainer = C.Trainer(None, loss, C.universal(smoothed, [a, b]))
    assert trainer.train_minibatch({x: np.zeros((0, 2), np.float32)})
    assert a.value.tolist() == [1, 1] and b.value.tolist() == [2, 2]


def test_a_parameter_and_what_is_given_back_are_two_arrays():
    w, fed = C.Parameter(2, init=1), np.array([3, 4], np.float32)
    x = C.input_variable(2, dynamic_axes=[])
    given_back = C.assign(w, x).eval({x: fed})
    fed[0] = given_back[1] = 99
    assert w.value.tolist() == [3, 4]


def test_an_update_of_somebodys_own_is_called():
    x, w = C.input_variable(1), C.parameter((1,), init=1.0)
    watched, halved = C.sgd([w], 0.1), C.sgd([w], 0.1)
    calls, update = [], watched.update
    watched.update = lambda *args: calls.append(1) or update(*args)

    class Half(C.learners.Learner):
        def update(self, gradients, count, ends=False):
            return super().update({p: g / 2 for p, g in gradients.items()}, count, ends)

    halved.__class__ = Half
    for learner, expected in ((watched, 0.8), (halved, 0.9)):  # the gradient of w**2 is 2
        w.value = np.ones(1, np.float32)
        trainer = C.Trainer(None, (C.squared_error(w * x, 0 * x),), [learner])
        trainer.train_minibatch({x: [[1.0]]})
        np.testing.assert_allclose(w.value, [expected], rtol=1e-6)
    assert calls == [1]


def test_learners_learn_in_their_order():
    """The first sets b to what a is before the second changes it."""
    x, a, b = C.input_variable(1), C.parameter((1,), init=1.0), C.parameter((1,), init=0.0)
    first = C.universal(lambda p, g: C.combine([C.assign(p[0], a * 1 + 0 * g[0])]), [b])
    loss = C.squared_error(a * x + b, 0 * x)
    C.Trainer(None, (loss,), [first, C.sgd([a], 0.1)]).train_minibatch({x: [[1.0]]})
    np.testing.assert_allclose([a.value, b.value], [[0.8], [1.0]], rtol=1e-6)
