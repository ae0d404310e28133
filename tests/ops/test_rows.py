"""Reductions over the batch, and the batch as a static axis, against NumPy and SciPy."""

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
}
VALUES = np.random.default_rng(1).uniform(0.5, 2, (4, 2, 3))
SEQUENCES = [VALUES[:3], VALUES[3:]]


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_the_batch(name):
    x = C.input_variable((2, 3), np.float64)
    f = getattr(C, name)(x, axis=C.Axis.default_batch_axis())
    assert f.shape == (2, 3) and f.dynamic_axes == ()
    np.testing.assert_allclose(f.eval({x: VALUES}), REDUCTIONS[name](VALUES, axis=0))
    check_gradients(f, {x: VALUES}, order=2)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_the_batch_and_a_static_axis(name):
    x = C.input_variable((2, 3), np.float64)
    f = getattr(C, name)(x, axis=(C.Axis.default_batch_axis(), 1))
    assert f.shape == (2, 1)
    expected = REDUCTIONS[name](VALUES, axis=(0, 2))[:, None]
    np.testing.assert_allclose(f.eval({x: VALUES}), expected)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_everything_of_ragged_sequences(name):
    x = C.sequence.input_variable((2, 3), np.float64)
    f = getattr(C, name)(x, axis=C.Axis.all_axes())
    np.testing.assert_allclose(f.eval({x: SEQUENCES}), REDUCTIONS[name](VALUES))
    check_gradients(f, {x: SEQUENCES}, order=2)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_over_everything_of_what_has_no_rows(name):
    f = getattr(C, name)(C.constant(VALUES), axis=C.Axis.all_axes())
    np.testing.assert_allclose(f.eval(), REDUCTIONS[name](VALUES))


def test_the_batch_of_sequences_is_no_axis_to_reduce_over():
    x = C.sequence.input_variable(3)
    with pytest.raises(GraphError, match="needs samples, got sequences"):
        C.reduce_max(x, axis=C.Axis.default_batch_axis())


def test_unpack_batch_and_back():
    x = C.input_variable((2, 3), np.float64)
    rows = C.unpack_batch(x)
    assert rows.shape == (C.FreeDimension, 2, 3) and rows.dynamic_axes == ()
    for count in (4, 2):
        np.testing.assert_array_equal(rows.eval({x: VALUES[:count]}), VALUES[:count])
    back = C.to_batch(C.square(rows))
    assert back.shape == (2, 3) and len(back.dynamic_axes) == 1
    np.testing.assert_array_equal(back.eval({x: VALUES}), VALUES**2)
    np.testing.assert_allclose(back.grad({x: VALUES}, [x]), 2 * VALUES)


def test_unpacked_rows_are_in_the_minibatchs_order():
    """Rows are kept by the length of the sequences that they belong to; nobody may see that."""
    x, s = C.input_variable((), np.float64), C.sequence.input_variable((), np.float64)
    sequences = [np.ones(1), np.ones(3), np.ones(2)]
    rows = C.unpack_batch(x + C.sequence.reduce_sum(s))
    np.testing.assert_array_equal(rows.eval({x: [10, 20, 30], s: sequences}), [11, 23, 32])
    parameter = C.parameter(init=np.array([10.0, 20, 30]))
    f = C.to_batch(parameter) + C.sequence.reduce_sum(s)
    np.testing.assert_array_equal(f.eval({s: sequences}), [11, 23, 32])


def test_eye_like_over_the_batch():
    x = C.input_variable(3)
    f = C.eye_like(x, sparse_output=False)
    np.testing.assert_array_equal(f.eval({x: np.ones((2, 3))}), np.eye(2, 3))
    sparse = C.eye_like(x).eval({x: np.ones((2, 3))})
    np.testing.assert_array_equal(sparse.toarray(), np.eye(2, 3))
    for wrong in (C.input_variable((3, 3)), C.input_variable(()), C.sequence.input_variable(3)):
        with pytest.raises(ValueError, match="eye_like"):
            C.eye_like(wrong)
