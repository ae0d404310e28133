"""The clips, both nets, and the example run for real."""

import re

import numpy as np
import pytest

import rgraph as C


def center(frame):
    """Where the star is, on a torus: the angles of the first Fourier coefficients, in pixels."""
    waves = np.fft.fft2(frame)
    angles = -np.angle([waves[1, 0], waves[0, 1]])
    return angles / (2 * np.pi) * len(frame)  # down, right


@pytest.fixture
def clean(example, monkeypatch):
    monkeypatch.setattr(example, "NOISE", 0)

    def clips(kind):
        rng = np.random.default_rng(3)
        return [example.make_clip(kind, rng)[:, 0].astype(float) for _ in range(10)]

    return clips


@pytest.mark.parametrize(
    ("kind", "way"), [("right", (0, 1)), ("left", (0, -1)), ("down", (1, 0)), ("up", (-1, 0))]
)
def test_what_moves_moves_that_way(example, clean, kind, way):
    for frames in clean(kind):
        size = example.SIZE
        steps = np.diff([center(f) for f in frames], axis=0)
        steps = (steps + size / 2) % size - size / 2
        assert ((steps @ way > 1) & (steps @ way < 2.2)).all()
        assert np.abs(steps @ way[::-1]).max() < 0.2


def test_what_grows_or_shrinks_does_so(clean):
    for kind, sign in ("grows", 1), ("shrinks", -1):
        for frames in clean(kind):
            assert (sign * np.diff(frames.sum((1, 2))) > 0).all()


def test_what_stands_stands_and_what_jumps_jumps(clean):
    for frames in clean("stands"):
        assert (frames == frames[0]).all()
    for frames in clean("jumps"):
        assert np.abs(np.diff(frames, axis=0)).max((1, 2)).min() > 0.3


def turn(before, after):
    """By how much a star turned, clockwise: the shift of its strongest wave around its center."""
    size = len(before)
    waves = []
    for frame in before, after:
        down, right = np.mgrid[:size, :size] - center(frame)[:, None, None] + size / 2
        right, down = right % size - size / 2, down % size - size / 2
        around = np.exp(1j * np.arctan2(down, right)) * np.hypot(right, down)
        waves.append({rays: np.sum(frame * around**rays) for rays in (2, 3)})
    rays = max((2, 3), key=lambda n: abs(waves[0][n]) / 4.0**n)
    return np.angle(waves[1][rays] / waves[0][rays]) / rays


def test_what_turns_turns_that_way(clean):
    for kind, sign in ("turns right", 1), ("turns left", -1), ("stands", 0):
        for frames in clean(kind):
            turns = [turn(a, b) for a, b in zip(frames, frames[1:])]
            low, high = (0.2, 0.45) if sign else (-0.01, 0.01)
            assert all(low < (sign or 1) * angle < high for angle in turns)


def test_the_last_frame_is_the_same_for_all_classes_but_jumps(example, clean):
    one, *others = [clean(kind) for kind in example.MOTIONS if kind != "jumps"]
    for other in others:
        for a, b in zip(one, other):
            np.testing.assert_allclose(a[-1], b[-1])


def test_clips_are_ragged_and_the_same_for_the_same_seed(example):
    clips, labels = example.make_clips(60, np.random.default_rng(1))
    assert np.bincount(labels).tolist() == [6] * 10
    assert {len(c) for c in clips} == {4, 5, 6, 7, 8}
    assert {c.shape[1:] for c in clips} == {(1, 20, 20)}
    again, _ = example.make_clips(60, np.random.default_rng(1))
    other, _ = example.make_clips(60, np.random.default_rng(2))
    for a, b in zip(clips, again):
        np.testing.assert_array_equal(a, b)
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(clips, other))


def test_parameters_and_shapes(example):
    x = C.sequence.input_variable((1, 20, 20))
    of = {name: make()(x) for name, make in example.MODELS.items()}
    count = {name: sum(p.value.size for p in z.parameters) for name, z in of.items()}
    conv = 16 * (9 + 1)
    lstm = 4 * 100 * (32 * 5 * 5 + 100 + 1)
    assert count["LSTM"] == conv + 32 * (16 * 9 + 1) + lstm + (100 + 1) * 10
    gru = 3 * (2 * 16 * 16 * 9 + 16)
    assert count["convolutional GRU"] == conv + gru + (16 + 1) * 10
    clips = [np.zeros((n, 1, 20, 20)) for n in (2, 4)]
    for z in of.values():
        assert [a.shape for a in z.eval({x: clips})] == [(2, 10), (4, 10)]
        assert C.sequence.last(z).eval({x: clips}).shape == (2, 10)


def test_an_answer_depends_on_the_frames_so_far_alone(example):
    clips, _ = example.make_clips(4, np.random.default_rng(0))
    x = C.sequence.input_variable((1, 20, 20))
    for make in example.MODELS.values():
        z = make()(x)
        for clip, whole in zip(clips, z.eval({x: clips})):
            np.testing.assert_allclose(z.eval({x: clip[:3]})[0], whole[:3], atol=1e-5)


def test_images_fed_to_the_lstm_are_refused_with_the_hint(example):
    x = C.sequence.input_variable((32, 5, 5))
    with pytest.raises(C.graph.GraphError, match=r"reshape to \(800,\)"):
        C.layers.Recurrence(C.layers.LSTM(100))(x)


def test_accuracy_so_far(example):
    told = [np.array([1, 2, 2, 2]), np.array([0, 2, 1, 1, 0])]
    accuracy = example.accuracy_so_far(told, np.array([2, 1]))
    assert accuracy == [0, 0.5, 1, 1, 0.5, 0.5, 0.5, 0.5]


def test_the_same_result_for_the_same_seed(run, tmp_path):
    options = "--clips", 32, "--epochs", 1, "--out", tmp_path
    first = run(*options)
    assert run(*options) == first != run(*options, "--seed", 2)


def test_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    printed = run("--quick", "--out", tmp_path)
    first_lstm, lstm, first_gru, gru = map(float, re.findall(r"loss ([\d.]+)", printed))
    assert lstm < first_lstm < 2.4
    assert gru < first_gru < 2.4  # who knows nothing and says so has log(10), 2.303
    rows = re.findall(r"^(\w.*?) +(\d+,\d+) +([\d.]+)% +([\d.]+)%$", printed, re.MULTILINE)
    assert [row[:2] for row in rows] == [("LSTM", "366,210"), ("convolutional GRU", "14,202")]
    # The last frame alone tells nothing: 10 %, give or take 1.3.
    assert all(5 < float(alone) < 15 for *_, alone in rows)
    assert (tmp_path / "clips.png").read_bytes()[:4] == b"\x89PNG"
