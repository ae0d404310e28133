"""The volumes, the net of the question with its numbers, and the example run for real."""

import re

import numpy as np
import pytest

import rgraph as C


def test_shapes_and_parameters_are_those_of_the_question(example):
    x, y = example.make_model(40, 40)
    assert x.shape == y.shape == (1, 40, 40, 40)
    table = {row.title: row for row in y.summary().rows}
    found = {title: (row.shape, row.count) for title, row in table.items()}
    convnet = [found[f"Convolution {i}"] for i in (1, 2, 3)]
    assert convnet == [
        ("frames × (64, 40, 40)", 640),
        ("frames × (32, 40, 40)", 18_464),
        ("frames × (3, 40, 40)", 867),
    ]
    assert sum(count for _, count in convnet) == 19_971
    # Three convolutions of three maps, three of one, three biases.
    for name in "up", "down":
        assert found[f"{name} (Recurrence)"] == ("frames × (1, 40, 40)", 3 * (27 + 9 + 1))
    assert found["splice 1"] == ("frames × (2, 40, 40)", 0)
    assert found["Convolution 4"] == ("frames × (1, 40, 40)", 19)
    assert y.summary().total == 19_971 + 2 * 111 + 19


def test_up_and_down_are_the_same_in_a_volume_upside_down(example):
    x, y = example.make_model(5, 8)
    v = np.random.default_rng(0).normal(size=(2, 1, 5, 8, 8)).astype(np.float32)
    first = y.eval({x: v})
    up, down = y.find_by_name("up"), y.find_by_name("down")
    for one, other in zip(own(up, down), own(down, up)):
        assert one.name == other.name
        one.value, other.value = other.value, one.value
    (last,) = (p for p in y.parameters if p.shape == (1, 2, 3, 3))
    last.value = last.value[:, ::-1]
    assert np.abs(y.eval({x: v}) - first).max() > 1e-4
    np.testing.assert_allclose(y.eval({x: v[:, :, ::-1]}), first[:, :, ::-1], atol=1e-5)


def own(recurrence, other):
    """The parameters that only one of two recurrences has."""
    return [p for p in recurrence.parameters if p not in other.parameters]


def test_every_slice_counts_for_every_other(example):
    x, y = example.make_model(4, 8)
    v = np.zeros((1, 1, 4, 8, 8), np.float32)
    before = y.eval({x: v})
    for i in range(4):
        changed = v.copy()
        changed[0, 0, i] = 1
        moved = np.abs(y.eval({x: changed}) - before).max((0, 1, 3, 4))
        assert (moved > 1e-7).all()


def test_single_slices_know_nothing_of_one_another(example):
    x, y = example.make_model(1, 8)
    seen = np.random.default_rng(0).normal(size=(2, 1, 8, 8, 8)).astype(np.float32)
    slices = example.cut(seen, 1)
    assert slices.shape == (16, 1, 1, 8, 8)
    np.testing.assert_array_equal(slices[11, 0, 0], seen[1, 0, 3])
    changed = slices.copy()
    changed[3] += 1
    moved = np.abs(y.eval({x: changed}) - y.eval({x: slices})).max((1, 2, 3, 4))
    assert moved[3] > 0
    assert (np.delete(moved, 3) == 0).all()


def test_volumes(example, monkeypatch):
    monkeypatch.setattr(example, "NOISE", 0)
    seen, truth = example.volumes(20, 16, np.random.default_rng(0))
    assert seen.shape == truth.shape == (20, 1, 16, 16, 16)
    for v in seen, truth:
        assert v.dtype == np.float32
        assert set(np.unique(v)) == {0, 1}
    missing = ~seen.any((3, 4))
    some = truth.any((3, 4))
    assert 0.1 < missing[some].mean() < 0.3  # a fifth
    shown = ~missing[..., None, None]
    assert ((seen >= truth) | ~shown).all()  # what is body is seen, where anything is
    ghosts = (seen > truth).any((3, 4))
    assert 0.3 < ghosts[some].mean() < 0.6  # 0.6 of the slices that are not missing
    # What is in two slices, one after the other, is body far more often than what is in one.
    both = (seen[:, :, 1:] * seen[:, :, :-1]) > 0
    lone = (seen[:, :, 1:] > 0) & ~both & shown[:, :, :-1]
    assert truth[:, :, 1:][both].mean() > 0.8 > 0.4 > truth[:, :, 1:][lone].mean()


def test_the_same_volumes_for_the_same_seed(example):
    one, same, other = (example.volumes(1, 8, np.random.default_rng(s))[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_dice(example):
    found, truth = np.array([[True, True], [False, False]]), np.array([[1, 0], [1, 1]])
    assert example.dice(found, truth) == pytest.approx(2 * 1 / (2 + 3))
    assert example.dice(truth > 0, truth) == 1
    assert example.dice(truth == 0, truth) == 0


def test_the_same_result_for_the_same_seed(run, tmp_path):
    options = "--size", 8, "--steps", 3, "--out", tmp_path
    first = run(*options)
    assert run(*options) == first != run(*options, "--seed", 2)


def test_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    printed = run("--quick", "--out", tmp_path)
    assert "parameters: 20,212" in printed
    scores = re.findall(r"Dice's score ([\d.]+) before, ([\d.]+) after", printed)
    (before, after), (_, alone) = (map(float, pair) for pair in scores)
    assert before < 0.3 < 0.7 < after
    assert after > alone + 0.05
    assert (tmp_path / "segmentation.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_done_is_said(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--size", "4"])
    assert "--size must be at least 8" in capsys.readouterr().err


def test_feeding_volumes_of_another_depth_says_what_is_wrong(example):
    x, y = example.make_model(5, 8)
    with pytest.raises(C.graph.GraphError, match=r"volume.*\(1, 5, 8, 8\)"):
        y.eval({x: np.zeros((1, 1, 4, 8, 8))})
