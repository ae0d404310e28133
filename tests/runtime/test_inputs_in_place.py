"""Arrays that are fed are read where they are, and nobody writes to them or gives them out."""

import numpy as np

import rgraph as C


def test_a_result_is_no_part_of_what_was_fed():
    x = C.input_variable(2)
    given = np.array([[1, 2], [3, 4]], np.float32)
    for f in (C.reshape(x, (2, 1)), x[1:], C.alias(x), C.combine([x * 1])):
        found = f.eval({x: given})
        assert not np.shares_memory(found, given)
        found[:] = 0
    np.testing.assert_array_equal(given, [[1, 2], [3, 4]])


def test_what_is_fed_may_be_written_to_between_two_runs():
    x = C.input_variable(2)
    f, given = 2 * x + 1, np.ones((1, 2), np.float32)
    first = f.eval({x: given})
    given[:] = 2
    np.testing.assert_array_equal(first, [[3, 3]])
    np.testing.assert_array_equal(f.eval({x: given}), [[5, 5]])


def test_what_does_not_lie_in_one_piece_is_read_right():
    x = C.input_variable(2)
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given in (wide[:, ::2], wide[::-1, 1:3], np.asfortranarray(wide[:, :2])):
        np.testing.assert_array_equal((2 * x).eval({x: given}), 2 * given)


def test_another_key_value_or_mode_is_another_call():
    x, y = C.input_variable(1, name="x"), C.input_variable(1, name="y")
    difference = x - y
    one, two = np.ones((1, 1), np.float32), np.full((1, 1), 2, np.float32)
    assert difference.eval({x: one, y: two}).item() == -1
    assert difference.eval({y: one, x: two}).item() == 1
    assert difference.eval({"y": [[5]], "x": np.array([[7.0]])}).item() == 2
    batch = difference.eval({x: np.ones((4, 1)), y: np.zeros((4, 1))})
    np.testing.assert_array_equal(batch, np.ones((4, 1)))
    dropped = C.dropout(x, 0.5)
    ones = np.ones((1000, 1), np.float32)
    np.testing.assert_array_equal(dropped.eval({x: ones}), ones)
    _, found = dropped.forward({x: ones}, keep_for_backward=[dropped.output])
    assert {0, 2} == set(found[dropped.output].ravel())


def test_constants_that_are_set_are_read_anew():
    x, c = C.input_variable(1), C.Constant(2)
    f = x * c
    one = np.ones((1, 1), np.float32)
    assert f.eval({x: one}).item() == 2
    c.value = 5
    assert f.eval({x: one}).item() == 5
