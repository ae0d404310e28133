"""What is done together in a step of a loop: the same values as call by call."""

import numpy as np
import pytest

import rgraph as C
from rgraph import device, passes
from rgraph.graph import Layout
from rgraph.ops.fused import Program
from rgraph.passes import autodiff
from rgraph.plan import Loop, Plan, grouping
from rgraph.plan.group import Group
from rgraph.plan.grouping import Joined
from rgraph.plan.observe import observe
from rgraph.plan.program import Holds

pytestmark = pytest.mark.cpu

RNG = np.random.default_rng(0)


def lstm():
    x = C.sequence.input_variable(3)
    return x, C.layers.Recurrence(C.layers.LSTM(4))(x)


def splices_what_is_kept():
    """Parts of a splice that others read too, one of them repeated along an axis."""
    x = C.sequence.input_variable(3)

    def step(h, x):
        a, b = C.tanh(C.slice(h, -1, 0, 3) + x), C.sigmoid(C.slice(h, -1, 3, 6) * x)
        return C.splice(a, b * a) * 0.5 + C.splice(a, x)

    return x, C.layers.Recurrence(step)(x)


def splices_along_another_axis():
    x = C.sequence.input_variable((2, 3))

    def step(h, x):
        upper, lower = C.slice(h, 0, 0, 1), C.slice(h, 0, 1, 2)
        return C.splice(C.tanh(lower + 1), C.sigmoid(upper * 2), axis=0) + x

    return x, C.layers.Recurrence(step)(x)


def splices_twice():
    """Both splices can't have the same values made in their places."""
    x = C.sequence.input_variable(3)

    def step(h, x):
        a, b = C.tanh(C.slice(h, -1, 0, 3) + x), C.sigmoid(C.slice(h, -1, 3, 6) * x)
        return C.splice(a, b) - C.splice(b, a) * 0.5

    return x, C.layers.Recurrence(step)(x)


MODELS = [lstm, splices_what_is_kept, splices_along_another_axis, splices_twice]


@pytest.mark.parametrize("differentiated", [False, True])  # then more is kept for all frames
@pytest.mark.parametrize("model", MODELS)
def test_values_and_gradients(model, differentiated):
    x, y = model()
    nodes = [y.node]
    if differentiated:
        nodes += autodiff.gradients(y.node, [x.node, *(p.node for p in y.parameters)])
    plan = Plan(passes.optimize(nodes), device.engine())
    sequences = [RNG.normal(size=(n, *x.shape)).astype(np.float32) for n in (5, 3, 1)]
    layout = Layout([5, 3, 1])
    packed = np.empty((9, *x.shape), np.float32)
    layout.pack(sequences, packed)
    feed = {x.node: packed}
    layouts = {x.node.time_axis: layout}
    found = plan.run(feed, layouts, 3)
    observe(plan, CallByCall())
    for a, b in zip(found, plan.run(feed, layouts, 3), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


class CallByCall:
    """An observer that does nothing but look at each call."""

    hindrance, separate = "", True

    def around(self, kernel, nodes, engine):
        (_,) = nodes
        return kernel


def test_light_calls_follow_one_another():
    """h goes through a product; all else of an LSTM's step is one function."""
    _, y = lstm()
    (*_, loop) = Plan(passes.optimize([y.node]), device.engine()).steps
    assert isinstance(loop, Loop)
    assert [len(i.calls) > 1 for i in loop.program.instructions] == [False, True]


@pytest.mark.parametrize("small", [grouping.SMALL, 0])
def test_what_a_learner_does_is_a_pass_for_each_shape_at_most(small, monkeypatch):
    """Parameters of one shape are updated together if they are small; what one of them needs is
    one pass in any case."""
    monkeypatch.setattr(grouping, "SMALL", small)
    x = C.input_variable(3)
    y = C.layers.Dense(3)(C.layers.Dense(3)(x))
    trainer = C.Trainer(y, C.reduce_sum(C.square(y)), C.adam(y.parameters, 0.1, 0.9))
    trainer.train_minibatch({x: np.ones((2, 3))})
    (plan,) = trainer._program._runner.plans
    groups = [s for s in plan.steps if isinstance(s, Group) and s.calls[0].shape]
    assert [len(g.results) for g in groups] == ([6, 6] if small else [3] * 4)


def test_large_values_are_made_together_where_that_saves_reading_one(monkeypatch):
    monkeypatch.setattr(grouping, "SMALL", 0)
    a, b, c = (RNG.normal(size=(4, 5)).astype(np.float32) for _ in range(3))
    p, q, r = (C.Parameter(v.shape, v) for v in (a, b, c))
    wanted = {C.tanh(p): np.tanh(a), C.exp(q): np.exp(b), p * r: a * c, C.square(r): c * c}
    plan = device.engine().plan(passes.optimize([f.node for f in wanted]))
    assert [len(s.calls) for s in plan.steps] == [3, 1]
    found = plan.run({}, {}, 1)
    for value, expected in zip(found, wanted.values(), strict=True):
        np.testing.assert_allclose(device.engine().to_numpy(value), expected, rtol=1e-5)


def test_where_a_result_may_be_written():
    """Over what no step reads after the one that makes it."""
    program = Program((("exp", (0,)), ("plus", (1, 2)), ("element_times", (3, 1))), 2, (2, 3, 4))
    joined = Joined(program, (10, 11), (12, 13, 14))
    may = [[joined.writes_over(r, i) for i in (10, 11, 99)] for r in (12, 13, 14)]
    assert may == [[True, False, True], [True, False, True], [True, True, True]]
    assert all(joined.with_last(r).writes_over(r, i) for r in (12, 13, 14) for i in (10, 11))


def test_values_of_a_step_share_memory():
    """Of four in a row that are alike, the first is not wanted once there is the third."""
    x = C.sequence.input_variable((2, 5))
    W = C.Parameter((5, 5), init=C.glorot_uniform(seed=1))

    def step(h, x):
        for _ in range(4):
            h = C.reduce_sum(h, axis=0) * x
        return C.tanh(h)

    y = C.layers.Recurrence(step)(x @ W)
    (*_, loop) = Plan(passes.optimize([C.sequence.last(y).node]), device.engine()).steps[:-1]
    assert isinstance(loop, Loop)
    buffers, shared = loop.program.buffers, loop.program.shared
    assert shared
    for one, other in shared.items():
        assert buffers[one].holds is buffers[other].holds is Holds.STEP
        assert buffers[one].shape == buffers[other].shape
