"""Sequences without frames, and minibatches without samples. (CNTK refuses both.)

What `test_table.py` generates is for operations frame by frame; here are those along time and rows.
"""

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.graph import GraphError

S, BATCH, ALL = C.sequence, C.Axis.default_batch_axis(), C.Axis.all_axes()
every_engine = pytest.mark.parametrize("engine", device.cpu_engines())


def positive(x):
    return C.greater(C.reduce_sum(x, axis=0), 0)


ALONG_TIME = {
    "past_value": lambda x: S.past_value(x, 5.0),
    "past_value of 2": lambda x: S.past_value(x, time_step=2),
    "future_value": lambda x: S.future_value(x),
    "is_first": lambda x: x * S.is_first(x),
    "is_last": lambda x: x * S.is_last(x),
    "reduce_sum": lambda x: S.reduce_sum(x),
    "reduce_mean": lambda x: S.reduce_mean(x),
    "softmax": lambda x: S.softmax(x),
    "gather": lambda x: S.gather(x, positive(x)),
    "scatter": lambda x: S.scatter(S.gather(x, positive(x)), positive(x)),
    "where": lambda x: S.where(positive(x)),
    "broadcast_as": lambda x: S.broadcast_as(S.reduce_sum(x), x),
    "unpack": lambda x: S.unpack(x, 0, no_mask_output=True),
    "to_sequence_like": lambda x: C.to_sequence_like(S.unpack(x, 0, no_mask_output=True), x),
    "reverse": lambda x: S.reverse(x),
    "length": lambda x: S.length(x),
    "stride": lambda x: S.stride(x, 2),
    "Recurrence": lambda x: C.layers.Recurrence(C.layers.GRU(2, init=0.1))(x),
    "go_backwards": lambda x: C.layers.Recurrence(C.layers.LSTM(2, init=0.1), go_backwards=True)(x),
    "RecurrenceFrom": lambda x: C.layers.RecurrenceFrom(C.plus)(S.reduce_sum(x), x),
    "UnfoldFrom": lambda x: C.layers.UnfoldFrom(lambda h: h / 2)(C.constant(1, (3,)), x),
    "convolution along time": lambda x: C.layers.Convolution(2, 2, init=0.1, sequential=True)(x),
    "attention": lambda x: C.layers.AttentionModel(2, init=0.1)(x, S.reduce_sum(x)),
    "sum of all": lambda x: C.reduce_sum(x, axis=ALL),
    "mean of all": lambda x: C.reduce_mean(x, axis=ALL),
}
LENGTHS = (2, 4, 1)
FRAMES = [np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in LENGTHS]
NONE = np.zeros((0, 3), np.float32)


def value_and_gradient(f, x, data):
    """Both sequence by sequence, but a value that is one for all."""
    feed = {x: data}
    value, gradient = f.eval(feed), C.reduce_sum(C.square(f)).grad(feed, wrt=[x])
    return list(value) if f.dynamic_axes else [value], gradient


@every_engine
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("build", ALONG_TIME.values(), ids=ALONG_TIME)
def test_an_empty_sequence_makes_no_difference_to_the_others(build, engine, engines):
    engines(engine)
    x = S.input_variable(3)
    f = build(x)
    value, gradient = value_and_gradient(f, x, FRAMES)
    for place in range(4):
        data = [*FRAMES[:place], NONE, *FRAMES[place:]]
        found, g = value_and_gradient(f, x, data)
        assert not len(g.pop(place))
        assert len(found) == 1 or np.isfinite(found.pop(place)).all()
        for a, b in zip([*found, *g], [*value, *gradient], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for data in ([NONE, NONE], []):
        found, g = value_and_gradient(f, x, data)
        assert [len(s) for s in g] == [0] * len(data)
        assert all(np.isfinite(s).all() for s in found)


@every_engine
def test_what_an_empty_sequence_does_not_have(engine, engines):
    engines(engine)
    x = S.input_variable(3, needs_gradient=True)
    for f in (S.first(x), S.last(x), S.reduce_max(x), C.layers.Fold(C.plus)(x)):
        for run in (f.eval, f.grad):
            with pytest.raises(GraphError, match="an empty sequence has no") as caught:
                run({x: [FRAMES[0], NONE]})
            assert __file__ in str(caught.value)
        assert len(f.eval({x: []})) == 0


# Operations over the samples, and the value of none where there is one

OVER_SAMPLES = {
    "sum": (lambda x: C.reduce_sum(x, axis=BATCH), np.zeros(3)),
    "mean": (lambda x: C.reduce_mean(x, axis=BATCH), np.zeros(3)),  # 0 / 0 is 0 here
    "mean of all": (lambda x: C.reduce_mean(x, axis=ALL), 0),
    "product": (lambda x: C.reduce_prod(x, axis=BATCH), np.ones(3)),
    "l2": (lambda x: C.reduce_l2(x, axis=BATCH), np.zeros(3)),
    "sum of rows": (lambda x: C.reduce_sum(C.unpack_batch(x), axis=0), np.zeros((1, 3))),
    "mean of rows": (lambda x: C.reduce_mean(C.unpack_batch(x), axis=0), np.zeros((1, 3))),
    "softmax of rows": (lambda x: C.softmax(C.unpack_batch(x), axis=0), np.zeros((0, 3))),
    "batch normalization": (C.layers.BatchNormalization(), np.zeros((0, 3))),
    "ndcg_at_1": (lambda x: C.ndcg_at_1(*[C.reduce_sum(x)] * 3), 0),
}


@every_engine
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("build, expected", OVER_SAMPLES.values(), ids=OVER_SAMPLES)
def test_of_no_samples(build, expected, engine, engines):
    engines(engine)
    x = C.input_variable(3)
    f = build(x)
    np.testing.assert_array_equal(f.eval({x: NONE}), expected)
    if f.node.op.gradient:
        assert f.grad({x: NONE}, wrt=[x]).shape == (0, 3)


@pytest.mark.parametrize("op", [C.reduce_max, C.reduce_min, C.reduce_log_sum_exp])
def test_no_samples_have_no_largest(op):
    x = C.input_variable(3)
    for f in (op(x, axis=BATCH), op(x, axis=ALL), op(C.unpack_batch(x), axis=0)):
        with pytest.raises(
            GraphError, match=r"over an empty minibatch has no value|none is the largest"
        ):
            f.eval({x: NONE})
