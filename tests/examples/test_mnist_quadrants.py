"""The quadrants, MNIST's file format, and the example run for real."""

import gzip
import re
import struct

import numpy as np
import pytest

import rgraph as C


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(folder, learned, tested):
    """Four files with random images."""
    rng = np.random.default_rng(0)
    for part, count in ("train", learned), ("t10k", tested):
        images = rng.integers(256, size=(count, 28, 28)).astype(np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)


def test_quadrants_are_read_in_four_orders(example):
    # quadrants 1 2 / 3 4, each two pixels wide and one high: tens are the quadrant
    image = np.array([[10, 11, 20, 21], [30, 31, 40, 41]])
    frames = example.as_frames(image[None]) * 255
    assert frames.shape == (1, 4, 1, 8, 1)
    np.testing.assert_allclose(
        frames[0, :, 0, :, 0],
        [
            [10, 11, 40, 41, 10, 11, 40, 41],  # the first of 1234, of 4321, of 1324, of 4231
            [20, 21, 30, 31, 30, 31, 20, 21],
            [30, 31, 20, 21, 20, 21, 30, 31],
            [40, 41, 10, 11, 40, 41, 10, 11],
        ],
        rtol=1e-6,
    )


def test_height_stays_height(example):
    image = np.zeros((4, 4))
    image[1, 0] = 255  # in quadrant 1: left, and below
    assert example.as_frames(image[None])[0, 0, 0, :2].tolist() == [[0, 1], [0, 0]]


def test_shapes_are_those_of_the_question(example):
    frames = example.as_frames(np.zeros((2, 28, 28)))
    assert frames.shape == (2, 4, 1, 56, 14)
    z = example.make_model()(C.sequence.input_variable((1, 56, 14)))
    assert z.shape == (10,)
    convolutions = 32 * (1 * 9 + 1) + 32 * (32 * 9 + 1)
    lstm = 4 * 5 * (32 * 26 * 5 + 5 + 1)
    dense = (5 + 1) * 50 + (50 + 1) * 10
    assert sum(w.value.size for w in z.parameters) == convolutions + lstm + dense


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_idx_files_are_read(example, tmp_path, name):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / name, array)
    np.testing.assert_array_equal(example.read_idx(tmp_path / "file"), array)


def test_a_cut_or_missing_idx_file_is_named(example, tmp_path):
    with pytest.raises(SystemExit, match=r"there is neither .*file nor file\.gz"):
        example.read_idx(tmp_path / "file")
    write_idx(tmp_path / "file", np.zeros((3, 4), np.uint8))
    whole = (tmp_path / "file").read_bytes()
    for part in whole[:-1], whole[:6], b"":
        (tmp_path / "file").write_bytes(part)
        with pytest.raises(SystemExit, match="file is no whole IDX file"):
            example.read_idx(tmp_path / "file")


def test_mnist_files_and_the_same_result_for_the_same_seed(run, tmp_path):
    write_mnist(tmp_path, 20, 10)
    options = "--mnist", tmp_path, "--epochs", 1, "--out", tmp_path / "out"
    first = run(*options)
    assert "20 images to learn from, as sequences of 4 frames (1, 56, 14)" in first
    assert "of 10 images it did not learn from" in first
    assert run(*options) == first != run(*options, "--seed", 2)


def test_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    (accuracy,) = re.findall(r"test accuracy: ([\d.]+)% of 360", run("--quick", "--out", tmp_path))
    assert float(accuracy) > 20  # a guess is right in 10 %, give or take 1.6
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"
