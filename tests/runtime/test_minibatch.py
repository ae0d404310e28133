"""What people feed, and what they get back."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError


def random(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class TestSamples:
    def test_a_batch(self):
        x = C.input_variable((2, 3))
        values = random(4, 2, 3)
        np.testing.assert_array_equal((x + 0).eval({x: values}), values)

    def test_a_list_of_samples(self):
        x = C.input_variable((2, 3))
        values = random(4, 2, 3)
        np.testing.assert_array_equal((x + 0).eval({x: list(values)}), values)
        np.testing.assert_array_equal((x + 0).eval({x: values.tolist()}), values)

    def test_one_sample(self):
        x = C.input_variable((2, 3))
        value = random(2, 3)
        np.testing.assert_array_equal((x + 0).eval({x: value}), value[None])

    def test_numbers(self):
        x = C.input_variable(1)
        np.testing.assert_array_equal((x + 0).eval({x: [1, 2, 3]}), [[1], [2], [3]])
        y = C.input_variable(())
        np.testing.assert_array_equal((y + 0).eval({y: [1, 2, 3]}), [1, 2, 3])
        np.testing.assert_array_equal((y + 0).eval({y: 5}), [5])

    def test_other_kinds_of_numbers_are_converted(self):
        x = C.input_variable(2)
        for kind in (bool, np.int8, np.int64, np.uint8, np.float16, np.float64):
            result = (x + 0).eval({x: np.ones((3, 2), kind)})
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result, np.ones((3, 2)))

    def test_arrays_of_any_strides(self):
        x = C.input_variable((2, 3))
        values = random(4, 2, 3)
        for given in (np.asfortranarray(values), values[::-1][::-1], values.astype(">f4")):
            np.testing.assert_array_equal((x * 1.5).eval({x: given}), values * 1.5)

    def test_an_empty_batch(self):
        x = C.input_variable((2, 3))
        w = C.Parameter((3, 4), init=C.glorot_uniform())
        assert C.times(x, w).eval({x: np.zeros((0, 2, 3))}).shape == (0, 2, 4)

    def test_a_sparse_matrix(self):
        import scipy.sparse

        x = C.input_variable(3)
        values = np.array([[0, 1, 0], [2, 0, 0.0]])
        np.testing.assert_array_equal((x + 0).eval({x: scipy.sparse.csr_matrix(values)}), values)


class TestSequences:
    def test_a_ragged_list_comes_back_in_order(self):
        x = C.sequence.input_variable(2)
        sequences = [random(n, 2, seed=n) for n in (2, 5, 1, 3)]
        for found, given in zip((x + 0).eval({x: sequences}), sequences, strict=True):
            np.testing.assert_array_equal(found, given)

    def test_one_sequence(self):
        x = C.sequence.input_variable((2, 3))
        frames = random(5, 2, 3)
        for given in (frames, [frames], [list(frames)], [frames.tolist()]):
            (found,) = (x + 0).eval({x: given})
            np.testing.assert_array_equal(found, frames)

    def test_a_batch_of_equally_long_ones(self):
        x = C.sequence.input_variable((2, 3))
        values = random(4, 5, 2, 3)
        found = (x + 0).eval({x: values})
        assert isinstance(found, list)
        np.testing.assert_array_equal(np.stack(found), values)

    def test_nested_lists(self):
        x = C.sequence.input_variable(1)
        found = (x + 0).eval({x: [[[1], [2]], [[3]]]})
        assert [f.tolist() for f in found] == [[[1], [2]], [[3]]]

    def test_per_sequence_results_are_in_the_minibatchs_order(self):
        x, b = C.sequence.input_variable(()), C.input_variable(())
        sequences = [np.full(n, 10.0 * n) for n in (2, 5, 1, 3)]
        f = C.sequence.last(x) + b
        np.testing.assert_array_equal(f.eval({x: sequences, b: [1, 2, 3, 4]}), [21, 52, 13, 34])

    def test_no_sequences(self):
        x = C.sequence.input_variable(2)
        assert (x + 0).eval({x: []}) == []


def several(f, x, sequences):
    """The results for the sequences together, one by one, and in another order."""
    together = f.eval({x: sequences})
    alone = [f.eval({x: [s]})[0] for s in sequences]
    turned = f.eval({x: sequences[::-1]})[::-1]
    return together, alone, turned


@pytest.mark.parametrize(
    "build",
    [
        lambda x: C.layers.Recurrence(lambda h, v: C.tanh(0.5 * h + v))(x),
        lambda x: C.layers.Recurrence(lambda h, v: C.tanh(0.5 * h + v), go_backwards=True)(x),
        lambda x: C.sequence.softmax(x),
        lambda x: C.sequence.past_value(x, time_step=2) + C.sequence.future_value(x),
        lambda x: C.sequence.last(C.layers.Recurrence(C.plus)(x)) * x,
        lambda x: C.sequence.gather(x, C.reduce_sum(x) > 0),
    ],
    ids=["forward", "backward", "softmax", "delays", "last", "gather"],
)
def test_a_sequences_result_does_not_depend_on_the_rest(build):
    x = C.sequence.input_variable(3, np.float64)
    rng = np.random.default_rng(1)
    sequences = [rng.normal(size=(n, 3)) for n in (2, 5, 1, 5, 3)]
    for together, alone, turned in zip(*several(build(x), x, sequences), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-13)
        np.testing.assert_array_equal(together, turned)


def test_a_sequences_gradient_does_not_depend_on_the_rest():
    x = C.sequence.input_variable(3, np.float64)
    f = C.layers.Recurrence(lambda h, v: C.tanh(0.5 * h + v))(x)
    rng = np.random.default_rng(1)
    sequences = [rng.normal(size=(n, 3)) for n in (2, 5, 1, 3)]
    together = f.grad({x: sequences}, wrt=x)
    for found, s in zip(together, sequences, strict=True):
        np.testing.assert_allclose(found, f.grad({x: [s]}, wrt=x)[0], rtol=1e-13)


def test_two_time_axes_each_with_its_own_order():
    """Lengths 1, 3, 2 on one axis and 3, 1, 2 on the other, joined per sequence."""
    x = C.sequence.input_variable(())
    y = C.sequence.input_variable((), sequence_axis=C.Axis.new_unique_dynamic_axis("other"))
    b = C.input_variable(())
    xs = [np.array([1.0]), np.array([10.0, 20, 30]), np.array([100.0, 200])]
    ys = [np.array([1.0, 2, 3]), np.array([4.0]), np.array([5.0, 6])]
    at = {x: xs, y: ys, b: [1000, 2000, 3000]}
    f = C.sequence.reduce_sum(x) + C.sequence.last(y) + b
    np.testing.assert_array_equal(f.eval(at), [1 + 3 + 1000, 60 + 4 + 2000, 300 + 6 + 3000])
    g = x * C.sequence.last(y) + b
    expected = [[1003], [2040, 2080, 2120], [3600, 4200]]
    assert [v.tolist() for v in g.eval(at)] == expected
    h = y * C.sequence.first(x)
    assert [v.tolist() for v in h.eval(at)] == [[1, 2, 3], [40], [500, 600]]
    k = C.layers.Recurrence(C.plus, initial_state=C.sequence.last(x))(y)
    assert [v.tolist() for v in k.eval(at)] == [[2, 4, 7], [34], [205, 211]]
    grads = f.grad(at, wrt=[x, y, b])
    assert [v.tolist() for v in grads[x]] == [[1], [1, 1, 1], [1, 1]]
    assert [v.tolist() for v in grads[y]] == [[0, 0, 1], [1], [0, 1]]
    assert grads[b].tolist() == [1, 1, 1]


def test_lengths_come_from_an_input_whose_values_are_not_needed():
    x = C.sequence.input_variable(2)
    f = C.sequence.broadcast_as(C.constant(3.0), x)
    assert [v.tolist() for v in f.eval({x: [np.zeros((2, 2)), np.zeros((1, 2))]})] == [[3, 3], [3]]
    (g,) = C.reduce_sum(x).gradients([x])
    assert [v.shape for v in g.eval({x: [np.zeros((2, 2)), np.zeros((1, 2))]})] == [(2, 2), (1, 2)]


def test_what_is_fed_is_not_changed_and_results_are_the_readers():
    x = C.input_variable(3)
    values = random(2, 3)
    before = values.copy()
    first = C.tanh(x).eval({x: values})
    kept = first.copy()
    C.tanh(x).eval({x: 2 * values})
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(first, kept)
    (x + 0).eval({x: values})[...] = 7
    np.testing.assert_array_equal(values, before)


class TestForms:
    def test_by_name(self):
        x, y = C.input_variable(1, name="a"), C.input_variable(1, name="b")
        assert (x - y).eval({"a": [3], "b": [1]}) == 2

    def test_the_only_input_without_a_name(self):
        x = C.input_variable(2)
        np.testing.assert_array_equal((x * 2).eval([[1, 2]]), [[2, 4]])

    def test_a_call_with_arrays(self):
        x, y = C.input_variable(2), C.input_variable(2)
        np.testing.assert_array_equal((x - y)([[1, 2]], [[3, 3]]), [[-2, -1]])

    def test_several_outputs(self):
        x = C.input_variable(2)
        f = C.combine(x + 1, x * 2)
        found = f.eval({x: [[1, 2]]})
        assert [found[o].tolist() for o in f.outputs] == [[[2, 3]], [[2, 4]]]

    def test_chosen_outputs(self):
        x = C.input_variable(2)
        inner = C.exp(x)
        f = inner + 1
        assert f.eval({x: [[0, 0]]}, outputs=[inner]).tolist() == [[1, 1]]
        found = f.eval({x: [[0, 0]]}, outputs=[inner.output, f.output])
        assert found[inner.output].tolist() == [[1, 1]]
        assert found[f.output].tolist() == [[2, 2]]

    def test_without_inputs(self):
        assert C.plus([1, 2], 3).eval().tolist() == [4, 5]

    def test_gradients_have_the_form_of_what_they_are_of(self):
        x, s = C.input_variable(2), C.sequence.input_variable(2)
        w = C.Parameter(2, init=1)
        f = C.reduce_sum(x * s * w)
        at = {x: [[1, 2], [3, 4]], s: [np.ones((1, 2)), np.ones((3, 2))]}
        g = f.grad(at, wrt=[x, s, w])
        assert g[x].tolist() == [[1, 1], [3, 3]]
        assert [v.tolist() for v in g[s]] == [[[1, 2]], [[3, 4]] * 3]
        assert g[w].tolist() == [10, 14]

    def test_gradients_with_values_along(self):
        x = C.input_variable(2, needs_gradient=True)
        f = C.square(x)
        g, values = f.grad({x: [[1, 2]]}, outputs=[f])
        assert g.tolist() == [[2, 4]]
        assert values.tolist() == [[1, 4]]


@pytest.mark.parametrize(
    "shape, values, words",
    [
        (3, np.zeros((2, 4)), r"array of shape \(2, 4\)"),
        ((3, 2), np.zeros((5, 2, 3)), r"array of shape \(5, 2, 3\)"),
        ((3, 8, 8), np.zeros((5, 8, 8, 3)), r"moveaxis"),
        (3, np.zeros((2, 2, 2, 3)), r"samples of shape \(3,\), in a batch of shape \(N, 3\)"),
        (3, [["a", "b", "c"]], "needs numbers"),
        (2, [[1, 2], [3]], "needs numbers|different shapes"),
    ],
)
def test_values_that_do_not_fit(shape, values, words):
    x = C.input_variable(shape, name="x")
    with pytest.raises(GraphError, match=words) as caught:
        (x + 0).eval({x: values})
    assert "'x'" in str(caught.value)


def test_numbers_of_samples_that_disagree():
    x, y = C.input_variable(1, name="x"), C.sequence.input_variable(1, name="y")
    with pytest.raises(GraphError, match="different numbers of samples") as caught:
        C.combine(x, y).eval({x: [1, 2], y: [[1], [2], [3]]})
    assert "'x' (1,) per sample: 2" in str(caught.value)


def test_values_are_one_s_own_to_write_to():
    """Not a parameter's memory, an input's, a constant's, or that of another value."""
    p, k = C.Parameter((2, 3), init=4), C.constant(5, (2, 3))
    s, b = C.sequence.input_variable((2, 3)), C.input_variable((2, 3))
    fixed = C.input_variable((2, 3), dynamic_axes=[])
    values = [C.sequence.broadcast_as(v, s) for v in (p, k, b, fixed)]
    values += [C.to_batch(p), C.to_batch(k), C.reshape(p, 6), C.transpose(fixed, (1, 0))]
    values += [C.alias(s), C.reshape(s, 6), C.slice(s, 0, 1, 2), C.alias(b), C.transpose(b, (1, 0))]
    values += [C.zeros_like(s), C.ones_like(b), C.alias(fixed), C.reshape(k, 6)]
    f = C.combine(values)
    shapes = {s: (2, 4, 2, 3), b: (2, 2, 3), fixed: (2, 3)}
    given = {v: np.full(shape, i + 1, np.float32) for i, (v, shape) in enumerate(shapes.items())}
    expected = [4, 5, 2, 3, 4, 5, 4, 3, 1, 1, 1, 2, 2, 0, 1, 3, 5]
    for _ in range(2):
        found = [np.asarray(v) for v in f.eval(given).values()]
        assert [np.unique(v).tolist() for v in found] == [[n] for n in expected]
        for i, v in enumerate(f.eval(given).values()):
            for part in v if isinstance(v, list) else [v]:
                part += 10 + i
    results = f.eval(given)
    for i, v in enumerate(results.values()):
        for part in v if isinstance(v, list) else [v]:
            part[...] = 100 + i
    found = [np.unique(np.asarray(v)).tolist() for v in results.values()]
    assert found == [[100 + i] for i in range(len(values))]


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((2, 2, 3), "datetime64[s]"),
        [np.zeros((2, 3)), np.zeros((2, 1))],
        [np.zeros((2, 3)), np.zeros((2, 2, 3))],
        np.zeros(2, [("a", "f4")]),
    ],
    ids=["dates", "shapes", "ranks", "records"],
)
def test_what_can_not_be_a_batch(data):
    x = C.input_variable((2, 3), name="x")
    with pytest.raises(C.GraphError, match=r"'x'.* needs numbers") as caught:
        C.exp(x).eval({x: data})
    assert __file__ in str(caught.value)


FRAMES = [np.array([1.0, 2], np.float32), np.array([3.0, 4], np.float32)]
CLIP = np.array([[5.0, 6], [7, 8]], np.float32)
# What a list of arrays gives, each sequence summed: CNTK 2.7's answers.
LISTS = {
    "frames": (FRAMES, [[1, 2], [3, 4]]),
    "one frame": (FRAMES[:1], [[1, 2]]),
    "a clip and a frame": ([CLIP, FRAMES[1]], [[12, 14], [3, 4]]),
    "clips": ([CLIP, CLIP[:1]], [[12, 14], [5, 6]]),
}


def through_a_source(x, data):
    source = C.io.MinibatchSourceFromData({"x": (data, x)})
    part = source.next_minibatch(100)[source.streams.x]
    assert part.num_samples == sum(len(s) if s.ndim == 2 else 1 for s in data)
    return part


WAYS = {
    "arrays": lambda x, data: data,
    "lists": lambda x, data: [s.tolist() for s in data],
    "tuple": lambda x, data: tuple(data),
    "Value.create": lambda x, data: C.Value.create(x, data),
    "asvalue": lambda x, data: C.asvalue(x, data),
    "source": through_a_source,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("data, expected", LISTS.values(), ids=LISTS)
def test_a_list_has_an_item_for_each_sequence(way, data, expected):
    x = C.sequence.input_variable(2)
    total = C.sequence.reduce_sum(x)
    lengths = [s.ndim == 2 and len(s) or 1 for s in data]
    np.testing.assert_array_equal(total.eval({x: way(x, data)}), expected)
    np.testing.assert_array_equal(total(way(x, data)), expected)
    assert [len(g) for g in total.grad({x: way(x, data)}, wrt=[x])] == lengths
    (found,) = total.forward({x: way(x, data)})[1].values()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("data, expected", LISTS.values(), ids=LISTS)
def test_training_on_a_list_of_sequences(data, expected):
    """The gradient of a weight is the mean, over the sequences, of their sums."""
    steps = []
    for feed in (
        lambda f, w, x: C.Trainer(None, f, w).train_minibatch({x: data}),
        lambda f, w, x: f.train((data,), minibatch_size=100, parameter_learners=w),
    ):
        x = C.sequence.input_variable(2)
        w = C.Parameter(2)
        f = C.reduce_sum(C.sequence.reduce_sum(x) * w)
        feed(f, C.sgd([w], 1.0), x)
        steps.append(w.value)
    for step in steps:
        np.testing.assert_allclose(step, -np.mean(expected, axis=0), rtol=1e-6)


def test_a_list_that_could_be_more_than_one_thing():
    """Numbers in a row, and a Value or a stream of sequences that are to be frames."""
    s, x = C.sequence.input_variable((), name="s"), C.sequence.input_variable(2, name="x")
    for given in ([1, 2, 3], list(np.arange(3.0)), C.Value.create):
        with pytest.raises(GraphError, match=r"\[\[1, 2, 3\]\] is one of three frames"):
            C.alias(s).eval({s: given(s, [1, 2]) if callable(given) else given})
    source = C.io.MinibatchSourceFromData({"x": FRAMES})
    for given in (C.Value(FRAMES), source.next_minibatch(100)[source.streams.x]):
        with pytest.raises(GraphError, match=r"sequences of values of shape \(\)"):
            C.alias(x).eval({x: given})
        assert [v.tolist() for v in C.alias(s).eval({s: given})] == [[1, 2], [3, 4]]
    with pytest.raises(GraphError, match=r"a list of sequences of shape \(frames, 2\) each"):
        C.alias(x).eval({x: [CLIP[None]]})


def test_free_sizes_of_no_samples():
    x = C.input_variable((2, C.FreeDimension))
    assert C.reduce_sum(x, axis=1).eval({x: np.zeros((0, 2, 5))}).shape == (0, 2, 1)
    s = C.sequence.input_variable(3)
    assert C.sequence.unpack(s, 0, no_mask_output=True).eval({s: []}).shape == (0, 0, 3)
    assert C.exp(x).grad({x: np.zeros((4, 2, 0))}, wrt=[x]).shape == (4, 2, 0)


@pytest.mark.filterwarnings("error")
def test_what_is_too_large_for_the_type_is_infinite():
    x = C.input_variable(1)
    assert C.negate(x).eval({x: np.array([[1e300]])}) == -np.inf


def test_the_gradient_to_an_input_that_nothing_depends_on():
    other = C.Axis.new_unique_dynamic_axis("other")
    x, s = C.input_variable(2), C.sequence.input_variable(3, sequence_axis=other)
    found = C.exp(x).grad({x: np.zeros((2, 2)), s: [np.ones((4, 3)), np.ones((1, 3))]}, wrt=[s, x])
    assert [g.shape for g in found[s]] == [(4, 3), (1, 3)] and not np.any(found[s][0])
    np.testing.assert_array_equal(found[x], np.ones((2, 2)))


def test_what_a_mask_hides_is_no_number():
    x = C.input_variable(2)
    masked = np.ma.masked_array(np.ones((1, 2)), mask=[[False, True]])
    with pytest.raises(C.GraphError, match="mask hides"):
        (x + 1).eval({x: masked})
    np.testing.assert_array_equal((x + 1).eval({x: np.ma.masked_array(np.ones((1, 2)))}), [[2, 2]])
