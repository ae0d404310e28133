"""The GRU against SciPy, the views against what one can tell by hand, and the example run."""

import re

import numpy as np
import pytest
from scipy.ndimage import correlate
from scipy.special import expit

import rgraph as C


def test_the_step_is_the_papers(example, monkeypatch):
    made = {"Dense": [], "Convolution3D": []}
    for kind, layers in made.items():
        real = getattr(C.layers, kind)

        def noted(*args, real=real, layers=layers, **kwargs):
            layers.append(real(*args, **kwargs))
            return layers[-1]

        monkeypatch.setattr(C.layers, kind, noted)
    h, x = C.input_variable((2, 3, 3, 3)), C.input_variable(5)
    f = C.Function(example.GRU3D(channels=2, grid=3)(h, x))
    rng = np.random.default_rng(0)
    for p in f.parameters:
        p.value = rng.normal(size=p.shape).astype(np.float32)
    h0, x0 = rng.normal(size=(2, 3, 3, 3)), rng.normal(size=5)

    def fcconv3d(gate, h):  # gates are made in the order update, reset, candidate
        fc = np.tensordot(x0, made["Dense"][gate].W.value, 1) + made["Dense"][gate].b.value
        U = made["Convolution3D"][gate].W.value
        conv = [sum(correlate(h[i], U[o, i], mode="constant") for i in range(2)) for o in range(2)]
        return np.where(fc > 0, fc, 0.1 * fc) + conv

    u, r = expit(fcconv3d(0, h0)), expit(fcconv3d(1, h0))
    true = (1 - u) * h0 + u * np.tanh(fcconv3d(2, r * h0))
    result = f.eval({h: h0[None].astype("f"), x: x0[None].astype("f")})[0]
    np.testing.assert_allclose(result, true, atol=1e-4)


def test_at_its_full_size(example):
    x = C.sequence.input_variable(1024)
    h = C.layers.Fold(example.GRU3D())(x)
    gate = 1024 * 8192 + 8192 + 128 * 128 * 27
    assert sum(w.value.size for w in h.parameters) == 3 * gate
    assert h.eval({x: np.ones((16, 5, 1024), np.float32)}).shape == (16, 128, 4, 4, 4)


def test_thirteen_different_ways_to_look(example):
    assert example.WAYS.shape == (13, 3)
    cosines = np.abs(example.WAYS @ example.WAYS.T)
    np.testing.assert_allclose(np.diag(cosines), 1)
    assert (cosines - np.eye(13)).max() < 0.9


def test_a_silhouette_along_an_axis_is_what_is_filled_along_it(example):
    filled = example.solids(3, np.random.default_rng(0))
    seen = example.silhouettes(filled, example.pixels()).reshape(3, 13, 16, 16)
    for axis, way in enumerate(np.eye(3)):
        (view,) = np.flatnonzero(np.abs(example.WAYS @ way) > 0.999)
        for solid, picture in zip(filled.reshape(3, 16, 16, 16), seen[:, view]):
            true = solid.any(axis)
            turned = [np.rot90(t, k) for t in (true, true.T) for k in range(4)]
            assert any(np.array_equal(picture, t) for t in turned)


def test_carving(example):
    """A box is all that lies within its three silhouettes along the axes; a view never lies."""
    box = np.zeros((16, 16, 16), bool)
    box[5:9, 4:12, 6:7] = True
    where = example.pixels()
    (seen,) = example.silhouettes(box.reshape(1, -1), where)
    straight = np.flatnonzero(np.abs(example.WAYS).max(axis=1) > 0.999)
    np.testing.assert_array_equal(example.carved(seen, straight, where), box.ravel())

    solids = example.solids(5, np.random.default_rng(0))
    for solid, seen in zip(solids, example.silhouettes(solids, where)):
        few, more = (example.carved(seen, np.arange(n), where) for n in (2, 9))
        assert not (solid & ~more).any() and not (more & ~few).any()


def test_frames_have_the_silhouette_and_whence(example):
    (seen,) = example.silhouettes(example.solids(1, np.random.default_rng(0)), example.pixels())
    frames = example.as_frames(seen, np.array([7, 2]))
    assert frames.shape == (2, 4, 16, 16)
    np.testing.assert_array_equal(frames[1, 0].ravel(), seen[2])
    np.testing.assert_allclose(frames[1, 1:, 3, 5], example.WAYS[2])


def test_overlap(example):
    a = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    b = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], bool)
    assert example.overlap(a, b) == pytest.approx((1 / 3 + 1) / 2)


def test_cubes_are_drawn_from_back_to_front(example):
    volume = np.zeros((16, 16, 16), bool)
    volume[3, 3, 3] = volume[0, 0, 0] = True  # the one hides the other
    polygons, bright = example.cubes(volume)
    assert polygons.shape == (6, 4, 2) and bright.shape == (6,)
    np.testing.assert_allclose(polygons[3:], polygons[:3], atol=1e-9)  # one line of sight
    volume[4, 3, 3] = True
    nearest = example.cubes(volume)[0][-3:]
    np.testing.assert_allclose(nearest, polygons[3:] + [-0.87, -0.5], atol=1e-9)


def test_quick_and_the_same_result_for_the_same_seed(run, tmp_path):
    pytest.importorskip("matplotlib")
    told = run("--quick", "--out", tmp_path)
    losses = [float(n) for n in re.findall(r"loss ([\d.]+)", told)]
    assert len(losses) == 10 and losses[-1] < 0.95 * losses[0]
    table = re.findall(r"^ +(\d)  (\d\.\d{3}) +(\d\.\d{3})$", told, re.MULTILINE)
    assert [n for n, _, _ in table] == ["1", "2", "4", "8"]
    hulls = [float(n) for *_, n in table]
    assert hulls == sorted(hulls) and hulls[-1] > 0.9
    assert (tmp_path / "solids.png").read_bytes()[:4] == b"\x89PNG"
    assert run("--quick", "--out", tmp_path) == told


def test_nothing_to_learn_is_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--steps", "0"])
    assert "must be at least 1" in capsys.readouterr().err
