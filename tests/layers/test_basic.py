import numpy as np
import pytest

import rgraph as C
from rgraph.layers import Activation, Dense, Dropout, Embedding, Label, identity
from rgraph.testing import check_gradients

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "shape, options, kernel, result",
    [
        ((3,), {}, (3, 5), (5,)),
        ((4, 3), {}, (4, 3, 5), (5,)),
        ((4, 2, 3), {"input_rank": 2}, (2, 3, 5), (4, 5)),
        ((4, 2, 3), {"map_rank": 1}, (2, 3, 5), (4, 5)),
        ((4, 2, 3), {"map_rank": 2}, (3, 5), (4, 2, 5)),
    ],
)
def test_dense_sums_over_the_axes_it_is_told(shape, options, kernel, result):
    x = C.input_variable(shape)
    f = Dense(5, init_bias=0.5, **options)
    y = f(x)
    assert (f.W.shape, f.b.shape, y.shape) == (kernel, (5,), result)
    data = RNG.normal(size=(2, *shape))
    summed = len(kernel) - 1
    expected = np.tensordot(data, f.W.value, summed) + 0.5
    np.testing.assert_allclose(y.eval({x: data}), expected, atol=1e-5)
    check_gradients(y, order=2)


def test_dense_with_a_tensor_as_output_and_an_activation():
    x = C.input_variable(3)
    f = Dense((2, 4), activation=C.tanh, bias=False)
    y = f(x)
    assert [p.name for p in y.parameters] == ["W"]
    data = RNG.normal(size=(2, 3))
    expected = np.tanh(np.tensordot(data, f.W.value, 1))
    np.testing.assert_allclose(y.eval({x: data}), expected, atol=1e-6)
    check_gradients(y)


def test_dense_takes_python_functions_and_layers_as_activation():
    x = C.constant([1.0, -1.0])
    for activation in (lambda z: z * 2, Activation(lambda z: z * 2), C.Function(lambda z: z * 2)):
        y = Dense(2, activation, init=np.eye(2))(x)
        np.testing.assert_array_equal(y.eval(), [2, -2])


def test_dense_refuses_two_ranks():
    with pytest.raises(ValueError, match="input_rank or map_rank"):
        Dense(2, input_rank=1, map_rank=1)


def test_a_layer_applied_twice_shares_its_parameters():
    f = Dense(3)
    x, y = C.input_variable(3), C.input_variable(3)
    z = f(f(x)) + f(y)
    assert set(z.parameters) == {f.W, f.b}
    check_gradients(z, order=2)


def test_embedding_is_a_table():
    x = C.input_variable(4)
    f = Embedding(2)
    y = f(x)
    assert f.E.shape == (4, 2)
    np.testing.assert_array_equal(y.eval({x: np.eye(4)}), f.E.value)
    check_gradients(y)
    table = RNG.normal(size=(4, 2, 3)).astype("f")
    fixed = Embedding(weights=table)(x)
    assert fixed.parameters == ()
    np.testing.assert_array_equal(fixed.eval({x: np.eye(4)}), table)


@pytest.mark.parametrize(
    "options", [{}, {"shape": 3, "weights": [[1]]}, {"init": 1, "weights": [[1]]}]
)
def test_embedding_needs_a_shape_or_a_table(options):
    with pytest.raises(ValueError, match="Embedding"):
        Embedding(**options)


def test_embedding_takes_default_options():
    with C.default_options(init=2):
        f = Embedding(2)
    f(C.input_variable(3))
    np.testing.assert_array_equal(f.E.value, np.full((3, 2), 2))


@pytest.mark.parametrize("options", [{"dropout_rate": 0.4}, {"keep_prob": 0.6}])
def test_dropout_drops_in_training_only(options):
    x = C.input_variable(1000)
    y = Dropout(**options)(x)
    ones = np.ones((1, 1000))
    np.testing.assert_array_equal(y.eval({x: ones}), ones)
    _, values = y.forward({x: ones}, [y.output], {y.output})
    kept = values[y.output]
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.6], rtol=1e-6)
    assert 0.5 < (kept > 0).mean() < 0.7
    check_gradients(Dropout(**options)(C.input_variable(5)), training=True)


@pytest.mark.parametrize(
    "options", [{}, {"dropout_rate": 0.1, "keep_prob": 0.9}, {"keep_prob": -1}, {"keep_prob": 1.5}]
)
def test_dropout_needs_one_probability(options):
    with pytest.raises(ValueError, match="Dropout"):
        Dropout(**options)


def test_activation_label_identity():
    x = C.constant([-1.0, 2.0])
    np.testing.assert_array_equal(Activation(C.relu)(x).eval(), [0, 2])
    assert identity(x).eval().tolist() == [-1, 2]
    model = Dense(2) >> Label("middle") >> Dense(3)
    middle = model(C.input_variable(4)).find_by_name("middle")
    assert middle.shape == (2,)
    check_gradients(Activation(C.tanh)(C.input_variable(2)), order=2)
