"""The three ways to share filters over channels, against SciPy, and the example run for real."""

import argparse
import re

import numpy as np
import pytest
from scipy.signal import convolve2d, correlate2d

SMALL = argparse.Namespace(seed=3, filters=2, kernel=3, size=6, images=2)


@pytest.mark.parametrize("way", ["frames", "volume", "loop"])
def test_a_way_is_scipys_correlation_of_each_channel(example, way):
    model = example.Model(way, 4, SMALL)
    result, of_W, of_b, of_images = model.numbers()
    images = np.reshape(model.data[model.x], (2, 4, 6, 6)).astype(float)
    W, b = model.W.value.astype(float), model.b.value.astype(float)
    true = np.zeros((2, 4, 2, 4, 4))
    true_W, true_images = np.zeros(W.shape), np.zeros(images.shape)
    for n, c, f in np.ndindex(2, 4, 2):
        true[n, c, f] = correlate2d(images[n, c], W[f, 0], "valid") + b[f]
        true_W[f, 0] += correlate2d(images[n, c], 2 * true[n, c, f], "valid")
        true_images[n, c] += convolve2d(2 * true[n, c, f], W[f, 0], "full")
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(result, true, **close)
    np.testing.assert_allclose(of_W, true_W, **close)
    np.testing.assert_allclose(of_b[:, 0, 0], 2 * true.sum((0, 1, 3, 4)), **close)
    np.testing.assert_allclose(of_images, true_images, **close)


def test_a_way_that_computes_something_else_is_found(example, monkeypatch):
    build, *rest = example.WAYS["volume"]

    def wrong(*args):
        x, y = build(*args)
        return x, y * 1.001

    monkeypatch.setitem(example.WAYS, "volume", (wrong, *rest))
    with pytest.raises(AssertionError, match="the three ways differ by"):
        example.check_same(SMALL)


def test_filters_larger_than_the_images_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--size", "4"])
    assert "the images not smaller than the filters" in capsys.readouterr().err


def test_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    printed = run("--quick", "--out", tmp_path)
    assert "the three ways agree, gradients too" in printed
    rows = re.findall(r"^ +(\d+)  (frames|volume|loop) .* ms .* MB", printed, re.MULTILINE)
    assert rows == [(n, way) for n in ("2", "4") for way in ("frames", "volume", "loop")]
    assert (tmp_path / "shared_filters.png").read_bytes()[:4] == b"\x89PNG"
