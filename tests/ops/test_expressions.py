"""Scalar expressions: read once, written in C, done by an array library's functions."""

import math

import numpy as np
import pytest

from rgraph.ops import expressions
from rgraph.ops.expressions import in_c, on_arrays, parsed
from rgraph.ops.records import TABLE

POINTWISE = {name: op for name, op in TABLE.items() if op.pointwise}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("x - (y - x)", "a - (b - a)"),
        ("(x - y) - x", "(a - b) - a"),
        ("-(-x)", "-(-a)"),
        ("-(x + y)", "-(a + b)"),
        ("exp(-x)", "exp(-a)"),
        ("x > 0", "T(a > T(0))"),
        ("(x > 0) * 2.5", "T(a > T(0)) * T(2.5)"),
        ("x if x > y and y > 0 else inf", "((a > b) && (b > T(0))) ? a : (T(1) / T(0))"),
        ("at_least(x + y, 0)", "((a + b) < T(0) ? T(0) : (a + b))"),
    ],
)
def test_in_c(text, written):
    assert in_c(parsed(text, ("x", "y")), ("a", "b")) == written


def test_on_arrays():
    f = on_arrays(parsed("x * y + (0.5 if x == y else exp(y))", ("x", "y")))(np)
    x, y = np.array([[1.0], [2.0]]), np.array([1.0, 3.0])
    expected = [[1.5, 3 + math.exp(3)], [2 + math.e, 6 + math.exp(3)]]
    np.testing.assert_allclose(f(x, y), expected)
    out = np.empty((2, 2))
    assert f(x, y, out=out) is out
    np.testing.assert_allclose(out, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", POINTWISE)
def test_a_record_s_expression_on_arrays_is_its_kernel_in_place_too(name, dtype):
    """What is faster or more exact on arrays computes the same; the result may be the operand's."""
    op = POINTWISE[name]
    operands = [a.astype(dtype) for a in op.cases[0](np.random.default_rng(0))[0]]
    assert op.function is not None
    truth = op.function(np)(*(a.astype(np.float64) for a in operands))
    tolerance = 20 * np.finfo(dtype).eps
    for function in (op.function(np), on_arrays(expressions.of(op))(np)):
        found = function(*operands)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, truth, rtol=tolerance, atol=tolerance)
        for i in range(len(operands)):
            given = [a.copy() for a in operands]
            assert function(*given, out=given[i]) is given[i]
            np.testing.assert_array_equal(given[i], found)
        ends = np.array([0, np.inf, -np.inf, np.nan], dtype)
        with np.errstate(all="ignore"):
            assert function(*[ends] * len(operands)).dtype == dtype


@pytest.mark.parametrize("text", ["[x]", "gamma(x)", "x + y"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="unsupported expression"):
        parsed(text, ("x",))
