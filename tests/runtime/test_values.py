"""What is fed, as objects and as plain data."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import rgraph as C
from rgraph.graph import GraphError

SEQUENCES = [np.array([[1.0, 2], [3, 4]], np.float32), np.array([[5.0, 6]], np.float32)]


@pytest.fixture
def x():
    return C.sequence.input_variable(2)


@pytest.mark.parametrize(
    "shape, data, expected",
    [
        ((2,), [np.ones(2)] * 3, (3, 1, 2)),
        ((2,), [[1, 2], [3, 4]], (2, 1, 2)),
        ((2,), [np.ones((1, 2))] * 3, (3, 1, 2)),
        ((2,), np.ones((3, 2)), (3, 2)),
        ((4, 2), [np.ones((4, 2))], (1, 1, 4, 2)),
        ((), [np.float32(1), np.float32(2)], (2, 1)),
    ],
)
def test_a_list_of_samples_is_one_of_sequences_of_one(shape, data, expected):
    """Real CNTK 2.7's shapes; what it is fed to sees samples."""
    x = C.input_variable(shape)
    value = C.asvalue(x, data)
    assert value.shape == value.asarray().shape == expected
    assert (x * 1).eval({x: value}).shape == (len(data), *shape)


def test_results_as_values_can_be_fed_again(x):
    value = (x * 2).eval({x: SEQUENCES}, as_numpy=False)
    assert isinstance(value, C.Value) and value.shape == (2, 2, 2)
    again = (x + 1).eval({x: value})
    np.testing.assert_array_equal(again[0], SEQUENCES[0] * 2 + 1)
    np.testing.assert_array_equal(again[1], SEQUENCES[1] * 2 + 1)


def test_a_value_pads_and_masks():
    value = C.Value(SEQUENCES)
    np.testing.assert_array_equal(value.data.asarray()[1], [[5, 6], [0, 0]])
    np.testing.assert_array_equal(value.mask, [[2, 1], [2, 0]])
    with pytest.raises(GraphError, match="different lengths"):
        value.asarray()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: [csr_matrix(f) for f in s],
        lambda s: [f.tolist() for f in s],
        lambda s: [C.NDArrayView.from_dense(f) for f in s],
        lambda s: [C.NDArrayView.from_csr(csr_matrix(f)) for f in s],
        C.Value,
    ],
)
def test_forms_of_sequences(x, wrap):
    found = C.sequence.last(x).eval({x: wrap(SEQUENCES)})
    np.testing.assert_array_equal(found, [[3, 4], [5, 6]])


def test_one_hot_values(x):
    three = C.sequence.input_variable(3)
    found = C.sequence.reduce_sum(three).eval({three: C.Value.one_hot([[0, 2, 2], [1]], 3)})
    np.testing.assert_array_equal(found, [[1, 0, 2], [0, 1, 0]])
    with pytest.raises(ValueError, match="0 to 2"):
        C.Value.one_hot([[3]], 3)
    with pytest.raises(ValueError, match="whole numbers"):
        C.Value.one_hot([[0.5]], 3)


def test_an_index_for_a_vector_of_zeros():
    three = C.sequence.input_variable(3)
    value = C.Value.one_hot([[0, C.Value.ONE_HOT_SKIP, 1], [C.Value.ONE_HOT_SKIP]], 3)
    first, second = (three * 1).eval({three: value})
    np.testing.assert_array_equal(first, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(second, [[0, 0, 0]])


def test_which_sequences_start_anew(x):
    """As CNTK: pairs of data and flags; the rows of an array are then sequences of one frame."""
    rows, last = np.array([[1, 2], [2, 3]]), C.sequence.last(x)
    np.testing.assert_array_equal(last.eval({x: rows}), [[2, 3]])
    for fed in ({x: (rows, [True, True])}, (rows, [True, True]), ({x: rows}, [True, True])):
        np.testing.assert_array_equal(last.eval(fed), [[1, 2], [2, 3]])
    found = last.eval({x: (SEQUENCES, [True, True])})
    np.testing.assert_array_equal(found, [[3, 4], [5, 6]])

    value = C.Value.create(x, SEQUENCES, [False, True])
    np.testing.assert_array_equal(value.mask, [[1, 1], [2, 0]])
    with pytest.raises(GraphError, match="there are 2 sequences, 1 say"):
        last.eval({x: (SEQUENCES, [True])})
    y = C.input_variable(2)
    with pytest.raises(GraphError, match="an input that is a sequence"):
        (y + 1).eval({y: (rows, [True, True])})


def test_a_pair_of_sequences_is_no_pair_with_flags():
    s = C.sequence.input_variable(())
    found = C.sequence.last(s).eval({s: ([1, 2, 3], [4, 5])})
    np.testing.assert_array_equal(found, [3, 5])


def test_csr_in_another_shape():
    view = C.NDArrayView.from_csr(csr_matrix(np.arange(12.0).reshape(4, 3)), shape=(2, 2, 3))
    np.testing.assert_array_equal(view.array, np.arange(12).reshape(2, 2, 3))
    with pytest.raises(GraphError, match="can't be seen"):
        C.NDArrayView.from_csr(csr_matrix(np.zeros((4, 3))), shape=(2, 3, 2))


def test_parts_of_a_view():
    view = C.NDArrayView.from_dense(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(view.slice_view((1, 1), (1, 2)).asarray(), [[4, 5]])
    assert view.as_shape((3, 2)).shape == (3, 2)


def test_free_dimensions_follow_the_data():
    x = C.input_variable((C.FreeDimension, 2), np.float64, needs_gradient=True)
    w = C.parameter(init=np.array([[1.0, 2], [3, 4]]))
    f = C.times(x, w)
    assert f.shape == (C.FreeDimension, 2)
    for size in (3, 1, 3):
        data = np.random.default_rng(size).normal(size=(2, size, 2))
        np.testing.assert_allclose(f.eval({x: data}), data @ w.value)
        gradients = f.grad({x: data}, wrt=[x, w])
        ones = np.ones((2, size, 2))
        np.testing.assert_allclose(gradients[x], ones @ w.value.T)
        np.testing.assert_allclose(gradients[w], np.einsum("nsi,nso->io", data, ones))


def test_backward_sees_the_forward_runs_random_numbers():
    x = C.input_variable(1000, np.float64, needs_gradient=True)
    f = C.dropout(x, 0.4)
    state, values = f.forward({x: np.ones((2, 1000))}, keep_for_backward=f.outputs)
    kept = values[f.output]
    assert 0.5 < (kept > 0).mean() < 0.7
    weights = np.random.default_rng(0).normal(size=(2, 1000))
    gradient = f.backward(state, {f.output: weights}, [x])[x]
    np.testing.assert_allclose(gradient, weights * kept)


def test_backward_weighs_several_outputs():
    x = C.sequence.input_variable(1, np.float64)
    squares, cubes = C.square(x), x * x * x
    f = C.combine(squares, cubes)
    data = [np.array([[1.0], [2]]), np.array([[3.0]])]
    state, _ = f.forward({x: data}, keep_for_backward=f.outputs)
    roots = {squares.output: [np.array([[1.0], [10]]), np.array([[100.0]])]}
    roots[cubes.output] = [np.array([[0.0], [1]]), np.array([[2.0]])]
    found = f.backward(state, roots, [x])[x]
    np.testing.assert_allclose(found[0], [[2], [40 + 12]])
    np.testing.assert_allclose(found[1], [[600 + 54]])


def test_a_constant_that_is_set_counts_from_then_on():
    c = C.constant(np.array([1.0, 2], np.float32))
    f = c * 2 + C.constant(1)
    np.testing.assert_array_equal(f.eval(), [3, 5])
    c.value = [10, 20]
    np.testing.assert_array_equal(f.eval(), [21, 41])


@pytest.mark.parametrize("value, dtype", [(np.array(2.0), "d"), (np.float64(2), "f"), (2.0, "f")])
def test_the_type_of_a_constant_without_axes(value, dtype):
    """As in CNTK: an array's own, float32 for numbers."""
    assert C.constant(value).dtype == np.dtype(dtype)
    assert (C.input_variable(1) * value).dtype == np.float32


def test_an_attribute_that_is_set_counts_from_then_on():
    x = C.input_variable(1000)
    f = C.dropout(x, 0.0)
    ones = np.ones((1, 1000))
    assert (f.forward({x: ones}, keep_for_backward=f.outputs)[1][f.output] == 1).all()
    f.set_attribute("dropoutRate", 0.5)
    assert (f.forward({x: ones}, keep_for_backward=f.outputs)[1][f.output] == 0).any()
    with pytest.raises(GraphError, match="can't be set"):
        f.set_attribute("size", 1)


def test_a_constant_whose_shape_is_open_has_no_value_until_it_has_one():
    c = C.constant(2, shape=(C.InferredDimension, 2))
    with pytest.raises(GraphError, match="shape follows from what it is used with"):
        _ = c.value
    f = C.input_variable((3, 2)) * c
    assert f.shape == (3, 2) and c.value.shape == (3, 2)


def test_a_value_of_the_cpu_is_numpy_s_as_in_cntk_and_shared_by_dlpack():
    x = C.input_variable(2)
    value = (x * 2).eval({x: [[1, 2], [3, 4]]}, as_numpy=False, device=C.cpu())
    assert isinstance(value, C.Value) and value.device == C.cpu()
    assert type(value.asarray()) is type(value.data.asarray()) is np.ndarray
    np.testing.assert_array_equal(np.asarray(value), [[2, 4], [6, 8]])
    assert np.shares_memory(np.from_dlpack(value), np.from_dlpack(value.data))
    copied = np.array(value)
    copied[...] = 0
    np.testing.assert_array_equal(value.asarray(), [[2, 4], [6, 8]])
