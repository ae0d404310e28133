"""oneDNN's softmax against SciPy's."""

import numpy as np
import pytest
import scipy.special

from rgraph import device
from rgraph.engines import cpu
from rgraph.plan import Run
from tests.engines.binding import Kernels

if "onednn" not in device.cpu_engines():
    pytest.skip("oneDNN is not installed: pip install onednn-cpu-gomp", allow_module_level=True)

ENGINE = cpu.made("onednn")
KERNELS = Kernels(ENGINE)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [(-1,), (-2, -1), (-2,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(name, axis, dtype):
    rng = np.random.default_rng(0)
    for rows in range(60, 90, 3):  # more than get primitives of their own
        x = rng.normal(scale=20, size=(rows, 7, 21)).astype(dtype)
        x[0, 0, 0] = -np.inf
        wide = np.repeat(x, 2, -1)
        truth = getattr(scipy.special, name)(x.astype(np.float64), axis=axis)
        for given in (x, wide[..., ::2], np.asfortranarray(x)):
            found = KERNELS[name](Run(ENGINE, {}, rows), given, axis=axis)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, truth, rtol=2e-5, atol=2e-5)
