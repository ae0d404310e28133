"""Frame by frame a function gives what it gives for whole sequences."""

import gc
import pickle
import tracemalloc

import numpy as np
import pytest

import rgraph as C
from tests.recurrences import by_hand, conv_gru

RNG = np.random.default_rng(0)


def frames(count, *shape, dtype=np.float32):
    return RNG.normal(size=(count, *shape)).astype(dtype)


def stacked(x):
    layers = [C.layers.Recurrence(C.layers.LSTM(5)), C.layers.Recurrence(C.layers.GRU(3))]
    return C.layers.Sequential([*layers, C.layers.Dropout(0.5), C.layers.Dense(2)])(x)


def nested(x):
    inner = C.layers.LSTM(3)
    return C.layers.Recurrence(lambda h, c, x: inner(h, c, C.layers.Dense(3)(x) + h))(x)


MODELS = {
    "a sum": (lambda x: C.layers.Recurrence(lambda h, x: h + x)(x), (4,)),
    "LSTM": (lambda x: C.layers.Recurrence(C.layers.LSTM(3, use_peepholes=True))(x), (4,)),
    "convolutional": (conv_gru, (2, 5, 4)),
    "by hand": (by_hand, (4,)),
    "stacked": (stacked, (4,)),
    "nested": (nested, (4,)),
    "no state": (lambda x: C.tanh(x) + 1, (4,)),
    "delays": (lambda x: C.sequence.past_value(x, 7, 3) - C.sequence.past_value(x), (4,)),
    "a learned start": (
        lambda x: C.layers.Recurrence(C.layers.GRU(4), initial_state=C.Parameter(4, init=0.3))(x),
        (4,),
    ),
    "starts with what comes first": (
        lambda x: C.layers.Recurrence(
            lambda h, x: C.tanh(h * 0.5 + x), initial_state=C.sequence.first(x) * 2
        )(x),
        (4,),
    ),
    "differences from the first": (
        lambda x: x - C.sequence.broadcast_as(C.sequence.first(x), x),
        (4,),
    ),
    "firsts": (lambda x: C.sequence.is_first(x) + x, (4,)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_the_numbers_are_those_of_whole_sequences(name, dtype):
    model, shape = MODELS[name]
    with C.default_options(dtype=dtype):
        x = C.sequence.input_variable(shape, dtype)
        y = model(x)
    data = frames(6, *shape, dtype=dtype)
    live = y.stream()
    found = np.array([live(frame) for frame in data])
    (expected,) = y.eval({x: [data]})
    assert found.dtype == dtype
    # cuDNN has other engines for one frame than for many.
    atol = 1e-6 if C.use_default_device() == C.cpu() else 1e-5
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)


def test_many_at_once_that_join_leave_and_start_anew():
    x = C.sequence.input_variable(4)
    y = stacked(x)
    data = {key: frames(9, 4) for key in "abc"}
    whole = {key: y.eval({x: [d]})[0] for key, d in data.items()}
    live = y.stream()
    place = dict.fromkeys("abc", 0)

    def step(*keys):
        found = live.step({k: data[k][place[k]] for k in keys})
        assert list(found) == list(keys)
        for k in keys:
            np.testing.assert_allclose(found[k], whole[k][place[k]], rtol=1e-5, atol=1e-6)
            place[k] += 1

    step("a")
    step("a", "b")
    step("b", "a")
    step("c", "b")
    assert live.keys == ["a", "b", "c"]
    live.leave("b")
    step("a", "c")
    live.reset("a")
    place["a"] = place["b"] = 0
    step("c", "a", "b")
    assert live.step({}) == {}
    with pytest.raises(KeyError, match="no sequence 'd'"):
        live.leave("d")


def test_several_inputs_and_outputs():
    x, t = C.sequence.input_variable(4, name="x"), C.sequence.input_variable(2, name="t")
    y = C.layers.Recurrence(C.layers.GRU(2))(x) + t
    both = C.combine([y, C.square(t)])
    a, b = frames(3, 4), frames(3, 2)
    live = both.stream()
    expected = both.eval({x: [a], t: [b]})
    for i in range(3):
        first, second = live(a[i], b[i])
        np.testing.assert_allclose(first, expected[both.outputs[0]][0][i], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(second, expected[both.outputs[1]][0][i], rtol=1e-6)


def test_what_does_not_change_along_time_is_given_at_the_start():
    x, v = C.sequence.input_variable(4), C.input_variable(3, name="v")
    start = C.layers.Dense(4)(v)
    y = C.layers.Recurrence(C.layers.GRU(4), initial_state=start)(x) + C.sequence.broadcast_as(
        C.layers.Dense(4)(v), x
    )
    data, values = frames(4, 4), frames(2, 3)
    live = y.stream()
    live.join(0, {v: values[0]})
    live.join(1, {"v": values[1]})
    expected = y.eval({x: [data, data], v: values})
    for i, frame in enumerate(data):
        found = live.step({1: frame, 0: frame})
        for key in (0, 1):
            np.testing.assert_allclose(found[key], expected[key][i], rtol=1e-5, atol=1e-6)
    with pytest.raises(C.GraphError, match=r"'v'.*needed when a sequence starts"):
        live.step({2: data[0]})


def test_what_is_held_can_be_saved_and_put_back():
    x = C.sequence.input_variable(4)
    y = stacked(x) + C.sequence.is_first(x)
    data = frames(6, 4)
    (expected,) = y.eval({x: [data]})
    live = y.stream()
    for frame in data[:3]:
        live(frame)
    saved = pickle.loads(pickle.dumps(live.state()))
    live.reset()
    live(data[5])
    other = y.stream()
    other.set_state(saved)
    live.set_state(saved)
    for one in (live, other):
        found = [one(frame) for frame in data[3:]]
        np.testing.assert_allclose(found, expected[3:], rtol=1e-5, atol=1e-6)
    with pytest.raises(C.GraphError, match="another function's"):
        C.layers.Recurrence(C.layers.GRU(3))(x).stream().set_state(saved)


def test_parameters_that_change_meanwhile():
    x = C.sequence.input_variable(2)
    w = C.Parameter(2, init=1)
    live = (C.sequence.past_value(x) + w).stream()
    np.testing.assert_array_equal(live([1, 2]), [1, 1])
    w.value = [10, 20]
    np.testing.assert_array_equal(live([5, 5]), [11, 22])


def test_frames_are_copied_and_results_are_not_to_be_written():
    x = C.sequence.input_variable(2)
    live = C.sequence.past_value(x).stream()
    frame = np.array([1, 2], np.float32)
    live(frame)
    frame[:] = 9
    found = live(frame)
    np.testing.assert_array_equal(found, [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5


@pytest.mark.parametrize(
    "model, what",
    [
        (lambda x: C.sequence.future_value(x), r"future_value: it looks 1 frame ahead"),
        (lambda x: C.sequence.future_value(x, time_step=3), "it looks 3 frames ahead"),
        (lambda x: C.layers.Recurrence(C.layers.GRU(3), go_backwards=True)(x), "future_value"),
        (lambda x: C.sequence.last(x), "a frame for each frame"),
        (lambda x: x - C.sequence.broadcast_as(C.sequence.last(x), x), "sequence.last: it needs"),
        (lambda x: C.sequence.reverse(x), "sequence.reverse: it needs all frames"),
        (lambda x: C.sequence.gather(x, x[0] > 0), "it needs all frames|along another"),
        (lambda x: C.sequence.is_last(x) + x, "how many frames are to come"),
    ],
)
def test_what_can_not_be_run_frame_by_frame_is_named(model, what):
    x = C.sequence.input_variable(4)
    with pytest.raises(C.GraphError, match=what) as raised:
        model(x).stream()
    assert "hint" in str(raised.value)


def test_a_frame_of_another_shape():
    x = C.sequence.input_variable(4, name="x")
    live = C.tanh(x).stream()
    with pytest.raises(C.GraphError, match=r"a frame of 'x' \(4,\).* of shape \(3,\)"):
        live(np.zeros(3))


@pytest.mark.cpu
def test_memory_does_not_grow():
    x = C.sequence.input_variable(1000)
    live = C.layers.Recurrence(C.layers.GRU(500))(x).stream()
    frame = frames(1, 1000)[0]
    for _ in range(5):
        live(frame)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        live(frame)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000  # two hundred states would be 400,000


def test_a_bad_frame_leaves_nothing_behind():
    x = C.sequence.input_variable(2)
    live = C.layers.Recurrence(lambda h, x: h + x)(x).stream()
    live.step({"a": [1, 2]})
    with pytest.raises(C.GraphError, match="one frame has shape"):
        live.step({"a": [1, 2], "b": [1, 2, 3]})
    assert live.keys == ["a"]
    with pytest.raises(KeyError):
        live.set_state({"held": live.state("a")["held"]}, "a")
    np.testing.assert_array_equal(live.step({"a": [1, 1]})["a"], [2, 3])


def test_a_state_that_is_an_operand_is_not_written_over():
    x = C.sequence.input_variable(2)
    live = (C.sequence.past_value(x) * 1).stream()
    frame = np.array([1.0, 2.0], np.float32)
    live(frame)
    frame[:] = 9
    np.testing.assert_array_equal(live(frame), [1, 2])
