"""The gradient check itself: it must find what is wrong, and say where."""

import dataclasses

import numpy as np
import pytest

import rgraph as C
from rgraph import testing
from rgraph.graph import GraphError, apply
from rgraph.ops.arithmetic import element_times, minus
from rgraph.ops.records import TABLE, as_node

s = C.sequence.input_variable(4)


@pytest.fixture
def wrong():
    """A record with another gradient; the table keeps the right one."""
    return lambda name, gradient: dataclasses.replace(TABLE[name], gradient=gradient)


def wrongly(op, *operands, **attrs):
    return C.Function([apply(op, *map(as_node, operands), **attrs)])


def test_a_right_gradient_gives_a_report():
    x, w = C.input_variable(3, name="x"), C.Parameter((3, 2), init=C.glorot_uniform(), name="W")
    report = testing.check_gradients(C.tanh(C.times(x, w)))
    assert set(report.errors) == {x, w}
    assert report.comparisons == {x: 9, w: 6}
    assert 0 <= report.worst < 1e-6
    assert "parameter 'W' (3, 2): 6 derivatives" in str(report)


def test_a_wrong_gradient_names_variable_element_and_both_numbers(wrong):
    half = wrong("square", lambda node, g: [element_times(g, node.inputs[0])])
    w = C.parameter(3, init=np.array([0.1, 3.0, 0.5]), name="W")
    with pytest.raises(testing.GradientError) as caught:
        testing.check_gradients(wrongly(half, w), epsilon=1e-4)
    error = caught.value
    assert error.variable == w
    assert abs(error.by_differences / error.by_graph) == pytest.approx(2, rel=1e-6)
    message = str(error)
    assert "parameter 'W' (3,)" in message
    assert f"worst at element {error.index}" in message
    assert f"{error.by_graph: .9g}".strip() in message
    assert f"{error.by_differences: .9g}".strip() in message
    assert __file__ in message
    assert not error.kink


def test_only_the_wrong_element_is_named():
    x = C.input_variable((2, 3), name="x")
    values = np.ones((2, 2, 3))
    values[1, 1, 2] = 0.0
    with pytest.raises(testing.GradientError) as caught:
        testing.check_gradients(C.relu(x) + x, {x: values})
    assert caught.value.index == (1, 1, 2)
    assert "element (sample, …) (1, 1, 2)" in str(caught.value)


def test_the_element_of_a_ragged_sequence():
    x = C.sequence.input_variable(2)
    values = [np.ones((2, 2)), np.ones((4, 2)), np.ones((3, 2))]
    values[2][1, 0] = 0
    with pytest.raises(testing.GradientError) as caught:
        testing.check_gradients(C.relu(x) + 0.1 * x, {x: values})
    assert caught.value.index == (2, 1, 0)
    assert "element (sequence, frame, …) (2, 1, 0)" in str(caught.value)


def test_one_wrong_element_of_many_is_found_along_random_directions(wrong):
    def gradient(node, g):
        mask = np.zeros((40, 50))
        mask[17, 31] = 0.5
        return [element_times(g, minus(element_times(2.0, node.inputs[0]), as_node(mask)))]

    x = C.Parameter((40, 50), np.random.default_rng(1).normal(size=(40, 50)), name="many")
    with pytest.raises(testing.GradientError) as caught:
        testing.check_gradients(wrongly(wrong("square", gradient), x))
    assert caught.value.index == (17, 31)


def test_a_large_variable_takes_few_comparisons():
    w = C.Parameter((40, 50), init=C.glorot_uniform(seed=1))
    report = testing.check_gradients(C.tanh(w), directions=3)
    assert report.comparisons[w] == 3
    report = testing.check_gradients(C.tanh(C.Parameter(10, init=1)), elements=9)
    assert set(report.comparisons.values()) == {4}


def test_a_wrong_second_gradient(wrong):
    """Right at the first order: the derivative is written down without its own dependence on x."""

    def gradient(node, g):
        return [element_times(g, element_times(2.0, C.stop_gradient(node.inputs[0])))]

    x = C.input_variable(2)
    f = wrongly(wrong("square", gradient), x)
    with pytest.raises(testing.GradientError, match="gradient of the gradient"):
        testing.check_gradients(C.exp(x) * f * f, order=2)


def test_a_gradient_that_is_right_only_in_sum(wrong):
    """Of a transposed matrix, with the elements in the wrong places."""
    x = C.Parameter((3, 3), np.arange(9.0).reshape(3, 3))
    with pytest.raises(testing.GradientError):
        testing.check_gradients(wrongly(wrong("transpose", lambda _, g: [g]), x, perm=(1, 0)))


@pytest.mark.parametrize(
    "f",
    [
        C.relu,
        lambda x: C.abs(x) + C.relu(x),
        lambda x: C.element_max(x, 0),
        lambda x: C.clip(x, 0, 9),
    ],
)
def test_a_kink_is_called_one(f):
    x = C.input_variable(2)
    at = {x: [[1.0, 0.0]]}
    with pytest.raises(testing.GradientError, match="has a kink here") as caught:
        testing.check_gradients(f(x) + x, at)
    assert caught.value.kink
    assert caught.value.index == (0, 1)
    testing.check_gradients(f(x) + x, {x: [[1.0, 0.1]]})


def test_a_kink_close_by_is_stepped_round():
    x = C.input_variable(1)
    testing.check_gradients(C.relu(x), {x: [[2e-6]]})


def test_strong_curvature_is_no_mistake():
    x = C.input_variable(2)
    testing.check_gradients(C.exp(30 * x), {x: [[0.1, 0.5]]})
    testing.check_gradients(C.sin(100 * x), {x: [[0.1, 0.5]]}, order=2)


def test_float32_functions_are_checked_in_float64_and_left_alone():
    x = C.sequence.input_variable(2)
    w = C.Parameter((2, 3), init=C.glorot_uniform(seed=1))
    f = C.layers.Recurrence(lambda h, v: C.tanh(0.5 * h + C.times(v, w)))(x)
    before, node = w.value.copy(), f.node
    report = testing.check_gradients(f, order=2, tolerance=1e-6)
    assert report.worst < 1e-6  # float32 would give 1e-3
    assert f.node is node
    assert (w.dtype, f.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(w.value, before)


def test_a_float64_function_is_left_alone_too():
    w = C.Parameter(3, np.arange(3.0), np.float64)
    testing.check_gradients(C.square(w))
    np.testing.assert_array_equal(w.value, np.arange(3.0))


def test_data_in_all_the_forms_of_eval():
    x = C.sequence.input_variable(2, name="x")
    f = C.layers.Recurrence(C.plus)(C.tanh(x))
    testing.check_gradients(f, {x: [np.ones((2, 2)), np.zeros((3, 2))]})
    testing.check_gradients(f, {"x": np.ones((2, 2))})
    testing.check_gradients(f, np.ones((4, 2, 2)))


def test_random_data_for_several_inputs_and_time_axes():
    x = C.sequence.input_variable(2)
    y = C.sequence.input_variable((), sequence_axis=C.Axis.new_unique_dynamic_axis("other"))
    b = C.input_variable((2, 2))
    f = C.times(x * C.sequence.last(y), b)
    report = testing.check_gradients(f, order=2)
    assert report.comparisons == {x: 2 * 12, y: 2 * 6, b: 2 * 12}


def test_only_what_is_asked_for():
    x, y = C.input_variable(2), C.input_variable(2)
    f = C.round(x) * y + C.stop_gradient(x)
    report = testing.check_gradients(f, wrt=y)
    assert set(report.errors) == {y}
    with pytest.raises(GraphError, match="not an input or parameter of the function"):
        testing.check_gradients(f, wrt=C.input_variable(1))


def test_stop_gradient_is_taken_at_its_word():
    x = C.input_variable(2)
    testing.check_gradients(C.stop_gradient(C.exp(x)) * x, order=2)
    s = C.sequence.input_variable(2)
    testing.check_gradients(
        C.layers.Recurrence(lambda h, v: C.stop_gradient(h) * v + h)(s), order=2
    )


def test_several_outputs_and_equal_gradients():
    x, y = C.input_variable(2), C.input_variable(2)
    testing.check_gradients(C.combine(x + y, C.exp(x)), order=2)
    testing.check_gradients(x + y, order=2)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: C.reduce_sum(C.softmax(x)),
        lambda x: C.reduce_sum(x - C.reduce_mean(x)),
        lambda x: C.square(C.sin(x)) + C.square(C.cos(x)),
        lambda x: C.tanh(C.reduce_mean(x - C.reduce_mean(x))),
        lambda x: C.reduce_log_sum_exp(C.log_softmax(x)),
        lambda x: C.sequence.reduce_sum(C.sequence.softmax(C.sequence.broadcast_as(1, s) * s)),
        lambda x: C.layers.Recurrence(lambda h, f: h + f - C.reduce_mean(f))(C.reduce_sum(s)),
    ],
)
def test_rounding_is_no_mistake(f):
    """The gradients are 0, and both numbers what rounding leaves of values around 1."""
    assert testing.check_gradients(f(C.input_variable(4)), order=2).worst <= 1e-6


def test_a_mistake_beside_large_values_is_one(wrong):
    twice = wrong(
        "sin", lambda node, g: [element_times(2.0, element_times(g, C.cos(node.inputs[0])))]
    )
    x = C.input_variable(3)
    with pytest.raises(testing.GradientError):
        testing.check_gradients((wrongly(twice, x) + 1e6) - 1e6)


def test_an_element_whose_gradient_is_no_number_is_named(wrong):
    def gradient(node, g):
        (x,) = node.inputs
        slope = C.element_select(C.equal(x, 3.0), np.nan, element_times(2.0, x))
        return [element_times(g, slope)]

    poisoned = wrong("square", gradient)
    x, values = C.input_variable(3), np.ones((20, 3))
    values[7, 2] = 3
    with pytest.raises(testing.GradientError) as caught:
        testing.check_gradients(wrongly(poisoned, x), {x: values}, elements=5)
    assert np.isnan(caught.value.by_graph) and caught.value.index == (7, 2)


def test_a_missing_gradient_is_a_wrong_one(wrong):
    x = C.input_variable(2)
    with pytest.raises(testing.GradientError) as caught:
        testing.check_gradients(wrongly(wrong("exp", None), x))
    assert caught.value.by_graph == 0


def test_a_point_where_the_function_is_not_finite():
    x = C.input_variable(2)
    with pytest.raises(GraphError, match="not finite here") as caught:
        testing.check_gradients(C.exp(C.exp(x)), {x: [[1, 7]]})
    assert "check_gradients" in caught.value.hint


def test_a_function_with_an_open_placeholder():
    with pytest.raises(GraphError, match="has no value"):
        testing.check_gradients(C.exp(C.placeholder((2,))))


def test_a_variable_or_parameter_is_a_function_too():
    assert testing.check_gradients(C.Parameter(2)).worst < 1e-9
    assert testing.check_gradients(C.square(C.input_variable(2)).output).worst < 1e-6


def test_the_same_seed_gives_the_same_report():
    w = C.Parameter((20, 20), init=C.glorot_uniform(seed=1))
    f = C.tanh(w)
    first, second = (testing.check_gradients(f, seed=4).worst for _ in range(2))
    assert first == second


def test_sizes_that_are_free_are_those_of_the_data():
    x = C.sequence.input_variable(2, name="x")
    frames = C.sequence.unpack(C.tanh(x), 0, no_mask_output=True)  # (longest sequence, 2)
    report = testing.check_gradients(
        C.reduce_sum(C.square(frames)), {x: [np.ones((4, 2)), [[0.5, 2]]]}
    )
    assert report.comparisons[x] == 10
    y = C.input_variable((C.FreeDimension, 2))
    W = C.Parameter((2, 3), init=C.glorot_uniform(seed=1))
    report = testing.check_gradients(C.tanh(C.times(y, W)), order=2)
    assert dict(report.comparisons) == {y: 2 * 18, W: 2 * 6}
    first = C.sequence.gather(x, C.sequence.is_first(x))  # how long it is, only a run tells
    assert testing.check_gradients(C.sequence.unpack(first, 0, True)).comparisons[x] == 12
