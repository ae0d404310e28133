"""Tails on the numpy engine: done on parts of a convolution's result, in their place."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device, graph, passes
from rgraph.engines.cpu import reference_run
from rgraph.ops.fused import OnArrays, Program
from rgraph.ops.records import TABLE
from rgraph.plan import Plan
from rgraph.runtime.minibatch import Minibatch

POINTWISE = [n for n, op in TABLE.items() if op.pointwise and op.cases]


@pytest.mark.parametrize("name", POINTWISE)
def test_a_kernel_may_write_where_it_reads(name):
    op = TABLE[name]
    arrays, attrs = op.cases[0](np.random.default_rng(0))
    if attrs:
        pytest.skip("its kernel takes arguments")
    program = Program(((name, tuple(range(len(arrays)))),), len(arrays))
    on_piece = OnArrays(program, np)
    truth = op.kernel(reference_run(), *arrays)
    for i in range(len(arrays)):
        own = [a.copy() for a in arrays]
        on_piece(own, own[i])
        np.testing.assert_array_equal(own[i], truth)


@pytest.fixture
def numpy_engine():
    before = device.engine(C.cpu()).name
    device.use_cpu_engine("numpy")
    yield device.engine(C.cpu())
    device.use_cpu_engine(before)


MODELS = {
    "transposed": ((8, 40, 50), (8, 3, 3, 3), {"transpose": True}),
    "transposed with strides": ((8, 20, 25), (8, 3, 3, 3), {"transpose": True, "strides": (2, 2)}),
    "2-D": ((3, 40, 50), (8, 3, 3, 3), {}),
    "strides": ((3, 41, 50), (8, 3, 3, 3), {"strides": (2, 2)}),
    "volume": ((2, 9, 20, 21), (4, 2, 3, 3, 3), {}),
    "line": ((2, 900), (4, 2, 5), {}),
    "groups": ((4, 40, 50), (8, 2, 3, 3), {"groups": 2}),
    "pixels": ((64, 30, 31), (32, 64, 1, 1), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_tails(name, numpy_engine):
    """The same with the tail as operations of their own."""
    shape, kernel, options = MODELS[name][:2] + (dict(MODELS[name][2]),)
    x = C.input_variable(shape)
    W = C.Parameter(kernel, init=C.glorot_uniform())
    convolution = C.convolution_transpose if options.pop("transpose", False) else C.convolution
    y = convolution(W, x, **options)
    bias = C.Parameter((y.shape[0], *[1] * (len(shape) - 1)), init=C.normal(1))
    gate = C.input_variable(y.shape)
    z = C.tanh(1 - C.sigmoid(y + bias) * gate) * gate
    rng = np.random.default_rng(0)
    data = {v: rng.normal(size=(11, *v.shape)).astype(np.float32) for v in (x, gate)}
    nodes = [v.node for v in (x, gate)]
    rows = Minibatch(nodes, {v.node: a for v, a in data.items()}, numpy_engine)
    found = []
    for without in ((), ("tails",)):
        outputs = passes.optimize([z.node], without)
        names = [n.op.name for n in graph.order(outputs) if n.op]
        assert ("tailed" in names) == (not without)
        found += Plan(outputs, numpy_engine).run(rows.arrays, {}, 11)
    np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-6)
