"""Results that are written where a value is that dies, in a loop and outside."""

import numpy as np
import pytest
import scipy.special

import rgraph as C
from rgraph import device, passes
from rgraph.engines.cpu import reference_run
from rgraph.graph import Layout
from rgraph.ops.records import TABLE
from rgraph.passes import autodiff
from rgraph.plan import Call, Loop, Plan

ENGINES = C.device.cpu_engines()
LENGTHS = [6, 3, 3, 1]


@pytest.fixture(params=ENGINES)
def engine(request):
    before = device.engine(C.cpu()).name
    device.use_cpu_engine(request.param)
    yield device.engine(C.cpu())
    device.use_cpu_engine(before)


def convolutional_gru():
    x = C.sequence.input_variable((2, 6, 5))
    shapes = [(3, n, 3, 3) for n in (2, 2, 2, 3, 3, 3)]
    Wz, Wr, Wc, Uz, Ur, Uc = (C.Parameter(s, init=C.glorot_uniform(seed=1)) for s in shapes)

    def step(h, x):
        z = C.sigmoid(C.convolution(Wz, x) + C.convolution(Uz, h))
        r = C.sigmoid(C.convolution(Wr, x) + C.convolution(Ur, h))
        c = C.tanh(C.convolution(Wc, x) + C.convolution(Uc, h * r))
        return z * h + (1 - z) * c

    return x, C.layers.Recurrence(step)(x)


def plain_recurrence():
    x = C.sequence.input_variable(3)
    U, W = C.Parameter((4, 4), init=C.glorot_uniform(seed=1)), C.Parameter((3, 4), init=0.3)
    return x, C.layers.Recurrence(lambda h, x: C.tanh(x @ W + h @ U))(x)


def lstm():
    x = C.sequence.input_variable(3)
    return x, C.layers.Recurrence(C.layers.LSTM(4))(x)


def reads_its_input_again():
    """What would take the input's place stands before another that reads it."""
    x = C.sequence.input_variable(3)

    def step(h, x):
        a = C.exp(x * 0.3)
        return C.splice(C.softplus(a + h), h)[:3] * x + C.sigmoid(a) * C.past_value(a)

    return x, C.layers.Recurrence(step)(x * 2)


def run(x, y, places):
    nodes = [y.node, *autodiff.gradients(y.node, [x.node, *(p.node for p in y.parameters)])]
    plan = Plan(passes.optimize(nodes), device.engine(C.cpu()))
    found = sum(len(step.places) for step in plan.steps)
    if not places:
        for step in plan.steps:
            if isinstance(step, Loop):
                step.places = {}
            elif isinstance(step, Call):
                step.place = None
    layout = Layout(LENGTHS)
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, *x.shape)).astype(x.dtype) for n in LENGTHS]
    packed = np.empty((sum(LENGTHS), *x.shape), x.dtype)
    layout.pack(sequences, packed)
    before = packed.copy()
    results = plan.run({x.node: packed}, {x.node.time_axis: layout}, len(LENGTHS))
    np.testing.assert_array_equal(packed, before)
    return results, found


def in_double():
    """Which libraries leave to NumPy."""
    x = C.sequence.input_variable((2, 6, 5), np.float64)
    W, U = (C.Parameter((3, n, 3, 3), C.glorot_uniform(seed=1), np.float64) for n in (2, 3))
    step = lambda h, x: C.tanh(C.convolution(W, x) + C.convolution(U, h))  # noqa: E731
    return x, C.layers.Recurrence(step)(x)


def outside_of_loops():
    x = C.sequence.input_variable(3)
    W = C.Parameter((3, 5), init=C.glorot_uniform(seed=1))
    a = C.tanh(x @ W)
    b = C.exp(a * C.reduce_sum(a))
    return x, C.softmax(b) * b


MODELS = [
    in_double, convolutional_gru, plain_recurrence, lstm, reads_its_input_again, outside_of_loops,
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_the_same_values_as_apart(engine, model):
    x, y = model()
    together, _ = run(x, y, True)
    apart, _ = run(x, y, False)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_results_outside_of_loops_are_written_over_operands(engine):
    x, y = outside_of_loops()
    results, found = run(x, y, True)
    assert found
    rng = np.random.default_rng(0)
    layout, packed = Layout(LENGTHS), np.empty((sum(LENGTHS), 3), np.float32)
    layout.pack([rng.normal(size=(n, 3)).astype("f") for n in LENGTHS], packed)
    a = np.tanh(packed.astype("d") @ y.parameters[0].value.astype("d"))
    b = np.exp(a * a.sum(1, keepdims=True))
    expected = scipy.special.softmax(b, 1) * b
    np.testing.assert_allclose(results[0], expected, rtol=1e-4)


def test_gates_need_no_memory_of_their_own(engine):
    """Forward the three lie where their input's parts were; backward their adjoints do."""
    if engine.name == "numpy":
        pytest.skip("NumPy's convolutions write their result before the tail reads")
    _, found = run(*convolutional_gru(), True)
    assert found == 6


def test_an_input_is_not_written_to(engine):
    x = C.sequence.input_variable(6)
    y = C.layers.Recurrence(lambda h, x: C.tanh(h * 0.5 + x))(C.reshape(x, (2, 3)))
    value = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    before = value.copy()
    (first,) = y.eval({x: [value]})
    kept = first.copy()
    y.eval({x: [value + 1]})
    np.testing.assert_array_equal(value, before)
    np.testing.assert_array_equal(first, kept)
    h = np.zeros(6, np.float32)
    for frame, found in zip(value, first):
        h = np.tanh(h * np.float32(0.5) + frame)
        np.testing.assert_allclose(found.ravel(), h, rtol=1e-5)


def has_a_view(x):
    """What a step reads, and a part of the same memory that something reads after the loop."""
    y = C.tanh(x * 2)
    h = C.layers.Recurrence(lambda h, y: C.tanh(h * 0.5 + y))(y)
    return h + C.sequence.last(C.slice(y, -1, 0, 6))


def is_read_twice(x):
    y = C.tanh(x * 2)
    return C.layers.Recurrence(lambda h, y: C.tanh(h * 0.5 + y))(y) * y


def is_given_back(x):
    y = C.stop_gradient(x)
    return C.layers.Recurrence(lambda h, y: C.tanh(h * 0.5 + y))(y) + 0 * C.reduce_sum(y)


def is_read_twice_outside_of_loops(x):
    y = C.tanh(x * 2)
    return C.softmax(C.exp(y * C.reduce_sum(y))) * y


def has_a_view_outside_of_loops(x):
    y = C.tanh(x * 2)
    first = C.slice(y, -1, 0, 3)
    return C.softmax(C.exp(y * C.reduce_sum(y)))[:3] * first


def is_read_at_another_place(x):
    """The first element of what a step reads meets all others."""
    y = C.tanh(x * 2)
    step = lambda h, y: C.tanh(h * 0.5 + y - C.slice(y, 0, 0, 1))  # noqa: E731
    return C.layers.Recurrence(step)(y)


@pytest.mark.parametrize(
    "model",
    [
        has_a_view, is_read_twice, is_given_back, is_read_at_another_place,
        is_read_twice_outside_of_loops, has_a_view_outside_of_loops,
    ],
)  # fmt: skip
def test_what_others_read_is_not_written_over(engine, model):
    x = C.sequence.input_variable(6)
    together, _ = run(x, model(x), True)
    apart, _ = run(x, model(x), False)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


POINTWISE = [op for op in TABLE.values() if op.pointwise and op.cases]


@pytest.mark.parametrize("op", POINTWISE, ids=lambda op: op.name)
def test_operations_in_the_place_of_an_operand(op):
    """The numpy engine writes each operation's result there while it still reads it."""
    operands, attrs = op.cases[0](np.random.default_rng(0))
    run = reference_run()
    expected = op.kernel(run, *operands, **attrs)
    for k in range(len(operands)):
        arrays = [np.array(a) for a in operands]
        op.kernel(run, *arrays, **attrs, out=arrays[k])
        np.testing.assert_array_equal(arrays[k], expected)
