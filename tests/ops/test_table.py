"""What must hold for every operation, generated from the table of records."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device, graph
from rgraph.engines.cpu import CpuEngine
from rgraph.graph import BATCH, SEQUENCE, Constant, Input, apply
from rgraph.ops.records import TABLE, follow_axes
from rgraph.plan import Plan
from rgraph.testing import check_gradients

# Records that no case can be generated for, and where they are tested instead.
CASES = [
    pytest.param(op, case, id=f"{name}-{i}")
    for name, op in TABLE.items()
    for i, case in enumerate(op.cases)
]
every_case = pytest.mark.parametrize("op, case", CASES)

LENGTHS = (3, 1, 2)


class Case:
    """The operands of a case: how many rows one has is up to the test, a kernel has none."""

    def __init__(self, op, case, rows=2, seed=0):
        self.op = op
        self.has_rows = []
        rng = np.random.default_rng(seed)
        draws = [case(rng) for _ in range((rows + 1) // 2)]
        self.attrs = draws[0][1]
        self.arrays = []
        for i, name in zip(range(len(draws[0][0])), [*op.operands, *op.operands[-1:] * 9]):
            self.has_rows.append(name != "kernel")
            if self.has_rows[-1]:
                self.arrays.append(np.concatenate([d[0][i] for d in draws])[:rows])
            else:
                self.arrays.append(draws[0][0][i])

    def inputs(self, dtype=np.float64, time=False, without_rows=()):
        """An input for each operand, with a batch axis, and a time axis if asked for."""
        axes = (BATCH, SEQUENCE) if time else (BATCH,)
        return [
            Input(a.shape[1:] if rows else a.shape, axes if rows else (), dtype, f"x{i}")
            if i not in without_rows or not rows
            else Input(a.shape[1:], (), dtype, f"x{i}")
            for i, (a, rows) in enumerate(zip(self.arrays, self.has_rows))
        ]

    def function(self, inputs):
        return C.Function([apply(self.op, *inputs, **self.attrs)])

    def eval(self, inputs, arrays, **options):
        return self.function(inputs).eval(dict(zip(map(C.Variable, inputs), arrays)), **options)

    def row(self, i):
        return [a[i : i + 1] if rows else a for a, rows in zip(self.arrays, self.has_rows)]


def check(case, inputs, arrays, **options):
    f = case.function(inputs)
    variables = [C.Variable(i) for i in inputs]
    report = check_gradients(f, dict(zip(variables, arrays)), variables, **options)
    assert set(report.errors) == set(variables)


@every_case
def test_gradients_of_gradients_agree_with_finite_differences(op, case):
    c = Case(op, case)
    check(c, c.inputs(), c.arrays, order=2 if op.gradient else 1, elements=30)


@every_case
def test_gradients_on_ragged_sequences(op, case):
    c = Case(op, case, rows=6)
    arrays = [in_sequences(a) if r else a for a, r in zip(c.arrays, c.has_rows)]
    check(c, c.inputs(time=True), arrays, elements=10)


def shared_operands():
    """Each operand of the records whose rows go together, which could as well have none."""
    for p in CASES:
        op, case = p.values
        rows = Case(op, case).has_rows
        if sum(rows) > 1 and op.name not in (
            "convolution_weights",
            "crop",
            "pool_pick",
            "pool_place",
        ):
            yield from (pytest.param(op, case, i, id=f"{p.id}-{i}") for i in range(len(rows)))


@pytest.mark.parametrize("op, case, operand", list(shared_operands()))
def test_an_operand_that_all_samples_share(op, case, operand):
    c = Case(op, case)
    inputs = c.inputs(without_rows=[operand])
    shared = [a[0] if i == operand else a for i, a in enumerate(c.arrays)]
    check(c, inputs, shared, elements=30)
    repeated = [np.stack([a[0]] * 2) if i == operand else a for i, a in enumerate(c.arrays)]
    np.testing.assert_allclose(
        c.eval(inputs, shared), c.eval(c.inputs(), repeated), rtol=1e-12, atol=1e-12
    )


@every_case
def test_float32_agrees_with_float64(op, case):
    c = Case(op, case)
    exact = c.eval(c.inputs(), c.arrays)
    single = c.eval(c.inputs(np.float32), [a.astype(np.float32) for a in c.arrays])
    assert exact.dtype == np.float64 and single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=2e-5, atol=2e-5 * np.abs(exact).max())


def in_sequences(rows):
    return np.split(rows, np.cumsum(LENGTHS)[:-1])


@every_case
def test_frames_of_ragged_sequences_one_by_one_and_together(op, case):
    c = Case(op, case, rows=6)
    alone = [c.eval(c.inputs(), c.row(i)) for i in range(6)]
    together = c.eval(
        c.inputs(time=True),
        [in_sequences(a) if r else a for a, r in zip(c.arrays, c.has_rows)],
    )
    if isinstance(together, list):
        assert [len(s) for s in together] == list(LENGTHS)
        together, alone = np.concatenate(together), np.concatenate(alone)
    else:  # summed over all rows
        alone = np.sum(alone, axis=0)
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)


@every_case
def test_without_any_rows(op, case):
    c = Case(op, case)
    constants = [Constant(a[0] if r else a) for a, r in zip(c.arrays, c.has_rows)]
    value = C.Function([apply(op, *constants, **c.attrs)]).eval()
    expected = c.eval(c.inputs(), c.row(0))
    if not op.axes or isinstance(expected, np.ndarray) and expected.ndim > value.ndim:
        expected = expected[0]
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@every_case
def test_the_engine_agrees_with_the_records_own_kernels(op, case):
    c = Case(op, case)
    inputs = c.inputs()
    node = apply(op, *inputs, **c.attrs)
    results = []
    for engine in (device.engine(), CpuEngine("plain", [])):
        feed = dict(zip(inputs, map(engine.from_numpy, c.arrays)))
        (value,) = Plan([node], engine).run(feed, {}, 2)
        results.append(np.array(engine.to_numpy(value)))
    np.testing.assert_allclose(*results, rtol=1e-11, atol=1e-11)


@every_case
def test_operands_are_not_written_to(op, case):
    c = Case(op, case)
    before = [a.copy() for a in c.arrays]
    c.eval(c.inputs(), c.arrays)
    for a, b in zip(c.arrays, before):
        np.testing.assert_array_equal(a, b)


@every_case
def test_a_copy_computes_the_same(op, case):
    c = Case(op, case)
    inputs, others = c.inputs(), c.inputs()
    node = apply(op, *inputs, **c.attrs)
    (copied,) = graph.copy([node], dict(zip(inputs, others)))
    assert copied is not node and (copied.shape, copied.axes) == (node.shape, node.axes)
    value = C.Function([copied]).eval(dict(zip(map(C.Variable, others), c.arrays)))
    np.testing.assert_array_equal(value, c.eval(inputs, c.arrays))


def test_what_follows_the_axes_is_the_rule():
    """Operands with only a batch axis are given to every frame, for all but the named records."""
    own = {n for n, op in TABLE.items() if op.align is None}
    assert all(TABLE[n].align is follow_axes or TABLE[n].align for n in set(TABLE) - own)


# On every engine: without rows, with one, with none, and with a sequence that has none.

every_engine = pytest.mark.parametrize("engine", device.cpu_engines())


def value_and_gradients(c, inputs, arrays, engine, engines):
    """A case's value, and the gradients of the sum of its squares."""
    engines(engine)
    variables = [C.Variable(i) for i in inputs]
    feed = dict(zip(variables, arrays))
    f = c.function(inputs)
    if not c.op.gradient:
        return [f.eval(feed)]
    gradients = C.reduce_sum(C.square(f)).grad(feed, wrt=variables)
    return [f.eval(feed), *([gradients] if len(variables) == 1 else gradients.values())]


def assert_close(found, expected):
    """Values, or lists of those of sequences."""
    for a, b in zip(found, expected, strict=True):
        for one, other in zip(*(v if isinstance(v, list) else [v] for v in (a, b)), strict=True):
            assert one.shape == other.shape
            scale = np.abs(other).max(initial=1)
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * scale)


@every_engine
@every_case
def test_no_rows_at_all(op, case, engine, engines):
    c = Case(op, case)
    arrays = [a[:0] if r else a for a, r in zip(c.arrays, c.has_rows)]
    for dtype in (np.float32, np.float64):
        _, *gradients = value_and_gradients(c, c.inputs(dtype), arrays, engine, engines)
        for g, a in zip(gradients, arrays):
            assert g.shape == a.shape and not g.any()


@every_engine
@every_case
def test_a_sequence_without_frames(op, case, engine, engines):
    """It gives none, and makes no difference to the others."""
    c = Case(op, case, rows=6)
    inputs = c.inputs(np.float32, time=True)

    def results(*lengths):
        ends = np.cumsum(lengths)[:-1]
        arrays = [np.split(a, ends) if r else a for a, r in zip(c.arrays, c.has_rows)]
        return value_and_gradients(c, inputs, arrays, engine, engines)

    found, expected = results(3, 0, 1, 2), results(*LENGTHS)
    for value in found:
        if isinstance(value, list):
            assert not len(value.pop(1))
    assert_close(found, expected)


@every_engine
@every_case
def test_without_a_batch_axis_and_with_one_row(op, case, engine, engines):
    """As the records' own kernels have it in float64, for one row."""
    c = Case(op, case)
    row, alone = c.row(0), range(len(c.arrays))
    single = [a[0] if r else a for a, r in zip(row, c.has_rows)]
    exact = value_and_gradients(c, c.inputs(), row, "numpy", engines)
    one = value_and_gradients(c, c.inputs(np.float32), row, engine, engines)
    assert_close(one, exact)
    inputs = c.inputs(np.float32, without_rows=alone)
    found = value_and_gradients(c, inputs, single, engine, engines)
    assert_close(found, [e.reshape(f.shape) for f, e in zip(found, exact)])
