"""Every record's kernel keeps to what CuPy has, and to its rules."""

import numpy as np
import pytest

from rgraph.engines.cpu import CpuEngine
from rgraph.graph import BATCH, SEQUENCE, Input, Layout, apply
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


def applied(op, case):
    """An operation on inputs, and two minibatches for it of the same shape."""
    arrays, attrs = case(np.random.default_rng(0))
    names = [*op.operands, *op.operands[-1:] * 9]
    rows = [name != "kernel" for name, _ in zip(names, arrays)]
    inputs = [
        Input(a.shape[1:] if r else a.shape, (BATCH,) if r else (), a.dtype, "")
        for a, r in zip(arrays, rows)
    ]
    more = case(np.random.default_rng(1))[0]
    return apply(op, *inputs, **attrs), [dict(zip(inputs, arrays)), dict(zip(inputs, more))]


@pytest.mark.parametrize("op, case", CASES)
def test_a_record_s_kernel_runs_on_cupy_as_it_is(op, case, engine):
    node, (feed, _) = applied(op, case)
    (truth,) = Plan([node], _Plain()).run(feed, {}, 2)
    (found,) = Plan([node], engine).run({n: engine.from_numpy(a) for n, a in feed.items()}, {}, 2)
    assert isinstance(found, Array), "the result is not on the GPU"
    assert found.dtype == truth.dtype
    np.testing.assert_allclose(found.memory, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op, case", CASES)
def test_a_record_is_captured_unless_the_cpu_waits_for_it(op, case, engine):
    """And what is replayed is computed from the values of that run."""
    node, feeds = applied(op, case)
    plan = engine.plan([node])
    for feed in (*feeds, *feeds):
        (truth,) = Plan([node], _Plain()).run(feed, {}, 2)
        given = {n: engine.from_numpy(a) for n, a in feed.items()}
        (found,) = plan.run(given, {}, 2)
        np.testing.assert_allclose(found.memory, truth, rtol=1e-12, atol=1e-12)
    assert bool(plan.hindrance) == op.waits
    assert plan.hindrance or [c.graph.launches for c in plan._shapes.values()] == [2]


def _Plain():
    return CpuEngine("plain", [])


def test_connectionist_temporal_classification_runs_on_cupy(engine):
    """Whose records have no cases: they need labels that are marked."""
    labels, scores = (Input((4,), (BATCH, SEQUENCE), np.float32, "") for _ in range(2))
    rng = np.random.default_rng(2)
    layout = Layout([3, 5, 1])
    marked = np.zeros((9, 4), np.float32)
    marked[[0, 1, 3, 6], [1, 2, 1, 2]] = 2
    feed = {labels: marked, scores: rng.normal(size=(9, 4)).astype(np.float32)}
    for name in "forward_backward", "forward_backward_slope":
        node = apply(TABLE[name], labels, scores, blank=0, delay=1)
        (truth,) = Plan([node], _Plain()).run(feed, {SEQUENCE: layout}, 3)
        given = {n: engine.from_numpy(a) for n, a in feed.items()}
        (found,) = Plan([node], engine).run(given, {SEQUENCE: layout}, 3)
        assert isinstance(found, Array), "the result is not on the GPU"
        np.testing.assert_allclose(found.memory, truth, rtol=1e-6)
