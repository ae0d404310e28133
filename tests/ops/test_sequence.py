"""Operations along time, on ragged sequences, against NumPy one sequence at a time."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import BATCH, GraphError, apply
from rgraph.ops.delays import OUTSIDE
from rgraph.ops.frames import SCATTER
from rgraph.ops.repetition import spread, sum_rows
from rgraph.testing import check_gradients

LENGTHS = (3, 1, 4, 2)


def sequences(*shape, seed=1, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, *shape)) for n in lengths]


def same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def delayed(frames, initial, offset):
    """Frame t is frame t - offset, or `initial` where there is none."""
    result = np.empty_like(frames)
    for t in range(len(frames)):
        source = t - offset
        result[t] = frames[source] if 0 <= source < len(frames) else initial
    return result


@pytest.fixture
def x():
    return C.sequence.input_variable((2, 3), np.float64)


def shift(x, initial, offset):
    f = C.sequence.past_value if offset > 0 else C.sequence.future_value
    return f(x, initial, time_step=abs(offset))


@pytest.mark.parametrize("offset", [1, 2, 5, -1, -2, -5])
class TestDelay:
    def test_initial_state_left_out(self, x, offset):
        s = sequences(2, 3)
        same(shift(x, None, offset).eval({x: s}), [delayed(f, 0, offset) for f in s])

    @pytest.mark.parametrize(
        "initial", [7.0, [[0.1], [0.2]], np.arange(6.0).reshape(2, 3)], ids=repr
    )
    def test_initial_state_a_number_or_an_array(self, x, offset, initial):
        s = sequences(2, 3)
        f = shift(x, initial, offset)
        same(f.eval({x: s}), [delayed(q, initial, offset) for q in s])
        check_gradients(f, {x: s}, order=2, elements=10, directions=2)

    @pytest.mark.parametrize("shape", [(2, 3), (1, 3), (3,), (1,), ()], ids=str)
    def test_initial_state_a_parameter(self, x, offset, shape):
        s = sequences(2, 3)
        p = C.Parameter(shape, np.random.default_rng(2).normal(size=shape), np.float64)
        f = shift(x, p, offset)
        same(f.eval({x: s}), [delayed(q, p.value, offset) for q in s])
        check_gradients(f, {x: s}, order=2, elements=10, directions=2)

    @pytest.mark.parametrize("shape", [(2, 3), (3,), ()], ids=str)
    def test_initial_state_one_per_sequence(self, x, offset, shape):
        s = sequences(2, 3)
        first = np.random.default_rng(3).normal(size=(4, *shape))
        b = C.input_variable(shape, np.float64)
        f = shift(x, b, offset)
        same(f.eval({x: s, b: first}), [delayed(q, i, offset) for q, i in zip(s, first)])
        check_gradients(f, {x: s, b: first}, order=2, elements=10, directions=2)


@pytest.mark.parametrize("time_step", [-1, 1.5, "1", None])
@pytest.mark.parametrize("f", [C.sequence.past_value, C.sequence.future_value])
def test_how_far_a_delay_looks(f, time_step):
    x = C.sequence.input_variable(1)
    with pytest.raises(GraphError, match="time_step"):
        f(x, time_step=time_step)
    data = np.arange(3.0).reshape(1, 3, 1)
    np.testing.assert_array_equal(f(x, time_step=0).eval({x: data}), data)  # as in CNTK


def test_a_delay_needs_a_sequence():
    with pytest.raises(GraphError, match="needs a sequence, but the operand has no time axis"):
        C.sequence.past_value(C.input_variable(2))


def test_an_initial_state_that_is_a_sequence(x):
    before_last = C.Function(lambda v, s: C.sequence.past_value(v, s, 2))
    with pytest.raises(GraphError, match="only one value per sequence"):
        before_last(x, x)  # what it is comes too late to tell its frames apart


def test_an_initial_state_of_another_shape(x):
    with pytest.raises(GraphError, match=r"initial state of shape \(4,\) does not match"):
        C.sequence.past_value(x, np.zeros(4))


def test_first_and_last_keep_the_order_of_the_minibatch(x):
    s = sequences(2, 3)
    for function, frame in ((C.sequence.first, 0), (C.sequence.last, -1)):
        f = function(x)
        assert not f.output.is_sequence()
        np.testing.assert_array_equal(f.eval({x: s}), np.stack([q[frame] for q in s]))
        check_gradients(f, {x: s}, order=2, elements=10, directions=2)


def test_is_first_and_is_last(x):
    s = sequences(2, 3)
    same(C.sequence.is_first(x).eval({x: s}), [np.arange(len(q)) == 0 for q in s])
    same(C.sequence.is_last(x).eval({x: s}), [np.arange(len(q)) == len(q) - 1 for q in s])


@pytest.mark.parametrize("offset", [1, 2, -1, -3])
def test_outside_marks_where_a_delay_has_no_frame(x, offset):
    f = C.Function([apply(OUTSIDE, x.node, offset=offset)])
    expected = [[not 0 <= t - offset < len(q) for t in range(len(q))] for q in sequences(2, 3)]
    same(f.eval({x: sequences(2, 3)}), np.array(expected, object))
    g = f.grad({x: sequences(2, 3)}, wrt=x)
    assert not any(q.any() for q in g)


@pytest.mark.parametrize(
    "name, function",
    [
        ("reduce_sum", lambda q: q.sum(0)),
        ("reduce_max", lambda q: q.max(0)),
    ],
)
def test_over_time(x, name, function):
    s = sequences(2, 3)
    f = getattr(C.sequence, name)(x)
    same(f.eval({x: s}), [function(q) for q in s])
    check_gradients(f, {x: s}, order=2, elements=10, directions=2)


def test_softmax_over_time(x):
    s = [20 * q for q in sequences(2, 3)]
    f = C.sequence.softmax(x)
    expected = [np.exp(q - q.max(0)) / np.exp(q - q.max(0)).sum(0) for q in s]
    same(f.eval({x: s}), expected)
    check_gradients(f, {x: sequences(2, 3)}, order=2, elements=10, directions=2)


@pytest.mark.parametrize("name", ["reduce_sum", "softmax"])
def test_over_time_inside_a_layer(name):
    """Called on what is not known yet, as in a layer's function."""
    function = getattr(C.sequence, name)
    x = C.sequence.input_variable(2, np.float64)
    layer = C.Function(lambda v: function(v))
    s = sequences(2)
    same(layer(x).eval({x: s}), function(x).eval({x: s}))


@pytest.mark.parametrize(
    "build",
    [
        C.sequence.first,
        C.sequence.last,
        C.sequence.is_first,
        C.sequence.is_last,
        C.sequence.reduce_sum,
        C.sequence.reduce_max,
        C.sequence.softmax,
        C.sequence.where,
        lambda x: C.sequence.gather(x, x),
    ],
)
def test_what_is_no_sequence_is_refused(build):
    with pytest.raises(GraphError, match="needs a sequence"):
        build(C.input_variable(()))


def test_a_value_per_sequence_is_given_to_each_frame(x):
    s = sequences(2, 3)
    b = C.input_variable((2, 3), np.float64)
    values = np.random.default_rng(4).normal(size=(4, 2, 3))
    at = {x: s, b: values}
    expected = [np.broadcast_to(v, q.shape) for v, q in zip(values, s)]
    f = C.sequence.broadcast_as(b, x)
    same(f.eval(at), expected)
    check_gradients(f, at, order=2, elements=10, directions=2)
    same((b + 0 * x).eval(at), expected)
    same((x + b).eval(at), [q + v for v, q in zip(values, s)])
    check_gradients(x * b, at, order=2, elements=10, directions=2)


def test_a_value_for_all_is_given_to_each_frame(x):
    p = C.Parameter((3,), np.arange(3.0), np.float64)
    f = C.sequence.broadcast_as(p, x)
    assert f.output.is_sequence()
    assert f.shape == (3,)
    same(f.eval({x: sequences(2, 3)}), [np.tile(np.arange(3.0), (n, 1)) for n in LENGTHS])
    check_gradients(f, {x: sequences(2, 3)}, order=2)


@pytest.mark.parametrize("axes", ["none to batch", "batch to time", "none to time"])
def test_spread_and_gather_up_are_adjoint(axes):
    x = C.sequence.input_variable(2, np.float64)
    start = (
        C.input_variable(2, np.float64)
        if axes == "batch to time"
        else C.Parameter(2, dtype=np.float64)
    )
    goal = (BATCH,) if axes == "none to batch" else x.dynamic_axes
    up = spread(start.node, goal)
    assert up.axes == goal
    source = C.input_variable(2, np.float64) if axes == "none to batch" else x
    down = sum_rows(source.node, start.node.axes)
    for node in (up, down):
        others = [x] if node is up and goal != (BATCH,) else [source]
        f = C.combine(C.Function([node]), *(C.reduce_sum(C.square(o)) for o in others))
        check_gradients(f, order=2, elements=10)


def test_where_numbers_the_chosen_frames():
    c = C.sequence.input_variable(1)
    conditions = [np.array(q, float)[:, None] for q in ([1, 0, 1], [0], [1, 1, 0, 1], [0, 1])]
    f = C.sequence.where(c)
    same(f.eval({c: conditions}), [np.flatnonzero(q) for q in conditions])
    # CNTK 2.7 repeats by what is not 0 or 1; a fraction rounds up and is owed to the next.
    for counts, expected in (
        ([2, 0, 1], [0, 0, 2]),
        ([0.5, 0.5, 2], [0, 2, 2]),
        ([1.5, 1.5, 0], [0, 0, 1]),
        ([0.3, 0.3, 0.3], [0]),
    ):
        same(f.eval({c: [np.array(counts)[:, None]]}), [expected])
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(GraphError, match="negative or NaN"):
            f.eval({c: [[[1], [bad]]]})


@pytest.mark.parametrize("twice", [False, True])
def test_gather_takes_the_chosen_frames(x, twice):
    c = C.sequence.input_variable((), np.float64)
    conditions = [np.array(q, float) for q in ([1, 0, 1], [1], [1, 1, 0, 1], [0, 1])]
    s = sequences(2, 3)
    f = C.sequence.gather(x, c)
    expected = [q[k > 0] for q, k in zip(s, conditions)]
    if twice:
        f = C.sequence.gather(f, C.sequence.is_last(f))
        expected = [q[-1:] for q in expected]
    same(f.eval({x: s, c: conditions}), expected)
    check_gradients(f, {x: s, c: conditions}, wrt=x, order=2, elements=30)


def test_a_sequence_of_which_nothing_is_chosen(x):
    s = sequences(2, 3, lengths=(2, 3))
    c = C.sequence.input_variable(())
    f = C.sequence.gather(x, c)
    found = f.eval({x: s, c: [np.zeros(2), np.array([0, 1, 1])]})
    assert found[0].shape == (0, 2, 3)
    np.testing.assert_array_equal(found[1], s[1][1:])
    with pytest.raises(GraphError, match="empty sequence"):
        C.sequence.last(f).eval({x: s, c: [np.zeros(2), np.array([0, 1, 1])]})


def test_a_condition_with_negative_values(x):
    with pytest.raises(GraphError, match="negative or NaN"):
        C.sequence.gather(x, C.reduce_sum(x)).eval({x: -np.ones((2, 2, 3))})


def test_empty_sequences_among_others(x):
    s = sequences(2, 3, lengths=(2, 0, 3))
    np.testing.assert_allclose(
        C.sequence.reduce_sum(x).eval({x: s}), [s[0].sum(0), np.zeros((2, 3)), s[2].sum(0)]
    )
    assert [len(q) for q in C.sequence.softmax(x).eval({x: s})] == [2, 0, 3]
    same(C.sequence.past_value(x).eval({x: s}), [delayed(q, 0, 1) for q in s])


def test_nothing_but_empty_sequences(x):
    s = sequences(2, 3, lengths=(0, 0))
    chosen = C.sequence.gather(x, C.reduce_sum(x) > 0)
    assert [len(q) for q in C.tanh(chosen).eval({x: s})] == [0, 0]
    assert [len(q) for q in C.layers.Recurrence(C.plus)(x).eval({x: s})] == [0, 0]
    np.testing.assert_array_equal(C.sequence.reduce_sum(x).eval({x: s}), np.zeros((2, 2, 3)))
    with pytest.raises(GraphError, match="empty sequence"):
        C.sequence.first(x).eval({x: s})


def test_chosen_frames_are_sequences_like_any():
    """Delays, sums and values per sequence work on the new time axis, in the right order."""
    x = C.sequence.input_variable((), np.float64)
    b = C.input_variable((), np.float64)
    s = sequences(lengths=(5, 2, 4))
    values = np.array([10.0, 20, 30])
    chosen = C.sequence.gather(x, x > 0)
    expected = [q[q > 0] for q in s]
    assert len({len(q) for q in expected}) > 1
    at = {x: s, b: values}
    same((chosen + b).eval(at), [q + v for q, v in zip(expected, values)])
    same(
        C.sequence.past_value(chosen, b).eval(at),
        [delayed(q, v, 1) for q, v in zip(expected, values)],
    )
    same(C.sequence.reduce_sum(chosen).eval(at), [q.sum() for q in expected])
    total = C.layers.Recurrence(C.plus)(chosen)
    same(total.eval(at), [np.cumsum(q) for q in expected])
    check_gradients(total * b, at, order=2)


@pytest.mark.parametrize(
    "begin, end, kept",
    [
        (0, 2, np.s_[0:2]),
        (1, 0, np.s_[1:]),
        (0, -1, np.s_[:-1]),
        (-2, 0, np.s_[-2:]),
        (-3, -1, np.s_[-3:-1]),
    ],
)
def test_slice_of_each_sequence(x, begin, end, kept):
    s = sequences(2, 3)
    f = C.sequence.slice(x, begin, end)
    same(f.eval({x: s}), [q[kept] for q in s])
    check_gradients(f, {x: s}, order=2, elements=10, directions=2)


def test_gradients_of_chosen_frames_can_be_applied_to_another_input():
    x, y = C.sequence.input_variable((), np.float64), C.sequence.input_variable((), np.float64)
    (g,) = C.square(C.sequence.gather(x, x > 0)).gradients([x])
    s, t = sequences(), sequences(seed=6)
    np.testing.assert_allclose(g.eval({x: s})[2], 2 * np.maximum(s[2], 0))
    same(g.clone("share", {x: y}).eval({y: t}), [2 * np.maximum(q, 0) for q in t])
    same(g.eval({x: s}), [2 * np.maximum(q, 0) for q in s])


def test_scatter_puts_frames_back(x):
    c = C.sequence.input_variable(())
    conditions = [np.array(q, float) for q in ([1, 0, 1], [1], [1, 1, 0, 1], [0, 1])]
    chosen = C.sequence.gather(x, c).node
    back = C.Function([apply(SCATTER, chosen, chosen.inputs[1], x.node)])
    s = sequences(2, 3)
    expected = [q * k[:, None, None] for q, k in zip(s, conditions)]
    same(back.eval({x: s, c: conditions}), expected)


def test_reconcile_shows_both_operands_by_name(x):
    y = C.input_variable(1, name="y")
    like = C.sequence.input_variable(1, name="like")
    assert [v.name for v in C.reconcile_dynamic_axes(y, like).owner.inputs] == ["y", "like"]


def test_reconcile_takes_the_time_axis_of_another(x):
    other = C.sequence.input_variable(
        (2, 3), np.float64, sequence_axis=C.Axis.new_unique_dynamic_axis("other")
    )
    s, t = sequences(2, 3), sequences(2, 3, seed=5)
    with pytest.raises(GraphError, match="along different axes"):
        x + other
    f = C.reconcile_dynamic_axes(other, x) + x
    same(f.eval({x: s, other: t}), [a + b for a, b in zip(s, t)])
    check_gradients(f, {x: s, other: t}, order=2, elements=10, directions=2)


class TestSlicesOfEqualLength:
    """Frames are told from their neighbours; what combines, and to what, is as in CNTK 2.7."""

    FEED = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(8).reshape(4, 2)

    def differences(self, make):
        x = C.sequence.input_variable(2)
        values = make(x, C.sequence.slice)
        return [v.tolist() for v in values.eval({x: list(self.FEED)})]

    @pytest.mark.parametrize(
        "make",
        [
            lambda x, cut: cut(x, 1, 0) - cut(x, 0, -1),
            lambda x, cut: cut(C.sequence.future_value(x), 0, -1) - cut(x, 0, -1),
            lambda x, cut: C.reconcile_dynamic_axes(cut(x, 1, 0), cut(x, 0, -1)) - cut(x, 0, -1),
        ],
    )
    def test_neighbours(self, make):
        assert self.differences(make) == [[[2.0, 2.0]] * 5, [[2.0, 2.0]] * 3]

    def test_the_first_and_the_last(self):
        found = self.differences(lambda x, cut: cut(x, 0, 2) + cut(x, -2, 0))
        assert found == [[[8.0, 10.0], [12.0, 14.0]], [[4.0, 6.0], [8.0, 10.0]]]

    def test_of_two_inputs(self):
        x, y = C.sequence.input_variable(2), C.sequence.input_variable(2)
        loss = C.squared_error(C.sequence.slice(x, 1, 0), C.sequence.slice(y, 0, -1))
        found = loss.eval({x: list(self.FEED), y: list(self.FEED)})
        assert [v.tolist() for v in found] == [[8.0] * 5, [8.0] * 3]
        alone = C.sequence.slice(y, 1, 0)
        assert alone.arguments == (y,)

    def test_gradients(self):
        x = C.sequence.input_variable(2, needs_gradient=True)
        first, second = C.sequence.slice(x, 1, 0), C.sequence.slice(x, 0, -1)
        total = C.sequence.reduce_sum(C.reduce_sum(first * second))
        expected = [[2, 3], [4, 6], [8, 10], [12, 14], [16, 18], [8, 9]]
        assert total.grad({x: list(self.FEED)})[0].tolist() == expected

    def test_in_a_function_that_is_applied_twice(self):
        p = C.placeholder()
        delta = C.sequence.slice(p, 1, 0) - C.sequence.slice(p, 0, -1)
        x = C.sequence.input_variable(2)
        second = delta(delta(x))
        found = second.eval({x: list(self.FEED)})
        assert [v.tolist() for v in found] == [[[0.0] * 2] * 4, [[0.0] * 2] * 2]
        assert [len(v) for v in (delta(x) + delta(2 * x)).eval({x: list(self.FEED)})] == [5, 3]

    def test_what_is_saved_and_loaded(self, tmp_path):
        x, y = C.sequence.input_variable(2, name="x"), C.sequence.input_variable(2, name="y")
        (C.sequence.slice(x, 1, 0) - C.sequence.slice(y, 0, -1)).save(tmp_path / "model")
        loaded = C.load_model(tmp_path / "model")
        found = loaded.eval({"x": list(self.FEED), "y": list(self.FEED)})
        assert [v.tolist() for v in found] == [[[2.0, 2.0]] * 5, [[2.0, 2.0]] * 3]

    def test_other_lengths(self):
        x = C.sequence.input_variable(2)
        cut = C.sequence.slice
        with pytest.raises(C.GraphError, match="different axes"):
            cut(x, 1, 0) - cut(x, 2, 0)
        short = cut(x, 1, 4) - cut(x, 0, 3)
        assert [len(v) for v in short.eval({x: list(self.FEED)})] == [3, 3]
        with pytest.raises(C.GraphError, match="too few frames"):
            short.eval({x: [self.FEED[0][:3]]})
