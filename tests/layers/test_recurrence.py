"""Recurrences: any step function, state, direction; against loops in NumPy."""

import numpy as np
import pytest

import rgraph as C
from rgraph.layers import GRU, LSTM, Dense, Fold, Recurrence, RecurrenceFrom, RNNStep, UnfoldFrom
from rgraph.testing import check_gradients

RNG = np.random.default_rng(0)
LENGTHS = (3, 1, 4)
SHAPES = pytest.mark.parametrize("shape", [(), (2,), (2, 4, 3), (1, 3, 2, 2)])


def sequences(shape):
    return [RNG.normal(size=(n, *shape)) for n in LENGTHS]


def loop(step, state, frames, backwards=False):
    states = []
    for frame in frames[::-1] if backwards else frames:
        state = step(state, frame)
        states.append(state)
    return np.array(states[::-1] if backwards else states)


@SHAPES
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("initial", [0, 0.7])
def test_states_of_any_rank(shape, backwards, initial):
    x = C.sequence.input_variable(shape)
    y = Recurrence(lambda s, x: C.tanh(s * 0.5 + x), backwards, initial)(x)
    data = sequences(shape)
    for ours, frames in zip(y.eval({x: data}), data, strict=True):
        expected = loop(
            lambda s, x: np.tanh(s * 0.5 + x), np.full(shape, initial), frames, backwards
        )
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    check_gradients(y, {x: data}, order=2, elements=20)


@pytest.mark.parametrize("fold", [False, True])
def test_initial_state_from_a_network_and_from_a_parameter(fold):
    context, x = C.input_variable(3), C.sequence.input_variable(2)
    start = Dense(2)(context)
    layer = Fold if fold else Recurrence
    y = layer(lambda s, x: s * x, initial_state=start)(x)
    data, given = sequences((2,)), RNG.normal(size=(3, 3))
    first = start.eval({context: given})
    for ours, frames, s in zip(y.eval({x: data, context: given}), data, first, strict=True):
        expected = loop(lambda s, x: s * x, s, frames)
        np.testing.assert_allclose(ours, expected[-1] if fold else expected, atol=1e-6)
    check_gradients(y, {x: data, context: given}, order=2)
    learned = C.Parameter(2, init=0.5)
    z = layer(lambda s, x: s * x, initial_state=learned)(x)
    assert z.parameters == (learned,)
    check_gradients(z, {x: data}, order=2)


def test_a_number_is_a_state_of_any_shape_also_for_convolutions():
    W = C.Parameter((2, 2, 3, 3), init=C.normal(0.3))
    x = C.sequence.input_variable((2, 4, 3))
    data = sequences((2, 4, 3))
    values = []
    for options in ({}, {"initial_state": 0}, {"initial_state": C.constant(0, (2, 4, 3))}):
        y = Recurrence(lambda s, x: C.tanh(C.convolution(W, s) + x), **options)(x)
        assert y.shape == (2, 4, 3)
        values.append(y.eval({x: data}))
    for other in values[1:]:
        for a, b in zip(values[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    check_gradients(y, {x: data}, elements=20)


def test_several_states():
    x = C.sequence.input_variable(2)

    def step(a, b, x):
        return a + x, a * b

    y = Recurrence(step, initial_state=(1, 2), return_full_state=True)(x)
    assert len(y.outputs) == 2
    data = sequences((2,))
    ours = list(y.eval({x: data}).values())
    for i, frames in enumerate(data):
        a, b = np.ones(2), np.full(2, 2.0)
        for t, frame in enumerate(frames):
            a, b = a + frame, a * b
            np.testing.assert_allclose(ours[0][i][t], a, rtol=1e-5)
            np.testing.assert_allclose(ours[1][i][t], b, rtol=1e-5)
    check_gradients(y, {x: data})


def test_stacked_and_in_both_directions():
    x = C.sequence.input_variable(3)
    there, back = Recurrence(GRU(2)), Recurrence(GRU(2), go_backwards=True)
    both = C.splice(there(x), back(x))
    y = Recurrence(LSTM(2))(both)
    assert (both.shape, y.shape) == ((4,), (2,))
    data = sequences((3,))
    turned = [f[::-1] for f in data]
    for shared, own in zip(there.parameters, back.parameters, strict=True):
        own.value = shared.value
    for ours, mirrored in zip(both.eval({x: data}), both.eval({x: turned}), strict=True):
        np.testing.assert_allclose(ours[:, 2:], mirrored[::-1, :2], atol=1e-6)
    check_gradients(y, {x: data}, elements=20)


def test_a_step_may_use_what_stands_outside():
    """CNTK allows none of these: a parameter made in the step, another input, a recurrence."""
    x, scale = C.sequence.input_variable(2), C.sequence.input_variable(2)
    y = Recurrence(lambda s, x: s * scale + x * C.Parameter(2, init=3))(x)
    a, b = sequences((2,)), sequences((2,))
    for ours, frames, factors in zip(y.eval({x: a, scale: b}), a, b, strict=True):
        state = np.zeros(2)
        for t, frame in enumerate(frames):
            state = state * factors[t] + 3 * frame
            np.testing.assert_allclose(ours[t], state, atol=1e-5)
    summary = Fold(GRU(2))(scale)
    z = Recurrence(lambda s, x: C.tanh(s + summary * x))(x)
    check_gradients(z, {x: a, scale: b}, elements=20)


def as_formula(step):
    return step(C.placeholder(name="h"), C.placeholder(name="x"))


@pytest.mark.parametrize(
    "made",
    [
        lambda step: step,
        C.Function,
        lambda step: C.Function(step).clone("clone"),
        lambda step: C.Function(step) >> C.Function(lambda h: h),
        as_formula,
    ],
    ids=["python", "function", "clone", "chain", "formula"],
)
class TestWhatAStepCaptures:
    """A step's states are its own arguments, whatever is made a function of around it."""

    @pytest.fixture
    def x(self):
        return C.sequence.input_variable(1)

    @pytest.mark.parametrize(
        "layer, expected",
        [
            (lambda step, a, b: Recurrence(step)(a), [10, 30, 60]),
            (lambda step, a, b: Recurrence(step, go_backwards=True)(a), [60, 50, 30]),
            (lambda step, a, b: Recurrence(step, initial_state=b)(a), [20, 40, 70]),
            (lambda step, a, b: RecurrenceFrom(step)(b, a), [20, 40, 70]),
            (lambda step, a, b: Fold(step)(a), [60]),
        ],
    )
    def test_an_argument_of_the_function_around(self, x, made, layer, expected):
        f = C.Function(lambda a, b: layer(made(lambda h, x: h + x * b), a, b))
        assert [v.name for v in f.arguments] == ["a", "b"]
        b = C.input_variable(1)
        values = f(x, b).eval({x: [[[1], [2], [3]]], b: [[10]]})
        np.testing.assert_array_equal(np.ravel(values), expected)

    def test_a_state_of_the_step_around(self, x, made):
        """CNTK's values and gradients."""

        @C.Function
        def model(x):
            def outer(h, x):
                inner = made(lambda g, z: C.tanh(g * 0.5 + z * h + 1))
                return C.tanh(h + Recurrence(inner)(x))

            return Recurrence(outer)(x)

        y, data = model(x), np.array([[-0.49], [0.95], [-0.21]])
        for ours, frames in zip(y.eval({x: [data, data[:1]]}), (data, data[:1]), strict=True):
            h = g = 0.0
            for t, z in enumerate(frames):
                g = np.tanh(g * 0.5 + z * h + 1)
                h = np.tanh(h + g)
                np.testing.assert_allclose(ours[t], h, atol=1e-6)
        check_gradients(y, {x: [data, data[:1]]}, order=2)


def test_a_generator_captures_too():
    x, b = C.sequence.input_variable(1), C.input_variable(1)
    f = C.Function(lambda x, b: UnfoldFrom(lambda state: state + b)(0, x))
    assert f(x, b).eval({x: np.zeros((3, 1)), b: [[10]]})[0].ravel().tolist() == [10, 20, 30]
    with pytest.raises(C.GraphError, match="its previous state; this one takes 2"):
        UnfoldFrom(lambda state, x: state + x)


def test_a_formula_captures_the_inputs_in_it():
    x, b = C.sequence.input_variable(1), C.input_variable(1)
    y = Recurrence(as_formula(lambda h, x: h + x * b))(x)
    assert y.eval({x: [[[1], [2], [3]]], b: [[10]]})[0].ravel().tolist() == [10, 30, 60]


def test_the_states_of_a_chain_are_those_of_its_first_step():
    """CNTK documents `Recurrence(GRU(…) >> Dense(…))` for a projection of the state."""
    x, cell, dense = C.sequence.input_variable(3), GRU(2), Dense(2)
    chain = Recurrence(cell >> dense)(x)
    by_hand = Recurrence(lambda h, x: dense(cell(h, x)))(x)
    data = sequences((3,))
    for ours, expected in zip(chain.eval({x: data}), by_hand.eval({x: data}), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (Recurrence(lambda n, x: n + 1), [[1, 2, 3], [1]]),
        (Recurrence(lambda n, x: n + 1, go_backwards=True), [[3, 2, 1], [1]]),
        (Recurrence(lambda n, x: n + 1, initial_state=7), [[8, 9, 10], [8]]),
        (Recurrence(lambda n, x: C.constant(5)), [[5, 5, 5], [5]]),
        (Recurrence(lambda n, s, x: (n + 1, s + C.reduce_sum(x))), [[1, 2, 3], [1]]),
        (Recurrence(lambda n, s, x: (n + s, s + 1)), [[0, 1, 3], [0]]),
        (Fold(lambda n, x: n + 1), [[3], [1]]),
    ],
)
def test_a_state_that_does_not_depend_on_the_input_has_its_frames(layer, expected):
    x = C.sequence.input_variable(2)
    values = layer(x).eval({x: [np.ones((3, 2)), np.ones((1, 2))]})
    assert [np.ravel(v).tolist() for v in values] == expected


def test_a_state_that_depends_on_a_parameter_alone():
    x = C.sequence.input_variable(2)
    y = Recurrence(lambda n, x: C.tanh(n * C.Parameter(2, init=0.3) + 0.2))(x)
    check_gradients(y, {x: sequences((2,))}, order=2)


def test_an_initial_state_of_inferred_shape():
    """As CNTK, which infers it where the step alone says what it is."""
    x = C.sequence.input_variable(3)
    p = C.Parameter(shape=(-1,), init=0.5)
    y = Recurrence(RNNStep(4), initial_state=p)(x)
    assert p.shape == y.shape == (4,)
    check_gradients(y, {x: sequences((3,))}, elements=20)
    image = C.Parameter(shape=(-1, 1, -1), init=0.5)
    frames = C.sequence.input_variable((2, 3, 4))
    Recurrence(lambda h, x: C.tanh(h + x), initial_state=image)(frames)
    assert image.shape == (2, 1, 4)
    q = C.Parameter(shape=(-1,), init=0.5)
    with pytest.raises(C.GraphError, match=r"initial state of shape \(inferred,\) does not match"):
        Recurrence(lambda h, x: h * 0.5 + C.reduce_sum(x), initial_state=q)(x)
    assert q.shape == (-1,)


def test_many_states():
    names = [f"s{i}" for i in range(12)]
    step = eval(f"lambda {', '.join(names)}, x: ({', '.join(f'{n} + x' for n in names)})")
    x = C.sequence.input_variable(1)
    y = Recurrence(step)(x)
    np.testing.assert_array_equal(y.eval({x: [[[1], [2]]]})[0], [[1], [3]])


def test_recurrence_from_takes_its_state_as_an_argument():
    start, x = C.input_variable(2), C.sequence.input_variable(3)
    layer = RecurrenceFrom(GRU(2))
    y = layer(start, x)
    data, given = sequences((3,)), RNG.normal(size=(3, 2))
    fixed = [Recurrence(GRU(2), initial_state=s)(x) for s in given]
    for i, z in enumerate(fixed):
        for own, shared in zip(z.parameters, y.parameters, strict=True):
            own.value = shared.value
        ours = y.eval({start: given, x: data})[i]
        np.testing.assert_allclose(ours, z.eval({x: [data[i]]})[0], atol=1e-6)
    check_gradients(y, {start: given, x: data}, elements=20)
    two = RecurrenceFrom(LSTM(2), go_backwards=True, return_full_state=True)
    assert len(two(start, start, x).outputs) == 2


def test_fold_of_a_backward_recurrence_is_its_first_frame():
    x = C.sequence.input_variable(2)
    data = sequences((2,))
    whole = Recurrence(lambda s, x: s * 2 + x, go_backwards=True)(x).eval({x: data})
    last = Fold(lambda s, x: s * 2 + x, go_backwards=True)(x).eval({x: data})
    np.testing.assert_array_equal(last, [w[0] for w in whole])


def test_unfold():
    """The numbers of CNTK's test_unfold."""
    x = C.sequence.input_variable(1)
    data = [np.zeros((3, 1)), np.zeros((5, 1))]
    doubled = UnfoldFrom(lambda s: s * 2)(C.constant(1), x).eval({x: data})
    np.testing.assert_array_equal(doubled[0], [2, 4, 8])
    np.testing.assert_array_equal(doubled[1], [2, 4, 8, 16, 32])
    until = UnfoldFrom(
        lambda s: s * 2, until_predicate=lambda y: C.greater(y, 63), length_increase=1.6
    )
    cut = until(C.constant(1), x).eval({x: data})
    np.testing.assert_array_equal(cut[0], [2, 4, 8, 16, 32])
    np.testing.assert_array_equal(cut[1], [2, 4, 8, 16, 32, 64])


def test_unfold_of_a_vector_state():
    start, like = C.input_variable(2), C.sequence.input_variable(1)
    step = RNNStep(2)
    y = UnfoldFrom(lambda s: step(s, s))(start, like)
    given, data = RNG.normal(size=(2, 2)), [np.zeros((3, 1)), np.zeros((1, 1))]
    p = {q.name: q.value for q in y.parameters}
    for ours, state in zip(y.eval({start: given, like: data}), given, strict=True):
        for frame in ours:
            state = 1 / (1 + np.exp(-(state @ p["W"] + state @ p["H"] + p["b"])))
            np.testing.assert_allclose(frame, state, atol=1e-6)
    check_gradients(y, {start: given, like: data})


@pytest.mark.parametrize(
    "step, problem",
    [
        (lambda x: x, "takes its previous state and 1 input"),
        (lambda a, b, x: a + x, "takes 2 states, but returns 1"),
    ],
)
def test_what_is_no_step(step, problem):
    with pytest.raises(C.GraphError, match=problem):
        Recurrence(step)


def test_a_wrong_number_of_initial_states():
    with pytest.raises(C.GraphError, match="has 2 states, but initial_state has 3"):
        Recurrence(LSTM(2), initial_state=(1, 2, 3))


def test_a_state_that_changes_its_shape():
    x = C.sequence.input_variable(2)
    with pytest.raises(C.GraphError, match="shape"):
        Recurrence(lambda s, x: C.splice(s, x), initial_state=C.constant(0, (3,)))(x)


def test_recurrences_take_default_options():
    x = C.sequence.input_variable(1)
    with C.default_options(initial_state=5), C.default_options_for(Fold, go_backwards=True):
        y, z = Recurrence(C.plus)(x), Fold(lambda s, x: s * 2 + x)(x)
    data = [[[1.0], [2.0]]]
    np.testing.assert_array_equal(y.eval({x: data})[0], [[6], [8]])
    np.testing.assert_array_equal(z.eval({x: data}), [[25]])


class TestAStateThatIsASequence:
    """Its end that touches the sequence counts: CNTK's past_value gives these numbers."""

    @pytest.fixture
    def given(self):
        found = {}
        for name, rows in {"x": [[1, 2, 3], [4]], "s": [[10, 20], [30, 40, 50]]}.items():
            v = C.sequence.input_variable(1, np.float64, sequence_axis=C.Axis(name), name=name)
            found[name] = v, [np.array(row, float)[:, None] for row in rows]
        return found

    @pytest.mark.parametrize(
        "delay, expected",
        [
            (C.sequence.past_value, [[20, 1, 2], [50]]),
            (C.sequence.future_value, [[2, 3, 10], [30]]),
        ],
    )
    def test_of_another_axis(self, given, delay, expected):
        (x, xs), (s, states) = given.values()
        found = delay(x, s).eval({x: xs, s: states})
        assert [f.ravel().tolist() for f in found] == expected

    def test_of_its_own_axis(self, given):
        x, xs = given["x"]
        found = C.sequence.past_value(x, x * 10).eval({x: xs})
        assert [f.ravel().tolist() for f in found] == [[30, 1, 2], [40]]

    @pytest.mark.parametrize("backwards", [False, True])
    def test_a_recurrence_goes_on_from_it(self, given, backwards):
        (x, xs), (s, states) = given.values()
        step = lambda h, v: h * v + v  # noqa: E731
        f = C.layers.RecurrenceFrom(step, go_backwards=backwards)(s, x)
        order = slice(None, None, -1 if backwards else 1)
        for found, frames, state in zip(f.eval({x: xs, s: states}), xs, states, strict=True):
            h, expected = state[order][-1], []
            for v in frames[order]:
                h = h * v + v
                expected.append(h)
            np.testing.assert_allclose(found[order], expected)

    def test_its_gradient(self, given):
        (x, xs), (s, states) = given.values()
        w = C.Parameter(1, init=0.5, dtype=np.float64)
        f = C.layers.RecurrenceFrom(lambda h, v: h * v)(s * w, x)
        gradient = f.grad({x: xs, s: states}, wrt=[w, s])
        # 20 (1 + 2 + 6) + 50 * 4, each state's frames after the last without influence
        np.testing.assert_allclose(gradient[w], [20 * (1 + 2 + 6) + 50 * 4])
        parts = [[0, 0.5 * 9], [0, 0, 0.5 * 4]]
        assert [g.ravel().tolist() for g in gradient[s]] == parts

    def test_a_number_still_takes_the_type_of_what_it_meets(self, given):
        x, xs = given["x"]
        f = C.layers.RecurrenceFrom(lambda h, v: h + v)(0.1, x)
        assert f.dtype == np.float64
        np.testing.assert_allclose(f.eval({x: xs})[1], [[4.1]], rtol=1e-15)


def test_a_layer_that_was_not_made_is_refused():
    for make in (C.layers.Recurrence, C.layers.Fold, C.layers.RecurrenceFrom):
        with pytest.raises(C.GraphError, match=r"LSTM makes layers.*\n.*\n.*call it.*LSTM\(…\)"):
            make(C.layers.LSTM)
    with pytest.raises(
        C.GraphError, match=r"a shape must be a whole number.*\n.*\n.*Dense\(10\)\(x\)"
    ):
        C.layers.Sequential([C.layers.LSTM])


def test_a_knot_tied_by_hand_is_the_recurrence():
    x = C.sequence.input_variable(2, np.float64)
    w = C.parameter(init=np.array([[0.5, -1], [1, 0.25]]))
    state = C.layers.ForwardDeclaration("state")
    by_hand = C.tanh(C.times(C.sequence.past_value(state, 0.1), w) + x)
    state.resolve_to(by_hand)
    data = [np.array([[1, 2], [3, 4], [5, 6]]) / 4, np.array([[7, 8]]) / 8]
    for found, frames in zip(by_hand.eval({x: data}), data, strict=True):
        h, expected = np.full(2, 0.1), []
        for v in frames:
            h = np.tanh(h @ w.value + v)
            expected.append(h)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    given = C.layers.Recurrence(lambda h, v: C.tanh(C.times(h, w) + v), initial_state=0.1)(x)
    np.testing.assert_allclose(
        by_hand.grad({x: data}, wrt=w), given.grad({x: data}, wrt=w), rtol=1e-6
    )
