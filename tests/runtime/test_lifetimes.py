"""Graphs, plans and arrays go with what they were made for."""

import gc
import weakref

import numpy as np

import rgraph as C
from rgraph.runtime.cache import MAX_ENTRIES


def trained():
    """Weak references to the parts of a model with a recurrence that was trained and run."""
    x, t = C.sequence.input_variable(3), C.input_variable(2)
    h = C.layers.Fold(C.layers.GRU(4))(x)
    y = C.layers.BatchNormalization()(C.layers.Dense(2, activation=C.tanh)(h))
    trainer = C.Trainer(y, C.squared_error(y, t), C.adam(y.parameters, 0.01, 0.9))
    data = {x: [np.ones((2, 3), np.float32)] * 3, t: np.ones((3, 2), np.float32)}
    trainer.train_minibatch(data)
    y.eval({x: data[x]})
    y.constants[-1].value = y.constants[-1].value
    y.eval({x: data[x]})
    plans = [*trainer._program._runner.plans, *y._runner.plans]
    arrays = [p.node.value for p in y.parameters]
    return list(map(weakref.ref, (trainer, y, y._runner, *plans, *y.parameters, *arrays)))


def test_nothing_stays_of_many_graphs():
    alive = []
    for _ in range(12):
        alive += trained()
    gc.collect()
    left = [r() for r in alive if r() is not None]
    assert not left, f"{len(left)} of {len(alive)} are left: {left[:3]}"


def test_plans_are_few_where_every_run_has_another_size():
    x = C.input_variable((C.FreeDimension,))
    y = C.reduce_sum(x)
    for n in range(1, MAX_ENTRIES + 9):
        assert y.eval([np.ones(n)]).tolist() == [n]
    assert len(y._runner.plans) <= MAX_ENTRIES


def test_setting_a_constant_leaves_the_plans_of_other_functions_alone():
    x, k, other = C.input_variable(1), C.Constant(2), C.Constant(3)
    f, g = x * k, x * other
    assert f.eval([[1]]) == 2 and g.eval([[1]]) == 3
    (before,) = g._runner.plans
    k.value = 5
    assert f.eval([[1]]) == 5 and g.eval([[1]]) == 3
    assert g._runner.plans == [before]
    k.value = 7  # plans read it from now on
    plans = list(f._runner.plans)
    assert f.eval([[1]]) == 7 and f._runner.plans == plans


def test_a_rate_that_is_set_holds_from_the_next_run():
    x = C.input_variable(2000)
    f = C.dropout(x, 0.25, seed=1)
    ones = {x: np.ones((1, 2000), np.float32)}
    for rate in (0.25, 0.5, 0.25):
        f.set_attribute("dropoutRate", rate)
        dropped = f.forward(ones, [f.output], {f.output})[1][f.output] == 0
        assert abs(dropped.mean() - rate) < 0.05
