import functools

import numpy as np
import pytest

import rgraph as C
from rgraph.layers import Dense, For, Label, ResNetBlock, Sequential, SequentialClique
from rgraph.testing import check_gradients


def test_sequential_takes_layers_functions_tuples_and_lists():
    x = C.input_variable(2)
    model = Sequential(
        [
            lambda a: a + 1,
            [C.square, (lambda a: a, C.negate)],
            C.minus,
            C.relu,
        ]
    )
    np.testing.assert_array_equal(model(x).eval({x: [[1, 2]]}), [[8, 18]])


def test_a_tuple_inside_a_sequential_gives_several_arguments():
    x = C.input_variable(2)
    both = Sequential([(Dense(3), Dense(4)), C.splice])(x)
    assert both.shape == (7,)
    assert len(both.parameters) == 4
    check_gradients(both)


@pytest.mark.parametrize("pipe", [lambda *f: Sequential(list(f)), lambda f, g, h: f >> g >> h])
def test_a_tuple_takes_a_value_for_all_or_one_for_each(pipe):
    """As in CNTK, where `Sequential` is made of `>>`."""
    x = C.input_variable(2)
    model = pipe(C.Function(lambda a: a + 1), (C.square, C.negate), (C.sqrt, lambda a: a * 2))
    first, second = model(x)([[1, 2]])
    np.testing.assert_array_equal(first, [[2, 3]])
    np.testing.assert_array_equal(second, [[-4, -6]])
    with pytest.raises(C.GraphError, match="a tuple of 3 layers can't take 2 values"):
        pipe(Dense(2), (C.square, C.negate), (C.sqrt, C.exp, C.abs))
    with pytest.raises(C.GraphError, match=r"LSTM takes 3 arguments \(dh, dc, x\)"):
        pipe(Dense(2), C.exp, C.layers.LSTM(3))


def test_a_chain_has_the_arguments_of_its_first_function_in_their_order():
    f = C.Function(lambda a, b: (b / a, b))
    for g in (
        C.Function(lambda u, v: v - u),
        lambda u, v: v - u,
        C.minus,
        (C.exp, C.abs),
        C.splice,
    ):
        assert [v.name for v in (f >> g).arguments] == ["a", "b"]
    x = C.sequence.input_variable(2)
    cell, dense = C.layers.LSTM(2), Dense(2)
    chain = C.layers.Recurrence(cell >> (lambda h, c: (dense(h), c)))(x)

    def by_hand(h, c, x):
        h, c = cell(h, c, x)
        return dense(h), c

    data = [np.array([[1, 2], [3, 5], [2, 1]], "f")]
    expected = C.layers.Recurrence(by_hand)(x).eval(data)[0]
    np.testing.assert_array_equal(chain.eval(data)[0], expected)


def test_a_name_is_the_results():
    x = C.input_variable(2)
    for model in (
        Sequential([C.abs, C.sqrt], name="mine"),
        For(range(2), lambda: Dense(3), name="mine"),
        SequentialClique([C.abs, C.sqrt], name="mine"),
        ResNetBlock(C.square, name="mine"),
    ):
        assert model.name == "mine"
        assert model(x).name == "mine"
        assert (model(x) + 1).find_by_name("mine") is not None


def test_for_calls_its_constructor_for_each_element():
    x = C.input_variable(6)
    model = For(range(3), lambda i: [Dense(5 - i), Label(f"layer{i}")])
    y = model(x)
    assert y.shape == (3,)
    assert y.find_by_name("layer1").shape == (4,)
    assert len(For(range(3), lambda: Dense(2))(x).parameters) == 6
    assert For([4, 3], functools.partial(Dense, bias=False))(x).shape == (3,)
    check_gradients(y)


@pytest.mark.parametrize("constructor", [Dense(5), "Dense"])
def test_for_needs_a_function_that_makes_layers(constructor):
    with pytest.raises(ValueError, match="For"):
        For(range(3), constructor)


def test_clique_and_resnet():
    x = C.input_variable(3)
    data = np.array([[2.0, 8.0, 5.0]])
    y = SequentialClique([C.abs, C.sqrt, C.square])(x)
    inner = 2 * data
    np.testing.assert_allclose(y.eval({x: data}), (inner + np.sqrt(inner)) ** 2, rtol=1e-6)
    z = ResNetBlock(Dense(3, C.tanh))(x)
    W, b = (p.value for p in sorted(z.parameters, key=lambda p: p.name != "W"))
    np.testing.assert_allclose(z.eval({x: data}), np.tanh(data @ W + b) + data, rtol=1e-5)
    check_gradients(z, order=2)


@pytest.mark.parametrize(
    "make, problem",
    [
        (lambda x: C.layers.Sequential([C.layers.Dense(2), 3])(x), "has 3 in it"),
        (lambda x: C.layers.Sequential([C.layers.Dense(2), None])(x), "has None in it"),
        (lambda x: C.layers.Sequential(3), "3 is no layer"),
        (lambda x: For(range(2), lambda i: i)(x), "has 0 in it"),
        (lambda x: For(3, lambda: Dense(2)), "a range or a list, got 3"),
        (lambda x: C.layers.Stabilizer(steepness=0)(x), "more than 0"),
    ],
)
def test_what_is_no_layer_is_refused(make, problem):
    with pytest.raises(C.GraphError, match=problem):
        make(C.input_variable(4))
