"""Cells against their formulas written out in NumPy, one step at a time."""

import numpy as np
import pytest

import rgraph as C
from rgraph.layers import GRU, LSTM, Recurrence, RNNStep, Stabilizer
from rgraph.testing import check_gradients

RNG = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def randomized(function):
    for p in function.parameters:
        p.value = RNG.normal(size=p.shape)
    return {p.name: p.value for p in function.parameters}


def test_lstm_with_peepholes_and_projection():
    x = C.sequence.input_variable(3)
    y = Recurrence(LSTM(2, cell_shape=4, use_peepholes=True), return_full_state=True)(x)
    p = randomized(y)
    data = RNG.normal(size=(5, 3))
    h, c = np.zeros(2), np.zeros(4)
    for t in range(5):
        i, g, f, o = np.split(p["b"] + data[t] @ p["W"] + h @ p["H"], 4)
        new = sigmoid(f + p["Cf"] * c) * c + sigmoid(i + p["Ci"] * c) * np.tanh(g)
        h = (sigmoid(o + p["Co"] * new) * np.tanh(new)) @ p["P"]
        c = new
    ours = list(y.eval({x: data}).values())
    np.testing.assert_allclose(ours[0][0][-1], h, atol=1e-5)
    np.testing.assert_allclose(ours[1][0][-1], c, atol=1e-5)


def test_gru_with_projection():
    x = C.sequence.input_variable(3)
    y = Recurrence(GRU(2, cell_shape=2))(x)
    p = randomized(y)
    data = RNG.normal(size=(5, 3))
    h = np.zeros(2)
    for t in range(5):
        z, r, g = np.split(p["b"] + data[t] @ p["W"], 3)
        hz, hr = np.split(h @ p["H"], 2)
        update, reset = sigmoid(z + hz), sigmoid(r + hr)
        h = ((1 - update) * np.tanh(g + (h * reset) @ p["H1"]) + update * h) @ p["P"]
    np.testing.assert_allclose(y.eval({x: data})[0][-1], h, atol=1e-5)


def test_gru_whose_reset_gate_acts_on_the_product():
    x = C.sequence.input_variable(3)
    y = Recurrence(GRU(2, reset_after=True))(x)
    p = randomized(y)
    data = RNG.normal(size=(5, 3))
    h = np.zeros(2)
    for t in range(5):
        z, r, g = np.split(p["b"] + data[t] @ p["W"], 3)
        hz, hr = np.split(h @ p["H"], 2)
        update, reset = sigmoid(z + hz), sigmoid(r + hr)
        h = (1 - update) * np.tanh(g + reset * (h @ p["H1"] + p["b1"])) + update * h
    np.testing.assert_allclose(y.eval({x: data})[0][-1], h, atol=1e-5)
    check_gradients(y, order=2, elements=10)


def test_rnn_step_with_another_activation():
    x = C.sequence.input_variable(3)
    y = Recurrence(RNNStep(2, activation=C.softplus))(x)
    p = randomized(y)
    data = RNG.normal(size=(5, 3))
    h = np.zeros(2)
    for t in range(5):
        h = np.log1p(np.exp(data[t] @ p["W"] + h @ p["H"] + p["b"]))
    np.testing.assert_allclose(y.eval({x: data})[0][-1], h, rtol=1e-5)


CELLS = {
    "LSTM": lambda **options: LSTM(2, **options),
    "LSTM with peepholes": lambda **options: LSTM(2, use_peepholes=True, **options),
    "GRU": lambda **options: GRU(2, **options),
    "RNNStep": lambda **options: RNNStep(2, **options),
}


@pytest.mark.parametrize("options", [{}, {"enable_self_stabilization": True}, {"init_bias": 0.5}])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell, options):
    x = C.sequence.input_variable(3)
    check_gradients(Recurrence(CELLS[cell](**options))(x), order=2, elements=20)


@pytest.mark.parametrize("cell", [LSTM, GRU, RNNStep])
def test_images_are_refused_by_name(cell):
    x = C.sequence.input_variable((32, 26, 5))
    with pytest.raises(C.GraphError) as caught:
        Recurrence(cell(4))(x)
    message = str(caught.value)
    assert f"{cell.__name__} expects a vector per frame, got (32, 26, 5)" in message
    assert "put a Dense or a reshape to (4160,) before it" in message
    assert "test_cells.py" in message


@pytest.mark.parametrize("cell", [LSTM, GRU, RNNStep])
def test_a_grid_of_vectors_has_a_state_for_each(cell):
    step = cell(4, map_rank=1)
    x, row = C.sequence.input_variable((3, 5)), C.sequence.input_variable(5)
    grid = Recurrence(step)(x)
    data = RNG.normal(size=(6, 3, 5))
    together = grid.eval({x: data})[0]
    alone = Recurrence(cell(4))(row)
    for own, shared in zip(alone.parameters, grid.parameters, strict=True):
        own.value = shared.value
    for i in range(3):
        ours = alone.eval({row: data[:, i]})[0]
        np.testing.assert_allclose(together[:, i], ours, atol=1e-6)
    with pytest.raises(C.GraphError, match="a grid of vectors, with 2 axes"):
        Recurrence(step)(row)


@pytest.mark.parametrize("cell", [LSTM, GRU, RNNStep])
def test_axes_of_one_before_a_vector_stay(cell):
    step = cell(4)
    flat, lying = C.sequence.input_variable(5), C.sequence.input_variable((1, 1, 5))
    expected, given = Recurrence(step)(flat), Recurrence(step)(lying)
    assert given.shape == (1, 1, 4)
    data = RNG.normal(size=(6, 5))
    found = given.eval({lying: data.reshape(6, 1, 1, 5)})[0]
    np.testing.assert_allclose(found.reshape(6, 4), expected.eval({flat: data})[0], atol=1e-6)


def test_the_state_of_a_cell_is_a_vector():
    with pytest.raises(C.GraphError, match="LSTM: the state must be a vector"):
        LSTM((3, 4))


def test_a_cell_works_in_float64():
    with C.default_options(dtype=np.float64):
        x = C.sequence.input_variable(3)
        y = Recurrence(LSTM(2, enable_self_stabilization=True))(x)
    assert y.eval({x: np.ones((2, 3))})[0].dtype == np.float64


def test_stabilizer():
    x = C.input_variable(3)
    f = Stabilizer(steepness=2)
    y = f(x)
    data = RNG.normal(size=(2, 3))
    np.testing.assert_allclose(y.eval({x: data}), data, rtol=1e-5)
    f.alpha.value = 0.3
    np.testing.assert_allclose(y.eval({x: data}), data * np.log1p(np.exp(0.6)) / 2, rtol=1e-5)
    check_gradients(y, order=2)
