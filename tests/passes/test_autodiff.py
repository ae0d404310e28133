"""Gradients, from graph to graph."""

import numpy as np
import pytest

import rgraph as C
from rgraph import graph
from rgraph.graph import GraphError
from rgraph.passes import autodiff
from rgraph.testing import check_gradients

VALUES = np.random.default_rng(1).normal(size=(4, 3))


@pytest.fixture
def x():
    return C.input_variable(3, np.float64)


def test_a_value_used_several_times(x):
    f = C.reduce_sum(x * x * C.exp(x) + x)
    expected = (2 * VALUES + VALUES**2) * np.exp(VALUES) + 1
    np.testing.assert_allclose(f.grad({x: VALUES}, wrt=x), expected)


def test_derivatives_up_to_the_fourth(x):
    """Of sin: cos, -sin, -cos, sin."""
    f = C.sin(x)
    for expected in (np.cos(VALUES), -np.sin(VALUES), -np.cos(VALUES), np.sin(VALUES)):
        (f,) = f.gradients([x])
        np.testing.assert_allclose(f.eval({x: VALUES}), expected, rtol=1e-12)


def test_a_hessian_through_a_recurrence_agrees_with_pytorch(torch):
    rng = np.random.default_rng(2)
    u, s, v = rng.normal(size=(3, 3)), rng.normal(size=(5, 3)), rng.normal(size=3)
    x = C.sequence.input_variable(3, np.float64)
    w = C.Parameter(u.shape, u, np.float64)
    h = C.layers.Fold(lambda h, x: C.tanh(C.times(h, w) + x))(x)
    (first,) = C.reduce_sum(C.square(h)).gradients([w])
    second = C.reduce_sum(first * v).grad({x: s}, wrt=w)

    tw, state = torch.from_numpy(u).requires_grad_(), torch.zeros(3, dtype=torch.float64)
    for frame in torch.from_numpy(s):
        state = torch.tanh(state @ tw + frame)
    (g,) = torch.autograd.grad((state**2).sum(), tw, create_graph=True)
    (expected,) = torch.autograd.grad((g * torch.from_numpy(v)).sum(), tw)
    np.testing.assert_allclose(first.eval({x: s}), g.detach(), rtol=1e-10)
    np.testing.assert_allclose(second, expected, rtol=1e-10)


def test_a_gradient_penalty():
    """The usual reason to differentiate a gradient: its own norm as a loss."""
    x = C.sequence.input_variable(2)
    w = C.Parameter((2, 3), init=C.glorot_uniform(seed=1))
    y = C.layers.Recurrence(lambda h, v: C.tanh(0.5 * h + C.times(v, w)))(x)
    (g,) = C.reduce_sum(C.square(y)).gradients([x])
    check_gradients(C.reduce_sum(C.square(g)), elements=20)


def test_what_nothing_depends_on_has_a_gradient_of_zeros(x):
    y, p = C.input_variable(2, np.float64), C.Parameter((2, 3), dtype=np.float64)
    f = x * 2
    g = f.grad({x: VALUES, y: np.ones((4, 2))}, wrt=[x, y, p])
    np.testing.assert_array_equal(g[y], np.zeros((4, 2)))
    np.testing.assert_array_equal(g[p], np.zeros((2, 3)))
    np.testing.assert_array_equal(g[x], np.full((4, 3), 2))


def test_of_an_input_itself(x):
    f = C.alias(x)
    np.testing.assert_array_equal(f.grad({x: VALUES}, wrt=x), np.ones((4, 3)))


def test_with_respect_to_inner_values(x):
    inner = C.exp(x)
    f = inner * inner
    np.testing.assert_allclose(f.grad({x: VALUES}, wrt=[inner]), 2 * np.exp(VALUES))


def test_with_weights_of_the_elements(x):
    weights = C.constant(np.arange(3.0), dtype=np.float64)
    (node,) = autodiff.gradients(C.square(x).node, [x.node], weights.node)
    np.testing.assert_allclose(C.Function([node]).eval({x: VALUES}), 2 * VALUES * np.arange(3.0))


def test_of_a_state_inside_a_loop(x):
    """Everything that the delay passes on and back, with the loop's output not its last node."""
    s = C.sequence.input_variable((), np.float64)
    state = C.placeholder()
    before = C.sequence.past_value(state, 1)
    after = before * s
    after.replace_placeholders({state: after})
    # before(t) = s(0) … s(t-1): the gradient of their sum, by hand for s = 2, 3, 5
    # before = 1, 2, 6: d/ds0 = 1 + 3, d/ds1 = 2, d/ds2 = 0
    (g,) = before.grad({s: np.array([2.0, 3, 5])}, wrt=s)
    np.testing.assert_array_equal(g, [4, 2, 0])


def test_a_delay_whose_state_gets_no_gradient():
    s = C.sequence.input_variable((), np.float64)
    f = C.layers.Recurrence(lambda h, v: C.stop_gradient(h) * v, initial_state=1)(s)
    (g,) = f.grad({s: np.array([2.0, 3, 5])}, wrt=s)
    np.testing.assert_array_equal(g, [1, 2, 6])


def test_parameters_of_a_layer_applied_twice_get_both_gradients(x):
    w = C.Parameter(3, init=2, dtype=np.float64)
    layer = C.Function(lambda v: v * w)
    f = layer(x) + layer(C.exp(x))
    np.testing.assert_allclose(f.grad({x: VALUES}, wrt=w), (VALUES + np.exp(VALUES)).sum(0))


def test_gradients_of_several_outputs_at_once(x):
    y = C.input_variable(3, np.float64)
    pulled = autodiff.pull_back(
        {C.square(x).node: y.node, C.exp(x).node: C.constant(2.0, dtype=np.float64).node}, [x.node]
    )
    found = C.Function(pulled).eval({x: VALUES, y: VALUES})
    np.testing.assert_allclose(found, 2 * VALUES * VALUES + 2 * np.exp(VALUES))


def test_a_gradients_shape_and_axes_are_its_variables():
    s, b, p = C.sequence.input_variable((2, 1)), C.input_variable(3), C.Parameter((4, 1, 1))
    f = s * b * p
    for g, v in zip(f.gradients([s, b, p]), (s, b, p)):
        assert (g.shape, g.dynamic_axes, g.dtype) == (v.shape, v.dynamic_axes, v.dtype)


def test_the_function_is_left_alone(x):
    f = C.tanh(x * 2)
    before = graph.order([f.node])
    f.grad({x: VALUES}, wrt=x)
    f.gradients([x])
    assert graph.order([f.node]) == before


def test_what_needs_a_gradient_by_default(x):
    y = C.input_variable(3, np.float64, needs_gradient=True)
    g = (x * y).grad({x: VALUES, y: VALUES})
    np.testing.assert_array_equal(g, VALUES)
    with pytest.raises(GraphError, match="no input of the function needs a gradient") as caught:
        (x * 2).grad({x: VALUES})
    assert "needs_gradient=True" in caught.value.hint


def test_a_function_whose_shape_is_open_has_no_gradient_yet():
    p = C.placeholder()
    with pytest.raises(GraphError, match="not known yet"):
        C.exp(p).gradients([p])
