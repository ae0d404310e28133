"""Pickles and deep copies: the same values, what is shared stays shared, nothing else is."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import rgraph as C

WAYS = pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["deepcopy", "pickle"]
)
DATA = [np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in (3, 1, 5)]


def recurrent():
    x = C.sequence.input_variable(3, name="x")
    layers = [C.layers.Recurrence(C.layers.LSTM(4)), C.layers.Dropout(0.5), C.layers.Dense(2)]
    return x, C.layers.Sequential(layers)(x)


class Twice(C.UserFunction):
    def __init__(self, argument, name="Twice"):
        super().__init__([argument], name=name)

    def forward(self, argument, device=None, outputs_to_retain=None):
        return None, argument * 2

    def backward(self, state, root_gradients):
        return root_gradients * 2

    def infer_outputs(self):
        (v,) = self.inputs
        return [C.output_variable(v.shape, v.dtype, v.dynamic_axes)]

    @staticmethod
    def deserialize(inputs, name, state):
        return Twice(inputs[0], name)


@WAYS
def test_a_function_and_what_shares_its_leaves(way):
    x, y = recurrent()
    part = C.exp(y)
    f, g, parameters, argument, out = way((y, part, y.parameters, x, y.output))
    assert f.arguments == g.arguments == (argument,)
    assert f.parameters == parameters == g.parameters
    assert not set(f.parameters) & set(y.parameters)
    assert [p.name for p in f.parameters] == [p.name for p in y.parameters]
    for ours, theirs in zip(f.eval(DATA), y.eval(DATA), strict=True):
        np.testing.assert_array_equal(ours, theirs)  # by the same kernels
    assert out.shape == (2,)
    parameters[0].value = parameters[0].value + 1
    assert (f.eval(DATA)[0] != y.eval(DATA)[0]).any()
    np.testing.assert_allclose(np.exp(f.eval(DATA)[0]), g.eval(DATA)[0], rtol=1e-5)


@WAYS
def test_leaves_alone(way):
    p, s = C.Parameter((2, 3), init=C.glorot_uniform(), name="p"), C.State((2,), 5)
    k, v = C.constant([1.0, 2.0], name="k"), C.input_variable(2, np.float64, True, name="v")
    a, b = C.sequence.input_variable(2), C.placeholder(name="b")
    v2, k2 = way((v, k))
    assert (v2.name, v2.dtype, v2.needs_gradient, v2.shape) == ("v", np.float64, True, (2,))
    np.testing.assert_array_equal(k2.value, k.value)
    for leaf in (p, s):
        np.testing.assert_array_equal(way(leaf).value, leaf.value)
        assert way(leaf) != leaf
        assert type(way(leaf)) is type(leaf)
    assert way(a).dynamic_axes == a.dynamic_axes
    assert way(b).is_placeholder
    assert copy.copy(p) is p
    x64 = C.input_variable(1, np.float64)
    product, k3 = way((x64 * k, k))
    k3.value = [5, 6]  # the form of it that the product has, in float64, follows
    np.testing.assert_array_equal(product.eval([[1]]), [[5, 6]])
    np.testing.assert_array_equal(k.value, [1, 2])


@WAYS
def test_axes_that_are_their_own_stay_together_and_apart(way):
    axis = C.Axis.new_unique_dynamic_axis("t")
    a, b = (C.sequence.input_variable(1, sequence_axis=axis, name=n) for n in "ab")
    f, b2 = way((a + 2 * b, b))
    a2 = f.a
    assert a2.dynamic_axes == b2.dynamic_axes != a.dynamic_axes
    data = [np.ones((2, 1)), np.ones((3, 1))]
    np.testing.assert_array_equal(f.eval({a2: data, b2: data})[1], [[3]] * 3)
    rows = way(C.to_batch(C.Parameter((3, 2), init=1)) * 2)
    assert rows.eval().tolist() == [[2, 2]] * 3
    kept = way(C.sequence.gather(a, a > 1))
    assert kept.eval([np.array([[1.0], [2], [3]])])[0].tolist() == [[2], [3]]


@WAYS
def test_open_layers_and_user_functions(way):
    model = C.layers.Sequential([C.layers.Dense(4, init=C.glorot_uniform()), C.layers.Dense(1)])
    again = way(model)
    assert again(C.input_variable(3)).shape == (1,)
    assert model.parameters[0].shape[0] == C.InferredDimension
    x = C.input_variable(2)
    twice = way(Twice(x))
    assert isinstance(twice, Twice)
    assert twice.eval([[1, 2]]).tolist() == [[2, 4]]
    assert (way(C.user_function(Twice(x)) + 1)).eval([[1, 2]]).tolist() == [[3, 5]]


LEARNERS = {
    "momentum": lambda ps: C.momentum_sgd(ps, 0.1, 0.9),
    "adam": lambda ps: C.adam(ps, C.learning_parameter_schedule([0.1, 0.01]), 0.9),
    "adagrad": lambda ps: C.adagrad(ps, 0.1),
    "rmsprop": lambda ps: C.rmsprop(ps, 0.1, 0.9, 1.2, 0.7, 10, 1e-2),
}


@WAYS
@pytest.mark.parametrize("kind", LEARNERS)
def test_a_trainer_goes_on_as_it_would_have(way, kind):
    C.set_seed(1)
    x, y = recurrent()
    t = C.sequence.input_variable(2, name="t")
    labels = [np.zeros((len(d), 2), np.float32) for d in DATA]
    trainer = C.Trainer(y, (C.squared_error(y, t), C.reduce_sum(y)), LEARNERS[kind](y.parameters))
    feed = {x: DATA, t: labels}
    trainer.train_minibatch(feed)
    other, learner = way((trainer, trainer.parameter_learners[0]))
    assert other.parameter_learners == [learner]
    named = {a.name: a for a in other.arguments}
    random = trainer._program.random_state()
    trainer.train_minibatch(feed)
    values = [p.value for p in trainer.model.parameters]
    other._program.set_random_state(random)
    other.train_minibatch({named["x"]: DATA, named["t"]: labels})
    assert other.total_number_of_samples_seen == trainer.total_number_of_samples_seen == 18
    for p, value in zip(other.model.parameters, values, strict=True):
        np.testing.assert_allclose(p.value, value, rtol=1e-5, atol=1e-6)
    for p, value in zip(trainer.model.parameters, values, strict=True):
        np.testing.assert_array_equal(p.value, value)


def squares(function, values):
    return function.eval(values)


def test_in_another_process():
    y = C.square(C.input_variable(2)) * C.Parameter(2, init=3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(squares, (y, np.array([[1.0, 2.0]])))
    assert found.tolist() == [[3, 12]]


@WAYS
def test_an_evaluator(way):
    x, y = recurrent()
    tester = C.eval.Evaluator(C.reduce_sum(C.sequence.last(y)))
    copied = way(tester)
    (other,) = copied.evaluation_function.arguments
    assert copied.test_minibatch({other: DATA}) == pytest.approx(tester.test_minibatch({x: DATA}))
