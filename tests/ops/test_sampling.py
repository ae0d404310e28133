"""Random classes: how often each comes."""

import itertools

import numpy as np
import pytest

import rgraph as C


def test_classes_come_as_often_as_their_weights_say():
    weights = np.array([1.0, 3.0, 5.0, 0.0, 1.0])
    drawn = C.random_sample(weights, 20000, allow_duplicates=True).eval()
    assert drawn.shape == (20000, 5)
    assert (drawn.sum(1) == 1).all()
    np.testing.assert_allclose(drawn.mean(0), weights / 10, atol=0.02)


def test_without_duplicates_each_comes_once():
    drawn = C.random_sample([1, 3, 50, 1, 0], 4, allow_duplicates=False).eval()
    np.testing.assert_array_equal(drawn.sum(0), [1, 1, 1, 1, 0])


def test_without_duplicates_the_first_comes_by_its_weight_and_the_next_by_what_is_left():
    p = np.array([0.5, 0.3, 0.2])
    pairs = {(i, j): p[i] * p[j] / (1 - p[i]) for i, j in itertools.permutations(range(3), 2)}
    sample = C.random_sample(p, 2, allow_duplicates=False)
    counts = dict.fromkeys(pairs, 0)
    for _ in range(3000):
        counts[tuple(sample.eval().argmax(1))] += 1
    for pair, expected in pairs.items():
        assert counts[pair] / 3000 == pytest.approx(expected, abs=0.035)


def test_every_run_draws_anew():
    sample = C.random_sample(np.ones(1000), 5, allow_duplicates=True)
    assert not np.array_equal(sample.eval(), sample.eval())


def test_how_often_a_class_is_expected():
    frequency = C.random_sample_inclusion_frequency
    np.testing.assert_allclose(frequency([1, 2, 3], 42, True).eval(), [7, 14, 21])
    np.testing.assert_allclose(frequency(np.full(4, 42.0), 3, False).eval(), np.full(4, 0.75))
    np.testing.assert_allclose(frequency([1, 2, 0], 2, False).eval(), [1, 1, 0])
    weights = np.array([4.0, 3.0, 2.0, 1.0, 1.0])
    found = frequency(weights, 2, False).eval()
    sample = C.random_sample(weights, 2, False)
    observed = np.mean([sample.eval().sum(0) for _ in range(3000)], axis=0)
    np.testing.assert_allclose(found, observed, atol=0.05)
    assert found.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    "weights, count, message",
    [
        ([1, -1], 1, "negative"),
        ([0, 0], 1, "all 0"),
        ([1, 1], 3, "3 different classes"),
        ([1, 1], 0, "at least 1"),
        ([[1, 1], [1, 1]], 1, "a vector"),
    ],
)
def test_what_can_not_be_drawn(weights, count, message):
    for op in (C.random_sample, C.random_sample_inclusion_frequency):
        with pytest.raises(C.GraphError, match=message):
            op(weights, count, False).eval()


def test_weights_in_a_row_and_of_numpys_type():
    weights = np.array([[0.2, 0.3, 0.5]])  # float64; CNTK 2.7 samples float32
    sample = C.random_sample(weights, 2, True)
    assert (sample.shape, sample.dtype) == ((2, 3), np.float32)
    assert C.times(sample, C.Parameter((3, 4))).shape == (2, 4)
    expected = C.random_sample_inclusion_frequency(weights, 2, True)
    assert (expected.shape, expected.dtype) == ((1, 3), np.float32)
    np.testing.assert_allclose(expected.eval(), [[0.4, 0.6, 1.0]], rtol=1e-6)
