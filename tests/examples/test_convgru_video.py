"""The film example: its parts against SciPy and by hand, and the program run for real."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

import rgraph as C

CLIP = Path(__file__).parents[2] / "examples" / "data" / "big_buck_bunny_96x54.npz"
SMALL = ["--size", "16", "--hidden", "2", "--frames", "20"]


@pytest.fixture
def film():
    """A bright square that moves two pixels to the right in each frame."""
    frames = np.zeros((24, 12, 64, 3), np.uint8)
    for t in range(24):
        frames[t, 4:8, 2 * t : 2 * t + 6] = 240, 160, 80
    return frames


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def convolved(w, x):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    return np.concatenate([correlate(padded, each, "valid") for each in w])


def test_a_step_is_a_gru_with_scipys_convolutions(example):
    rng = np.random.default_rng(0)
    h0, x0 = rng.normal(size=(2, 5, 6)), rng.normal(size=(3, 5, 6))
    h, x = C.input_variable((2, 5, 6)), C.input_variable((3, 5, 6))
    new = example.ConvolutionalGRU((3, 3), 2, init=C.glorot_uniform())(h, x)
    p = {v.name: v.value.astype(float) for v in new.parameters}
    for b in "bz", "br", "bh":
        p[b] += rng.normal(size=(2, 1, 1))
        getattr(new, b).value = p[b]
    z = sigmoid(p["bz"] + convolved(p["Wz"], x0) + convolved(p["Uz"], h0))
    r = sigmoid(p["br"] + convolved(p["Wr"], x0) + convolved(p["Ur"], h0))
    candidate = np.tanh(p["bh"] + convolved(p["Wh"], x0) + convolved(p["Uh"], h0 * r))
    true = z * h0 + (1 - z) * candidate
    np.testing.assert_allclose(new.eval({h: h0, x: x0})[0], true, atol=1e-5)


def test_frame_by_frame_is_the_recurrence_over_the_sequence(example):
    frames = np.random.default_rng(0).uniform(size=(9, 3, 6, 7)).astype(np.float32)
    model = example.NextFrame(hidden=4)
    x = C.sequence.input_variable((4, 6, 7))
    whole = model.over_sequences(x).eval({x: example.given(frames, 5)})[0]
    np.testing.assert_allclose(model.run_on(frames[:5], 5), whole[4:], atol=1e-5)


def test_a_film_is_watched_while_it_comes(example, tmp_path, capsys):
    film = np.random.default_rng(0).integers(0, 255, (4, 6, 8, 3), np.uint8)
    np.savez(tmp_path / "film.npz", frames=film)
    example.watch(example.NextFrame(hidden=4), tmp_path / "film.npz", 8)
    lines = capsys.readouterr().out.splitlines()[1:]
    scaled = film.astype(float) / 255
    repeating = np.mean((scaled[1:] - scaled[:-1]) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose([float(line.split()[2]) for line in lines], repeating, atol=1e-5)


def test_the_model_never_sees_what_is_not_given(example):
    frames = np.random.default_rng(0).uniform(size=(9, 3, 6, 7))
    x = example.given(frames, 5)
    np.testing.assert_array_equal(x[:5, :3], frames[:5])
    assert (x[:5, 3] == 1).all()
    assert (x[5:] == 0).all()


def test_averaging(example):
    np.testing.assert_allclose(
        example.averaging(5, 2), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-6
    )
    np.testing.assert_allclose(example.averaging(4, 4), np.eye(4))


def test_the_clip_scaled_to_a_third_is_the_means_of_blocks(example):
    film = example.read_film(CLIP, 7, 32)
    raw = np.load(CLIP)["frames"][:8].reshape(8, 18, 3, 32, 3, 3).mean((2, 4)) / 255
    distinct = raw[[0, 1, 2, 3, 4, 5, 6]].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(film, distinct, atol=1e-5)
    # Frame 7 of the clip repeats frame 6.
    assert np.abs(raw[7] - raw[6]).mean() < 0.001
    following = example.read_film(CLIP, 8, 32)[7].transpose(1, 2, 0)
    assert np.abs(following - raw[6]).mean() > 0.005


def test_quick(run, tmp_path):
    printed = run("--quick", "--out", tmp_path / "new" / "folder")
    losses = [float(n) for n in re.findall(r"\[#+ *\] \d+/60  loss ([\d.]+)", printed)]
    assert len(losses) == 10
    assert losses[-1] < 0.7 * losses[0]
    pattern = r"(\d\.\d{6}) +([\d.]+) dB"
    (copied, decibels), (error, _), (_, _), (_, _) = re.findall(pattern, printed)

    raw = np.load(CLIP)["frames"][:58].reshape(58, 18, 3, 32, 3, 3).mean((2, 4)) / 255
    film = np.delete(raw, [7, 32], axis=0)  # those that repeat the one before
    true = np.mean((film[39:] - film[38:-1]) ** 2)
    assert float(copied) == pytest.approx(true, abs=2e-6)
    assert float(decibels) == pytest.approx(-10 * np.log10(true), abs=0.06)
    assert float(error) < float(copied)

    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "new" / "folder"
    with image.open(folder / "prediction.gif") as gif:
        assert gif.n_frames == 12
    with image.open(folder / "prediction.png") as png:
        assert png.size == (6 * (6 * 32 + 4), 3 * (6 * 18 + 18))
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.npz", "prediction.gif", "prediction.png", "training.checkpoint"
    ]  # fmt: skip


def test_a_seed_says_all(example, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)  # pictures take longer than these few steps

    def learned(name, seed):
        out = tmp_path / name
        assert example.main([*SMALL, "--steps", "4", "--seed", seed, "--out", str(out)]) == 0
        return dict(np.load(out / "model.npz"))

    one, same, other = learned("a", "5"), learned("b", "5"), learned("c", "6")
    for name, value in one.items():
        np.testing.assert_array_equal(value, same[name])
    assert (one["Wz"] != other["Wz"]).any()


def test_interrupted_it_leaves_a_model_to_go_on_from(program, environment, run, tmp_path):
    command = [sys.executable, program, *SMALL, "--steps", "600", "--out", tmp_path]
    # What runs in the background of a shell ignores interrupts, and so would the program.
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    options = {"stdout": subprocess.PIPE, "text": True, "env": environment, **heed}
    with subprocess.Popen(command, **options) as process:
        for line in process.stdout:
            if " 60/600 " in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    saved = tmp_path / "model.npz"
    assert f"the model is in {saved}" in rest
    assert int(re.search(r"stopped after (\d+) steps", rest)[1]) >= 60
    model = dict(np.load(saved))
    assert model["Wz"].shape == (2, 6, 3, 3)

    again = tmp_path / "again"
    options = *SMALL, "--hidden", 7, "--steps", 0, "--load", saved, "--out", again
    assert "model: 2 maps" in run(*options)
    for name, value in np.load(again / "model.npz").items():
        np.testing.assert_array_equal(value, model[name])


def test_killed_and_resumed_it_learns_the_same(program, environment, run, tmp_path):
    """Bit for bit, whenever it is killed."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    options = [*SMALL, "--steps", "40"]
    run(*options, "--out", whole)
    command = [sys.executable, program, *options, "--out", pieces]
    for lines in (2, 4, 6):  # that it prints before it is killed
        streams = {"stdout": subprocess.PIPE, "text": True, "env": environment}
        with subprocess.Popen(command, **streams) as process:
            for line in process.stdout:
                lines -= "loss" in line
                if not lines:
                    break
            process.kill()
        if "--resume" not in command:
            command.append("--resume")
    assert "going on after" in run(*command[2:])
    expected = np.load(whole / "model.npz")
    for name, value in np.load(pieces / "model.npz").items():
        np.testing.assert_array_equal(value, expected[name])


def test_resume_with_other_options_is_refused(example, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    options = [*SMALL, "--out", str(tmp_path)]
    example.main([*options, "--steps", "2"])
    with pytest.raises(SystemExit, match="other options"):
        example.main([*options, "--steps", "3", "--resume"])


def test_a_file_is_written_whole_or_not_at_all(example, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    example.save(path, [C.Parameter(2, init=1, name="p")])

    def broken(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(KeyboardInterrupt):
        example.save(path, [C.Parameter(2, init=2, name="p")])
    np.testing.assert_array_equal(np.load(path)["p"], [1, 1])


def test_a_video_file(example, film, tmp_path, capsys):
    imageio = pytest.importorskip("imageio.v3")
    video = tmp_path / "square.gif"
    imageio.imwrite(video, film.repeat(2, axis=0))  # each frame is shown twice
    options = ["--size", "32", "--hidden", "2", "--steps", "2", "--frames", "99"]
    assert example.main(["--video", str(video), *options, "--out", str(tmp_path)]) == 0
    assert "square.gif: 24 frames of 32x6, the first 17 to learn from" in capsys.readouterr().out


def test_without_a_reader_it_says_which_extra_has_one(example, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    video = tmp_path / "film.mp4"
    video.touch()
    with pytest.raises(SystemExit, match=r"film\.mp4 .* pip install '\.\[video\]'"):
        example.main(["--video", str(video)])


def test_a_file_that_is_no_video(program, environment, tmp_path):
    pytest.importorskip("imageio.v3")
    video = tmp_path / "film.mp4"
    video.write_bytes(b"no video")
    command = [sys.executable, program, "--video", video]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{video} can't be read; for videos: pip install")
    assert "Traceback" not in done.stderr


def test_without_pillow_there_are_no_pictures_but_all_the_rest(
    example, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert example.main([*SMALL, "--steps", "1", "--out", str(tmp_path)]) == 0
    assert "pip install '.[examples]'" in capsys.readouterr().out
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["model.npz", "training.checkpoint"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "3"], "--frames must be at least 16"),
        (["--steps", "-1"], "--steps must be at least 0"),
        (["--device", "abacus"], "there is no device 'abacus' here, there is [CPU"),
        (["--video", "nowhere.mp4"], "there is no file nowhere.mp4"),
    ],
)
def test_what_cannot_be_done_is_said(example, options, message, capsys):
    with pytest.raises(SystemExit):
        example.main(options)
    assert message in capsys.readouterr().err


def test_a_film_that_stands_still(example, tmp_path):
    np.savez(tmp_path / "still.npz", frames=np.full((40, 8, 8, 3), 100, np.uint8))
    with pytest.raises(SystemExit, match="has 1 different frames, at least 16 are needed"):
        example.main(["--video", str(tmp_path / "still.npz")])
