"""Loops whose steps run without Python: the same values as the numpy engine's."""

import shutil

import numpy as np
import pytest

import rgraph as C
from rgraph import device, passes
from rgraph.graph import Layout
from rgraph.passes import autodiff
from rgraph.plan import Loop, Plan

if not shutil.which("cc"):
    pytest.skip("there is no C compiler", allow_module_level=True)

RNG = np.random.default_rng(0)


@pytest.fixture(params=[name for name in C.device.cpu_engines() if name != "numpy"])
def engine(request):
    before = device.engine(C.cpu()).name
    device.use_cpu_engine(request.param)
    yield device.engine(C.cpu())
    device.use_cpu_engine(before)


def recurrence(step, inputs=3, **options):
    x = C.sequence.input_variable(inputs)
    return x, C.layers.Recurrence(step, **options)(x)


def two_states():
    """The one state is read at once, the other through slices of what was joined."""
    x = C.sequence.input_variable(3)
    a, b = C.placeholder(3), C.placeholder(3)
    both = C.splice(C.sigmoid(C.past_value(a) + x), C.tanh(C.past_value(b, 0.5) * x))
    u = C.slice(both, -1, 0, 3) * C.past_value(b)
    v = C.slice(both, -1, 3, 6) + u * C.past_value(a)
    return x, C.combine([u, v]).replace_placeholders({a: u, b: v}).outputs[1]


def weights_from_the_left():
    W = C.Parameter((4, 3), init=C.glorot_uniform(seed=1))
    U = C.Parameter((4, 4), init=C.glorot_uniform(seed=2))
    return recurrence(lambda h, x: C.tanh(C.times_transpose(x, W) + C.times_transpose(h, U)))


def initial_states():
    """One for each sequence, and two of one state."""
    x = C.sequence.input_variable(3)
    first = C.sequence.first(C.sin(x))
    h = C.placeholder(3)
    y = C.tanh(C.past_value(h, first) * 0.5 + C.past_value(h, 0.25) * x)
    return x, y.replace_placeholders({h: y})


def kept_delay():
    """What a delay reads is also an output, at each frame and where sequences end."""
    x = C.sequence.input_variable(3)
    h = C.placeholder(3)
    before = C.past_value(h, 0.5)
    y = C.tanh(before * 0.5 + x)
    bound = C.combine([y, before]).replace_placeholders({h: y})
    return x, bound.outputs[0] * C.sequence.broadcast_as(
        C.sequence.last(bound.outputs[1]), x
    ) + bound.outputs[1]  # fmt: skip


def two_initial_states():
    x = C.sequence.input_variable(3)
    h = C.placeholder(3)
    y = C.tanh(C.past_value(h, 0.5) + C.past_value(h, 0.25) * x)
    return x, C.sequence.last(y.replace_placeholders({h: y}))


def convolutional_gru():
    """With kernels of 3x3, and channels in whole vectors of any processor."""
    shapes = [(16, n, 3, 3) for n in (1, 1, 1, 16, 16, 16)]
    Wz, Wr, Wc, Uz, Ur, Uc = (C.Parameter(s, init=C.glorot_uniform(seed=1)) for s in shapes)
    bias = C.Parameter((16, 1, 1), init=0.1)

    def step(h, x):
        z = C.sigmoid(C.convolution(Wz, x) + C.convolution(Uz, h) + bias)
        r = C.sigmoid(C.convolution(Wr, x) + C.convolution(Ur, h))
        c = C.tanh(C.convolution(Wc, x) + C.convolution(Uc, h * r))
        return z * h + (1 - z) * c

    return recurrence(step, (1, 12, 12))


GRU, LSTM = C.layers.GRU, C.layers.LSTM
MODELS = {
    "lstm": lambda: recurrence(LSTM(5)),
    "lstm backwards": lambda: recurrence(LSTM(5), go_backwards=True),
    "wide": lambda: recurrence(LSTM(70), 40, initial_state=0.1),
    "gru": lambda: recurrence(GRU(4)),
    "gru backwards": lambda: recurrence(GRU(4), go_backwards=True),
    "only pointwise": lambda: recurrence(lambda h, x: C.tanh(h * 0.5 + x)),
    "last": lambda: recurrence(lambda h, x: C.sigmoid(h + x) * x, return_full_state=False),
    "two states": two_states,
    "weights from the left": weights_from_the_left,
    "initial states": initial_states,
    "kept delay": kept_delay,
    "a slice is the state": lambda: recurrence(
        lambda h, x: C.slice(C.splice(C.tanh(h + x), x, h), -1, 1, 4)
    ),
    "joined with a constant": lambda: recurrence(
        lambda h, x: h * C.splice(C.sigmoid(C.slice(h, -1, 0, 1)), [0.5]) + x, 2
    ),
    "two steps back": lambda: recurrence(lambda h, x: C.tanh(C.past_value(h, time_step=2) + x)),
    "a delay of a delay": lambda: recurrence(
        lambda h, x: C.tanh(h * C.past_value(h, initial_state=0.5) + x)
    ),
    "two initial states": two_initial_states,
    "convolutional gru": convolutional_gru,
    "convolutional lstm backwards": lambda: recurrence(
        C.layers.ConvolutionalLSTM((3, 3), 16, use_peepholes=True), (1, 12, 12), go_backwards=True
    ),
}
PARTLY = {"a slice is the state", "joined with a constant"}  # not what goes back through a slice
UNFIT = {
    "a reduction": lambda: recurrence(lambda h, x: h * 0.5 + C.reduce_sum(h) * x),
    "channels apart": lambda: recurrence(
        lambda h, x: C.tanh(C.convolution(C.Parameter((2, 1, 3, 3), init=0.1), h, groups=2) + x),
        (2, 5, 5),
    ),
    "not pointwise in C": lambda: recurrence(lambda h, x: C.sin(h + x)),
}
LENGTHS = {
    "alike": [9] * 4,
    "ragged": [9, 9, 9, 4, 4, 1],
    "one": [7],
    "short": [1, 1],
    "many": RNG.integers(1, 10, 50).tolist(),
}


def plans_of(x, y, engine, differentiated):
    nodes = [y.node]
    if differentiated:
        nodes += autodiff.gradients(
            y.node, [x.node, *(p.node for p in getattr(y, "parameters", ()))]
        )
    return Plan(passes.optimize(nodes), engine)


def values(plan, x, lengths):
    sequences = [RNG.normal(size=(n, *x.shape)).astype(np.float32) for n in lengths]
    layout = Layout(lengths)
    packed = np.empty((layout.rows, *x.shape), np.float32)
    layout.pack(sequences, packed)
    return lambda plan: plan.run({x.node: packed}, {x.node.time_axis: layout}, len(lengths))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_values_and_gradients(engine, model, differentiated, lengths):
    x, y = MODELS[model]()
    plan = plans_of(x, y, engine, differentiated)
    loops = [s for s in plan.steps if isinstance(s, Loop)]
    assert loops[0].compiled and (all(s.compiled for s in loops) or model in PARTLY)
    for loop in loops:
        if loop.compiled:
            loop.interpreter = None  # is not asked
    run = values(plan, x, LENGTHS[lengths])
    found = run(plan)
    device.use_cpu_engine("numpy")
    expected = run(plans_of(x, y, device.engine(C.cpu()), differentiated))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=1e-3))


@pytest.mark.parametrize("model", UNFIT)
def test_what_does_not_fit_is_left_to_python(engine, model):
    x, y = UNFIT[model]()
    plans = [plans_of(x, y, engine, differentiated) for differentiated in (False, True)]
    assert None in [s.compiled for s in plans[0].steps if isinstance(s, Loop)]
    run = values(plans[0], x, [5, 5, 3])
    found = [*run(plans[0]), *run(plans[1])]
    device.use_cpu_engine("numpy")
    expected = run(plans_of(x, y, device.engine(C.cpu()), True))
    for a, b in zip(found, [expected[0], *expected], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=1e-3))


@pytest.mark.parametrize("model", MODELS)
def test_what_is_refused_is_left_to_python(engine, model):
    x, y = MODELS[model]()
    plan = plans_of(x, y, engine, True)
    run = values(plan, x, LENGTHS["ragged"])
    expected = run(plan)
    for loop in (s for s in plan.steps if isinstance(s, Loop)):
        loop.compiled = lambda *_: False
    for a, b in zip(run(plan), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=1e-3))
