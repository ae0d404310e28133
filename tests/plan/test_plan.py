"""Loops against plain NumPy loops, one sequence at a time."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device, passes
from rgraph.graph import GraphError
from rgraph.plan import Loop, Plan
from rgraph.testing import check_gradients

RNG = np.random.default_rng(1)
SEQUENCES = [RNG.normal(size=(n, 2)) for n in (3, 1, 4, 2)]
W, U, R = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 3)), RNG.normal(size=(3, 2))
STARTS = RNG.normal(size=(4, 3))


def parameter(value):
    return C.Parameter(value.shape, value, np.float64)


@pytest.fixture
def x():
    return C.sequence.input_variable(2, np.float64)


@pytest.fixture
def b():
    return C.input_variable(3, np.float64)


def rnn(w=W, u=U):
    """h = tanh(x w + h u), as a step function and as NumPy."""
    pw, pu = parameter(w), parameter(u)
    return (
        lambda h, x: C.tanh(C.times(x, pw) + C.times(h, pu)),
        lambda h, x: np.tanh(x @ w + h @ u),
    )


def unrolled(step, frames, start=None, backwards=False):
    """The states at all frames."""
    h = np.zeros(3) if start is None else start
    states = [None] * len(frames)
    for t in reversed(range(len(frames))) if backwards else range(len(frames)):
        h = states[t] = step(h, frames[t])
    return np.stack(states)


def agree(f, at, expected, **options):
    found = f.eval(at)
    assert len(found) == len(expected)
    for a, e in zip(found, expected):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-13)
    check_gradients(f, at, **{"elements": 12, "directions": 2, **options})


class TestRecurrence:
    @pytest.mark.parametrize("backwards", [False, True])
    @pytest.mark.parametrize("kind", ["left out", "number", "array", "parameter", "network"])
    def test_initial_states(self, x, b, kind, backwards):
        step, numpy_step = rnn()
        initial, starts = {
            "left out": (None, np.zeros((4, 3))),
            "number": (0.3, np.full((4, 3), 0.3)),
            "array": (STARTS[0], np.tile(STARTS[0], (4, 1))),
            "parameter": (parameter(STARTS[0]), np.tile(STARTS[0], (4, 1))),
            "network": (C.tanh(2 * b), np.tanh(2 * STARTS)),
        }[kind]
        f = C.layers.Recurrence(step, go_backwards=backwards, initial_state=initial)(x)
        at = {x: SEQUENCES} | ({b: STARTS} if kind == "network" else {})
        agree(f, at, [unrolled(numpy_step, s, h, backwards) for s, h in zip(SEQUENCES, starts)])

    def test_second_gradients(self, x):
        step, _ = rnn()
        f = C.layers.Recurrence(step, initial_state=0.2)(x)
        check_gradients(f, {x: SEQUENCES}, order=2, elements=12)

    def test_two_states(self, x):
        w, u = parameter(W), parameter(R)

        def step(h, c, v):
            c = 0.5 * c + C.times(h, u) * v
            return C.tanh(C.times(c, w) - h), c

        def numpy_step(h, c, v):
            c = 0.5 * c + (h @ R) * v
            return np.tanh(c @ W - h), c

        both = C.layers.Recurrence(step, initial_state=(0.1, 0.2), return_full_state=True)(x)
        expected = []
        for s in SEQUENCES:
            h, c, states = np.full(3, 0.1), np.full(2, 0.2), []
            for v in s:
                h, c = numpy_step(h, c, v)
                states.append((h, c))
            expected.append([np.stack(q) for q in zip(*states)])
        for i in range(2):
            agree(C.Function([both.outputs[i].node]), {x: SEQUENCES}, [e[i] for e in expected])
        first = C.layers.Recurrence(step, initial_state=(0.1, 0.2))(x)
        agree(first, {x: SEQUENCES}, [e[0] for e in expected], order=2)

    def test_images(self):
        images = [RNG.normal(size=(n, 2, 4, 3)) for n in (2, 1, 3)]
        k, u = RNG.normal(size=(3, 2, 1, 1)), RNG.normal(size=(3, 3, 1, 1))
        x = C.sequence.input_variable((2, 4, 3), np.float64)
        pk, pu = parameter(k), parameter(u)
        f = C.layers.Recurrence(lambda h, v: C.tanh(C.convolution(pk, v) + C.convolution(pu, h)))(x)
        agree(
            f,
            {x: images},
            [
                unrolled(
                    lambda h, v: np.tanh(
                        np.einsum("oi,ihw->ohw", k[..., 0, 0], v)
                        + np.einsum("oi,ihw->ohw", u[..., 0, 0], h)
                    ),
                    s,
                    np.zeros((3, 4, 3)),
                )
                for s in images
            ],
        )

    def test_stacked(self, x):
        (f, n), (g, m) = rnn(), rnn(R[:, :2].T @ U, U.T)
        layers = C.layers.Recurrence(f)(x) @ parameter(R)
        layers = C.layers.Recurrence(g, go_backwards=True)(layers)
        expected = [unrolled(m, unrolled(n, s) @ R, backwards=True) for s in SEQUENCES]
        agree(layers, {x: SEQUENCES}, expected)

    def test_in_both_directions(self, x):
        (f, n), (g, m) = rnn(), rnn(-W, U.T)
        both = C.splice(C.layers.Recurrence(f)(x), C.layers.Recurrence(g, go_backwards=True)(x))
        expected = [
            np.concatenate([unrolled(n, s), unrolled(m, s, backwards=True)], axis=1)
            for s in SEQUENCES
        ]
        agree(both, {x: SEQUENCES}, expected, order=2)

    def test_inside_a_recurrent_step(self, x):
        """A step function that delays its own values: two states, one of them hidden."""
        step, numpy_step = rnn()

        def nested(h, v):
            inner = C.layers.Recurrence(lambda s, q: 0.5 * s + q)(v)
            return step(h, inner)

        f = C.layers.Recurrence(nested)(x)
        smooth = [unrolled(lambda q, v: 0.5 * q + v, s, np.zeros(2)) for s in SEQUENCES]
        agree(f, {x: SEQUENCES}, [unrolled(numpy_step, s) for s in smooth])

    def test_inside_a_recurrent_step_on_its_state(self, x):
        """The inner recurrence runs over the outer one's states: one loop with both."""
        step, numpy_step = rnn()

        def nested(h, v):
            smooth = C.layers.Recurrence(lambda s, q: 0.5 * s + q)(h)
            return step(smooth, v)

        f = C.layers.Recurrence(nested)(x)
        expected = []
        for s in SEQUENCES:
            h, smooth, states = np.zeros(3), np.zeros(3), []
            for v in s:
                smooth = 0.5 * smooth + h
                h = numpy_step(smooth, v)
                states.append(h)
            expected.append(np.stack(states))
        agree(f, {x: SEQUENCES}, expected, order=2)

    def test_with_what_is_outside_the_loop(self, x, b):
        """Values per sequence, parameters and whole sequences, all read inside."""
        outer = C.sequence.softmax(x)
        w = parameter(W)
        f = C.layers.Recurrence(lambda h, v: C.tanh(h * b + C.times(v * outer, w)))(x)
        expected = []
        for s, q in zip(SEQUENCES, STARTS):
            soft = np.exp(s) / np.exp(s).sum(0)
            expected.append(unrolled(lambda h, v, q=q: np.tanh(h * q + v @ W), s * soft))
        agree(f, {x: SEQUENCES, b: STARTS}, expected)

    def test_the_last_state_of_another_network_as_the_first(self, x):
        (f, n), (g, m) = rnn(), rnn(-W, U.T)
        encoded = C.sequence.last(C.layers.Recurrence(f)(x))
        decoded = C.layers.Recurrence(g, initial_state=encoded)(x)
        agree(decoded, {x: SEQUENCES}, [unrolled(m, s, unrolled(n, s)[-1]) for s in SEQUENCES])

    def test_float32(self, x):
        single = C.sequence.input_variable(2)
        w, u = C.Parameter(W.shape, W, np.float32), C.Parameter(U.shape, U, np.float32)
        f = C.layers.Recurrence(lambda h, v: C.tanh(C.times(v, w) + C.times(h, u)))(single)
        for found, s in zip(f.eval({single: SEQUENCES}), SEQUENCES):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, unrolled(rnn()[1], s), atol=2e-6)
        check_gradients(f, {single: SEQUENCES}, order=2, elements=12)


class TestRelatives:
    def test_fold(self, x):
        step, n = rnn()
        f = C.layers.Fold(step, initial_state=0.2)(x)
        start = np.full(3, 0.2)
        agree(f, {x: SEQUENCES}, [unrolled(n, s, start)[-1] for s in SEQUENCES])
        f = C.layers.Fold(step, go_backwards=True)(x)
        agree(f, {x: SEQUENCES}, [unrolled(n, s, backwards=True)[0] for s in SEQUENCES])

    def test_fold_with_all_its_states(self, x):
        f = C.layers.Fold(
            lambda a, c, v: (a + v, c * v), initial_state=(0, 1), return_full_state=True
        )(x)
        total, product = f.outputs
        found = f.eval({x: SEQUENCES})
        np.testing.assert_allclose(found[total], [s.sum(0) for s in SEQUENCES])
        np.testing.assert_allclose(found[product], [s.prod(0) for s in SEQUENCES])

    def test_recurrence_from(self, x, b):
        step, n = rnn()
        f = C.layers.RecurrenceFrom(step)(b, x)
        agree(f, {x: SEQUENCES, b: STARTS}, [unrolled(n, s, h) for s, h in zip(SEQUENCES, STARTS)])

    def test_unfold_from(self, x, b):
        u = parameter(U)
        f = C.layers.UnfoldFrom(lambda h: C.tanh(C.times(h, u)))(b, x)
        expected = [
            unrolled(lambda h, _: np.tanh(h @ U), s, start) for s, start in zip(SEQUENCES, STARTS)
        ]
        agree(f, {x: SEQUENCES, b: STARTS}, expected)

    def test_unfold_from_with_output_and_state(self, x, b):
        f = C.layers.UnfoldFrom(lambda h: (C.reduce_sum(h), 0.5 * h))(b, x)
        expected = [
            [start.sum() * 0.5**t for t in range(len(s))] for s, start in zip(SEQUENCES, STARTS)
        ]
        agree(f, {x: SEQUENCES, b: STARTS}, expected)

    def test_unfold_from_for_longer_and_until_it_ends(self, x):
        """1, 2, 4 … for up to twice the sequence's length, ending after the first above 10."""
        double = C.layers.UnfoldFrom(
            lambda h: 2 * h, until_predicate=lambda o: o > 10, length_increase=2
        )
        found = double(C.constant(1.0, dtype=np.float64), x).eval({x: SEQUENCES})
        assert [f.tolist() for f in found] == [
            [2, 4, 8, 16],
            [2, 4],
            [2, 4, 8, 16],
            [2, 4, 8, 16],
        ]


class TestTiedByHand:
    def test_one_state(self, x):
        state = C.placeholder()
        w, u = parameter(W), parameter(U)
        h = C.tanh(C.times(x, w) + C.times(C.sequence.past_value(state, 0.1), u))
        f = h.replace_placeholders({state: h})
        start = np.full(3, 0.1)
        agree(f, {x: SEQUENCES}, [unrolled(rnn()[1], s, start) for s in SEQUENCES], order=2)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_delays_of_several_steps(self, x, backwards):
        """Fibonacci with input: f(t) = f(t-1) + f(t-2) + x(t)."""
        state = C.placeholder()
        delay = C.sequence.future_value if backwards else C.sequence.past_value
        f = delay(state, 0.5) + delay(state, 0.25, time_step=2) + x
        f.replace_placeholders({state: f})
        expected = []
        for s in SEQUENCES:
            frames = s[::-1] if backwards else s
            got = []
            for t, v in enumerate(frames):
                one = got[t - 1] if t >= 1 else 0.5
                two = got[t - 2] if t >= 2 else 0.25
                got.append(one + two + v)
            expected.append(np.stack(got[::-1] if backwards else got))
        agree(f, {x: SEQUENCES}, expected, order=2)

    def test_only_a_delay_of_two(self, x):
        state = C.placeholder()
        f = 0.5 * C.sequence.past_value(state, 1, time_step=2) + x
        f.replace_placeholders({state: f})
        expected = []
        for s in SEQUENCES:
            got = []
            for t, v in enumerate(s):
                got.append(0.5 * (got[t - 2] if t >= 2 else 1) + v)
            expected.append(np.stack(got))
        agree(f, {x: SEQUENCES}, expected, order=2)

    def test_a_chain_of_delays_in_the_cycle(self, x):
        state = C.placeholder()
        delayed = C.sequence.past_value(C.sequence.past_value(state, 1), 2)
        f = 0.5 * delayed + x
        f.replace_placeholders({state: f})
        expected = []
        for s in SEQUENCES:
            got = []
            for t, v in enumerate(s):
                # before the first frame the inner delay's value is 1, the outer's is 2
                before = 2 if t == 0 else 1 if t == 1 else got[t - 2]
                got.append(0.5 * before + v)
            expected.append(np.stack(got))
        agree(f, {x: SEQUENCES}, expected, order=2)

    def test_two_states_that_feed_each_other(self, x):
        a, c = C.placeholder(), C.placeholder()
        new_a = x + 0.5 * C.sequence.past_value(c, 1)
        new_c = C.tanh(new_a) * C.sequence.past_value(a, 2)
        both = C.combine(new_a, new_c).replace_placeholders({a: new_a, c: new_c})
        expected = []
        for s in SEQUENCES:
            old_a, old_c, got = 2.0, 1.0, []
            for v in s:
                old_a, old_c = v + 0.5 * old_c, np.tanh(v + 0.5 * old_c) * old_a
                got.append((old_a, old_c))
            expected.append([np.stack(q) for q in zip(*got)])
        found = both.eval({x: SEQUENCES})
        for i, output in enumerate(both.outputs):
            for q, e in zip(found[output], expected):
                np.testing.assert_allclose(q, e[i])
        check_gradients(both, {x: SEQUENCES}, order=2)

    def test_a_cycle_that_nothing_leaves_but_its_delay(self, x):
        state = C.placeholder()
        before = C.sequence.past_value(state, 3)
        total = before + x
        total.replace_placeholders({state: total})
        expected = [np.cumsum(np.concatenate([np.full((1, 2), 3.0), s[:-1]]), 0) for s in SEQUENCES]
        agree(before, {x: SEQUENCES}, expected, order=2)


class TestMistakes:
    def test_both_directions_in_one_cycle(self, x):
        state = C.placeholder()
        f = C.sequence.past_value(state) + C.sequence.future_value(state) + x
        f.replace_placeholders({state: f})
        with pytest.raises(GraphError, match="depends on both past and future frames") as caught:
            f.eval({x: SEQUENCES})
        assert __file__ in str(caught.value)
        assert "one per direction" in caught.value.hint

    @pytest.mark.parametrize(
        "reader",
        [C.sequence.last, C.sequence.softmax, C.sequence.reduce_sum, C.sequence.reduce_max],
    )
    def test_a_step_that_needs_all_frames(self, x, reader):
        def step(h, v):
            return v + reader(h)

        with pytest.raises(GraphError, match=r"needs all frames|needs a sequence") as caught:
            C.layers.Recurrence(step)(x)
        assert __file__ in str(caught.value)

    def test_a_placeholder_that_nothing_is_bound_to(self, x):
        p = C.placeholder(name="open")
        with pytest.raises(GraphError, match=r"'open'.*has no value"):
            (p + x).eval({x: SEQUENCES})


def loops(f):
    plan = Plan(passes.optimize([o.node for o in f.outputs]), device.engine())
    return [s for s in plan.steps if isinstance(s, Loop)]


def products(loop):
    heads = [n.attrs["head"] if n.op.name == "tailed" else n.op for n in loop.nodes]
    return sum(op.name in ("times", "contract") for op in heads)


def test_what_is_in_no_cycle_runs_once(x):
    """DESIGN: the input's products are outside the loop, whatever the step function looked like."""
    step, _ = rnn()
    f = C.layers.Recurrence(step)(x)
    (loop,) = loops(f)
    assert products(loop) == 1
    steps = Plan([f.node], device.engine()).steps
    assert (
        sum(getattr(s, "node", None) is not None and s.node.op.name == "times" for s in steps) == 1
    )


def test_weight_gradients_are_in_no_loop(x):
    step, _ = rnn()
    f = C.layers.Recurrence(step)(x)
    gradients = C.combine(f.gradients(f.parameters))
    forward, backward = loops(gradients)
    assert products(forward) == products(backward) == 1


def test_nothing_of_a_plan_depends_on_lengths(x):
    step, numpy_step = rnn()
    f = C.layers.Recurrence(step)(x)
    for lengths in [(1,), (7, 2), (2, 7, 3, 3), (1, 1)]:
        s = [RNG.normal(size=(n, 2)) for n in lengths]
        for found, frames in zip(f.eval({x: s}), s):
            np.testing.assert_allclose(found, unrolled(numpy_step, frames), atol=1e-13)


def test_an_empty_sequence_among_others(x):
    step, numpy_step = rnn()
    f = C.layers.Recurrence(step)(x)
    s = [SEQUENCES[0], np.zeros((0, 2)), SEQUENCES[1]]
    found = f.eval({x: s})
    assert found[1].shape == (0, 3)
    np.testing.assert_allclose(found[2], unrolled(numpy_step, SEQUENCES[1]))
    assert f.grad({x: s}, wrt=x)[1].shape == (0, 2)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_loop_of_which_only_the_ends_are_read_keeps_only_those(x, go_backwards):
    step, numpy_step = rnn()
    states = C.layers.Recurrence(step, go_backwards=go_backwards)(x)
    for ends, at in ((C.sequence.last(states), -1), (C.sequence.first(states), 0)):
        plan = Plan(passes.optimize([ends.node]), device.engine())
        (loop,) = [s for s in plan.steps if isinstance(s, Loop)]
        assert (len(loop.whole), len(loop.lasts)) == ((0, 1) if at else (1, 0))
        sequences = [RNG.normal(size=(n, 2)) for n in (3, 5, 1, 5)]
        for found, frames in zip(ends.eval({x: sequences}), sequences, strict=True):
            way = -1 if go_backwards else 1
            truth = unrolled(numpy_step, frames[::way])[::way]
            np.testing.assert_allclose(found, truth[at], atol=1e-13)
    with pytest.raises(ValueError, match="an empty sequence has no first"):
        C.sequence.last(states).eval({x: [np.zeros((2, 2)), np.zeros((0, 2))]})
