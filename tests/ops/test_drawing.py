"""Random values and classes: their distributions against the formulas."""

import numpy as np
import pytest

import rgraph as C

pytestmark = pytest.mark.cpu

MANY = (200, 500)


# Means and standard deviations; 100,000 draws are good to a few thousandths.
@pytest.mark.parametrize(
    "draw, mean, deviation",
    [
        (lambda: C.random.uniform(MANY, low=-1, high=3), 1, 4 / np.sqrt(12)),
        (lambda: C.random.normal(MANY, mean=2, scale=3), 2, 3),
        (lambda: C.random.gumbel(MANY, loc=1, scale=2), 1 + 2 * np.euler_gamma, 2 * np.pi / 6**0.5),
        (lambda: C.random.bernoulli(MANY, mean=0.3), 0.3, np.sqrt(0.21)),
    ],
    ids=["uniform", "normal", "gumbel", "bernoulli"],
)
def test_moments(draw, mean, deviation):
    values = draw().eval()
    assert values.shape == MANY and values.dtype == np.float32
    assert abs(values.mean() - mean) < 0.05 * max(deviation, 0.2)
    assert abs(values.std() - deviation) < 0.03 * deviation


def test_like_an_input_each_sample_its_own_and_each_run_anew():
    x = C.input_variable(50, np.float64)
    f = C.random.normal_like(x)
    first, second = f.eval({x: np.zeros((3, 50))}), f.eval({x: np.zeros((3, 50))})
    assert first.shape == (3, 50) and first.dtype == np.float64
    assert (first != second).any() and (first[0] != first[1]).any()


def test_it_is_a_module_to_import_as_in_cntk():
    import rgraph.random

    assert rgraph.random is C.random and set(C.random.__all__) >= {"normal", "uniform_like"}


def test_two_in_one_run_differ_and_seeds_repeat():
    a, b = C.random.uniform(20), C.random.uniform(20)
    assert (C.minus(a, b).eval() != 0).all()
    c, d = C.random.uniform(20, seed=3), C.random.uniform(20, seed=3)
    np.testing.assert_array_equal(*C.combine(c, d).eval().values())


def test_classes_with_duplicates_come_by_weight():
    weights = np.array([1.0, 3, 5, 0, 1])
    drawn = C.random_sample(weights, 20_000, True).eval()
    np.testing.assert_array_equal(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), weights / 10, atol=0.02)


def test_classes_without_duplicates():
    f = C.random_sample([1.0, 5, 50, 1, 0], 4, False)
    np.testing.assert_array_equal(f.eval().sum(axis=0), [1, 1, 1, 1, 0])
    first = [C.random_sample([1.0, 3], 1, False).eval()[0] for _ in range(400)]
    assert abs(np.mean(first, axis=0)[1] - 0.75) < 0.1


def test_inclusion_frequency():
    weights = [1.0, 2, 3]
    np.testing.assert_allclose(
        C.random_sample_inclusion_frequency(weights, 42, True).eval(), [7, 14, 21]
    )
    without = C.random_sample_inclusion_frequency(np.array([1.0, 1, 2]), 2, False).eval()
    np.testing.assert_allclose(without.sum(), 2, atol=1e-6)  # as many as are drawn
    assert without[0] == without[1] < without[2] < 1


@pytest.mark.parametrize(
    "weights, count, duplicates, message",
    [
        ([1.0, -1], 1, True, "negative"),
        ([1.0, 1], 3, False, "can't draw 3 different classes"),
        ([1.0, 1], 0, True, "at least 1"),
    ],
)
def test_what_can_not_be_drawn(weights, count, duplicates, message):
    with pytest.raises(ValueError, match=message):
        C.random_sample(weights, count, duplicates).eval()


# The first four numbers of each kind for the seed 5, by CNTK 2.7 on a CPU, and of uniform ones what
# its next three runs drew
CNTKS = {
    "uniform": [0.6730649, 0.03849461, 0.22528856, 0.67593217],
    "normal": [-0.7843465, -0.06774167, -0.38317904, -0.5394561],
    "bernoulli": [1, 0, 0, 1],
    "gumbel": [-0.11153566, 3.2376738, 1.3654544, -0.11938396],
}
NEXT_RUN = [0.7939748, 0.21955721, 0.05196688, 0.57167923]


@pytest.mark.parametrize("kind", CNTKS)
def test_a_seed_draws_cntks_numbers(kind):
    drawn = getattr(C.random, kind)((4,), seed=5)
    np.testing.assert_allclose(drawn.eval(), CNTKS[kind], rtol=1e-6)


def test_runs_of_a_seed_go_on_as_cntks():
    drawn = C.random.uniform((2, 4), seed=5)
    first, second, third = (drawn.eval().ravel() for _ in range(3))
    np.testing.assert_allclose(second[:4], NEXT_RUN, rtol=1e-6)
    at_once = C.random.uniform((24,), seed=5).eval()
    np.testing.assert_array_equal(np.concatenate([first, second, third]), at_once)


def test_classes_of_a_seed_are_those_that_cntk_draws():
    """The classes of three runs, and the sums of five runs' classes, by CNTK 2.7 on a CPU."""
    few = C.random_sample(np.array([1, 2, 0, 3, 4, 0.5], np.float32), 8, True, seed=5)
    drawn = [few.eval().argmax(1).tolist() for _ in range(3)]
    assert drawn == [[4, 0, 1, 4, 0, 1, 1, 4], [4, 1, 0, 4, 1, 4, 1, 3], [1, 3, 5, 4, 3, 4, 0, 3]]
    many = C.random_sample(np.arange(1, 1001, dtype=np.float32), 32, True, seed=98052)
    sums = [many.eval().argmax(1).sum() for _ in range(5)]
    assert sums == [21782, 22536, 21072, 21159, 22415]
