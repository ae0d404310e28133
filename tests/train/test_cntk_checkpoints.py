"""Checkpoints that real CNTK 2.7 saved, and how it went on from them: `cntk_checkpoints.zip`.

Each learner's was saved after four of eight minibatches, of which `losses.npz` has the losses. The
session's was saved after 48 samples; `after.npz` has the parameters after 120.
"""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError

pytest.importorskip("google.protobuf", reason="protobuf is not installed")
REFERENCE = Path(__file__).parent.parent / "reference/cntk_checkpoints.zip"

MOMENTUM = C.momentum_schedule(0.9, minibatch_size=4)
DECAY = C.momentum_schedule(0.99, minibatch_size=4)


def rate(first):
    steps = [(2, first), (3, first / 2), (1, first / 4)]
    return C.learning_parameter_schedule(steps, minibatch_size=1, epoch_size=4)


LEARNERS = {
    "sgd": lambda p: C.sgd(p, rate(0.1)),
    "momentum": lambda p: C.momentum_sgd(p, rate(0.1), MOMENTUM),
    "nesterov": lambda p: C.nesterov(p, rate(0.1), MOMENTUM),
    "adagrad": lambda p: C.adagrad(p, rate(0.1)),
    "adadelta": lambda p: C.adadelta(p, rate(0.5)),
    "rmsprop": lambda p: C.rmsprop(p, rate(0.01), 0.9, 1.2, 0.5, 10, 1e-3),
    "fsadagrad": lambda p: C.fsadagrad(p, rate(0.01), MOMENTUM, variance_momentum=DECAY),
    "adam": lambda p: C.adam(p, rate(0.01), MOMENTUM, variance_momentum=DECAY),
    "adamax": lambda p: C.adam(p, rate(0.01), MOMENTUM, variance_momentum=DECAY, adamax=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("cntk")
    with zipfile.ZipFile(REFERENCE) as archive:
        archive.extractall(found)
    return found


def trainer_of(learner, outputs=2):
    x, t = C.input_variable(3, name="x"), C.input_variable(outputs, name="t")
    w = C.parameter((3, outputs), init=1.0, name="w")
    z = C.times(x, w) + C.parameter(outputs, name="b")
    return C.Trainer(z, (C.squared_error(z, t), None), [learner(z.parameters)]), (x, t)


@pytest.mark.parametrize("name", LEARNERS)
def test_training_goes_on_as_in_cntk(folder, name):
    there = np.load(folder / "losses.npz")
    trainer, (x, t) = trainer_of(LEARNERS[name])
    external = trainer.restore_from_checkpoint(str(folder / f"{name}.dnn"))
    assert external == ({"at": 3, "name": "sgd"} if name == "sgd" else {})
    assert trainer.total_number_of_samples_seen == 16
    losses = []
    for a, b in zip(there["x"][4:], there["t"][4:], strict=True):
        trainer.train_minibatch({x: a, t: b})
        losses.append(trainer.previous_minibatch_loss_average)
    np.testing.assert_allclose(losses, there[name][4:], rtol=1e-5)


def test_a_session_goes_on_as_in_cntk(folder, tmp_path, monkeypatch):
    """With running statistics, a rate for each sweep, and a place in the data."""
    shutil.copytree(folder / "session", tmp_path / "session")
    monkeypatch.chdir(tmp_path / "session")
    x, t = C.input_variable(3, name="x"), C.input_variable(2, name="t")
    h = C.times(x, C.parameter((3, 4)))
    h = C.layers.BatchNormalization(normalization_time_constant=10)(h)
    z = C.times(C.tanh(h), C.parameter((4, 2)))
    loss = C.squared_error(z, t)
    rates = C.learning_parameter_schedule([0.05, 0.02, 0.01], minibatch_size=1)
    decay = C.momentum_schedule(0.99)
    adam = C.adam(z.parameters, rates, C.momentum_schedule(0.9), variance_momentum=decay)
    trainer = C.Trainer(z, (loss, loss), [adam])
    streams = C.io.StreamDefs(x=C.io.StreamDef("x", 3), t=C.io.StreamDef("t", 2))
    source = C.io.MinibatchSource(C.io.CTFDeserializer("data.txt", streams), randomize=False)
    C.train.training_session(
        trainer=trainer, mb_source=source, mb_size=6, max_samples=120,
        model_inputs_to_streams={x: source.streams.x, t: source.streams.t},
        checkpoint_config=C.CheckpointConfig("session.dnn", frequency=24),
    ).train()  # fmt: skip
    there = np.load("after.npz")
    for i, p in enumerate(z.parameters):
        np.testing.assert_allclose(p.value, there[f"arr_{i}"], rtol=1e-5, atol=1e-6)
    assert trainer.total_number_of_samples_seen == int(there["arr_4"])


def refused(trainer, file, match):
    before = [p.value.copy() for p in trainer.model.parameters]
    with pytest.raises(GraphError, match=match):
        trainer.restore_from_checkpoint(str(file))
    for p, value in zip(trainer.model.parameters, before, strict=True):
        np.testing.assert_array_equal(p.value, value)


def test_what_does_not_suit_is_refused(folder, tmp_path):
    trainer, _ = trainer_of(LEARNERS["adam"])
    refused(trainer, folder / "sgd.dnn", "holds 1 numbers .* a learner by adam keeps 12")
    refused(trainer_of(LEARNERS["adam"], 3)[0], folder / "adam.dnn", "to another model")
    refused(
        trainer,
        folder / "session/session.dnn",
        "to another model: it has 7 arrays, this model has 2",
    )
    alone = shutil.copy(folder / "adam.dnn", tmp_path / "alone.dnn")
    refused(trainer, alone, "alone.dnn.ckp, the second file")
    second = tmp_path / "alone.dnn.ckp"
    for content in (b"", b"\x08\x01", (folder / "adam.dnn.ckp").read_bytes()[:300]):
        second.write_bytes(content)
        refused(trainer, alone, "alone.dnn|no model of CNTK")


def test_running_statistics_of_a_file_go_on(folder):
    """A model that is fine-tuned carries them on, as it did in CNTK."""
    criterion = C.load_model(str(folder / "session/session.dnn"))
    model = C.combine(criterion.outputs[:1])
    x, t = model.arguments[0], C.input_variable(2)
    before = {v.name: v.value.copy() for v in model.constants}
    trainer = C.Trainer(model, C.squared_error(model, t), C.sgd(model.parameters, 0.0))
    trainer.train_minibatch({x: np.ones((5, 3)), t: np.zeros((5, 2))})
    after = {v.name: v.value for v in model.constants}
    assert after["aggregate_count"] == before["aggregate_count"] + 5
    weight = 1 - np.exp(-5 / 10)  # CNTK's rule, for a time constant of 10 samples
    w = next(p for p in model.parameters if p.shape == (3, 4))
    mean = before["aggregate_mean"] + weight * (w.value.sum(0) - before["aggregate_mean"])
    np.testing.assert_allclose(after["aggregate_mean"], mean, rtol=1e-5)
