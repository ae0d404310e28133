"""Dropout."""

import numpy as np
import pytest

import rgraph as C
from rgraph.testing import check_gradients


def in_training(f, values):
    (x,) = f.arguments
    _, found = f.forward({x: values}, [f.output], {f.output})
    return found[f.output]


def test_nothing_drops_in_evaluation():
    x = C.input_variable(50)
    values = np.random.default_rng(1).normal(size=(20, 50)).astype("f")
    np.testing.assert_array_equal(C.dropout(x, 0.9).eval({x: values}), values)


def test_the_right_part_drops_and_the_rest_is_scaled_up():
    x = C.input_variable(1000)
    kept = in_training(C.dropout(x, 0.3, seed=1), np.ones((100, 1000)))
    assert set(np.unique(kept)) == {0, np.float32(1 / 0.7)}
    # 100,000 draws: the mean of 1 is good to 0.0021, one standard deviation
    assert abs(kept.mean() - 1) < 0.01
    assert 0.15 < (kept[:, 0] == 0).mean() < 0.45  # samples differ from one another


def test_runs_differ_and_seeds_repeat():
    x = C.input_variable(100)
    ones = np.ones((3, 100))
    free, fixed = C.dropout(x, 0.5), C.dropout(x, 0.5, seed=3)
    for f in (free, fixed):  # as in CNTK, a seed of its own does not hold the mask fixed
        assert (in_training(f, ones) != in_training(f, ones)).any()
        C.set_seed(5)
        first = in_training(f, ones)
        C.set_seed(5)
        np.testing.assert_array_equal(in_training(f, ones), first)


def test_functions_with_one_seed_draw_alike_run_by_run():
    a, b = C.random.normal(20, seed=3), C.random.normal(20, seed=3)
    draws = [a.eval() for _ in range(3)]
    assert (draws[0] != draws[1]).any() and (draws[1] != draws[2]).any()
    np.testing.assert_array_equal([b.eval() for _ in range(3)], draws)


def test_draws_belong_to_a_place_in_the_graph(tmp_path):
    """Whatever was built before: a copy in a function's stead draws the same."""
    x = C.input_variable(20)

    def made():
        return C.splice(C.dropout(x, 0.5), C.random.normal_like(x), C.dropout(x, 0.5))

    f = made()
    f.save(tmp_path / "f")
    _ = C.dropout(x, 0.5), C.random.uniform(2).eval()
    results = []
    for g in [f, made(), f.clone("share"), f.clone("clone"), C.load_model(tmp_path / "f"), f]:
        C.set_seed(3)
        state, values = g.forward(np.ones((4, 20)), keep_for_backward=g.outputs)
        (argument,), out = g.arguments, values[g.output]
        results.append(out)
        gradient = g.backward(state, np.ones((4, 60)), [argument])[argument]
        np.testing.assert_array_equal(gradient, out[:, :20] + out[:, 40:])  # the same masks
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert (results[0][:, :20] != results[0][:, 40:]).any()


@pytest.fixture
def from_the_start():
    """As if the program began here."""
    C.cntk_py.reset_random_seed(0)
    yield
    C.set_seed(0)


@pytest.mark.cpu
def test_what_has_no_seed_draws_cntks_numbers(from_the_start):
    """Real CNTK 2.7's, of a program that begins with these lines."""
    u, n = C.random.uniform((3,)), C.random.normal((2,))
    s = C.random_sample([0.2, 0.3, 0.5], 3, True)
    first, then = ((u.eval(), n.eval(), s.eval().argmax(1).tolist()) for _ in range(2))
    np.testing.assert_allclose(first[0], [0.15979336, 0.9921452, 0.03956902], rtol=1e-6)
    np.testing.assert_allclose(first[1], [-0.2277023, -0.25937724], rtol=1e-5)
    np.testing.assert_allclose(then[0], [0.59749466, 0.54228497, 0.05715979], rtol=1e-6)
    assert (first[2], then[2]) == ([2, 2, 2], [2, 1, 0])
    np.testing.assert_array_equal(u.clone("clone").eval(), first[0])


def test_a_clone_drops_what_its_original_drops(from_the_start):
    x = C.input_variable(100)
    f, g = C.dropout(x, 0.5), C.dropout(x, 0.5)
    ones = np.ones((3, 100))
    first = in_training(f, ones)
    np.testing.assert_array_equal(in_training(f.clone("clone"), ones), first)
    assert (in_training(g, ones) != first).any()
    assert f.attributes["rngSeed"] != g.attributes["rngSeed"]
    C.set_seed(3)  # says what is drawn from here on, of what was made before, too
    once = in_training(f, ones)
    assert (once != first).any()
    C.set_seed(3)
    np.testing.assert_array_equal(in_training(f, ones), once)


def test_two_dropouts_in_one_run_differ():
    x = C.input_variable(100)
    a, b = C.dropout(x, 0.5), C.dropout(x, 0.5)
    both = in_training(C.splice(a, b, axis=0), np.ones((3, 100)))
    assert (both[:, :100] != both[:, 100:]).any()


@pytest.mark.parametrize("seed", [None, 4])
def test_each_step_of_a_recurrence_draws_anew(seed):
    x = C.sequence.input_variable(100)
    kept = C.layers.Recurrence(lambda h, v: C.dropout(0 * h + v, 0.5, seed=seed))(x)
    (steps,) = in_training(kept, [np.ones((3, 100))])
    assert (steps[0] != steps[1]).any() and (steps[1] != steps[2]).any()


def test_the_gradient_drops_what_the_value_dropped():
    x = C.input_variable(20)
    f = C.square(C.dropout(C.tanh(x), 0.5))
    check_gradients(f, training=True, order=2)
    s = C.sequence.input_variable(3)
    step = C.layers.Recurrence(lambda h, v: C.tanh(C.dropout(h, 0.4) + v))
    check_gradients(step(s), training=True, order=2)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_make_no_sense(rate):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        C.dropout(C.input_variable(1), rate)
