"""Reshape, transpose, slice and splice against NumPy."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

VALUES = np.random.default_rng(1).normal(size=(3, 2, 4, 5))


@pytest.fixture
def x():
    return C.input_variable((2, 4, 5), np.float64)


@pytest.mark.parametrize(
    "to, begin, end, shape",
    [
        ((40,), None, None, (40,)),
        (40, None, None, (40,)),
        ((5, 8), None, None, (5, 8)),
        ((-1, 10), None, None, (4, 10)),
        ((8,), 0, 2, (8, 5)),
        ((20,), 1, None, (2, 20)),
        ((10, 2), -2, None, (2, 10, 2)),
        ((2, -1), 1, 2, (2, 2, 2, 5)),
        ((1,), 1, 1, (2, 1, 4, 5)),
    ],
)
def test_reshape(x, to, begin, end, shape):
    f = C.reshape(x, to, begin, end)
    assert f.shape == shape
    np.testing.assert_array_equal(f.eval({x: VALUES}), VALUES.reshape(3, *shape))
    check_gradients(f, order=2, elements=10, directions=1)


def test_reshape_frames_of_sequences():
    s = C.sequence.input_variable((2, 6))
    sequences = [np.random.default_rng(n).normal(size=(n, 2, 6)).astype("f") for n in (2, 3)]
    for result, frames in zip(C.reshape(s, (3, 4)).eval({s: sequences}), sequences):
        np.testing.assert_array_equal(result, frames.reshape(-1, 3, 4))


@pytest.mark.parametrize("perm", [None, (0, 1, 2), (2, 0, 1), (1, 0, 2), (-1, 0, 1)], ids=str)
def test_transpose(x, perm):
    rows = (0, 3, 2, 1) if perm is None else (0, *(p % 3 + 1 for p in perm))
    f = C.transpose(x, perm)
    expected = VALUES.transpose(rows)
    assert f.shape == expected.shape[1:]
    np.testing.assert_array_equal(f.eval({x: VALUES}), expected)
    check_gradients(f, order=2, elements=10, directions=1)


@pytest.mark.parametrize(
    "axis, begin, end, strides, index",
    [
        (0, 0, 1, None, np.s_[:, 0:1]),
        (1, 1, 3, None, np.s_[:, :, 1:3]),
        (-1, 2, 0, None, np.s_[..., 2:]),
        (2, -3, -1, None, np.s_[..., -3:-1]),
        (2, -2, 0, None, np.s_[..., -2:]),
        (2, 0, 5, 2, np.s_[..., 0:5:2]),
        (2, 1, 5, -1, np.s_[..., 4:0:-1]),
        (2, 0, 5, -2, np.s_[..., ::-2]),
        ((1, 2), (0, 1), (2, 4), None, np.s_[:, :, 0:2, 1:4]),
        ((1, 2), (0, 1), (4, 5), (2, -1), np.s_[:, :, ::2, 4:0:-1]),
    ],
)
def test_slice(x, axis, begin, end, strides, index):
    f = C.slice(x, axis, begin, end, strides)
    expected = VALUES[index]
    assert f.shape == expected.shape[1:]
    np.testing.assert_array_equal(f.eval({x: VALUES}), expected)
    check_gradients(f, order=2, elements=10, directions=1)


def test_python_indices_keep_the_axis():
    x = C.input_variable((2, 4, 5), np.float64)
    for f, expected in [
        (x[0], VALUES[:, 0:1]),
        (x[-1], VALUES[:, -1:]),
        (x[:, 1:3], VALUES[:, :, 1:3]),
        (x[1, :, ::2], VALUES[:, 1:2, :, ::2]),
        (x[:, -2:], VALUES[:, :, -2:]),
        (x[:], VALUES),
        (x[...], VALUES),
        (x[..., 1], VALUES[..., 1:2]),
        (x[0, ..., -2:], VALUES[:, 0:1, :, -2:]),
        (x[..., [3, 0]], VALUES[..., [3, 0]]),
        (x[np.int64(1), np.int64(0) : np.int64(2)], VALUES[:, 1:2, :2]),
        (x[:, np.array([3, -1, 0])], VALUES[:, :, [3, -1, 0]]),
    ]:
        np.testing.assert_array_equal(f.eval({x: VALUES}), expected)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_splice(axis):
    rng = np.random.default_rng(2)
    shapes = [[2, 4, 5] for _ in range(3)]
    for n, shape in enumerate(shapes):
        shape[axis] = n + 1
    arrays = [rng.normal(size=(3, *s)) for s in shapes]
    inputs = [C.input_variable(s, np.float64) for s in shapes]
    f = C.splice(*inputs, axis=axis)
    expected = np.concatenate(arrays, axis=axis + 1 if axis >= 0 else axis)
    assert f.shape == expected.shape[1:]
    np.testing.assert_array_equal(f.eval(dict(zip(inputs, arrays))), expected)
    check_gradients(f, order=2, elements=10, directions=1)


def test_splice_along_a_new_axis_in_front():
    a, b = C.input_variable(3), C.input_variable(3)
    f = C.splice(a, b, axis=-2)
    assert f.shape == (2, 3)
    result = f.eval({a: [[1, 2, 3]], b: [[4, 5, 6]]})
    np.testing.assert_array_equal(result, [[[1, 2, 3], [4, 5, 6]]])
    check_gradients(f)


def test_splice_gives_what_samples_share_to_each():
    x, p = C.input_variable(2), C.Parameter(1, init=7)
    f = C.splice(x, p, x)
    np.testing.assert_array_equal(f.eval({x: [[1, 2], [3, 4]]}), [[1, 2, 7, 1, 2], [3, 4, 7, 3, 4]])
    check_gradients(f, order=2)


def test_splice_gives_a_value_per_sequence_to_each_frame():
    s, x = C.sequence.input_variable(1), C.input_variable(1)
    f = C.splice(s, x)
    results = f.eval({s: [np.array([[1]]), np.array([[2], [3]])], x: [[10], [20]]})
    np.testing.assert_array_equal(results[0], [[1, 10]])
    np.testing.assert_array_equal(results[1], [[2, 20], [3, 20]])
    check_gradients(f, order=2)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda x: C.reshape(x, (7,)), r"\(2, 4, 5\) has 40 elements, the new shape \(7,\) has 7"),
        (lambda x: C.reshape(x, (-1, -1)), "only one dimension"),
        (lambda x: C.reshape(x, (-1, 7)), "has 40 elements"),
        (lambda x: C.reshape(x, (1,), 2, 1), "axes 2 to 1 are no part"),
        (lambda x: C.reshape(x, (1,), 0, 7), "axes 0 to 7 are no part"),
        (lambda x: C.transpose(x, (0, 1)), "not a permutation"),
        (lambda x: C.transpose(x, (0, 1, 1)), "not a permutation"),
        (lambda x: C.transpose(x, (0, 1, 3)), "axis 3 does not exist"),
        (lambda x: C.slice(x, 3, 0, 1), "axis 3 does not exist"),
        (lambda x: C.slice(x, 0, 1, 1), "from 1 to 1 is no part of axis 0"),
        (lambda x: C.slice(x, 1, 1, 9), "from 1 to 9 is no part of axis 1"),
        (lambda x: C.slice(x, 1, -9, 2), "from -9 to 2 is no part"),
        (lambda x: x[:, 0:-9], "from 0 to -9 is no part"),
        (lambda x: x[2:], "from 2 to the end is no part of axis 0"),
        (lambda x: x[:0], "has nothing in it"),
        (lambda x: x[:, -1:0], "has nothing in it"),
        (lambda x: x[::0], "stride of 0"),
        (lambda x: x[[]], "chooses nothing"),
        (lambda x: x[0.5:1], "must be an integer or a slice, got 0.5"),
        (lambda x: C.pad(x, [(0, 0), (-1, 0), (0, 0)]), "pattern: sizes are 0 or more"),
        (lambda x: x[..., 0, ...], "only one ..."),
        (lambda x: C.sequence.slice(x, 2, 1), "there is no frame"),
        (lambda x: C.slice(x, 0, 0, 2, 0), "stride of 0"),
        (lambda x: C.splice(x, x, axis=3), "axis 3 does not exist"),
        (
            lambda x: C.splice(x, C.input_variable((2, 3, 5), np.float64), axis=0),
            "can't splice .* along axis 0",
        ),
        (lambda x: C.splice(x, C.input_variable((2, 4), np.float64), axis=0), "can't be joined"),
        (lambda x: x["a"], "must be an integer or a slice"),
    ],
)
def test_what_does_not_fit(x, build, words):
    with pytest.raises(GraphError, match=words):
        build(x)
