"""Functions saved and loaded compute the same; a file holds no code."""

import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

import rgraph as C
from rgraph.files import safetensors
from rgraph.graph import GraphError


def texts(path):
    with open(path, "rb") as file:
        return safetensors.Contents(file).texts


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


def test_a_recurrence_with_its_parameters(path):
    x = C.sequence.input_variable(3, name="x")
    f = C.layers.Sequential([C.layers.Recurrence(C.layers.LSTM(4)), C.layers.Dense(2)])(x)
    data = [np.random.default_rng(n).normal(size=(n, 3)) for n in (3, 1, 5)]
    f.save(path)
    loaded = C.load_model(path)
    same(loaded.eval({"x": data}), f.eval({x: data}))
    assert [p.name for p in loaded.parameters] == [p.name for p in f.parameters]
    of_file = loaded.grad({loaded.x: data}, wrt=loaded.parameters)
    of_here = f.grad({x: data}, wrt=f.parameters)
    for mine, its in zip(f.parameters, loaded.parameters, strict=True):
        np.testing.assert_array_equal(of_here[mine], of_file[its])


def test_a_time_axis_that_a_run_makes(path):
    x = C.sequence.input_variable(1)
    f = C.sequence.gather(x, x > 1) + 1
    f.save(path)
    data = [np.array([[1.0], [2], [3]]), np.array([[5.0]])]
    same(C.load_model(path).eval(data), [np.array([[3.0], [4]]), np.array([[6.0]])])


def test_a_time_axis_of_its_own_is_no_new_one_s(path):
    """A number that a fresh process counts from the beginning must not meet a loaded one."""
    axis = C.Axis.new_unique_dynamic_axis("t")
    a, b = (C.sequence.input_variable(1, sequence_axis=axis, name=n) for n in "ab")
    named = C.sequence.input_variable(1, sequence_axis=C.Axis("time"), name="c")
    (C.sequence.reduce_sum(a + b) + C.sequence.reduce_sum(named)).save(path)
    saved = texts(path)["graph"]
    program = f"""if 1:
        import rgraph as C
        f, new = C.load_model({str(path)!r}), C.Axis.new_unique_dynamic_axis("t")
        assert f.a.dynamic_axes == f.b.dynamic_axes != f.c.dynamic_axes, f.arguments
        assert f.c.dynamic_axes[1] == C.Axis("time")
        assert new != f.a.dynamic_axes[1], new
        x = C.sequence.input_variable(1, sequence_axis=new)
        print(f.eval({{"a": [[[1.], [2.]]], "b": [[[3.], [4.]]], "c": [[[5.]]]}}).item())
    """
    assert axis.name in saved
    own = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(C.__file__))}
    done = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True)
    assert done.stdout == "15.0\n", done.stderr


def test_images_and_several_outputs(path):
    x = C.input_variable((2, 6, 6), name="x")
    y = C.layers.Convolution2D((3, 3), 4, activation=C.relu)(x)
    f = C.combine(C.layers.MaxPooling((2, 2), strides=2)(y), C.reduce_sum(y))
    data = np.random.default_rng(0).normal(size=(2, 2, 6, 6))
    f.save(path)
    same(C.load_model(path).eval({"x": data}).values(), f.eval({x: data}).values())


def test_an_open_model_stays_open(path):
    x = C.input_variable(3)
    model = C.layers.Dense(2)
    applied = model(x)
    model.save(path)
    loaded = C.load_model(path)
    data = np.ones((1, 3))
    same(loaded(x).eval({x: data}), applied.eval({x: data}))


def test_from_bytes_with_custom_attributes(path):
    f = C.Parameter(2, init=3) * 2
    f.custom_attributes = {"classes": ["cat", "dog"], "size": {"width": 3}}
    f.save(path)
    loaded = C.Function.load(path.read_bytes())
    assert loaded.custom_attributes == f.custom_attributes
    np.testing.assert_array_equal(loaded.eval(), [6, 6])


def test_arrays_as_custom_attributes(path):
    """As CNTK: of any dtype, with their shape."""
    f = C.Parameter(2, init=3) * 2
    f.custom_attributes = {"mean": np.arange(6, dtype=np.int8).reshape(2, 3)}
    f.save(path)
    mean = C.load_model(path).custom_attributes["mean"]
    assert mean.dtype == np.int8 and mean.tolist() == [[0, 1, 2], [3, 4, 5]]
    f.custom_attributes["mean"] = {1, 2}
    with pytest.raises(GraphError, match="holds a set"):
        f.save(path)


def test_restore_gives_the_values_back(path):
    p, c = C.Parameter(2, init=1), C.constant(np.array([5.0, 6], np.float32))
    f = p * c
    f.save(path)
    p.value, c.value = [8, 8], [9, 9]
    f.restore(path)
    np.testing.assert_array_equal(f.eval(), [5, 6])
    with pytest.raises(GraphError, match="a different function"):
        (f * C.Parameter(3)[0:1]).restore(path)


def test_a_parameter_without_a_shape_is_refused(path):
    with pytest.raises(GraphError, match="apply the model"):
        C.layers.Dense(2).save(path)


def test_nothing_in_a_file_is_unpickled(path):
    (C.Parameter(2, init=3) * 2).save(path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["graph"])["format"] == 1
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(content) - 8 - length


@pytest.mark.parametrize("kind", ["text", "empty", "array", "deep", "cut off", "another's"])
def test_what_is_no_model_is_refused(path, kind):
    (C.Parameter(2, init=3) * 2).save(path)
    whole = path.read_bytes()
    with open(path, "wb") as file:
        if kind == "array":
            np.save(file, np.ones(3))
        elif kind == "deep":
            np.savez(file, graph=np.frombuffer(b"[" * 99999, np.uint8))
        elif kind == "another's":
            safetensors.write(file, {"graph": '{"format": 1, "nodes": 3}'}, {})
        else:
            file.write({"text": b"no model", "empty": b"", "cut off": whole[:-40]}[kind])
    with pytest.raises(GraphError, match="no saved function"):
        C.load_model(path)


@pytest.mark.parametrize("save", ["model", "checkpoint"])
def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path, save, monkeypatch):
    """A process that ends while it saves leaves the old file; its part is cleaned up later."""
    path = tmp_path / "new" / "folder" / "file"
    p = C.Parameter(2, init=3)
    y = p * C.input_variable(2)
    trainer = C.Trainer(y, C.reduce_sum(y), C.sgd([p], 0.1))
    write = y.save if save == "model" else trainer.save_checkpoint
    write(str(path))
    before = path.read_bytes()
    path.chmod(0o640)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = socket.gethostname()
    old, other = (path.parent / f"file.{m}-{ended.pid}-1.part" for m in (machine, "elsewhere"))
    mine = path.parent / f"file.{machine}-{os.getppid()}-1.part"
    for part in (old, other, mine):
        part.write_bytes(b"")

    def stops(file, texts, arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(safetensors, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            write(str(path))
    assert path.read_bytes() == before
    write(str(path))
    left = {other.name, mine.name} if os.name == "posix" else {old.name, other.name, mine.name}
    assert {f.name for f in path.parent.iterdir()} == {"file", *left}
    assert path.stat().st_mode & 0o777 == 0o640 or os.name != "posix"
    with pytest.raises(GraphError, match="no file"):
        write(str(path.parent))


def test_an_operation_that_is_not_known_here(path):
    (C.Parameter(2, init=3) * 2).save(path)
    path.write_bytes(path.read_bytes().replace(b"element_times", b"element_tymes"))
    with pytest.raises(GraphError, match="element_tymes"):
        C.load_model(path)


def test_a_size_without_end(path):
    (C.Parameter(2, init=3) * C.input_variable(2)).save(path)
    with open(path, "rb") as file:
        found = safetensors.Contents(file)
        texts, arrays = dict(found.texts), {name: found[name] for name in found}
    texts["graph"] = re.sub(r"\[2\]", "[1e400]", texts["graph"])
    with open(path, "wb") as file:
        safetensors.write(file, texts, arrays)
    with pytest.raises(GraphError, match="no saved function"):
        C.load_model(path)


def test_a_file_of_an_older_version():
    """Written by version 0.1, which called `sum_rows` by another name."""
    error = C.load_model(pathlib.Path(__file__).parents[1] / "reference" / "format_1.model")
    x, t = error.arguments
    scores = np.array([[3, 2, 1], [3, 2, 1]], np.float32)
    labels = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    assert error.eval({x: scores, t: labels}) == 1  # only the second is not among the best two
