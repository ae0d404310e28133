"""Windows of frames give what whole sequences give: values, gradients, trained parameters."""

import tracemalloc

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import Layout
from rgraph.runtime.windows import of_frames, of_rows, windows_of

LENGTHS = 5, 11, 2, 7, 7


@pytest.fixture(autouse=True)
def in_float64():
    with C.default_options(dtype=np.float64):
        yield


def films(shape=(3,), lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, *shape)) for n in lengths]


def sequence(shape=3, **options):
    return C.sequence.input_variable(shape, dtype=np.float64, needs_gradient=True, **options)


def _lstms():
    x, y = sequence(), C.input_variable(2, dtype=np.float64, needs_gradient=True)
    h = C.layers.Recurrence(C.layers.LSTM(5))(C.layers.Dense(4, activation=C.tanh)(x))
    h = C.layers.Recurrence(C.layers.GRU(4))(h)
    loss = C.squared_error(C.layers.Dense(2)(C.sequence.last(h)), y)
    return loss, [h], {x: films(), y: np.random.default_rng(1).normal(size=(5, 2))}


def _convolutions():
    x = sequence((2, 4, 4))
    conv = [C.layers.Convolution2D((3, 3), 2, pad=True, activation=None) for _ in range(2)]

    def step(h, frame):
        both = C.splice(h, frame, axis=0)
        gate = C.sigmoid(conv[0](both))
        return h + gate * (C.tanh(conv[1](both)) - h)

    h = C.layers.Recurrence(step, initial_state=np.zeros((2, 4, 4)))(x)
    loss = C.reduce_mean(C.square(h - C.sequence.past_value(x)), axis=(0, 1, 2))  # of each frame
    return loss, [h], {x: films((2, 4, 4))}


def _nested():
    """A recurrence in a step of which another state runs at half the pace."""
    x = sequence()
    slow = C.layers.Dense(3, activation=C.tanh)

    def step(a, b, frame):
        return 0.5 * a + 0.1 * b + frame, C.tanh(slow(b) + a)

    a, b = C.layers.Recurrence(step, return_full_state=True)(x).outputs
    return C.reduce_sum(C.square(a * b)), [a, b], {x: films()}


def _initial_states():
    """States that begin with what data and parameters say, and delays by several frames."""
    x, s = sequence(), C.input_variable(3, dtype=np.float64, needs_gradient=True)
    p = C.Parameter(3, init=0.3)
    h = C.layers.RecurrenceFrom(lambda h, x: C.tanh(h + x))(C.tanh(s * p), x)
    k = C.sequence.past_value(h * p, p, 3) + C.sequence.past_value(x, s, 2)
    feed = {x: films(), s: np.random.default_rng(2).normal(size=(5, 3))}
    return C.reduce_sum(h * k), [h, k], feed


def _given_to_frames():
    x, s = sequence(), C.input_variable(3, dtype=np.float64, needs_gradient=True)
    thought = C.layers.Dense(3, activation=C.tanh)(s)
    h = C.layers.Recurrence(lambda h, x: 0.5 * h + x)(x * C.sequence.broadcast_as(thought, x))
    feed = {x: films(), s: np.random.default_rng(2).normal(size=(5, 3))}
    return C.reduce_sum(C.square(h)), [h], feed


def _ends():
    """First, last and all frames of each sequence, and where they are."""
    x = sequence()
    h = C.layers.Recurrence(lambda h, x: C.sin(h) + x)(x)
    gated = h * (1 + C.sequence.is_first(x)) + 0.5 * C.sequence.is_last(x) * h
    parts = C.sequence.first(h) * C.sequence.last(gated) + C.sequence.reduce_sum(C.square(gated))
    return C.reduce_sum(parts), [parts, gated], {x: films()}


def _over_the_minibatch():
    x = sequence()
    h = C.layers.Recurrence(lambda h, x: C.sin(h) + x)(x)
    loss = C.log(1 + C.reduce_sum(C.square(h), axis=C.Axis.all_axes()))
    return loss, [h], {x: films()}


def _another_axis():
    """The states of an encoder of other sequences, which runs whole, begin the decoder's."""
    axis = C.Axis.new_unique_dynamic_axis("source")
    x, source = sequence(), sequence(sequence_axis=axis)
    thought = C.sequence.last(C.layers.Recurrence(C.layers.GRU(3))(source))
    h = C.layers.RecurrenceFrom(C.layers.GRU(3))(thought, x)
    h = C.layers.Recurrence(C.layers.GRU(3))(h)
    feed = {x: films(), source: films(lengths=(4, 1, 6, 2, 3), seed=3)}
    return C.reduce_sum(C.square(h)), [h], feed


def _another_axis_first():
    """As `_another_axis`; the first input that the graph reads is of what runs whole."""
    axis = C.Axis.new_unique_dynamic_axis("source")
    source, x = sequence(sequence_axis=axis), sequence()
    thought = C.sequence.last(C.layers.Recurrence(C.layers.GRU(3))(source))
    h = C.sequence.broadcast_as(thought, x) + C.layers.Recurrence(C.layers.GRU(3))(x)
    h = C.layers.Recurrence(C.layers.GRU(3))(h)
    feed = {x: films(), source: films(lengths=(4, 1, 6, 2, 3), seed=3)}
    return C.reduce_sum(C.square(h)), [h], feed


PROGRAMS = (
    _lstms,
    _convolutions,
    _nested,
    _initial_states,
    _given_to_frames,
    _ends,
    _over_the_minibatch,
    _another_axis,
    _another_axis_first,
)


def _near(found, expected, tolerance=1e-12):
    pairs = zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 10, 11, 99])
@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients_are_those_of_whole_sequences(program, frames):
    C.set_seed(3)
    loss, others, feed = program()
    wrt = [*loss.parameters, *loss.arguments]
    expected = loss.grad(feed, wrt=wrt, outputs=[loss, *others])
    found = loss.grad(feed, wrt=wrt, outputs=[loss, *others], window=frames)
    for key in expected[1]:
        _near(found[1][key], expected[1][key])
    for one, other in zip(*map(_each, (found[0], expected[0])), strict=True):
        _near(one, other)


def _each(gradients):
    return gradients.values() if isinstance(gradients, dict) else [gradients]


def test_what_is_dropped_is_the_same_forward_and_back():
    x = sequence()
    h = C.layers.Recurrence(lambda h, x: C.tanh(C.dropout(h, 0.3) + x))(C.dropout(x, 0.5))
    w = C.Parameter(3, init=[0.5, -0.2, 0.3])
    loss, feed = C.reduce_sum(C.square(h * w + C.sequence.past_value(h))), {x: films()}

    def run():
        C.set_seed(5)  # what is dropped follows from the seed and the number of the run
        return loss.grad(feed, wrt=[w, x], outputs=[loss], window=3)

    gradients, _ = run()
    for i in range(3):
        sides = []
        for sign in (1, -1):
            moved = [f.copy() for f in films()]
            moved[1][4, i] += sign * 1e-6
            feed[x] = moved
            sides.append(sum(a.sum() for a in run()[1]))
        feed[x] = films()
        slope = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(gradients[x][1][4, i], slope, rtol=1e-6, atol=1e-7)


def test_windows_drop_different_elements():
    x = C.sequence.input_variable(100, dtype=np.float64, needs_gradient=True)
    y = C.dropout(x, 0.5)
    _, found = C.sequence.last(y).grad({x: [np.ones((4, 100))]}, outputs=[y], window=1)
    frames = found[0]
    assert all((frames[i] != frames[j]).any() for i in range(4) for j in range(i))


def test_training_is_that_of_whole_sequences():
    def trained(**options):
        C.set_seed(1)
        x, y = C.sequence.input_variable(3), C.sequence.input_variable(2)
        model = C.layers.Sequential([C.layers.Recurrence(C.layers.GRU(4)), C.layers.Dense(2)])(x)
        loss = C.squared_error(model, y)
        data = films(), films((2,), seed=1)
        loss.train(
            data,
            minibatch_size=14,
            parameter_learners=C.adam(model.parameters, 0.01, 0.9),
            max_epochs=4,
            **options,
        )
        return [p.value for p in model.parameters]

    for one, other in zip(trained(), trained(window=2), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def _refused(y, x, *parts, **options):
    with pytest.raises(C.GraphError) as caught:
        y.grad({x: films()}, wrt=[x], **(options or {"window": 3}))
    for part in parts:
        assert part in str(caught.value)


def test_what_hinders_windows_is_named():
    x = sequence()
    whole = "it needs all frames at once"
    _refused(C.sequence.future_value(x) * x, x, "future_value", "looks 1 frame ahead")
    _refused(C.sequence.reduce_max(x) * 2, x, "sequence.reduce_max", whole)
    _refused(C.sequence.unpack(x, 0, True), x, "sequence.unpack", whole)
    late = C.sequence.broadcast_as(C.sequence.last(x), x) * x
    _refused(late, x, "sequence.last", "computed from all frames")
    backward = C.layers.Recurrence(lambda h, x: h + x, go_backwards=True)(x)
    _refused(backward, x, "looks 1 frame ahead", __file__)
    _refused(C.layers.BatchNormalization()(x), x, "computed from all frames", "BatchNormalization")


def test_what_is_no_window_is_refused():
    x = sequence()
    for window in (0, -1, True, 2.5, "two"):
        _refused(x * 2, x, "window", window=window)
    _refused(x * 2, x, "both given", window=2, memory_limit=10**6)
    y = C.input_variable(3, dtype=np.float64, needs_gradient=True)
    with pytest.raises(C.GraphError, match="without sequences"):
        C.square(y).grad({y: [[1, 2, 3]]}, window=2)


@pytest.mark.parametrize("limit", [4_000_000, 8_000_000])
def test_a_limit_of_memory_is_kept(limit):
    x = C.sequence.input_variable(64, dtype=np.float64)
    h = C.layers.Recurrence(C.layers.LSTM(64))(C.layers.Dense(64, activation=C.tanh)(x))
    loss, lengths = C.reduce_sum(C.square(h)), (2000, 1500)
    feed, wrt = {x: films((64,), lengths)}, loss.parameters
    loss.grad({x: films((64,), (8, 6))}, wrt=wrt, memory_limit=limit)  # plans are made
    tracemalloc.start()
    found = loss.grad(feed, wrt=wrt, memory_limit=limit)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    fed = sum(a.nbytes for a in feed[x])
    assert most < limit + 1.1 * fed + 3 * sum(p.value.nbytes for p in wrt)
    assert limit < 6 * 64 * 8 * sum(lengths)  # what gates, cell and output take in all frames
    expected = loss.grad(feed, wrt=wrt)
    for p in wrt:
        _near(found[p], expected[p], 1e-9)
    with pytest.raises(C.GraphError, match=r"windows take the least"):
        loss.grad(feed, wrt=wrt, memory_limit=1000)


def test_windows_are_whole_blocks_of_rows():
    layout = Layout([2, 5, 0, 4])
    assert of_rows(layout, 6) == [0, 2]
    assert of_rows(layout, 5) == [0, 1, 3]
    windows = windows_of(layout, of_frames(layout, 2))
    assert [w.alive for w in windows] == [3, 2, 1]
    assert [w.go_on for w in windows] == [2, 1, 0]
    assert [w.layout.given.tolist() for w in windows] == [[2, 2, 2], [2, 2], [1]]
    assert [w.rows for w in windows] == [slice(0, 6), slice(6, 10), slice(10, 11)]
