"""The engines' own kernels without a batch axis, with one row and with none.

The cases of `tests/ops/test_table.py` are small; here are sizes that have kernels of their own.
"""

import numpy as np
import pytest

import rgraph as C
from rgraph import device

MAX, AVG = C.MAX_POOLING, C.AVG_POOLING


def pooled(kind, *how):
    return lambda x: C.pooling(x, kind, *how)


def convolved(**how):
    return lambda x, w: C.convolution(w, x, **how)


# For each form: the shapes of the operand and of parameters, and the function
FORMS = {
    **{
        f"pooling {i} {kind}": ([shape], pooled(kind, *how))
        for kind in (MAX, AVG)
        for i, (shape, *how) in enumerate(
            [
                ((4, 6), (2,), (2,)),
                ((16, 9), (3,), (2,), True, True),
                ((64, 32, 32), (2, 2), (2, 2)),
                ((3, 9, 8), (2, 3), (2, 3), False, True),
                ((16, 9, 8), (3, 2), (2, 1), True),
                ((1, 9, 8), (3, 3), (2, 2)),
                ((16, 6, 5, 4), (2, 2, 2), (2, 2, 2), False, True),
            ]
        )
    },
    "convolution 1-d": ([(8, 7), (8, 8, 3)], convolved()),
    "convolution 1x1": ([(16, 8, 8), (16, 16, 1, 1)], convolved()),
    "convolution 3x3": ([(32, 20, 20), (32, 32, 3, 3)], convolved()),
    "convolution of one channel": ([(1, 20, 20), (16, 1, 3, 3)], convolved()),
    "convolution with strides": ([(4, 9, 9), (8, 4, 5, 5)], convolved(strides=(2, 2))),
    "convolution with dilation": ([(8, 12, 12), (8, 8, 3, 3)], convolved(dilation=(2, 2))),
    "convolution in groups": ([(8, 12, 12), (8, 4, 3, 3)], convolved(groups=2)),
    "convolution 3-d": ([(4, 6, 6, 6), (4, 4, 3, 3, 3)], convolved()),
    "convolution and its tail": (
        [(16, 16, 16), (16, 16, 3, 3), (16, 1, 1)],
        lambda x, w, b: C.relu(C.convolution(w, x) + b),
    ),
    "transposed convolution": (
        [(8, 9, 9), (8, 4, 3, 3)],
        lambda x, w: C.convolution_transpose(w, x, strides=(2, 2)),
    ),
    "product": ([(64,), (64, 32)], lambda x, w: C.times(x, w)),
    "product of matrices": ([(5, 64), (64, 32)], lambda x, w: C.times(x, w)),
    "softmax": ([(100,)], C.softmax),
    "log_softmax along the first axis": ([(10, 100)], lambda x: C.log_softmax(x, axis=0)),
    "sum": ([(16, 64, 64)], lambda x: C.reduce_sum(x, axis=(1, 2))),
    "mean": ([(16, 64, 64)], lambda x: C.reduce_mean(x, axis=(1, 2))),
    "pointwise": ([(16, 64, 64)], lambda x: C.tanh(x * 2 + 1) * C.sigmoid(x)),
    "cross entropy": ([(10,)], lambda x: C.cross_entropy_with_softmax(x, x)),
}


def results(build, operands, feed):
    f = build(*operands)
    gradients = C.reduce_sum(C.square(f)).grad(feed, wrt=operands)
    gradients = [gradients] if len(operands) == 1 else [gradients[v] for v in operands]
    return [f.eval(feed), *gradients]


def reversed_axes(x):
    return C.transpose(x, tuple(range(len(x.shape)))[::-1]) if len(x.shape) > 1 else x


@pytest.mark.parametrize("engine", device.cpu_engines())
@pytest.mark.parametrize("shapes, build", FORMS.values(), ids=FORMS)
def test_few_rows(shapes, build, engine, engines):
    """Against NumPy's engine in float64 for three rows, of which the first is taken alone."""
    rng = np.random.default_rng(0)
    x, *weights = (rng.normal(size=s).astype(np.float32) for s in shapes)

    def parameters(dtype=np.float32):
        return [C.Parameter(w.shape, init=w, dtype=dtype) for w in weights]

    def rows(array, dtype=np.float32):
        i = C.input_variable(x.shape, dtype)
        return results(build, [i, *parameters(dtype)], {i: array})

    engines("numpy")
    exact = rows(x[None], np.float64)
    value, gradient, *_ = rows(np.stack([x, x + 1, x - 1]).astype(np.float64), np.float64)
    np.testing.assert_allclose(exact[0][0], value[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(exact[1][0], gradient[0], rtol=1e-9, atol=1e-9)
    engines(engine)
    single = C.parameter(x.shape, init=x)
    turned = C.parameter(x.shape[::-1], init=x.T)
    found = results(lambda x, *w: build(reversed_axes(x), *w), [turned, *parameters()], {})
    found[1] = found[1].T
    for got in (rows(x[None]), results(build, [single, *parameters()], {}), found):
        for g, e in zip(got, exact, strict=True):
            assert g.size == e.size
            scale = max(1, np.abs(e).max())
            np.testing.assert_allclose(g, e.reshape(g.shape), rtol=1e-4, atol=2e-5 * scale)
    value, gradient, *others = rows(np.zeros((0, *x.shape)))
    assert value.shape == (0, *exact[0].shape[1:]) and gradient.shape == (0, *x.shape)
    assert not any(g.any() for g in others)
