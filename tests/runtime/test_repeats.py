"""Evaluations like the one before, and what changes between two of them."""

import numpy as np
import pytest

import rgraph as C

DATA = np.array([[1, -2, 3], [0.5, 4, -1]], np.float32)


def dense():
    x = C.input_variable(3, name="x")
    w, b = C.Parameter((3, 2), init=0.25), C.Constant(np.float32(0.5))
    return x, w, b, C.tanh(C.times(x, w) + b)


def twice(f, x, data=DATA):
    f.eval({x: data})
    return f.eval({x: data})


def truth(data, w=0.25, b=0.5):
    return np.tanh(data.astype(float) @ np.full((3, 2), w) + b)


@pytest.mark.cpu
def test_repeated_values_are_the_same_and_have_memory_of_their_own():
    x, _, _, f = dense()
    values = [f.eval({x: DATA}) for _ in range(4)]
    assert f._runner.repeat is not None  # else nothing is tested here
    for value in values:
        np.testing.assert_allclose(value, truth(DATA), rtol=1e-6)
    values[1][...] = 7
    np.testing.assert_allclose(values[2], truth(DATA), rtol=1e-6)
    np.testing.assert_allclose(f.eval({x: DATA}), truth(DATA), rtol=1e-6)


def test_parameters_and_constants_are_read_anew():
    x, w, b, f = dense()
    twice(f, x)
    w.value = np.full((3, 2), -0.5, np.float32)
    np.testing.assert_allclose(f.eval({x: DATA}), truth(DATA, w=-0.5), rtol=1e-6)
    b.value = np.float32(2)
    np.testing.assert_allclose(twice(f, x), truth(DATA, w=-0.5, b=2), rtol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        DATA[:1],
        np.repeat(DATA, 5, 0),
        DATA.astype(float),
        DATA.astype(int),
        np.asfortranarray(DATA),
        np.repeat(DATA, 2, 1)[:, ::2],
        DATA.tolist(),
        np.frombuffer(DATA.tobytes(), np.float32).reshape(2, 3),
    ],
    ids=["fewer", "more", "double", "whole", "columns first", "gaps", "a list", "read-only"],
)
def test_other_data_after_a_repetition(other):
    x, _, _, f = dense()
    twice(f, x)
    for _ in range(2):
        np.testing.assert_allclose(f.eval({x: other}), truth(np.asarray(other)), rtol=1e-6)
    for key in ("x", x.node):
        np.testing.assert_allclose(f.eval({key: other}), truth(np.asarray(other)), rtol=1e-6)


def test_errors_are_those_of_the_first_time():
    x, y = C.input_variable(3), C.input_variable(3)
    f = x * y
    f.eval({x: DATA, y: DATA})
    np.testing.assert_array_equal(f.eval({x: DATA, y: DATA}), DATA * DATA)
    for wrong in ({x: DATA}, {x: DATA, y: DATA[:1]}, {x: DATA, y: DATA[:, :2]}, {}):
        with pytest.raises(C.GraphError):
            f.eval(wrong)
    np.testing.assert_array_equal(f.eval({y: 2 * DATA, x: DATA}), 2 * DATA * DATA)


def test_a_value_that_is_the_input_s_is_a_copy():
    x = C.input_variable(3)
    f = C.reshape(x, (3, 1))
    data = DATA.copy()
    found = twice(f, x, data)
    data[...] = 9
    np.testing.assert_array_equal(found[..., 0], DATA)


@pytest.mark.cpu
def test_an_engine_chosen_in_between_computes():
    x, _, _, f = dense()
    twice(f, x)
    before = C.device.engine(C.cpu()).name
    C.device.use_cpu_engine("numpy")
    try:
        np.testing.assert_allclose(f.eval({x: DATA}), truth(DATA), rtol=1e-6)
        assert "numpy" in {plan.engine.name for plan in f._runner.plans}
    finally:
        C.device.use_cpu_engine(before)


def test_who_looks_on_sees_a_repeated_evaluation():
    x = C.input_variable(3)
    f = C.log(x) * 0
    bad = np.full_like(DATA, np.nan)
    assert np.isnan(twice(f, x, bad)).all()
    C.debugging.set_checked_mode(True)
    try:
        with pytest.raises(C.GraphError, match="NaN"):
            f.eval({x: bad})
    finally:
        C.debugging.set_checked_mode(False)
    assert np.isnan(f.eval({x: bad})).all()


def test_random_numbers_depend_on_all_evaluations_before():
    x, _, _, f = dense()
    noise = C.random.normal((4,))

    def drawn(evaluate):
        C.set_seed(3)
        for _ in range(5):
            evaluate()
        return noise.eval()

    repeated = drawn(lambda: f.eval({x: DATA}))
    one_by_one = drawn(lambda: f.eval({x: DATA.tolist()}))
    np.testing.assert_array_equal(repeated, one_by_one)


def test_a_placeholder_bound_in_between():
    x, p = C.input_variable(3), C.placeholder(3)
    f = p * 2 + 1
    f.replace_placeholders({p: x})
    np.testing.assert_array_equal(twice(f, x), 2 * DATA + 1)
    g = f.clone("clone", {x: x * 3})
    np.testing.assert_array_equal(twice(g, x), 6 * DATA + 1)
    np.testing.assert_array_equal(twice(f, x), 2 * DATA + 1)
