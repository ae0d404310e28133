"""Records that act on dynamic axes, or that need operands of a certain kind: what must hold for
all records is shown for these on small programs, each of which has them in it or in its gradients.

Each program is a function of a ragged sequence x of vectors of 4 and of a vector y per sequence.
"""

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.graph import order
from rgraph.ops.records import TABLE
from rgraph.passes import autodiff
from rgraph.testing import check_gradients

LENGTHS = (3, 1, 2)


class Doubled(C.ops.functions.UserFunction):
    def infer_outputs(self):
        (x,) = self.inputs
        return [C.output_variable(x.shape, x.dtype, x.dynamic_axes)]

    def forward(self, x, device=None, outputs_to_retain=None):
        return None, 2 * x

    def backward(self, state, root_gradients):
        return 2 * root_gradients


def picked(x):
    """1 for frames whose first element is positive."""
    return C.greater(C.slice(x, 0, 0, 1), 0)


def normalized(x, y):
    scale, bias = C.Parameter(4, init=1.5), C.Parameter(4, init=0.1)
    mean, variance = (C.Constant(v, (4,), x.dtype) for v in (0.5, 2.0))
    count = C.Constant(0.0, (), x.dtype)
    return C.batch_normalization(x, scale, bias, mean, variance, False, running_count=count)


def twice(y):
    """Two rows for each of y's."""
    return C.to_batch(C.reshape(C.unpack_batch(C.splice(y, C.square(y), axis=0)), (-1, 4)))


def scattered(x, y):
    return C.sequence.scatter(C.sequence.gather(x, picked(x)), picked(x))


def sampled(x, y):
    weights = C.constant(np.array([1, 2, 3, 4], np.float32))
    often = C.random_sample_inclusion_frequency(weights, 2, True, seed=3)
    drawn = C.reduce_sum(C.random_sample(weights, 2, True, seed=3), 0)
    return y * C.cast(often, y.dtype) * C.cast(drawn, y.dtype)


def aligned(x, y):
    """The first frame of each sequence has one of the first three classes for its label."""
    first = C.sequence.broadcast_as(C.sequence.first(x), x)
    label = C.pad(C.hardmax(C.slice(first, 0, 0, 3)), [(0, 1)]) * C.sequence.is_first(x)
    return C.forward_backward(C.labels_to_graph(2 * label), x, 3) * y


def regions(x, y):
    image = C.reshape(y, (1, 2, 2))
    return C.roipooling(image, C.constant([[0.0, 0.0, 1.0, 1.0]]), C.MAX_POOLING, (2, 2), 1.0)


PROGRAMS = {
    "delays": lambda x, y: C.sequence.past_value(x, y) * C.sequence.future_value(x, y, 2),
    "a loop": lambda x, y: C.layers.Recurrence(lambda h, x: C.tanh(h + x), initial_state=y)(x),
    "ends": lambda x, y: C.sequence.last(x) * C.sequence.first(x),
    "the largest": lambda x, y: C.sequence.reduce_max(x * x),
    "gather and scatter": scattered,
    "steps": lambda x, y: C.sequence.slice(x, -1, 0) * 2,
    "where": lambda x, y: C.sequence.where(picked(x)),
    "unpack": lambda x, y: C.square(C.sequence.unpack(x, 0, no_mask_output=True)),
    "to_sequence": lambda x, y: C.to_sequence_like(C.sequence.unpack(x, 0).outputs[0], x) * x,
    "lengths": lambda x, y: C.to_sequence(C.splice(y, y * y, axis=0)) * 3,
    "reverse": lambda x, y: C.sequence.reverse(x) * x,
    "pad": lambda x, y: C.square(C.sequence.pad(x, 1, 2)),
    "join": lambda x, y: C.sequence.join(x, C.square(x)),
    "reconcile": lambda x, y: C.reconcile_dynamic_axes(C.sequence.reverse(x), x) * y,
    "spread": lambda x, y: C.sequence.broadcast_as(y, x) * x + C.reduce_sum(x * y, all_axes()),
    "over rows": lambda x, y: y * C.reduce_max(y, C.Axis.default_batch_axis()),
    "along rows": lambda x, y: C.reduce_log_sum_exp(y, C.Axis.default_batch_axis()) * y,
    "a mean": lambda x, y: C.reduce_mean(x * x, all_axes()),
    "other types": lambda x, y: C.cast(y, np.float64) * C.cast(C.square(y), np.float64),
    "unpacked batch": lambda x, y: C.times_transpose(C.unpack_batch(y), C.unpack_batch(y)),
    "batch again": lambda x, y: C.to_batch(C.square(C.unpack_batch(y))),
    "carried": lambda x, y: C.reconcile_dynamic_axes(C.to_batch(C.Parameter((6, 4))), twice(y)),
    "states before": lambda x, y: C.sequence.past_value(x, C.square(x), 2),
    "eye": lambda x, y: C.times(C.eye_like(C.unpack_batch(y)), C.Parameter((4, 2), init=0.5)),
    "the best two": lambda x, y: C.square(C.top_k(y, 2)[0]),
    "elements": lambda x, y: C.square(C.gather(y, C.constant([2.0, 0.0]))),
    "regions": regions,
    "random": lambda x, y: C.random.normal_like(y, seed=4) * y,
    "samples": sampled,
    "dropout": lambda x, y: C.dropout(x, 0.5, seed=2) * x,
    "normalized": normalized,
    "assigned": lambda x, y: C.assign(C.Parameter(4, init=1.0), C.constant([1.0, 2, 3, 4])) * y,
    "a user's": lambda x, y: C.user_function(Doubled([y])) * y,
    "negatives": lambda x, y: C.cosine_distance_with_negative_samples(y, C.square(y), 1, 2),
    "edits": lambda x, y: C.edit_distance_error(x, C.sequence.reverse(x)) + C.reduce_sum(y),
    "alignment": aligned,
    "ranking": lambda x, y: C.ndcg_at_1(*(C.stop_gradient(part(y, i)) for i in (0, 1, 2))) * y,
}


def all_axes():
    return C.Axis.all_axes()


def part(y, i):
    return C.slice(y, 0, i, i + 1)


def made(name, dtype=np.float64):
    """A program with its inputs."""
    with C.default_options(dtype=dtype):
        x, y = C.sequence.input_variable(4, dtype), C.input_variable(4, dtype)
        return C.Function([o.node for o in PROGRAMS[name](x, y).outputs]), x, y


def feed(f, x, y, dtype=np.float64):
    rng = np.random.default_rng(1)
    frames = [rng.normal(size=(n, 4)).astype(dtype) for n in LENGTHS]
    per_sequence = rng.uniform(0.5, 2, (len(LENGTHS), 4)).astype(dtype)
    return {v: a for v, a in ((x, frames), (y, per_sequence)) if v in f.arguments}


# A user's backward is no graph: see test_user_function.py. The other says so: see test_ctc.py.
NO_SECOND = {"a user's", "alignment"}

# By definition no derivative: its slopes are what sorting by a model should be changed by. It is
# held to CNTK's numbers in test_losses.py.
BY_DEFINITION = {"lambda_rank", "lambda_rank_slope"}

every_program = pytest.mark.parametrize("name", PROGRAMS)


def test_all_records_that_have_no_cases_are_in_some_program():
    seen = set()
    for name in PROGRAMS:
        f, *_ = made(name)
        wrt = [v.node for v in (*f.arguments, *f.parameters)]
        loss = C.reduce_sum(C.square(f), axis=C.Axis.all_axes()).node
        seen |= {n.op.name for n in order([loss, *autodiff.gradients(loss, wrt)]) if n.op}
    without = {name for name, op in TABLE.items() if not op.cases}
    assert without - seen == BY_DEFINITION


@every_program
def test_gradients_of_gradients_agree_with_finite_differences(name):
    f, x, y = made(name)
    check_gradients(f, feed(f, x, y), order=1 if name in NO_SECOND else 2, training=True)


def values(name, dtype, training=False):
    """A program's value, and its gradients."""
    f, x, y = made(name, dtype)
    at = feed(f, x, y, dtype)
    leaves = [*f.arguments, *f.parameters]
    with C.default_options(dtype=dtype):
        gradients = C.reduce_sum(C.square(f), axis=C.Axis.all_axes()).grad(at, leaves)
    found = gradients.values() if isinstance(gradients, dict) else [gradients]
    return [f.eval(at), *found]


def assert_close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        for one, other in zip(*(v if isinstance(v, list) else [v] for v in (a, b)), strict=True):
            scale = np.abs(other).max(initial=1)
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("engine", device.cpu_engines())
@every_program
def test_every_engine_in_float32_agrees_with_numpy_in_float64(name, engine, engines):
    C.cntk_py.set_fixed_random_seed(1)
    engines("numpy")
    exact = values(name, np.float64)
    C.cntk_py.set_fixed_random_seed(1)
    engines(engine)
    assert_close(values(name, np.float32), exact, 2e-5)
