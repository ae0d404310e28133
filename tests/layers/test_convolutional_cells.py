"""Convolutional cells against the same steps in PyTorch, in one, two and three dimensions."""

import numpy as np
import pytest

import rgraph as C
from rgraph.layers import ConvolutionalGRU, ConvolutionalLSTM, Recurrence

SIZES = {(3,): (7,), (3, 5): (6, 5), (3, 1, 3): (3, 4, 4)}


def filled(f):
    rng = np.random.default_rng(3)
    for p in f.parameters:
        p.value = 0.4 * rng.normal(size=p.shape)
    return {p.name: p.value for p in f.parameters}


def films(image):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 2, *image)) for n in (4, 2)]


def in_pytorch(weights, size):
    torch = pytest.importorskip("torch")
    convolve = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[len(size)]
    w = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}

    def conv(name, x):
        return convolve(x[None], w[name], padding=[n // 2 for n in size])[0]

    return torch, w, conv


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_lstm_is_shis(size, peepholes):
    image = SIZES[size]
    with C.default_options(dtype=np.float64):
        x = C.sequence.input_variable((2, *image), np.float64)
        f = Recurrence(ConvolutionalLSTM(size, 3, use_peepholes=peepholes))(x)
    torch, w, conv = in_pytorch(filled(f), size)
    for film, found in zip(films(image), f.eval({x: films(image)}), strict=True):
        h = c = torch.zeros(3, *image, dtype=torch.float64)
        for frame, one in zip(torch.from_numpy(film), found, strict=True):
            i, new, forget, out = (w["b"] + conv("W", frame) + conv("H", h)).split(3)
            if peepholes:
                i, forget = i + w["Ci"] * c, forget + w["Cf"] * c
            c = forget.sigmoid() * c + i.sigmoid() * new.tanh()
            out = out + w["Co"] * c if peepholes else out
            h = out.sigmoid() * c.tanh()
            np.testing.assert_allclose(one, h.numpy(), atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_the_gru(size):
    image = SIZES[size]
    with C.default_options(dtype=np.float64):
        x = C.sequence.input_variable((2, *image), np.float64)
        f = Recurrence(ConvolutionalGRU(size, 3))(x)
    torch, w, conv = in_pytorch(filled(f), size)
    for film, found in zip(films(image), f.eval({x: films(image)}), strict=True):
        h = torch.zeros(3, *image, dtype=torch.float64)
        for frame, one in zip(torch.from_numpy(film), found, strict=True):
            of_input = (w["b"] + conv("W", frame)).split(3)
            of_state = conv("H", h).split(3)
            z, r = ((a + b).sigmoid() for a, b in zip(of_input, of_state, strict=False))
            h = z * h + (1 - z) * (of_input[2] + conv("H1", r * h)).tanh()
            np.testing.assert_allclose(one, h.numpy(), atol=1e-12)


def normalized(torch, w, name, x):
    """As in PyTorch: one group of all channels is layer normalization."""
    return torch.nn.functional.group_norm(x[None], 1, w[f"{name}_scale"].flatten())[0]


def in_training(f, x, data):
    """Its values and the masks of its dropout, one per film."""
    both = C.combine([f, f.find_by_name("recurrent_dropout")])
    _, found = both.forward({x: data}, both.outputs, set(both.outputs))
    return found.values()


@pytest.mark.parametrize("size", SIZES)
def test_the_lstm_normalized_and_with_dropout(size):
    image = SIZES[size]
    cell = ConvolutionalLSTM(size, 3, recurrent_dropout=0.4, layer_normalization=True)
    x = C.sequence.input_variable((2, *image))
    f = Recurrence(cell)(x)
    torch, w, conv = in_pytorch(filled(f), size)
    values, masks = in_training(f, x, films(image))
    for film, found, mask in zip(films(image), values, torch.tensor(masks), strict=True):
        assert set(mask.unique().tolist()) == {0, np.float32(1 / 0.6)}
        h = c = torch.zeros(3, *image)
        for frame, one in zip(torch.from_numpy(film).float(), found, strict=True):
            from_input = normalized(torch, w, "W", conv("W", frame))
            from_state = normalized(torch, w, "H", conv("H", mask * h))
            i, new, forget, out = (w["b"] + from_input + from_state).split(3)
            c = forget.sigmoid() * c + i.sigmoid() * new.tanh()
            h = out.sigmoid() * (normalized(torch, w, "c", c) + w["c_bias"]).tanh()
            np.testing.assert_allclose(one, h.numpy(), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_gru_normalized_and_with_dropout(size):
    image = SIZES[size]
    cell = ConvolutionalGRU(size, 3, recurrent_dropout=0.4, layer_normalization=True)
    x = C.sequence.input_variable((2, *image))
    f = Recurrence(cell)(x)
    torch, w, conv = in_pytorch(filled(f), size)
    values, masks = in_training(f, x, films(image))
    for film, found, mask in zip(films(image), values, torch.tensor(masks), strict=True):
        h = torch.zeros(3, *image)
        for frame, one in zip(torch.from_numpy(film).float(), found, strict=True):
            of_input = (w["b"] + normalized(torch, w, "W", conv("W", frame))).split(3)
            of_state = normalized(torch, w, "H", conv("H", mask * h)).split(3)
            z, r = ((a + b).sigmoid() for a, b in zip(of_input, of_state, strict=False))
            new = normalized(torch, w, "H1", conv("H1", r * (mask * h)))
            h = z * h + (1 - z) * (of_input[2] + new).tanh()
            np.testing.assert_allclose(one, h.numpy(), atol=1e-5)


def test_dropout_draws_for_each_film_and_each_run_in_training_only():
    x = C.sequence.input_variable((1, 8, 8))
    f = Recurrence(ConvolutionalGRU((3, 3), 4, recurrent_dropout=0.5))(x)
    plain = Recurrence(ConvolutionalGRU((3, 3), 4))(x)
    for name, value in filled(f).items():
        getattr(plain, name).value = value
    data = [np.ones((3, 1, 8, 8), np.float32)] * 2
    np.testing.assert_array_equal(f.eval({x: data}), plain.eval({x: data}))
    _, (one, other) = in_training(f, x, data)
    _, (again, _) = in_training(f, x, data)
    assert (one != other).any() and (one != again).any()


def test_dropout_needs_frames_and_a_rate():
    frame, h = C.input_variable((1, 4, 4)), C.input_variable((2, 4, 4))
    with pytest.raises(C.GraphError, match="needs a sequence"):
        ConvolutionalGRU((3, 3), 2, recurrent_dropout=0.5)(h, frame)
    with pytest.raises(C.GraphError, match="at least 0 and below 1, got 1"):
        ConvolutionalGRU((3, 3), 2, recurrent_dropout=1)


BOTH = {"recurrent_dropout": 0.3, "layer_normalization": True}


@pytest.mark.parametrize("cell", [ConvolutionalLSTM((3, 3), 2, use_peepholes=True),
                                  ConvolutionalGRU((3, 3), 2),
                                  ConvolutionalLSTM((3, 3), 2, use_peepholes=True, **BOTH),
                                  ConvolutionalGRU((3, 3), 2, **BOTH)],
                         ids=["LSTM", "GRU", "LSTM with both", "GRU with both"])  # fmt: skip
def test_gradients_and_streams(cell):
    x = C.sequence.input_variable((2, 3, 4))
    f = Recurrence(cell)(x)
    filled(f)
    C.testing.check_gradients(f, order=1, training=True)
    film = films((3, 4))[0].astype(np.float32)
    live = f.stream()
    np.testing.assert_allclose([live(frame) for frame in film], f.eval({x: [film]})[0], atol=1e-5)


def test_what_is_no_filter_is_refused():
    for make in (ConvolutionalLSTM, ConvolutionalGRU):
        with pytest.raises(C.GraphError, match="even size"):
            make((4, 3), 2)
        with pytest.raises(C.GraphError, match="one to three axes"):
            make((3, 3, 3, 3), 2)
