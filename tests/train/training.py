"""Trainings that several files of tests do: on the CPU, on the GPU and on the played one."""

import json
from pathlib import Path

import numpy as np

import rgraph as C

FOLDER = Path(__file__).parents[1] / "reference" / "train"
UPDATES = np.load(FOLDER / "updates.npz")
SPECS = [json.loads(str(s)) for s in UPDATES["specs"]]


def made(value):
    """A schedule from how it was written: [function, arguments, options]."""
    if not (isinstance(value, list) and isinstance(value[0], str)):
        return value
    name, arguments, options = value
    arguments = [
        [tuple(v) if isinstance(v, list) else v for v in a] if isinstance(a, list) else a
        for a in arguments
    ]
    return getattr(C, name)(*arguments, **options)


def convolutional_gru(p):
    def step(h, x):
        z = C.sigmoid(p["bz"] + C.convolution(p["Wz"], x) + C.convolution(p["Uz"], h))
        r = C.sigmoid(p["br"] + C.convolution(p["Wr"], x) + C.convolution(p["Hz"], h))
        c = C.tanh(p["bc"] + C.convolution(p["Wc"], x) + C.convolution(p["Hc"], h * r))
        return z * h + (1 - z) * c

    return C.layers.Recurrence(step, initial_state=C.constant(0, (2, 5, 5)))


rate = C.learning_parameter_schedule_per_sample
LEARNERS = {
    "sgd": lambda ps: C.sgd(ps, rate(0.02)),
    "momentum": lambda ps: C.momentum_sgd(ps, rate(0.02), C.momentum_schedule(0.9)),
    "nesterov": lambda ps: C.nesterov(ps, rate(0.02), C.momentum_schedule(0.9)),
    "adagrad": lambda ps: C.adagrad(ps, rate(0.02), need_ave_multiplier=False),
    "adam": lambda ps: C.adam(ps, rate(0.02), C.momentum_schedule(0.9)),
    "adam_batch": lambda ps: C.adam(
        ps, C.learning_parameter_schedule(0.02, minibatch_size=4), C.momentum_schedule(0.9)
    ),
    "rmsprop": lambda ps: C.rmsprop(ps, rate(0.005), 0.9, 1.2, 0.7, 10, 1e-2),
    "fsadagrad": lambda ps: C.fsadagrad(ps, rate(0.02), C.momentum_schedule(0.9)),
    "adadelta": lambda ps: C.adadelta(ps, rate(1.0)),
}


def train_on_a_ragged_film(name, learner=None, **options):
    """A convolutional GRU; its losses and the weights that come out are to be CNTK's."""
    data = np.load(FOLDER / f"train_{name}.npz")
    parameters = {
        k[6:]: C.parameter(init=data[k], name=k[6:]) for k in data.files if k[:6] == "param/"
    }
    x, t = C.sequence.input_variable((1, 5, 5)), C.sequence.input_variable((2, 5, 5))
    y = convolutional_gru(parameters)(x)
    loss = C.reduce_sum(C.square(y - t))
    learner = (learner or LEARNERS[name])(list(parameters.values()))
    trainer = C.Trainer(y, (loss, None), learner, **options)
    losses, samples = [], []
    for m in range(len(data["loss"])):
        batch = {v: [data[f"{k}/{m}/{i}"] for i in range(3)] for k, v in (("x", x), ("t", t))}
        assert trainer.train_minibatch(batch)
        losses.append(trainer.previous_minibatch_loss_average)
        samples.append(trainer.previous_minibatch_sample_count)
    np.testing.assert_allclose(losses, data["loss"], rtol=1e-6)
    np.testing.assert_array_equal(samples, data["samples"])
    for k, p in parameters.items():
        np.testing.assert_allclose(p.value, data["final/" + k], rtol=1e-5, atol=1e-5)


LENGTHS = [(4, 2, 3), (1, 5), (4, 2, 3), (4, 2, 3), (4, 2, 3), (2, 2)]


def ragged_lstm():
    x, t = C.sequence.input_variable(3, name="x"), C.input_variable(2, name="t")
    model = C.layers.Sequential(
        [
            C.layers.BatchNormalization(),
            C.layers.Recurrence(C.layers.LSTM(5, init=C.glorot_uniform(seed=1))),
            C.sequence.last,
            C.layers.Dense(2, init=C.glorot_uniform(seed=2)),
        ]
    )(x)
    return x, t, model, C.cross_entropy_with_softmax(model, t)


def minibatch(rng, x, t, lengths):
    data = [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]
    return {x: data, t: np.eye(2, dtype=np.float32)[rng.integers(0, 2, len(lengths))]}
