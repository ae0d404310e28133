"""Reductions and the softmax family against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.special

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

REDUCTIONS = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_log_sum_exp": scipy.special.logsumexp,
    "reduce_l1": lambda x, **kw: np.sum(np.abs(x), **kw),
    "reduce_l2": lambda x, **kw: np.sqrt(np.sum(x * x, **kw)),
    "reduce_sum_square": lambda x, **kw: np.sum(x * x, **kw),
}
VALUES = np.random.default_rng(1).uniform(0.5, 2, (4, 2, 3, 5))


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (-1, -2), [0, 1, 2]], ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_static_axes(name, axis, keepdims):
    x = C.input_variable((2, 3, 5), np.float64)
    f = getattr(C, name)(x, axis=axis, keepdims=keepdims)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    rows = tuple(a + 1 if a >= 0 else a for a in axes)
    expected = REDUCTIONS[name](VALUES, axis=rows, keepdims=keepdims)
    result = f.eval({x: VALUES})
    assert result.shape[1:] == f.shape == expected.shape[1:]
    np.testing.assert_allclose(result, expected)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_all_static_axes(name):
    x = C.input_variable((2, 3, 5), np.float64)
    expected = REDUCTIONS[name](VALUES, axis=(1, 2, 3))
    for axis in (None, C.Axis.all_static_axes()):
        f = getattr(C, name)(x, axis=axis)
        assert f.shape == ()
        np.testing.assert_allclose(f.eval({x: VALUES}), expected)


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_mean"])
def test_over_the_batch_and_over_everything(name):
    x = C.input_variable((2, 3, 5), np.float64)
    f = getattr(C, name)(x, axis=C.Axis.default_batch_axis())
    np.testing.assert_allclose(f.eval({x: VALUES}), REDUCTIONS[name](VALUES, axis=0))
    f = getattr(C, name)(x, axis=C.Axis.all_axes())
    np.testing.assert_allclose(f.eval({x: VALUES}), REDUCTIONS[name](VALUES))
    check_gradients(f, {x: VALUES}, order=2, elements=10, directions=1)


def test_the_mean_over_everything_of_ragged_sequences_counts_frames():
    x = C.sequence.input_variable(2, np.float64)
    sequences = [np.ones((3, 2)), 5 * np.ones((1, 2))]
    f = C.reduce_mean(x, axis=C.Axis.all_axes())
    assert f.eval({x: sequences}) == (6 * 1 + 2 * 5) / 8
    g = f.grad({x: sequences}, wrt=x)
    np.testing.assert_allclose(np.concatenate(g), np.full((4, 2), 1 / 8))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_of_extrema(name):
    x = C.input_variable((2, 3, 5))
    find = getattr(np, name)
    f = getattr(C, name)(x, axis=1)
    assert f.shape == (2, 1, 5)
    np.testing.assert_array_equal(f.eval({x: VALUES}), find(VALUES, axis=2)[:, :, None])
    f = getattr(C, name)(x)
    np.testing.assert_array_equal(f.eval({x: VALUES}), find(VALUES.reshape(4, -1), axis=1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name):
    x = C.input_variable((2, 3, 5), np.float64)
    for axis in (0, 1, 2, -1):
        expected = getattr(scipy.special, name)(VALUES * 9, axis + 1 if axis >= 0 else axis)
        f = getattr(C, name)(x, axis=axis)
        np.testing.assert_allclose(f.eval({x: VALUES * 9}), expected)
    whole = getattr(scipy.special, name)(VALUES.reshape(4, -1) * 9, 1).reshape(VALUES.shape)
    np.testing.assert_allclose(getattr(C, name)(x).eval({x: VALUES * 9}), whole)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "reduce_log_sum_exp"])
def test_no_overflow(name):
    x = C.input_variable(3, needs_gradient=True)
    f = getattr(C, name)(x)
    for values in ([3e4, 2e4, 3e4], [-3e4, -2e4, -3e4]):
        assert np.isfinite(f.eval({x: [values]})).all()
        assert np.isfinite(f.grad({x: [values]})).all()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradients_of_softmax(name):
    x = C.input_variable((2, 3))
    check_gradients(getattr(C, name)(x, axis=1), order=2)


def test_a_scalar_can_be_reduced():
    x = C.input_variable(())
    for name in REDUCTIONS:
        f = getattr(C, name)(x)
        assert f.shape == ()
        expected = [4, 9] if name == "reduce_sum_square" else [2, 3]
        np.testing.assert_allclose(f.eval({x: [2.0, 3.0]}), expected)


def test_an_axis_that_is_not_there():
    x = C.input_variable((2, 3))
    with pytest.raises(GraphError, match=r"axis 2 does not exist: the operand has 2 static axes"):
        C.reduce_sum(x, axis=2)


def test_row_count_of_samples_and_of_frames():
    from rgraph.ops.reductions import row_count

    x, s = C.input_variable(2), C.sequence.input_variable(2)
    assert C.Function([row_count(x.node)]).eval({x: np.zeros((5, 2))}) == 5
    assert C.Function([row_count(s.node)]).eval({s: [np.zeros((3, 2)), np.zeros((1, 2))]}) == 4
