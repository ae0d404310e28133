"""The engines' pooling against the records' own kernels, which say what is meant."""

import itertools

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.engines.binding import Kernels

ENGINES = {name: cpu.made(name) for name in device.cpu_engines()}

every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
GEOMETRIES = [
    # operand, window, strides, auto-padding, ceil
    ((16, 9), (2,), (2,), False, False),
    ((16, 9), (3,), (2,), True, True),
    ((16, 8, 6), (2, 2), (2, 2), False, False),
    ((3, 9, 8), (2, 3), (2, 3), False, True),
    ((5, 9, 8), (3, 3), (1, 1), True, False),
    ((16, 9, 8), (3, 2), (2, 1), True, False),
    ((16, 9, 8), (9, 8), (1, 1), False, False),
    ((1, 9, 8), (3, 3), (2, 2), False, False),  # one channel
    ((4, 9, 8), (2, 2), (3, 3), False, False),  # elements in no window
    ((4, 10, 9), (2, 2), (4, 4), True, False),  # windows that begin inside
    ((16, 6, 5, 4), (2, 2, 2), (2, 2, 2), False, True),
    ((16, 6, 5, 4), (3, 3, 3), (2, 1, 2), True, False),
]
ROWS = 7


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def with_gaps(a):
    return np.repeat(a, 2, 1)[:, ::2]


class Case:
    """The arguments of a pooling's kernels, as a graph gives them, and operands with ties."""

    def __init__(self, operand, window, strides, auto, ceil, rows=ROWS):
        x = C.input_variable(operand)
        node = C.pooling(x.node, C.MAX_POOLING, window, strides, auto, ceil)
        self.at = node.op.arguments(node)
        self.shape = operand
        rng = np.random.default_rng(0)
        # few values, so that windows have several that are largest
        self.x = rng.integers(-3, 3, (rows, *operand)).astype(np.float32)
        self.g = rng.normal(size=(rows, *node.shape)).astype(np.float32)

    def calls(self):
        """For each kernel: its operands, which of them have the operand's size, and the rest."""
        yield "pool_pick", lambda x, g: (x, x), self.at
        yield "pool_place", lambda x, g: (g, x), self.at
        for include in (False, True):
            at = {**self.at, "include_pad": include}
            yield "pool_mean", lambda x, g: (x,), at
            yield "pool_spread", lambda x, g: (g,), {**at, "shape": self.shape}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last, with_gaps])
@every_engine
def test_as_the_records(engine, order, geometry):
    case, run = Case(*geometry), Run(engine, {}, ROWS)
    for name, operands, at in case.calls():
        truth = TABLE[name].kernel(run, *operands(case.x, case.g), **at)
        for other in (order, np.ascontiguousarray):
            found = Kernels(engine)[name](run, *operands(order(case.x), other(case.g)), **at)
            np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5)


@every_engine
def test_results_have_the_operand_s_memory_order(engine):
    case, run = Case((16, 8, 6), (2, 2), (2, 2), False, False), Run(engine, {}, ROWS)
    for name, operands, at in case.calls():
        for order in (np.ascontiguousarray, channels_last):
            found = Kernels(engine)[name](run, *operands(order(case.x), order(case.g)), **at)
            assert found.strides == order(np.empty_like(found)).strides, name


@pytest.mark.parametrize("rows", [(), (0,), (1,)], ids=["without rows", "none", "one"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@every_engine
def test_few_rows_and_without(engine, geometry, rows):
    case, run = Case(*geometry, rows=max(rows, default=1)), Run(engine, {}, max(rows, default=1))
    x, g = (a.reshape(rows + a.shape[1:]) for a in (case.x, case.g))
    for name, operands, at in case.calls():
        found = Kernels(engine)[name](run, *operands(x, g), **at)
        truth = TABLE[name].kernel(run, *operands(x, g), **at)
        assert found.shape == truth.shape
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5)


@every_engine
def test_float64(engine):
    case, run = Case((16, 8, 6), (2, 2), (2, 2), False, False), Run(engine, {}, ROWS)
    x, g = case.x.astype(np.float64), case.g.astype(np.float64)
    for name, operands, at in case.calls():
        found = Kernels(engine)[name](run, *operands(x, g), **at)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, TABLE[name].kernel(run, *operands(x, g), **at))


@every_engine
def test_ever_other_numbers_of_rows(engine):
    for rows in range(9, 40, 3):  # more than get primitives of their own
        case = Case((16, 8, 6), (3, 3), (2, 2), False, True, rows)
        run = Run(engine, {}, rows)
        for name, operands, at in case.calls():
            given = operands(channels_last(case.x), channels_last(case.g))
            truth = TABLE[name].kernel(run, *given, **at)
            np.testing.assert_allclose(Kernels(engine)[name](run, *given, **at), truth, atol=1e-5)


@every_engine
def test_many_rows(engine):
    case, run = Case((16, 32, 40), (3, 3), (2, 2), True, False, 40), Run(engine, {}, 40)
    assert case.x.nbytes > 3 << 20  # several pieces of the numpy engine
    for (name, operands, at), order in itertools.product(
        case.calls(), (np.ascontiguousarray, channels_last)
    ):
        given = operands(order(case.x), order(case.g))
        found = Kernels(engine)[name](run, *given, **at)
        truth = TABLE[name].kernel(run, *given, **at)
        np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5)


@every_engine
@pytest.mark.parametrize("kind", ["max", "mean"])
def test_as_pytorch(kind, engine, torch, F):
    x = C.input_variable((16, 13, 12), needs_gradient=True)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 16, 13, 12)).astype(np.float32)
    t = torch.from_numpy(values).requires_grad_()
    if kind == "max":
        y = C.pooling(x, C.MAX_POOLING, (3, 3), 2, ceil_out_dim=True)
        expected = F.max_pool2d(t, 3, 2, ceil_mode=True)
    else:
        y = C.pooling(x, C.AVG_POOLING, (3, 3), 2)
        expected = F.avg_pool2d(t, 3, 2)
    (expected * expected).sum().backward()
    before = device.engine(C.cpu()).name
    device.use_cpu_engine(engine.name)
    try:
        np.testing.assert_allclose(y.eval({x: values}), expected.detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose((y * y).grad({x: values}, wrt=x), t.grad, rtol=1e-5, atol=1e-6)
    finally:
        device.use_cpu_engine(before)


def test_where_the_library_refuses(monkeypatch):
    """Version 3.2 makes no more primitives in a process once it could not compile one."""
    if "onednn" not in ENGINES:
        pytest.skip("oneDNN is not installed: pip install onednn-cpu-gomp")
    from rgraph.engines.onednn import pooling

    case = Case((8, 7, 9), (3, 2), (2, 1), True, False)

    def refuse(*_):
        raise pooling.OnednnError("status 5")

    engine = cpu.CpuEngine("onednn", ["onednn", "numpy"])
    monkeypatch.setattr(pooling, "Primitive", refuse)
    run = Run(engine, {}, ROWS)
    for name, operands, at in case.calls():
        arrays = operands(case.x, case.g)
        found = Kernels(engine)[name](run, *arrays, **at)
        np.testing.assert_array_equal(found, TABLE[name].kernel(run, *arrays, **at))
