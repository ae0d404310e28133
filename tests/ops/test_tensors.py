"""Operations with NumPy's names, against NumPy."""

import numpy as np
import pytest
from scipy import special

import rgraph as C

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ij,kj->ki", [(2, 3), (4, 3)]),
        ("ijk,jl,km->lmi", [(2, 3, 4), (3, 5), (4, 2)]),
        ("i,j->ji", [(2,), (3,)]),
        ("i,i->", [(4,), (4,)]),
        ("ij,ij->i", [(2, 3), (2, 3)]),
        ("ij,j->i", [(2, 3), (3,)]),
        ("ij,k->k", [(2, 3), (4,)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ii->i", [(3, 3)]),
        ("iij,jk->ki", [(3, 3, 2), (2, 4)]),
        ("abc,cd,b->ad", [(2, 3, 4), (4, 2), (3,)]),
    ],
)
def test_einsum(subscripts, shapes):
    """Every way of giving the operands: in a batch, and as parameters."""
    arrays = [rng.normal(size=s) for s in shapes]
    truth = np.einsum(subscripts, *arrays)
    inputs = [C.input_variable(s, np.float64) for s in shapes]
    f = C.einsum(subscripts, *inputs)
    feed = {i: np.stack([a, 2 * a]) for i, a in zip(inputs, arrays)}
    found = f.eval(feed)
    np.testing.assert_allclose(found, np.stack([truth, truth * 2 ** len(shapes)]), rtol=1e-12)
    C.testing.check_gradients(f, feed, inputs, order=2)
    kept = [C.parameter(init=a) for a in arrays[1:]]
    one = C.einsum(subscripts, inputs[0], *kept)
    np.testing.assert_allclose(one.eval({inputs[0]: arrays[0][None]})[0], truth, rtol=1e-12)
    C.testing.check_gradients(one, {inputs[0]: feed[inputs[0]]}, [inputs[0], *kept])


@pytest.mark.parametrize(
    "subscripts, operands, words",
    [
        ("ij,jk->ik", [np.ones((2, 3))], "2 operands, got 1"),
        ("i->j", [np.ones(3)], "at least one operand"),
        ("i->ii", [np.ones(3)], "once"),
        ("...i->i", [np.ones(3)], "letters"),
        ("ij->i", [np.ones(3)], "2 axes"),
        ("i,i->", [np.ones(3), np.ones(4)], "do not match"),
        ("ii->i", [np.ones((3, 4))], "different sizes, 3 and 4"),
    ],
)
def test_einsum_refuses(subscripts, operands, words):
    with pytest.raises(C.GraphError, match=words):
        C.einsum(subscripts, *operands)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_along_an_axis(axis):
    x = C.input_variable((3, 4), np.float64)
    v = rng.normal(size=(2, 3, 4))
    at = axis + 1 if axis >= 0 else axis
    for f, truth in [
        (C.cumsum(x, axis), np.cumsum(v, at)),
        (C.cumsum(x, axis, reverse=True), np.flip(np.cumsum(np.flip(v, at), at), at)),
        (C.sort(x, axis), np.sort(v, at)),
        (C.argsort(x, axis), np.argsort(v, at)),
        (C.stack(x, 2 * x, axis=axis), np.stack([v, 2 * v], at)),
    ]:
        np.testing.assert_allclose(f.eval({x: v}), truth, rtol=1e-12)
    for f in (C.sort(x, axis), C.cumsum(x, axis), C.stack([x, C.square(x)], axis=axis)):
        C.testing.check_gradients(C.square(f), {x: v}, [x], order=2)


@pytest.mark.parametrize(
    "f, truth, low",
    [
        (C.erf, special.erf, -3),
        (C.log1p, np.log1p, -0.9),
        (C.expm1, np.expm1, -3),
        (lambda x: C.mod(x, 0.7), lambda v: np.mod(v, np.float32(0.7)), -3),
        (lambda x: C.mod(x, -0.7), lambda v: np.mod(v, np.float32(-0.7)), -3),
        (lambda x: C.maximum(x, 0.5), lambda v: np.maximum(v, 0.5), -3),
        (lambda x: C.minimum(x, 0.5), lambda v: np.minimum(v, 0.5), -3),
        (lambda x: C.where(x > 0, x, -2 * x), lambda v: np.where(v > 0, v, -2 * v), -3),
    ],
)
def test_element_by_element(f, truth, low):
    v = rng.uniform(low, 3, (4, 50)).astype(np.float32)
    x = C.input_variable(50)
    np.testing.assert_allclose(f(x).eval({x: v}), truth(v), rtol=2e-6, atol=2e-7)
    y = C.input_variable(50, np.float64)
    C.testing.check_gradients(f(y), {y: v}, [y])
