"""Each pass: what it makes of a small graph, and that no result depends on it."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device, graph, passes
from rgraph.passes import (
    algebra,
    autodiff,
    constants,
    fusion,
    recomputation,
    rewriting,
    sharing,
    tails,
)
from rgraph.plan import Call, Loop, Plan
from rgraph.runtime.minibatch import Minibatch


def names(outputs):
    return sorted(n.op.name for n in graph.order(outputs) if n.op)


def private(*functions):
    return rewriting.private([f.node for f in functions])


def test_algebra_takes_out_what_changes_nothing():
    x = C.input_variable(3)
    named = C.alias(x * 1 + 0, name="y")
    assert names(private(named)) == ["alias", "element_times", "plus"]
    (left,) = algebra.simplify(private(named))
    assert left is x.node


def test_algebra_keeps_a_one_that_makes_the_result_wider():
    x = C.input_variable(1)
    wide = x * C.constant(1, (3,))
    assert names(algebra.simplify(private(wide))) == ["element_times"]
    np.testing.assert_array_equal(wide.eval({x: [[5]]}), [[5, 5, 5]])


def test_algebra_joins_the_gradients_of_slices():
    x = C.input_variable(4)
    y = C.reduce_sum(C.slice(x, 0, 0, 1) * 2) + C.reduce_sum(C.square(C.slice(x, 0, 1, 4)))
    (g,) = algebra.simplify(rewriting.private(autodiff.gradients(y.node, [x.node])))
    assert "splice" in names([g]) and "place" not in names([g])
    np.testing.assert_array_equal(y.grad({x: [[1, 2, 3, 4]]}, wrt=[x]), [[2, 4, 6, 8]])


def test_algebra_joins_the_gradients_of_a_hundred_channels():
    """Each put in its place would be as large as all of them together."""
    x = C.input_variable(100)
    y = C.splice(*[C.square(C.slice(x, 0, i, i + 1)) for i in range(100)], axis=0)
    (g,) = algebra.simplify(rewriting.private(autodiff.gradients(y.node, [x.node])))
    assert "splice" in names([g]) and "place" not in names([g])
    np.testing.assert_allclose(y.grad({x: [np.arange(100)]}, wrt=[x])[0], 2 * np.arange(100))


def test_the_gradient_of_exp_is_exp():
    x = C.input_variable(3)
    (slope,) = C.exp(x).gradients([x])
    assert names(algebra.simplify(private(slope))) == ["exp"]


def test_algebra_leaves_gradients_of_overlapping_slices_alone():
    x = C.input_variable(3)
    y = C.reduce_sum(C.slice(x, 0, 0, 2)) + C.reduce_sum(C.square(C.slice(x, 0, 1, 3)))
    np.testing.assert_array_equal(y.grad({x: [[1, 2, 3]]}, wrt=[x]), [[1, 1 + 4, 6]])


def only(model):
    """The operations that the algebra makes of a model."""
    (node,) = algebra.simplify(private(model))
    return names([node])


def test_algebra_makes_one_product_of_a_blend():
    x, a, b = (C.input_variable(2) for _ in range(3))
    z = C.sigmoid(x)
    y = z * a + (1 - z) * b
    assert only(y) == ["element_times", "minus", "minus", "plus", "sigmoid"]
    given = {x: [[-np.log(3), 50]], a: [[4, 5]], b: [[8, 7]]}  # z is 0.25 and 1
    np.testing.assert_allclose(y.eval(given), [[0.25 * 4 + 0.75 * 8, 5]])
    # b is read again, so it is kept anyway: then 1 - z need not be computed
    again = ["element_times"] * 2 + ["minus", "plus", "sigmoid"]
    assert only(b * (z * a + (1 - z) * b)) == again
    np.testing.assert_allclose(((1 - z) * b + z * a).eval(given), [[7, 5]])


def test_what_a_mask_chooses_comes_out_as_it_is():
    z, a, b = (C.input_variable(2) for _ in range(3))
    given = {z: [[0, 1]], a: [[1e8, 3]], b: [[3, 1e8]]}
    assert (z * a + (1 - z) * b).eval(given).tolist() == [[3, 3]]
    assert (b * (z * a + (1 - z) * b)).eval(given).tolist() == [[9, 3e8]]


def test_algebra_factors_differences_of_products():
    a, b, c = (C.input_variable(2) for _ in range(3))
    y = a * b + -(c * a)
    assert only(y) == ["element_times", "minus"]
    np.testing.assert_allclose(y.eval({a: [[2, 3]], b: [[4, 5]], c: [[1, 7]]}), [[6, -6]])


def test_tails_are_hung_on_the_convolution_that_comes_last():
    x, state = C.input_variable((2, 5, 4)), C.input_variable((3, 5, 4))
    W, U = (C.Parameter((3, C.InferredDimension, 3, 3), init=C.glorot_uniform()) for _ in "WU")
    y = C.tanh(1 - (C.convolution(W, x) + C.sigmoid(C.convolution(U, state))) * state)
    (node,) = tails.hang(private(y))
    assert names([node]) == ["convolution", "tailed"]
    assert node.attrs["program"].names == ("sigmoid", "plus", "element_times", "minus", "tanh")


def test_what_is_cheap_is_computed_by_each_of_its_readers():
    x = C.input_variable(2)
    z = C.sigmoid(x)
    rest = 1 - z
    heavy = C.exp(z)
    nodes = recomputation.repeat(
        private(C.tanh(rest) * z, C.square(rest), heavy * heavy + z / heavy)
    )
    assert names(nodes).count("minus") == 2 and names(nodes).count("exp") == 1
    a, b = C.combine([C.tanh(rest) * z, C.square(rest)]).eval({x: [[0, 0]]}).values()
    np.testing.assert_allclose(a, [[np.tanh(0.5) / 2] * 2], rtol=1e-6)
    np.testing.assert_allclose(b, [[0.25, 0.25]], rtol=1e-6)


def difference_in_a_loop():
    """Two products of a state, their difference, which the loop reads, and its square."""
    x, state = C.sequence.input_variable(3), C.placeholder()
    h = C.sequence.past_value(state)
    left, right = (C.times(h, C.Parameter((3, 3), init=C.glorot_uniform())) for _ in "UV")
    difference = left - right
    following = C.tanh(difference) + x
    following.replace_placeholders({state: following})
    return x, left, right, difference


def test_two_arrays_are_not_kept_for_all_frames_in_place_of_one():
    _, left, right, difference = difference_in_a_loop()
    y = C.square(difference)
    assert names(recomputation.repeat(private(y))).count("minus") == 1
    assert names(recomputation.repeat(private(y, C.exp(left)))).count("minus") == 1
    # where both are kept anyway it need not be
    assert names(recomputation.repeat(private(y, C.exp(left), C.exp(right)))).count("minus") == 2
    assert names(recomputation.repeat(private(y, left, right))).count("minus") == 2


def test_what_a_gru_blends_is_not_kept_for_its_gradient():
    """h - c, of the state before and the candidate; the gradient reads these for other reasons."""
    _, y = conv_gru()
    wanted = [y.node, *autodiff.gradients(y.node, [p.node for p in y.parameters])]
    outputs = passes.optimize(wanted, ["recomputation", "tails", "fusion"])

    def readers_of_differences(outputs):
        readers = rewriting.readers_of(graph.order(outputs))
        found = (n for n in readers if n.op and n.op.name == "minus" and n.inputs[0].is_delay)
        return [len(readers[n]) for n in found]

    assert readers_of_differences(outputs) == [2]
    assert readers_of_differences(recomputation.repeat(outputs)) == [1, 1]


def test_what_others_read_ends_a_tail():
    x = C.input_variable((2, 5, 4))
    W = C.Parameter((3, 2, 3, 3), init=C.glorot_uniform())
    z = C.sigmoid(C.convolution(W, x))
    (node,) = tails.hang(private(C.tanh(z) * z))
    (head,) = [n for n in graph.order([node]) if n.op and n.op.name == "tailed"]
    assert head.attrs["program"].names == ("sigmoid",)


def test_constants_are_computed_once():
    x = C.input_variable(2)
    y = x + C.exp(C.constant([0, 1])) * 2
    (folded,) = constants.fold(private(y))
    assert names([folded]) == ["plus"]
    np.testing.assert_allclose(y.eval({x: [[0, 0]]}), [[2, 2 * np.e]], rtol=1e-6)


def test_equal_operations_are_shared_and_random_ones_are_not():
    x = C.input_variable(2)
    y = C.tanh(x) * C.tanh(x)
    assert names(sharing.share(private(y))) == ["element_times", "tanh"]
    z = C.dropout(x, 0.5) + C.dropout(x, 0.5)
    assert names(sharing.share(private(z))).count("dropout_mask") == 2


def test_pointwise_operations_are_fused_up_to_what_others_read():
    x = C.input_variable(2)
    h = C.tanh(x * 2 + 1)
    (h_node, y_node) = fusion.fuse(private(h, C.sigmoid(h) * h))
    assert h_node.attrs["program"].names == ("element_times", "plus", "tanh")
    assert y_node.attrs["program"].names == ("sigmoid", "element_times")


def test_what_stands_before_a_loop_moves_into_its_groups():
    x = C.sequence.input_variable(2)
    y = C.layers.Recurrence(lambda h, x: C.tanh(x * 2 + h))(x)
    plan = Plan(passes.optimize([y.node]), device.engine())
    (loop,) = plan.steps
    assert isinstance(loop, Loop)
    assert [c.node.attrs["program"].names for c in loop.calls] == [
        ("element_times", "plus", "tanh")
    ]


def test_what_is_in_no_cycle_runs_once_over_all_frames():
    x = C.sequence.input_variable((2, 4, 4))
    W, U = (C.Parameter((3, C.InferredDimension, 3, 3), init=C.glorot_uniform()) for _ in "WU")
    y = C.layers.Recurrence(lambda h, x: C.tanh(C.convolution(W, x) + C.convolution(U, h)))(x)
    once, loop = Plan(passes.optimize([y.node]), device.engine()).steps
    assert isinstance(once, Call) and once.node.op.name == "convolution"
    assert [c.node.op.name for c in loop.calls] == ["tailed"]
    assert loop.calls[0].node.attrs["program"].names == ("plus", "tanh")
    wrt = [p.node for p in y.parameters]
    gradient = Plan(passes.optimize(autodiff.gradients(y.node, wrt)), device.engine())
    outside = [s.node.op.name for s in gradient.steps if isinstance(s, Call)]
    assert outside.count("convolution_weights") == 2  # every weight's gradient is one operation


def conv_gru():
    x = C.sequence.input_variable((2, 5, 4))
    W = [C.Parameter((3, C.InferredDimension, 3, 3), init=C.glorot_uniform()) for _ in range(6)]
    b = [C.Parameter((3, 1, 1), init=0.1) for _ in range(3)]

    def step(h, x):
        z = C.sigmoid(b[0] + C.convolution(W[0], x) + C.convolution(W[1], h))
        r = C.sigmoid(b[1] + C.convolution(W[2], x) + C.convolution(W[3], h))
        return z * h + (1 - z) * C.tanh(b[2] + C.convolution(W[4], x) + C.convolution(W[5], h * r))

    return x, C.layers.Recurrence(step)(x)


def lstm_both_ways():
    x = C.sequence.input_variable(3)
    up = C.layers.Recurrence(C.layers.LSTM(4))(x)
    down = C.layers.Recurrence(C.layers.LSTM(4), go_backwards=True)(x)
    return x, C.layers.Dense(2)(C.sequence.last(C.splice(up, down)) * 1 + 0)


def square_of_a_difference():
    x, _, _, difference = difference_in_a_loop()
    return x, C.square(difference)


def values(model, without):
    x, y = model()
    rng = np.random.default_rng(0)
    data = {x: [rng.normal(size=(n, *x.shape)) for n in (3, 1, 4)]}
    for p in y.parameters:
        p.value = rng.normal(size=p.shape) * 0.5
    wrt = [x.node, *(p.node for p in y.parameters)]
    engine = device.engine()
    nodes = passes.optimize([y.node, *autodiff.gradients(y.node, wrt)], without)
    plan = engine.plan(nodes)
    batch = Minibatch(plan.inputs, {x.node: data[x]}, engine)
    return list(map(engine.to_numpy, plan.run(batch.arrays, batch.layouts, batch.size)))


MODELS = [conv_gru, lstm_both_ways, square_of_a_difference]


@pytest.mark.parametrize("name", list(passes.PASSES))
@pytest.mark.parametrize("model", MODELS)
def test_results_agree_with_a_pass_on_and_off(model, name):
    for plain, other in zip(values(model, list(passes.PASSES)), values(model, [name])):
        np.testing.assert_allclose(plain, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("model", MODELS)
def test_results_agree_with_all_passes_on(model):
    for plain, other in zip(values(model, list(passes.PASSES)), values(model, [])):
        np.testing.assert_allclose(plain, other, rtol=2e-5, atol=2e-5)


def test_outside_training_nothing_is_computed_for_training():
    x = C.input_variable((2, 4, 4))
    y = C.dropout(C.layers.BatchNormalization(map_rank=1)(C.layers.Convolution2D(3, 2)(x)), 0.5)
    assert "dropout_mask" in names(passes.optimize([y.node], training=True))
    (node,) = passes.optimize([y.node], training=False)
    assert not {"dropout_mask", "running_statistic", "sum_rows"}.intersection(names([node]))
    given = {x: np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)}
    engine = device.engine()
    rows = Minibatch([x.node], {x.node: given[x]}, engine)
    (with_all,) = engine.plan(passes.optimize([y.node])).run(rows.arrays, {}, 5)
    np.testing.assert_allclose(y.eval(given), engine.to_numpy(with_all), rtol=1e-5, atol=1e-6)
