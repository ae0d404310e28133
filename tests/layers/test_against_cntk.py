"""Outputs and all gradients of six programs against those that Microsoft CNTK 2.7 gave.

Each file in tests/reference holds one: `in/I` and `out/I`, the input and output of sequence I;
`param/NAME`, the parameters in the order in which CNTK made them (a repeated name bears #1, #2 …);
`grad/NAME` and `gin/I`, the gradient of sum(output * G) to each parameter and input.
"""

from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.layers import (
    GRU,
    LSTM,
    Convolution,
    Dense,
    Fold,
    MaxPooling,
    Recurrence,
    RNNStep,
    Sequential,
)

REFERENCE = Path(__file__).parent.parent / "reference"


def ConvolutionalGRU(kernel_shape, outputs, activation=C.tanh, init=C.glorot_uniform(), init_bias=0, name=''):  # fmt: skip # noqa
    conv_filter_shape = (outputs, C.InferredDimension) + kernel_shape
    bias_shape = (outputs, 1, 1)
    # parameters
    bz = C.Parameter(bias_shape, init=init_bias, name="bz")  # bias
    br = C.Parameter(bias_shape, init=init_bias, name="br")  # bias
    bh = C.Parameter(bias_shape, init=init_bias, name="bc")  # bias
    Wz = C.Parameter(conv_filter_shape, init=init, name="Wz")  # input
    Wr = C.Parameter(conv_filter_shape, init=init, name="Wr")  # input
    Uz = C.Parameter(conv_filter_shape, init=init, name="Uz")  # hidden-to-hidden
    Ur = C.Parameter(conv_filter_shape, init=init, name="Hz")  # hidden-to-hidden
    Wh = C.Parameter(conv_filter_shape, init=init, name="Wc")  # input
    Uh = C.Parameter(conv_filter_shape, init=init, name="Hc")  # hidden-to-hidden

    # Convolutional GRU model function
    def conv_gru(dh, x):
        zt = C.sigmoid(bz + C.convolution(Wz, x) + C.convolution(Uz, dh))  # update gate z(t)
        rt = C.sigmoid(br + C.convolution(Wr, x) + C.convolution(Ur, dh))  # reset gate r(t)
        rs = dh * rt  # hidden state after reset
        ht = zt * dh + (1 - zt) * activation(bh + C.convolution(Wh, x) + C.convolution(Uh, rs))
        return ht

    return conv_gru


def convgru():
    z = Recurrence(ConvolutionalGRU((3, 3), 4), initial_state=C.constant(0, (4, 6, 5)))
    return (2, 6, 5), z


def convnet_lstm_dense():
    model = Sequential(
        [
            Convolution((3, 3), 3, activation=C.relu, pad=True),
            MaxPooling((2, 2), strides=2),
            Convolution((3, 3), 2, activation=C.tanh),
            Recurrence(LSTM(6, map_rank=2)),  # CNTK lets an LSTM go over rows of pixels unasked
            Dense(10),
        ]
    )
    return (1, 8, 8), model


PROGRAMS = {
    "convgru": convgru,
    "convnet_lstm_dense": convnet_lstm_dense,
    "gru": lambda: (3, Recurrence(GRU(4))),
    "lstm_backwards": lambda: (3, Recurrence(LSTM(4), go_backwards=True)),
    "fold_gru": lambda: (3, Fold(GRU(4))),
    "last_of_recurrence": lambda: (
        3,
        lambda x: C.sequence.last(Recurrence(RNNStep(5), initial_state=0.1)(x)),
    ),
}


def _several(reference, prefix):
    return [reference[k] for k in reference.files if k.startswith(prefix)]


def _agree(ours, cntks):
    scale = max(abs(a).max() for a in cntks)
    for a, b in zip(ours, cntks, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("program", PROGRAMS)
def test_agrees_with_cntk(program):
    reference = np.load(REFERENCE / f"{program}.npz")
    shape, model = PROGRAMS[program]()
    x = C.sequence.input_variable(shape)
    y = model(x)
    names = [k for k in reference.files if k.startswith("param/")]
    parameters = sorted(y.parameters, key=lambda p: p.node.uid)  # as they were made
    assert [p.name for p in parameters] == [k[6:].partition("#")[0] for k in names]
    for parameter, name in zip(parameters, names, strict=True):
        assert parameter.shape == reference[name].shape
        parameter.value = reference[name]
    feed = {x: _several(reference, "in/")}
    _agree(y.eval(feed), _several(reference, "out/"))
    loss = C.reduce_sum(y * C.constant(reference["G"]))
    gradients = loss.grad(feed, wrt=[*parameters, x])
    for parameter, name in zip(parameters, names, strict=True):
        _agree([gradients[parameter]], [reference[name.replace("param", "grad")]])
    _agree(gradients[x], _several(reference, "gin/"))
