"""Models that real CNTK 2.7 saved, with what it gave for some inputs.

`tests/reference/cntk_models.zip` has a model for each operation and layer that CNTK could save, and
beside it the inputs (`in/NAME`, or `in/NAME/i` of sequence i) and its outputs (`out/K`).
"""

import contextlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import rgraph as C

pytest.importorskip("google.protobuf")

FILE = Path(__file__).parents[1] / "reference" / "cntk_models.zip"
with zipfile.ZipFile(FILE) as archive:
    CONTENT = {name: archive.read(name) for name in archive.namelist()}
NAMES = sorted(name.removesuffix(".npz") for name in CONTENT if name.endswith(".npz"))


def saved(name):
    with np.load(io.BytesIO(CONTENT[f"{name}.npz"])) as arrays:
        return dict(arrays)


def several(arrays, key):
    """An array, or those of all sequences."""
    found = [k for k in arrays if k.startswith(f"{key}/")]
    return [arrays[f"{key}/{i}"] for i in range(len(found))] if found else arrays[key]


def feed(model, arrays):
    return {a: several(arrays, f"in/{a.name}") for a in model.arguments}


def check(model, arrays):
    values = model.eval(feed(model, arrays))
    values = list(values.values()) if isinstance(values, dict) else [values]
    for number, value in enumerate(values):
        expected = several(arrays, f"out/{number}")
        lists = isinstance(expected, list)
        for a, b in zip(*(v if lists else [v] for v in (value, expected)), strict=True):
            assert a.size == b.size
            np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_what_it_gave_in_cntk(name, tmp_path):
    arrays, model = saved(name), C.load_model(CONTENT[f"{name}.model"])
    check(model, arrays)
    model.save(tmp_path / "ours")
    check(C.load_model(tmp_path / "ours"), arrays)


def test_it_can_learn_on(tmp_path):
    path = tmp_path / "lstm.model"
    path.write_bytes(CONTENT["lstm.model"])
    model = C.load_model(path)
    (x,) = model.arguments
    data = several(saved("lstm"), f"in/{x.name}")
    target = C.sequence.input_variable(3)
    loss = C.squared_error(model, target)
    trainer = C.Trainer(model, (loss, None), [C.sgd(model.parameters, 0.1)])
    losses = []
    for _ in range(5):
        trainer.train_minibatch({x: data, target: [np.zeros((len(d), 3)) for d in data]})
        losses.append(trainer.previous_minibatch_loss_average)
    assert losses == sorted(losses, reverse=True)
    C.testing.check_gradients(C.load_model(path), order=1)


def test_names_are_kept():
    two = C.load_model(CONTENT["two.model"])
    assert [o.name for o in two.outputs] == ["a", "b"]
    assert {a.name for a in two.arguments} == {"x", "y"}
    assert C.load_model(CONTENT["dense.model"]).W.shape == (3, 4, 3)


def test_layers_are_found_by_the_names_that_they_had():
    """What they gave in CNTK, too: a network is cut there to be carried on."""
    arrays, model = saved("named_layers"), C.load_model(CONTENT["named_layers.model"])
    assert model.name == "whole"
    for name in ("conv", "pool", "out"):
        layer = C.combine([model.find_by_name(name)])
        found = layer.eval({model.arguments[0]: arrays["in/x"]})
        np.testing.assert_allclose(found, arrays[f"named/{name}"], rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_named():
    content = CONTENT["tanh.model"]
    at = content.index(b"\x02op\x12") + len(b"\x02op\x12") + 1
    at = content.index(b"(", at) + 1  # the field of a whole number
    broken = content[:at] + bytes([126]) + content[at + 1 :]
    with pytest.raises(C.GraphError, match=r"operation Tanh\d+ of the file.*126 is unknown"):
        C.load_model(broken)


def test_files_that_are_cut_off_or_changed():
    """An error of one kind, or else a model: never another error."""
    rng = np.random.default_rng(0)
    for name in ("gru", "bn", "dense", "transpose"):
        content = CONTENT[f"{name}.model"]
        for _ in range(60):
            changed = bytearray(content[: rng.integers(1, len(content) + 1)])
            for _ in range(rng.integers(0, 4)):
                changed[rng.integers(len(changed))] = rng.integers(256)
            changed[0] = 0x08
            with contextlib.suppress(C.GraphError):
                C.load_model(bytes(changed))


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rgraph", *map(str, arguments)],
        capture_output=True, text=True, cwd=Path(C.__file__).parents[1],
    )  # fmt: skip


def test_files_are_converted_and_told_of(tmp_path):
    old, new = tmp_path / "old.model", tmp_path / "new.model"
    old.write_bytes(CONTENT["lstm.model"])
    done = command("convert", old, new)
    assert done.returncode == 0, done.stderr
    check(C.load_model(new), saved("lstm"))
    for path in old, new:
        shown = command("info", path)
        assert shown.returncode == 0, shown.stderr
        # 4 gates of 3: of 4 inputs, of 3 cells, and biases
        assert "96 (trainable 96" in shown.stdout and "'s' (4,) per frame" in shown.stdout
    failed = command("convert", tmp_path / "none", new)
    assert failed.returncode == 1 and "none" in failed.stderr and "Traceback" not in failed.stderr
