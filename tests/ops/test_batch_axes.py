"""Batch axes that `to_batch` makes: other rows than the minibatch's samples.

Numbers that are said to be CNTK's are what CNTK 2.7 gives for the same program.
"""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

GENERATOR = np.random.default_rng(5)
VALUES = GENERATOR.normal(size=(3, 2, 3))
RAGGED = [GENERATOR.normal(size=(n, 3)) for n in (1, 3, 2)]
ENDS = np.array([s[-1] for s in RAGGED])


def rows_of(x, *shape):
    """Rows of this shape out of all samples, as `TimeDistributed` of Keras makes them."""
    return C.to_batch(C.reshape(C.unpack_batch(x), (-1, *shape)))


def inputs():
    return C.input_variable((2, 3), np.float64), C.sequence.input_variable(3, np.float64)


def distributed(step, x):
    return rows_of(step(rows_of(x, 3)), 2, 3)


def test_rows_stand_beside_samples_and_beside_sequences():
    """None is lost, none is counted twice."""
    x, s = inputs()
    t = C.input_variable(3, np.float64)
    rows = rows_of(x, 3)
    whole = C.Axis.all_axes()
    f = C.combine(
        [
            C.reduce_sum(rows, axis=whole),
            C.reduce_sum(C.tanh(t * 2), axis=whole),
            C.sequence.last(s),
            rows,
            C.reduce_mean(rows, axis=C.Axis.default_batch_axis()),
        ]
    )
    got = list(f.eval({x: VALUES, s: RAGGED, t: ENDS}).values())
    flat = VALUES.reshape(6, 3)
    for value, expected in zip(
        got, (flat.sum(), np.tanh(ENDS * 2).sum(), ENDS, flat, flat.mean(0))
    ):
        np.testing.assert_allclose(value, expected)


@pytest.mark.parametrize("count", [3, 1, 0])
def test_what_is_put_back_is_the_samples_own(count):
    x, s = inputs()
    w = C.Parameter(3, init=0.5, dtype=np.float64)
    y = distributed(lambda rows: C.tanh(rows * w), x)
    assert y.dynamic_axes == x.dynamic_axes and y.shape == (2, 3)
    data = {x: VALUES[:count], s: RAGGED[:count]}
    f = y * C.sequence.last(s) + x
    expected = np.tanh(VALUES / 2) * ENDS[:, None] + VALUES
    np.testing.assert_allclose(f.eval(data), expected[:count])
    along = C.reshape(s, (1, 3)) + y
    for found, frames, own in zip(along.eval(data), RAGGED, np.tanh(VALUES / 2)):
        np.testing.assert_allclose(found, frames[:, None] + own)
    if count:
        check_gradients(f, data, order=2)


def test_gradients_of_rows():
    x, s = inputs()
    w = C.Parameter(3, init=0.5, dtype=np.float64)
    rows = rows_of(x * w + C.sequence.last(s), 3)
    data = {x: VALUES, s: RAGGED}
    check_gradients(C.square(rows), data, order=2)
    over = C.reduce_log_sum_exp(rows * w, axis=C.Axis.default_batch_axis())
    check_gradients(over, data, order=2)
    check_gradients(C.times(C.unpack_batch(rows), C.constant(np.ones((3, 2)))), data)


def test_gradients_from_weights_of_rows():
    x = C.input_variable((4, 2), np.float64)
    n = C.input_variable(4, np.float64)
    values = GENERATOR.normal(size=(3, 4, 2))
    lengths = np.array([[1, 2, 2, 0], [1, 1, 0, 2], [2, 2, 1, 0]])
    f = C.square(C.to_sequence(rows_of(x, 2, 1), rows_of(n)))
    data = {x: values, n: lengths}
    state, got = f.forward(data, [f.output], [f.output])
    expected = np.zeros((12, 2, 1))
    weights = [np.full((k, 1), i + 1.0) for i, k in enumerate(lengths.ravel())]
    for i, (k, frames) in enumerate(zip(lengths.ravel(), got[f.output])):
        np.testing.assert_allclose(frames, values.reshape(12, 2, 1)[i, :k] ** 2)
        expected[i, :k] = 2 * values.reshape(12, 2, 1)[i, :k] * (i + 1)
    back = f.backward(state, {f.output: weights}, [x])
    np.testing.assert_allclose(back[x], expected.reshape(3, 4, 2))


def test_sequences_of_rows():
    x, s = inputs()
    rows = rows_of(x, 3, 1)
    q = C.to_sequence(rows)
    last = C.sequence.last(
        C.layers.Recurrence(lambda h, v: h * 0.5 + v)(q * C.reshape(rows[0], (1,)))
    )
    flat = VALUES.reshape(6, 3)
    expected = (flat @ [0.25, 0.5, 1])[:, None] * flat[:, :1]
    np.testing.assert_allclose(last.eval({x: VALUES}), expected)
    f = rows_of(last, 2) + C.sequence.last(s)[:2]
    np.testing.assert_allclose(f.eval({x: VALUES, s: RAGGED}), expected.reshape(3, 2) + ENDS[:, :2])
    check_gradients(f, {x: VALUES, s: RAGGED})
    for kept in (C.sequence.reduce_sum(C.sequence.gather(q, q > 0)), C.sequence.softmax(q)):
        assert kept.dynamic_axes[0] == rows.dynamic_axes[0]
    positive = C.sequence.reduce_sum(C.sequence.gather(q, q > 0)).eval({x: VALUES})
    np.testing.assert_allclose(positive.ravel(), np.maximum(flat, 0).sum(1))
    unpacked = C.sequence.unpack(q, 0, no_mask_output=True)
    assert unpacked.eval({x: VALUES}).shape == (6, 3, 1)


def test_lengths_of_a_fixed_number():
    """CNTK's numbers."""
    x = C.input_variable((2, 4, 1))
    lengths = C.to_batch(C.constant([1, 2, 3, 4, 2, 1]))
    q = C.to_sequence(rows_of(x, 4, 1), lengths)
    got = q.eval({x: np.arange(24).reshape(3, 2, 4, 1)})
    expected = [[0], [4, 5], [8, 9, 10], [12, 13, 14, 15], [16, 17], [20]]
    assert [frames.ravel().tolist() for frames in got] == expected


def test_rows_of_a_fixed_number_meet_any_that_are_as_many():
    """CNTK's numbers."""
    s = C.sequence.input_variable(1)
    fixed = C.to_batch(C.constant([[1], [2], [3]]))
    frames = {s: [np.ones((n, 1)) for n in (1, 3, 2)]}
    last = C.sequence.last(s)
    for f in (
        fixed + last,
        C.splice(last, fixed)[1] + 1,
        C.reconcile_dynamic_axes(fixed, last) + 1,
    ):
        assert f.eval(frames).ravel().tolist() == [2, 3, 4]
    for f in (fixed + s, C.sequence.broadcast_as(fixed, s) + 1):
        assert [v.ravel().tolist() for v in f.eval(frames)] == [[2], [3, 3, 3], [4, 4]]
    first = C.sequence.first(C.sequence.past_value(s, initial_state=fixed))
    assert first.eval(frames).ravel().tolist() == [1, 2, 3]
    with pytest.raises(GraphError, match="3 rows can't be combined with 2 samples"):
        (fixed + last).eval({s: frames[s][:2]})


def test_as_many_rows_are_on_the_same_axis():
    x, _ = inputs()
    a, b = rows_of(x, 3), rows_of(C.tanh(x), 3)
    np.testing.assert_allclose((a + b).eval({x: VALUES}).sum(), (VALUES + np.tanh(VALUES)).sum())
    assert a.dynamic_axes == b.dynamic_axes != x.dynamic_axes
    assert rows_of(a, 1).dynamic_axes == rows_of(x, 1).dynamic_axes
    k, m = C.to_batch(C.constant(np.ones((4, 2)))), C.to_batch(C.constant(np.ones((4, 2))))
    assert (k + m).eval().shape == (4, 2)
    with pytest.raises(GraphError, match="batch of 4 and batch of 5"):
        k + C.to_batch(C.constant(np.ones((5, 2))))


def test_other_rows_do_not_meet():
    x, s = inputs()
    y, q = C.input_variable(3, np.float64), C.to_sequence(x)
    rows = rows_of(x, 3)
    refused = [
        lambda: rows + y,
        lambda: y * rows,
        lambda: rows + s,
        lambda: C.splice(rows, y),
        lambda: C.times(rows, C.reshape(y, (3, 1))),
        lambda: C.cosine_distance(rows, y),
        lambda: C.layers.Recurrence(C.plus, initial_state=rows)(s),
        lambda: C.sequence.past_value(s, initial_state=rows),
        lambda: C.to_sequence_like(C.reshape(rows, (3, 1)), s),
        lambda: C.to_sequence(C.reshape(rows, (3, 1)), C.sequence.length(s)),
        lambda: C.sequence.join(C.to_sequence(C.reshape(rows, (3, 1))), q),
        lambda: C.edit_distance_error(rows, y),
    ]
    for build in refused:
        with pytest.raises(GraphError, match=r"(?s)different batch axes.*reconcile_dynamic_axes"):
            build()
    with pytest.raises(GraphError, match="reconcile_dynamic_axes"):
        C.sequence.broadcast_as(rows, s)
    with pytest.raises(GraphError, match=r"\(3,\) per row of a batch of 2 × samples"):
        rows + y


def test_carried_over_to_an_axis_of_as_many():
    x, s = inputs()
    k = C.Parameter((6, 3), init=2, dtype=np.float64)
    rows = rows_of(x, 3)
    f = C.reconcile_dynamic_axes(C.to_batch(k), rows) * rows
    np.testing.assert_allclose(f.eval({x: VALUES}), 2 * VALUES.reshape(6, 3))
    check_gradients(f, {x: VALUES}, order=2)
    one = C.input_variable((1, 3), np.float64)
    flat = C.to_batch(C.reshape(C.unpack_batch(C.splice(one, one, axis=0)), (-1, 3)))
    to_samples = C.reconcile_dynamic_axes(flat, C.sequence.last(s))
    with pytest.raises(GraphError, match="6 rows can't be combined with 3 samples"):
        to_samples.eval({one: VALUES[:, :1], s: RAGGED})


def test_rows_that_follow_from_free_sizes():
    x, y = (C.input_variable((C.FreeDimension, 3), np.float64) for _ in range(2))
    a, b = rows_of(x, 3), rows_of(y, 3)
    assert (a + b).eval({x: VALUES, y: VALUES}).shape == (6, 3)
    with pytest.raises(GraphError, match="6 and 3 rows"):
        (a + b).eval({x: VALUES, y: VALUES[:, :1]})
    samples, frames = C.unpack_batch(x), C.transpose(C.unpack_batch(x), (1, 0, 2))
    with pytest.raises(GraphError, match="different batch axes"):
        C.to_batch(samples) + C.to_batch(frames)
    assert C.to_batch(frames).eval({x: VALUES}).shape == (2, 3, 3)


def test_copies_and_saved_ones(tmp_path):
    x, s = inputs()
    rows = rows_of(x, 3)
    f = C.combine([rows, distributed(C.tanh, x) + C.sequence.last(s)])
    expected = list(f.eval({x: VALUES, s: RAGGED}).values())
    f.save(str(tmp_path / "model"))
    loaded = C.load_model(str(tmp_path / "model"))
    for other in (loaded, loaded.clone("clone"), f.clone("share")):
        data = {a: VALUES if len(a.dynamic_axes) == 1 else RAGGED for a in other.arguments}
        for found, right in zip(other.eval(data).values(), expected):
            np.testing.assert_allclose(found, right)
        again = C.to_batch(C.unpack_batch(other.outputs[0])) + other.outputs[0]
        sample = {a: v for a, v in data.items() if a in again.arguments}
        np.testing.assert_allclose(again.eval(sample), 2 * expected[0])


def test_a_placeholder_is_put_back_too():
    x, _ = inputs()
    p = C.placeholder()
    f = distributed(lambda rows: rows * 2, p) + p
    bound = f.replace_placeholders({p: x})
    np.testing.assert_allclose(bound.eval({x: VALUES}), 3 * VALUES)


@pytest.mark.parametrize("whole", [False, True])
def test_a_trainer_counts_rows(whole):
    """CNTK's numbers: six rows, whose loss is 12.75 each; the step is that of their sum."""
    x = C.input_variable((2, 3))
    w = C.Parameter(3, init=0.5)
    y = rows_of(x, 3) * w
    loss = C.reduce_sum(y, axis=C.Axis.all_axes() if whole else None)
    trainer = C.Trainer(None, loss, C.sgd([w], C.learning_parameter_schedule_per_sample(0.01)))
    trainer.train_minibatch({x: np.arange(18, dtype=np.float32).reshape(3, 2, 3)})
    assert trainer.previous_minibatch_sample_count == 6
    assert trainer.previous_minibatch_loss_average == pytest.approx(12.75)
    np.testing.assert_allclose(w.value, [0.05, -0.01, -0.07], atol=1e-6)


def test_states_on_an_axis_of_their_own_start_a_loop():
    """As Keras' stateful layers have them; values and gradient are CNTK's."""
    x = C.input_variable((4, 2))
    frames = C.to_sequence(x)
    start = C.Parameter((3, 2), init=(np.arange(6).reshape(3, 2) * 0.1).astype(np.float32))
    state = C.placeholder()
    y = C.tanh(frames + C.sequence.past_value(state, C.to_batch(start)))
    y.replace_placeholders({state: y.output})
    last = C.sequence.last(y)
    values = np.sin(np.arange(24)).reshape(3, 4, 2)
    np.testing.assert_allclose(
        last.eval({x: values}),
        [[-0.3053486, 0.3870362], [0.6281637, 0.6048681], [0.3150827, -0.3242473]],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        last.grad({x: values}, wrt=[start]),
        [[0.4350939, 0.183966], [0.1623247, 0.3415603], [0.5380585, 0.498593]],
        atol=1e-6,
    )
    with pytest.raises(GraphError, match="3 rows can't be combined with 2 samples"):
        last.eval({x: values[:2]})


def test_states_of_ragged_sequences_are_theirs():
    s = C.sequence.input_variable(3, np.float64)
    start = C.Parameter((3, 3), init=GENERATOR.normal(size=(3, 3)), dtype=np.float64)
    state = C.placeholder()
    y = s + 2 * C.sequence.past_value(state, C.to_batch(start))
    y.replace_placeholders({state: y.output})
    for frames, first, found in zip(RAGGED, start.value, y.eval({s: RAGGED})):
        before = first
        for frame, value in zip(frames, found):
            before = frame + 2 * before
            np.testing.assert_allclose(value, before)
    check_gradients(y, {s: RAGGED}, [s, start])
