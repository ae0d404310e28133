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


@pytest.mark.parametrize("cell", [ConvolutionalLSTM((3, 3), 2, use_peepholes=True),
                                  ConvolutionalGRU((3, 3), 2)], ids=["LSTM", "GRU"])  # fmt: skip
def test_gradients_and_streams(cell):
    x = C.sequence.input_variable((2, 3, 4))
    f = Recurrence(cell)(x)
    filled(f)
    C.testing.check_gradients(f, order=1)
    film = films((3, 4))[0].astype(np.float32)
    live = f.stream()
    np.testing.assert_allclose([live(frame) for frame in film], f.eval({x: [film]})[0], atol=1e-5)


def test_what_is_no_filter_is_refused():
    for make in (ConvolutionalLSTM, ConvolutionalGRU):
        with pytest.raises(C.GraphError, match="even size"):
            make((4, 3), 2)
        with pytest.raises(C.GraphError, match="one to three axes"):
            make((3, 3, 3, 3), 2)
