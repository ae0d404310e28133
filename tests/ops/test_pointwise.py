"""Pointwise functions against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.special

import rgraph as C
from rgraph import device
from rgraph.graph import GraphError
from rgraph.ops.records import TABLE

# name: (function over arrays, lowest value, highest value)
UNARY = {
    "abs": (np.abs, -3, 3),
    "acos": (np.arccos, -1, 1),
    "asin": (np.arcsin, -1, 1),
    "asinh": (np.arcsinh, -3, 3),
    "atan": (np.arctan, -3, 3),
    "atanh": (np.arctanh, -0.9, 0.9),
    "ceil": (np.ceil, -3, 3),
    "cos": (np.cos, -4, 4),
    "cosh": (np.cosh, -3, 3),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), -3, 3),
    "exp": (np.exp, -3, 3),
    "floor": (np.floor, -3, 3),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), -3, 3),
    "log": (np.log, 0.1, 5),
    "negate": (np.negative, -3, 3),
    "reciprocal": (np.reciprocal, 0.1, 5),
    "relu": (lambda x: np.maximum(x, 0), -3, 3),
    "round": (lambda x: np.floor(x + 0.5), -3, 3),
    "selu": (lambda x: 1.0507009873 * np.where(x > 0, x, 1.6732632423 * np.expm1(x)), -3, 3),
    "sigmoid": (scipy.special.expit, -9, 9),
    "sin": (np.sin, -4, 4),
    "sinh": (np.sinh, -3, 3),
    "softplus": (lambda x: np.logaddexp(0, x), -9, 9),
    "softsign": (lambda x: x / (1 + np.abs(x)), -3, 3),
    "sqrt": (np.sqrt, 0, 5),
    "square": (np.square, -3, 3),
    "stop_gradient": (np.array, -3, 3),
    "tan": (np.tan, -1.5, 1.5),
    "tanh": (np.tanh, -3, 3),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_operand(name, dtype):
    function, low, high = UNARY[name]
    values = np.random.default_rng(1).uniform(low, high, (4, 3, 2)).astype(dtype)
    x = C.input_variable((3, 2), dtype)
    result = getattr(C, name)(x).eval({x: values})
    assert result.dtype == dtype
    np.testing.assert_allclose(result, function(values), rtol=1e-5, atol=1e-6)


BINARY = {
    "plus": np.add,
    "minus": np.subtract,
    "element_times": np.multiply,
    "element_divide": np.divide,
    "element_max": np.maximum,
    "element_min": np.minimum,
    "log_add_exp": np.logaddexp,
    "pow": np.power,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "element_and": np.logical_and,
    "element_or": np.logical_or,
    "element_xor": np.logical_xor,
}
BROADCASTS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((3,), (4, 2, 3)),
    ((1,), (2, 1)),
    ((), (2, 3)),
]


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_operands_broadcast_as_numpy(name, shapes):
    rng = np.random.default_rng(2)
    # whole numbers among them, so that some are equal
    arrays = [
        np.maximum(np.round(rng.uniform(0, 4, (5, *s))) / 2, 0.5 * (name == "pow")) for s in shapes
    ]
    if name == "element_divide":
        arrays[1] += 1
    inputs = [C.input_variable(s, np.float64) for s in shapes]
    rank = max(map(len, shapes))
    expected = BINARY[name](
        *[a.reshape(5, *(1,) * (rank - a.ndim + 1), *a.shape[1:]) for a in arrays]
    )
    node = getattr(C, name)(*inputs)
    assert node.shape == np.broadcast_shapes(*shapes)
    result = node.eval(dict(zip(inputs, arrays)))
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_sums_products_and_extrema_take_more_than_two_operands():
    values = [np.array([3.0, -1]), np.array([2.0, 5]), np.array([0.5, 1])]
    for name, whole in [
        ("plus", np.sum),
        ("element_times", np.prod),
        ("element_max", np.max),
        ("element_min", np.min),
    ]:
        np.testing.assert_allclose(getattr(C, name)(*values).eval(), whole(values, axis=0))
    together = C.log_add_exp(*values).eval()
    np.testing.assert_allclose(together, scipy.special.logsumexp(values, axis=0), rtol=1e-6)


def test_python_operators():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 0.5])
    x, y = C.input_variable(3, np.float64), C.input_variable(3, np.float64)
    cases = [
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (x**y, a**b),
        (2 + x, 2 + a),
        (2 - x, 2 - a),
        (2 * x, 2 * a),
        (2 / x, 2 / a),
        (2**x, 2**a),
        (-x, -a),
        (abs(-x), a),
        (x < y, a < b),
        (x <= y, a <= b),
        (x > y, a > b),
        (x >= y, a >= b),
        (a * y, a * b),
        (x @ np.eye(3), a),
        (np.eye(3) @ C.reshape(y, (3, 1)), b[:, None]),
    ]
    for f, expected in cases:
        np.testing.assert_allclose(f.eval({x: [a], y: [b]})[0], expected, err_msg=repr(f))


def test_element_select():
    rng = np.random.default_rng(3)
    flag, a, b = rng.integers(0, 2, (4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 1))
    f, x, y = C.input_variable(3), C.input_variable(3), C.input_variable(1)
    result = C.element_select(f, x, y).eval({f: flag, x: a, y: b})
    np.testing.assert_array_equal(result, np.where(flag, a, b).astype(np.float32))


def test_gradient_of_a_selection_flows_to_what_was_selected():
    x, y = C.input_variable(2), C.input_variable(2)
    f = C.element_select([1, 0], x, y) * np.array([5, 7])
    g = f.grad({x: [[1, 2]], y: [[3, 4]]}, wrt=[x, y])
    np.testing.assert_array_equal(g[x], [[5, 0]])
    np.testing.assert_array_equal(g[y], [[0, 7]])


def test_clip_and_hard_sigmoid():
    x = C.input_variable(5, np.float64)
    values = np.array([[-3, -1, 0, 0.5, 4.0]])
    np.testing.assert_allclose(C.clip(x, -1, 0.2).eval({x: values}), np.clip(values, -1, 0.2))
    low = np.array([-2, -2, 1, 0, 0.0])
    np.testing.assert_allclose(C.clip(x, low, 3).eval({x: values}), np.clip(values, low, 3))
    np.testing.assert_allclose(
        C.hard_sigmoid(x, 0.2, 0.5).eval({x: values}), np.clip(0.2 * values + 0.5, 0, 1)
    )


def test_leaky_functions_with_other_slopes():
    x = C.input_variable(4, np.float64)
    values = np.array([[-3, -0.5, 0.5, 3.0]])
    low = np.minimum(values, 0)
    high = np.maximum(values, 0)
    for slope in 0.3, 1, 2.5, 0, -0.5:
        f = C.leaky_relu(x, slope)
        np.testing.assert_allclose(f.eval({x: values}), high + slope * low)
        np.testing.assert_allclose(f.grad({x: values}, wrt=x), np.where(values > 0, 1, slope))
        assert f.grad({x: [[0] * 4]}, wrt=x).tolist() == [[1] * 4]  # as CNTK's
        assert f.eval({x: [[np.inf] * 4]}).tolist() == [[np.inf] * 4]
    np.testing.assert_allclose(C.elu(x, 2).eval({x: values}), high + 2 * np.expm1(low))
    slope = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(C.param_relu(slope, x).eval({x: values}), high + slope * low)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "tanh", "log_add_exp", "elu", "selu"])
def test_no_overflow_far_from_zero(name):
    x = C.input_variable(2, needs_gradient=True)
    f = C.log_add_exp(x, 0) if name == "log_add_exp" else getattr(C, name)(x)
    at = {x: [[-2e4, 2e4]]}
    assert np.isfinite(f.eval(at)).all()
    assert np.isfinite(f.grad(at)).all()


INF, NAN = np.inf, np.nan
# What CNTK gives where a quotient has no value: the function, operands, value, gradients. Where its
# gradients are infinite (`sqrt`), or of a number that is cut off (`log`), ours are 0.
WITHOUT_VALUE = {
    "x / y": (
        lambda x, y: x / y,
        [[1, 0, -1, INF, NAN, 2, 0], [0, 0, -0.0, 0, 0, 4, INF]],
        [0, 0, 0, NAN, NAN, 0.5, 0],
        [[0, 0, 0, 0, 0, 0.25, 0], [0, 0, 0, NAN, NAN, -0.125, 0]],
    ),
    "1 / x": (lambda x: 1 / x, [[0, -0.0, 4, INF]], [0, 0, 0.25, 0], [[0, 0, -0.0625, 0]]),
    "reciprocal": (C.reciprocal, [[0, -0.0, 4, NAN]], [0, 0, 0.25, NAN], [[0, 0, -0.0625, NAN]]),
    "x ** y": (
        C.pow,
        [[0, 0, 0, 0, 0, 0, -2, -2, 2], [-1, -0.5, 0, 0.5, 1, 2, 3, 0.5, 0]],
        [0, 0, 1, 0, 0, 0, -8, NAN, 1],
        [[0, 0, 0, 0, 1, 0, 12, NAN, 0], [0, 0, 0, 0, 0, 0, 0, 0, np.log(2)]],
    ),
    "x ** -1": (lambda x: x**-1, [[0, 2, -2]], [0, 0.5, -0.5], [[0, -0.25, -0.25]]),
    "sqrt": (C.sqrt, [[0, -0.0, -1, -INF, 4]], [0, 0, 0, 0, 2], [[0, 0, 0, 0, 0.25]]),
    "log": (C.log, [[0, -1, -INF, INF, NAN, 2]], None, [[0, 0, 0, 0, NAN, 0.5]]),
    "asin": (C.asin, [[1, -1, 0]], [np.pi / 2, -np.pi / 2, 0], [[0, 0, 1]]),
    "atanh": (C.atanh, [[1, -1, 0]], [INF, -INF, 0], [[0, 0, 1]]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", device.cpu_engines())
@pytest.mark.parametrize("case", WITHOUT_VALUE)
def test_where_a_quotient_has_no_value(case, engine, dtype, engines):
    engines(engine)
    function, given, value, gradients = WITHOUT_VALUE[case]
    if case == "log":
        least = -85.1 if dtype == np.float32 else -708
        value = [least, least, least, INF, NAN, np.log(2)]
    variables = [C.input_variable(len(g), dtype, needs_gradient=True) for g in given]
    f, at = function(*variables), {v: [g] for v, g in zip(variables, given)}
    np.testing.assert_allclose(f.eval(at)[0], value, rtol=1e-6)
    found = f.grad(at, wrt=variables)
    found = list(found.values()) if len(given) > 1 else [found]
    np.testing.assert_allclose([g[0] for g in found], gradients, rtol=1e-6)


def test_log_is_cut_off_by_its_type():
    """1e-300 is a number of float64, and so is its logarithm."""
    x = C.input_variable(1, np.float64, needs_gradient=True)
    np.testing.assert_allclose(C.log(x).eval({x: [[1e-300]]}), np.log(1e-300))
    np.testing.assert_allclose(C.log(x).grad({x: [[1e-300]]}), 1e300)


def test_a_mean_of_nothing_is_zero():
    """CNTK's numbers: a mask that leaves no frame of a sequence."""
    z, w = C.sequence.input_variable(2, needs_gradient=True), C.sequence.input_variable(())
    loss = C.cross_entropy_with_softmax(z, C.constant([1, 0]))
    mean = C.sequence.reduce_sum(loss * w) / C.sequence.reduce_sum(w)
    at = {z: [np.zeros((3, 2)), np.zeros((2, 2))], w: [np.ones(3), np.zeros(2)]}
    np.testing.assert_allclose(np.ravel(mean.eval(at)), [np.log(2), 0], rtol=1e-6)
    first, second = mean.grad(at)
    np.testing.assert_allclose(first, [[-1 / 6, 1 / 6]] * 3, rtol=1e-6)
    assert (second == 0).all()


@pytest.mark.parametrize("a", [-INF, -200.0, 3.0, INF])
def test_log_add_exp_shares_its_gradient_among_equals(a):
    x, y = (C.input_variable(1, needs_gradient=True) for _ in range(2))
    at = {x: [[a]], y: [[a]]}
    slopes = C.log_add_exp(x, y).grad(at, wrt=[x, y])
    assert [g.item() for g in slopes.values()] == [0.5, 0.5]


def test_kinks_have_the_documented_gradients():
    x = C.input_variable(1, needs_gradient=True)
    assert C.relu(x).grad({x: [[0]]}) == 0
    assert C.abs(x).grad({x: [[0]]}) == 0


@pytest.mark.parametrize("name", [n for n, op in TABLE.items() if op.pointwise and not op.gradient])
def test_no_gradient_flows_through_steps(name):
    x = C.input_variable(3, needs_gradient=True)
    arity = len(TABLE[name].operands)
    f = getattr(C.ops, name)(*[x] * arity)
    np.testing.assert_array_equal(f.grad({x: [[0.5, 1.2, -1]]}), [[0, 0, 0]])


def test_extrema_pass_the_gradient_of_a_tie_to_one_operand():
    x, y = C.input_variable(1), C.input_variable(1)
    for f in (C.element_max(x, y), C.element_min(x, y)):
        g = f.grad({x: [[2]], y: [[2]]}, wrt=[x, y])
        assert g[x] + g[y] == 1


def test_one_result_is_not_the_memory_of_a_parameter():
    w = C.Parameter(2, init=3)
    for f in (w, w * 1, C.reshape(w, (2, 1)), C.alias(w)):
        result = f.eval()
        result[...] = 7
        np.testing.assert_array_equal(w.value, [3, 3])
    c = C.constant([1.0, 2.0])
    c.eval()[...] = 7
    np.testing.assert_array_equal(c.value, [1, 2])


def test_numbers_take_the_dtype_of_what_they_meet():
    for dtype in (np.float32, np.float64):
        x = C.input_variable(2, dtype)
        for f in (
            x + 1,
            1.5 * x,
            x * np.array([1, 2]),
            x - np.array([1.0, 2.0]),
            x + C.constant(3),
        ):
            assert f.dtype == dtype
            assert f.eval({x: [[1, 2]]}).dtype == dtype


def test_operands_that_are_no_numbers_are_refused():
    x = C.input_variable(2)
    with pytest.raises(GraphError, match="variable, a function, a number or an array"):
        x + "1"
    with pytest.raises(GraphError, match="ragged"):
        C.plus(x, [[1, 2], [3]])
    with pytest.raises(TypeError, match="2 operands"):
        C.minus(x)


@pytest.mark.parametrize("f", [C.negate, C.sigmoid, C.exp, C.abs, C.square])
def test_few_elements_that_lie_apart_into_places_apart(f):
    """NumPy 2.4's own `negative` takes the second of two from beside the first."""
    x = C.input_variable(4)
    v = np.arange(8, dtype=np.float32).reshape(2, 4)
    y = C.splice(f(x[2:3]), C.square(x))
    for engine in C.device.cpu_engines():
        before = C.device.engine(C.cpu()).name
        C.device.use_cpu_engine(engine)
        found = y.eval({x: v})
        C.device.use_cpu_engine(before)
        np.testing.assert_allclose(found[:, 0], f(C.constant(v[:, 2].copy())).eval(), rtol=1e-6)


def test_a_steep_softplus():
    """CNTK's documentation gives these values."""
    steep = C.softplus(C.constant([-1, -0.5, 0, 1, 2]), steepness=4).eval()
    np.testing.assert_allclose(steep, [0.004537, 0.031732, 0.173287, 1.004537, 2.000084], atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: C.relu(x, "r"),
        lambda x: C.minus(x, x, "r"),
        lambda x: C.element_times(x, x, "r"),
        lambda x: C.plus(x, x, x, "r"),
        lambda x: C.times(x, np.ones((3, 2)), 1, -1, "r"),
        lambda x: C.reduce_sum(x, 0, True, "r"),
        lambda x: C.splice(x, x, name="r"),
        lambda x: C.squared_error(x, x, "r"),
        lambda x: C.random.normal_like(x, 0.0, 1.0, 3, "r"),
    ],
)
def test_the_last_argument_is_the_name(make):
    f = make(C.input_variable(3))
    assert f.name == "r"
