"""Weights from and to Keras, against what Keras's own layers compute (on PyTorch)."""

import os

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
keras = pytest.importorskip("keras")
L = C.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(autouse=True)
def seeds():
    C.set_seed(5)


def built(*layers):
    """A Keras model all of whose weights differ from what they start with."""
    model = keras.Sequential(list(layers))
    draw = np.random.default_rng(5)
    for layer in model.layers:
        values = [w + draw.uniform(0.1, 0.6, w.shape) for w in layer.get_weights()]
        layer.set_weights(values)
    return model


def twin(model):
    """The same model with weights of its own."""
    return keras.Sequential.from_config(model.get_config())


def channels_last(data):
    return np.moveaxis(data, 1, -1)


IMAGES = {
    "Conv2D": (
        lambda: keras.layers.Conv2D(6, 3, padding="same", name="a"),
        lambda: L.Convolution2D(3, 6, pad=True, name="a"),
    ),
    "Conv2D, no bias": (
        lambda: keras.layers.Conv2D(6, (3, 2), use_bias=False, name="a"),
        lambda: L.Convolution2D((3, 2), 6, bias=False, name="a"),
    ),
    "groups": (
        lambda: keras.layers.Conv2D(6, 3, groups=2, name="a"),
        lambda: L.Convolution2D(3, 6, groups=2, name="a"),
    ),
    "Conv2DTranspose": (
        lambda: keras.layers.Conv2DTranspose(6, 3, strides=2, name="a"),
        lambda: L.ConvolutionTranspose2D(3, 6, strides=2, name="a"),
    ),
    "BatchNormalization": (
        lambda: keras.layers.BatchNormalization(name="a"),
        lambda: L.BatchNormalization(map_rank=1, epsilon=1e-3, name="a"),
    ),
    "BatchNormalization, no scale": (
        lambda: keras.layers.BatchNormalization(scale=False, name="a"),
        lambda: L.BatchNormalization(map_rank=1, epsilon=1e-3, name="a"),
    ),
}


@pytest.mark.parametrize("theirs, ours", IMAGES.values(), ids=IMAGES)
def test_layers_of_images_both_ways(theirs, ours):
    model = built(keras.Input((5, 6, 4)), theirs())
    x = C.input_variable((4, 5, 6))
    f = ours()(x)
    C.weights.from_keras(f, model)
    data = np.random.default_rng(0).standard_normal((2, 4, 5, 6), np.float32)
    expected = np.moveaxis(np.asarray(model(channels_last(data)).detach()), -1, 1)
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-4, atol=1e-5)
    again = twin(model)
    C.weights.to_keras(f, again)
    found = np.moveaxis(np.asarray(again(channels_last(data)).detach()), -1, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_dense_after_flatten_both_ways():
    model = built(
        keras.Input((5, 6, 4)),
        keras.layers.Conv2D(3, 2, activation="relu", name="conv"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="out"),
    )
    x = C.input_variable((4, 5, 6))
    conv = L.Convolution2D(2, 3, activation=C.relu, name="conv")
    f = L.Dense(2, name="out")(conv(x))
    C.weights.from_keras(f, model)
    data = np.random.default_rng(0).standard_normal((2, 4, 5, 6), np.float32)
    expected = np.asarray(model(channels_last(data)).detach())
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-4, atol=1e-4)
    again = twin(model)
    C.weights.to_keras(f, again)
    np.testing.assert_allclose(again(channels_last(data)).detach(), expected, rtol=1e-4, atol=1e-4)


def test_embedding():
    model = built(keras.Input((2,)), keras.layers.Embedding(5, 3, name="e"))
    x = C.input_variable(5)
    f = L.Embedding(3)(x)
    C.weights.from_keras(f, model)
    found = f.eval({x: np.eye(5, dtype="f")[[4, 1]]})
    np.testing.assert_array_equal(found, np.asarray(model(np.array([[4, 1]])).detach())[0])


K = keras.layers
RECURRENT = {
    "LSTM": (lambda **k: K.LSTM(4, **k), lambda n: L.LSTM(4, name=n)),
    "GRU": (lambda **k: K.GRU(4, **k), lambda n: L.GRU(4, reset_after=True, name=n)),
    "GRU, reset before": (
        lambda **k: K.GRU(4, reset_after=False, **k),
        lambda n: L.GRU(4, name=n),
    ),
    "SimpleRNN": (
        lambda **k: K.SimpleRNN(4, **k),
        lambda n: L.RNNStep(4, activation=C.tanh, name=n),
    ),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("theirs, ours", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_both_ways(theirs, ours, bias):
    model = built(
        keras.Input((5, 3)),
        K.Bidirectional(theirs(return_sequences=True, use_bias=bias, name="a")),
        theirs(return_sequences=True, use_bias=bias, name="b"),
    )
    x = C.sequence.input_variable(3)
    there, back = L.Recurrence(ours("forward_a")), L.Recurrence(ours("backward_a"), True)
    f = L.Recurrence(ours("b"))(C.splice(there(x), back(x)))
    C.weights.from_keras(f, model)
    data = np.random.default_rng(0).standard_normal((2, 5, 3), np.float32)
    expected = np.asarray(model(data).detach())
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-4, atol=1e-5)
    again = twin(model)
    C.weights.to_keras(f, again)
    np.testing.assert_allclose(again(data).detach(), expected, rtol=1e-4, atol=1e-5)


def test_conv_lstm_2d_both_ways():
    layer = K.ConvLSTM2D(
        3, 3, padding="same", return_sequences=True, recurrent_activation="sigmoid", name="a"
    )
    model = built(keras.Input((3, 4, 5, 2)), layer)
    x = C.sequence.input_variable((2, 4, 5))
    f = L.Recurrence(L.ConvolutionalLSTM((3, 3), 3, name="a"))(x)
    C.weights.from_keras(f, model)
    data = np.random.default_rng(0).standard_normal((2, 3, 2, 4, 5), np.float32)
    expected = np.moveaxis(np.asarray(model(np.moveaxis(data, 2, -1)).detach()), -1, 2)
    np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-4, atol=1e-5)
    again = twin(model)
    C.weights.to_keras(f, again)
    found = np.moveaxis(np.asarray(again(np.moveaxis(data, 2, -1)).detach()), -1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_conv_lstm_with_other_gates_is_refused():
    layer = K.ConvLSTM2D(3, 3, padding="same", recurrent_activation="hard_sigmoid")
    model = built(keras.Input((3, 4, 5, 2)), layer)
    f = L.Recurrence(L.ConvolutionalLSTM((3, 3), 3))(C.sequence.input_variable((2, 4, 5)))
    with pytest.raises(GraphError, match="hard_sigmoid for its gates"):
        C.weights.from_keras(f, model)


S = C.sequence.input_variable
REFUSED = {
    "Keras 2's gates": (
        lambda: L.Recurrence(L.LSTM(4))(S(3)),
        lambda: K.LSTM(4, recurrent_activation="hard_sigmoid"),
        "hard_sigmoid for its gates",
    ),
    "another activation": (
        lambda: L.Recurrence(L.LSTM(4))(S(3)),
        lambda: K.LSTM(4, activation="relu"),
        "another activation than relu",
    ),
    "CNTK's activation of a plain recurrence": (
        lambda: L.Recurrence(L.RNNStep(4))(S(3)),
        lambda: K.SimpleRNN(4),
        "another activation than tanh",
    ),
    "reset after": (
        lambda: L.Recurrence(L.GRU(4))(S(3)),
        lambda: K.GRU(4),
        "reset_after=True",
    ),
    "reset before, no bias": (
        lambda: L.Recurrence(L.GRU(4, reset_after=True))(S(3)),
        lambda: K.GRU(4, reset_after=False, use_bias=False),
        "reset_after=False",
    ),
    "another kind": (
        lambda: L.Recurrence(L.GRU(4))(S(3)),
        lambda: K.LSTM(4),
        "LSTM '.*' is no GRU",
    ),
    "another epsilon": (
        lambda: L.BatchNormalization()(C.sequence.input_variable(3)),
        lambda: K.BatchNormalization(),
        "epsilon=0.001",
    ),
    "a kind that is not known": (
        lambda: L.Dense(3)(C.sequence.input_variable(3)),
        lambda: K.LayerNormalization(),
        "LayerNormalization '.*' is no Dense",
    ),
}


@pytest.mark.parametrize("ours, theirs, why", REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused(ours, theirs, why):
    f, model = ours(), built(keras.Input((5, 3)), theirs())
    for use in (C.weights.from_keras, C.weights.to_keras):
        with pytest.raises(GraphError, match=why):
            use(f, model)


def test_arrays_alone_say_how_a_gru_resets():
    kernel, recurrent = np.ones((3, 12)), np.ones((4, 12))
    f = L.Recurrence(L.GRU(4))(S(3))
    both = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": np.ones((2, 12))}
    with pytest.raises(GraphError, match="reset_after=True"):
        C.weights.from_keras(f, {"gru": both})
    with pytest.raises(GraphError, match="no bias"):
        C.weights.from_keras(f, {"gru": {k: v for k, v in both.items() if k != "bias"}})
