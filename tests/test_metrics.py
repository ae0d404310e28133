"""Metrics, where CNTK's numbers (test_losses.py) leave questions open."""

import numpy as np
import pytest

import rgraph as C

EYE = np.eye(4)


def distance(a, b, **options):
    x = C.sequence.input_variable(4)
    y = C.sequence.input_variable(4, sequence_axis=C.Axis("other"))
    f = C.edit_distance_error(x, y, **options)
    return float(f.eval({x: [EYE[s] for s in a], y: [EYE[s] for s in b]}))


def test_edits_per_label_times_frames():
    assert distance([[1, 2, 3]], [[2, 3, 1]]) == 2  # drop the 1, add it again
    assert distance([[1, 2, 3]], [[1, 3]]) == pytest.approx(1 * 3 / 2)
    assert distance([[1, 2], [3]], [[1, 2], [0]]) == pytest.approx(1 * 3 / 3)


def test_the_penalties_choose_the_way():
    assert distance([[1]], [[2]]) == 1
    assert distance([[1]], [[2]], subPen=5) == 2


def test_repeated_and_ignored_labels():
    assert distance([[1, 1, 2]], [[1, 2, 2]], squashInputs=True) == 0
    assert distance([[1, 0, 1]], [[1, 1]], tokensToIgnore=[0]) == 0
    assert distance([[1, 0, 1]], [[1, 0, 1]], squashInputs=True, tokensToIgnore=[0]) == 0


def test_samples_without_a_time_axis_are_sequences_of_one_label():
    x, y = C.input_variable(2), C.input_variable(2)
    f = C.edit_distance_error(x, y)
    assert f.eval({x: [[1, 3], [2, 0]], y: [[2, 0], [2, 0]]}) == 1


@pytest.mark.parametrize("top", [1, 2, 3])
def test_the_target_among_the_largest_scores(top):
    rng = np.random.default_rng(2)
    z, t = rng.normal(size=(20, 5)), np.eye(5)[rng.integers(0, 5, 20)]
    best = np.argsort(-z, axis=1)[:, :top]
    wrong = sum(k.argmax() not in b for k, b in zip(t, best))
    x, y = C.input_variable(5), C.input_variable(5)
    value = C.classification_error(x, y, topN=top).eval({x: z, y: t})
    assert np.sum(value) == wrong


def test_of_equal_scores_the_first_is_the_answer():
    assert C.classification_error([1, 1, 1], [1, 0, 0]).eval() == 0
    assert C.classification_error([1, 1, 1], [0, 1, 0]).eval() == 1


def test_the_best_score_of_each_group():
    s, n, g = (C.input_variable(1) for _ in range(3))
    feed = {
        s: [[1], [2], [5], [3]],
        n: [[4], [1], [2], [1]],
        g: [[1], [1], [2], [2]],
    }
    assert C.ndcg_at_1(s, n, g).eval(feed) == pytest.approx(100 * 4 * (1 / 4 + 2 / 2) / 2)


def test_topn_below_1_is_a_mistake():
    with pytest.raises(ValueError, match="topN"):
        C.classification_error([1, 2], [0, 1], topN=0)
