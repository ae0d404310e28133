"""What runs along rows in C, against SciPy's."""

import numpy as np
import pytest
import scipy.special

from rgraph import device
from rgraph.engines import cpu
from rgraph.graph.node import Type
from rgraph.ops.records import TABLE
from rgraph.plan import Run

if "native" not in device.cpu_engines():
    pytest.skip("there is no C compiler", allow_module_level=True)

pytestmark = pytest.mark.cpu
ENGINE = cpu.made("native")
RNG = np.random.default_rng(0)
NAMES = ["softmax", "log_softmax", "hardmax"]


def kernel(name, shape, /, **arguments):
    float32 = np.dtype(np.float32)
    operands = [Type(shape, (), float32)] * (2 if "entropy" in name else 1)
    bound = ENGINE.bind(TABLE[name], arguments, operands)
    assert bound.provider == "native"
    return lambda *arrays: bound.kernel(Run(ENGINE, {}, len(arrays[0])), *arrays)


def truth(name, x, axis):
    x = x.astype(np.float64)
    if name != "hardmax":
        return getattr(scipy.special, name)(x, axis=axis)
    flat = x.reshape(*x.shape[: x.ndim - len(axis)], -1)
    return np.eye(flat.shape[-1])[flat.argmax(-1)].reshape(x.shape)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows, length", [(1, 1), (5, 10), (3, 16), (300, 37), (2, 1000)])
def test_along_the_last_axis(name, rows, length):
    x = RNG.normal(scale=20, size=(rows, length)).astype(np.float32)
    x[0, 0] = -np.inf if length > 1 else 3
    found = kernel(name, (length,), axis=(-1,))(x)
    np.testing.assert_allclose(found, truth(name, x, (-1,)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_along_several_axes_and_what_is_not_dense(name):
    x = RNG.normal(size=(4, 6, 5)).astype(np.float32)
    along = kernel(name, (6, 5), axis=(-2, -1))
    for given in (x, np.repeat(x, 2, -1)[..., ::2], np.asfortranarray(x)):
        np.testing.assert_allclose(along(given), truth(name, x, (-2, -1)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_infinities_and_nan(name):
    """Those that are infinite share what there is; the first NaN counts as the largest."""
    inf, nan = np.inf, np.nan
    x = np.array([[inf, 1, inf], [-inf] * 3, [1, nan, nan]], np.float32)
    shares = np.array([[0.5, 0, 0.5], [1 / 3] * 3, [nan] * 3])
    with np.errstate(divide="ignore"):
        expected = {
            "softmax": shares,
            "log_softmax": np.log(shares),
            "hardmax": np.eye(3)[[0, 0, 1]],
        }
    np.testing.assert_allclose(kernel(name, (3,), axis=(-1,))(x), expected[name], rtol=1e-6)


@pytest.mark.parametrize("length", [1, 10, 700])
def test_cross_entropy(length):
    z = RNG.normal(scale=10, size=(20, length)).astype(np.float32)
    t = RNG.uniform(size=(20, length)).astype(np.float32)  # of no sum in particular
    t[0] = np.eye(length)[0]
    z[0, 1:2] = -np.inf  # of which the target has nothing
    entropy = kernel("cross_entropy_with_softmax", (length,), axis=(-1,), shape=(1,), rank=1)
    wide, target = z.astype(np.float64), t.astype(np.float64)
    products = np.where(target == 0, 0, target * np.where(np.isinf(wide), 0, wide))
    expected = scipy.special.logsumexp(wide, axis=1) - products.sum(1)
    np.testing.assert_allclose(entropy(z, t)[:, 0], expected, rtol=1e-5, atol=1e-3)
