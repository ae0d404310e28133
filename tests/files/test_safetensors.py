"""Files of arrays and texts: safetensors' own library reads ours, and we read its."""

import contextlib
import io
import json
import struct

import numpy as np
import pytest

import rgraph as C
from rgraph.files import safetensors

RNG = np.random.default_rng(0)
ARRAYS = {
    "w": RNG.normal(size=(2, 3)).astype(np.float32),
    "turned": RNG.normal(size=(3, 2)).T,
    "big-endian": np.arange(4, dtype=">i4"),
    "half": np.array(1.5, np.float16),
    "none": np.zeros((0, 5)),
    "truth": np.array([True, False]),
    "bytes": np.arange(7, dtype=np.uint8),
}
OTHERS = {"words": np.array(["a", "bcd"]), "complex": np.array([1 + 2j])}


def written(texts, arrays):
    file = io.BytesIO()
    safetensors.write(file, texts, arrays)
    return file.getvalue()


def test_what_is_written_is_read():
    found = safetensors.Contents(io.BytesIO(written({"a": "b"}, ARRAYS | OTHERS)))
    assert found.texts == {"a": "b"} and set(found) == set(ARRAYS | OTHERS)
    for name, array in (ARRAYS | OTHERS).items():
        assert (
            found[name].dtype == array.dtype.newbyteorder("=") and found[name].shape == array.shape
        )
        np.testing.assert_array_equal(found[name], array)
        found[name][...] = 0  # it is the reader's own


def test_the_formats_own_library_reads_it(tmp_path):
    library = pytest.importorskip("safetensors")
    path = tmp_path / "arrays.safetensors"
    path.write_bytes(written({"a": "b"}, ARRAYS))
    with library.safe_open(path, "numpy") as file:
        assert file.metadata() == {"a": "b"}
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


def test_we_read_what_its_library_writes(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    given = {k: np.ascontiguousarray(a) for k, a in ARRAYS.items() if k != "big-endian"}
    found = safetensors.Contents(io.BytesIO(library.save(given, {"a": "b"})))
    assert found.texts == {"a": "b"}
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_saved_models_weights_have_their_names(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    model = C.layers.Dense(3)(C.input_variable(2))
    model.save(tmp_path / "model")
    weights = library.load_file(tmp_path / "model")
    np.testing.assert_array_equal(weights["W"], model.W.value)
    np.testing.assert_array_equal(weights["b"], model.b.value)


def test_parameters_whose_names_mean_something_else(tmp_path):
    names = ["array1", "w", "__metadata__", "w", "array0", ""]
    x = C.input_variable(2)
    f = x
    for i, name in enumerate(names):
        f = f * 2 + C.Parameter(2, init=float(i), name=name)
    f.save(tmp_path / "model")
    expected = f.eval({x: [[1, 2]]})
    assert (C.load_model(tmp_path / "model").eval([[1, 2]]) == expected).all()
    library = pytest.importorskip("safetensors.numpy")
    kept = library.load_file(tmp_path / "model").values()
    assert sorted(a[0] for a in kept if a.shape == (2,)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0, 10**15]}, {"data_offsets": [4, 0]}, {"data_offsets": [-4, 20]},
        {"shape": [10**9, 10**9]}, {"shape": [-6]}, {"shape": [2.0, 3]}, {"dtype": "F99"},
        {"dtype": 3}, {"shape": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_is_refused(change, tmp_path):
    """Whatever a header says, nothing is made of more memory than the file has bytes."""
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **change}
    header = json.dumps({"__metadata__": {"graph": "{}", "order of arrays": "[]"}, "w": entry})
    content = struct.pack("<Q", len(header)) + header.encode() + bytes(24)
    with pytest.raises(C.GraphError, match="no saved function"):
        C.load_model(content)


def test_files_that_are_cut_off_or_changed(tmp_path):
    """An error of one kind, or else a model: never another error."""
    C.layers.Recurrence(C.layers.GRU(2))(C.sequence.input_variable(2)).save(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    for _ in range(400):
        whole = RNG.random() < 0.7
        changed = bytearray(content if whole else content[: RNG.integers(1, len(content))])
        for _ in range(RNG.integers(1, 5)):
            changed[RNG.integers(len(changed))] = RNG.integers(256)
        with contextlib.suppress(C.GraphError):
            C.load_model(bytes(changed))
