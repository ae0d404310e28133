"""Every record's kernel keeps to what CuPy has, and to its rules."""

import numpy as np
import pytest

from rgraph.graph import BATCH, Input, apply
from rgraph.ops.records import TABLE
from rgraph.plan import Plan
from tests.engines.played_gpu import make_engine
from tests.engines.strict_arrays import Array

CASES = [
    pytest.param(op, case, id=f"{name}-{i}")
    for name, op in TABLE.items()
    for i, case in enumerate(op.cases)
]


@pytest.fixture(scope="module")
def engine():
    """An engine with the records' own kernels."""
    made = make_engine()
    made.kernels = {}
    return made


@pytest.mark.parametrize("op, case", CASES)
def test_a_record_s_kernel_runs_on_cupy_as_it_is(op, case, engine):
    arrays, attrs = case(np.random.default_rng(0))
    names = [*op.operands, *op.operands[-1:] * 9]
    rows = [name != "kernel" for name, _ in zip(names, arrays)]
    inputs = [
        Input(a.shape[1:] if r else a.shape, (BATCH,) if r else (), a.dtype, "")
        for a, r in zip(arrays, rows)
    ]
    node = apply(op, *inputs, **attrs)
    (truth,) = Plan([node], _Plain()).run(dict(zip(inputs, arrays)), {}, 2)
    feed = {i: engine.from_numpy(a) for i, a in zip(inputs, arrays)}
    (found,) = Plan([node], engine).run(feed, {}, 2)
    assert isinstance(found, Array), "the result is not on the GPU"
    assert found.dtype == truth.dtype
    np.testing.assert_allclose(found.memory, truth, rtol=1e-12, atol=1e-12)


def _Plain():
    from rgraph.engines.numpy import NumpyEngine

    engine = NumpyEngine()
    engine.kernels = {}
    return engine
