"""Losses and metrics against CNTK 2.7's numbers, and against their formulas."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.ops.scoring import roll_rows
from rgraph.testing import check_gradients

REFERENCE = np.load(Path(__file__).parent / "reference" / "train" / "losses.npz")
CASES = [json.loads(str(c)) for c in REFERENCE["cases"]]


def operands(number):
    prefix = f"in/{number:02}/"
    return [REFERENCE[k] for k in REFERENCE.files if k.startswith(prefix)]


def together(value):
    return np.concatenate(value) if isinstance(value, list) else np.asarray(value)


@pytest.mark.parametrize(
    "number, case",
    [pytest.param(i, c, id=f"{c['function']}-{i}") for i, c in enumerate(CASES)],
)
def test_value_and_gradient_are_cntks(number, case):
    arrays, lengths = operands(number), case["lengths"]
    declare = C.sequence.input_variable if lengths else C.input_variable
    inputs = [declare(a.shape[1:]) for a in arrays]
    ends = np.cumsum(lengths)[:-1] if lengths else None
    feed = {v: np.split(a, ends) if lengths else a for v, a in zip(inputs, arrays)}
    f = getattr(C, case["function"])(*inputs, **case["options"])
    expected = REFERENCE[f"out/{number:02}"]
    value = together(f.eval(feed))
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5)
    if case["function"] == "weighted_binary_cross_entropy":
        return  # CNTK's gradient is not that of its value: it lacks the mean weight
    if f"grad/{number:02}" in REFERENCE.files:
        gradient = together(f.grad(feed, wrt=[inputs[0]]))
        np.testing.assert_allclose(gradient, REFERENCE[f"grad/{number:02}"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "name, draw, options",
    [
        ("cross_entropy_with_softmax", [(3, 4), (3, 4)], {}),
        ("squared_error", [(3, 4), (3, 4)], {}),
        ("binary_cross_entropy", [(4,), (4,)], {}),
        ("weighted_binary_cross_entropy", [(4,), (4,), (4,)], {}),
        ("cosine_distance", [(3, 4), (3, 4)], {}),
        (
            "cosine_distance_with_negative_samples",
            [(3,), (3,)],
            {"shift": 1, "num_negative_samples": 2},
        ),
        ("fmeasure", [(3, 2, 2), (3, 2, 2)], {}),
    ],
)
def test_gradients_with_respect_to_every_operand(name, draw, options):
    rng = np.random.default_rng(0)
    inputs = [C.input_variable(shape, np.float64) for shape in draw]
    feed = {x: rng.uniform(0.1, 0.9, (3, *x.shape)) for x in inputs}
    check_gradients(getattr(C, name)(*inputs, **options), feed, inputs)


def test_cross_entropy_is_that_of_the_softmax():
    rng = np.random.default_rng(1)
    z, t = rng.normal(size=(5, 7)), rng.dirichlet(np.ones(7), size=5)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    x, y = C.input_variable(7, np.float64), C.input_variable(7, np.float64)
    value = C.cross_entropy_with_softmax(x, y).eval({x: z, y: t})
    np.testing.assert_allclose(value, -(t * np.log(p)).sum(1, keepdims=True), rtol=1e-12)


def test_cross_entropy_of_rows_of_a_matrix_keeps_the_rows():
    z, t = C.input_variable((2, 3)), C.input_variable((2, 3))
    assert C.cross_entropy_with_softmax(z, t).shape == (2, 1)
    assert C.classification_error(z, t).shape == (2, 1)


def test_large_scores_do_not_overflow():
    value = C.cross_entropy_with_softmax([1000, 0], [0, 1]).eval()
    np.testing.assert_allclose(value, [1000])


def test_probabilities_of_0_and_1_are_no_harm():
    y, t = C.input_variable(2), C.input_variable(2)
    loss = C.binary_cross_entropy(y, t)
    wrong = {y: [[0, 1]], t: [[1, 0]]}
    assert np.isfinite(loss.eval(wrong)).all() and (loss.eval(wrong) > 10).all()
    assert np.isfinite(loss.grad(wrong, wrt=[y])).all()


def test_cosine_of_a_zero_vector_is_0_and_has_no_gradient():
    x, y = C.input_variable(2), C.input_variable(2)
    f = C.cosine_distance(x, y)
    feed = {x: [[0, 0]], y: [[1, 0]]}
    assert f.eval(feed) == 0
    np.testing.assert_array_equal(f.grad(feed, wrt=[x]), [[0, 0]])


def test_negative_samples_come_from_the_minibatchs_order_whatever_the_lengths():
    s, x = C.sequence.input_variable(1), C.input_variable(1)
    rolled = C.Function([roll_rows((x + C.sequence.last(s)).node, 1)])
    data = {s: [np.zeros((n, 1)) for n in (1, 3, 2)], x: [[10], [20], [30]]}
    np.testing.assert_array_equal(rolled.eval(data), [[20], [30], [10]])
    np.testing.assert_array_equal(rolled.grad(data, wrt=[x]), [[1], [1], [1]])


def test_negative_samples_must_be_some():
    with pytest.raises(ValueError, match="at least 1"):
        C.cosine_distance_with_negative_samples([1, 2], [1, 2], 0, 1)


def test_ranking_needs_one_score_per_sample():
    a, b = C.input_variable(2), C.input_variable(1)
    with pytest.raises(C.GraphError, match="one number per sample"):
        C.lambda_rank(a, b, b)


def test_ranking_does_not_depend_on_where_a_groups_samples_stand_in_it():
    s, n, g = (C.input_variable(1) for _ in range(3))
    scores, gains = np.array([[0.1], [0.7], [0.4]]), np.array([[3], [2], [1]])
    f = C.lambda_rank(s, n, g)
    at = {s: scores, n: gains, g: np.ones((3, 1))}
    turned = {s: scores[::-1], n: gains[::-1], g: np.ones((3, 1))}
    np.testing.assert_allclose(f.eval(turned), f.eval(at), rtol=1e-6)
    np.testing.assert_allclose(f.grad(turned, [s])[::-1], f.grad(at, [s]), rtol=1e-6)


def test_a_weight_of_0_leaves_an_element_out():
    y, t, w = (C.input_variable(1) for _ in range(3))
    loss = C.weighted_binary_cross_entropy(y, t, w)
    value = loss.eval({y: [[0.5], [0.9]], t: [[1], [0]], w: [[1], [0]]})
    np.testing.assert_allclose(value, 2 * np.log(2), rtol=1e-5)


# Losses with many classes


def test_noise_contrastive_estimation():
    """Its value is that of one of the ten pairs of classes that can be drawn, all of which come;
    two of the pairs are CNTK's."""
    noise = np.array([1.0, 2.0, 3.0, 4.0])
    weights = np.arange(8, dtype=np.float32).reshape(4, 2) * np.float32(0.1)
    biases = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)
    xs, labels = np.array([[1, 2], [3, -1]]), np.array([1, 3])
    kq = 2 * noise / noise.sum()
    scores = xs @ weights.T + biases[:, 0]
    own = scores[[0, 1], labels]
    true = np.logaddexp(own, np.log(kq[labels])) - own
    false = np.logaddexp(scores, np.log(kq))
    pairs = [
        true + false[:, i] + false[:, j] - np.sum(kq * np.log(kq))
        for i, j in itertools.combinations_with_replacement(range(4), 2)
    ]
    for cntk in ([4.2519875, 3.254323], [4.9187136, 3.7365546]):
        assert any(np.allclose(p, cntk, atol=1e-5) for p in pairs)

    x, t = C.input_variable(2), C.input_variable(4)
    loss = C.nce_loss(C.parameter(init=weights), C.parameter(init=biases), x, t, noise, 2)
    assert loss.shape == ()
    found = set()
    for _ in range(300):
        value = loss.eval({x: xs, t: np.eye(4)[labels]})
        near = [i for i, p in enumerate(pairs) if np.allclose(p, value, atol=1e-5)]
        assert near
        found.update(near)
    assert found == set(range(10))


def test_noise_contrastive_estimation_without_duplicates_is_unbiased_for_equal_noise():
    """The sum over all classes, each weighed by how rarely it is drawn."""
    x, t = C.input_variable(3), C.input_variable(5)
    w, b = C.Parameter((5, C.InferredDimension), init=0.3), C.Parameter((5, 1), init=0.1)
    feed = {x: np.ones((1, 3)), t: np.eye(5)[:1]}
    two = C.nce_loss(w, b, x, t, np.ones(5), 2, allow_duplicates=False).eval(feed)
    with_duplicates = C.nce_loss(w, b, x, t, np.ones(5), 2).eval(feed)
    np.testing.assert_allclose(two, with_duplicates, rtol=1e-6)  # all scores are the same
    assert w.shape == (5, 3)


def test_training_with_noise_contrastive_estimation_learns_the_classes():
    rng = np.random.default_rng(0)
    x, t = C.input_variable(6), C.input_variable(6)
    w, b = C.Parameter((6, 6), init=C.glorot_uniform()), C.Parameter((6, 1))
    loss = C.nce_loss(w, b, x, t, np.ones(6), 3)
    trainer = C.Trainer(
        None, loss, C.adam([w, b], 0.1, 0.9, variance_momentum=0.99, minibatch_size=0)
    )
    for _ in range(100):
        batch = np.eye(6)[rng.integers(0, 6, 20)]
        trainer.train_minibatch({x: batch, t: batch})
    logits = C.times_transpose(x, w) + C.reshape(b, -1)
    assert C.classification_error(logits, t).eval({x: np.eye(6), t: np.eye(6)}).sum() == 0


def test_noise_must_be_positive_and_known():
    x, t = C.input_variable(2), C.input_variable(3)
    w, b = C.Parameter((3, 2)), C.Parameter((3, 1))
    for noise in (np.array([1, 0, 1]), np.ones((3, 1)), C.input_variable(3)):
        with pytest.raises(C.GraphError, match="noise distribution"):
            C.nce_loss(w, b, x, t, noise)


def test_hierarchical_softmax_is_a_distribution():
    x, label = C.input_variable(3), C.input_variable(1)
    p, groups, labels = C.hierarchical_softmax_layer(x, label, label_dim=6, label_classes=2)
    xs = np.random.default_rng(0).normal(size=(6, 3))
    each = np.concatenate([f.eval({x: xs}) for f in labels], axis=1)
    np.testing.assert_allclose(each.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(groups.eval({x: xs}), each.reshape(6, 2, 3).sum(2), rtol=1e-5)
    own = p.eval({x: xs, label: np.arange(6)[:, None]})
    np.testing.assert_allclose(own, np.diag(each)[:, None, None], rtol=1e-5)
    check_gradients(C.log(p), {x: xs, label: np.arange(6)[:, None]}, p.parameters)


def test_weights_that_all_samples_share():
    y, t, w = (C.input_variable(3) for _ in range(3))
    rng = np.random.default_rng(0)
    given = {y: rng.uniform(0.1, 0.9, (4, 3)), t: rng.integers(0, 2, (4, 3))}
    each = C.weighted_binary_cross_entropy(y, t, w)
    expected = each.eval({**given, w: np.broadcast_to([1, 5, 2], (4, 3))})
    found = C.weighted_binary_cross_entropy(y, t, [1, 5, 2]).eval(given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nce_without_a_seed_draws_cntks_classes():
    """What real CNTK 2.7 prints in a program that begins with these lines."""
    C.cntk_py.reset_random_seed(0)
    x, t = C.input_variable(3), C.input_variable(50)
    w = C.Parameter((50, 3), init=C.glorot_uniform(seed=4))
    loss = C.nce_loss(w, C.Parameter((50, 1), init=0), x, t, np.arange(50) + 1, num_samples=5)
    at = {x: np.ones((2, 3)), t: np.eye(50)[[3, 7]]}
    found = [loss.eval(at) for _ in range(3)]
    C.set_seed(0)
    expected = [[10.746863, 10.761974], [9.632641, 9.647752], [11.000303, 11.015414]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
