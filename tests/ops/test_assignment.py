"""Assignments: when what is set is seen."""

import numpy as np
import pytest

import rgraph as C


@pytest.mark.parametrize("make", [C.Parameter, lambda n: C.constant(0, n)])
def test_the_value_is_set_after_the_run(make):
    ref, value = make(2), C.parameter(init=np.array([1, 2], np.float32))
    assign, reading = C.assign(ref, value), ref + value
    together = C.combine([reading, assign])
    first = together.eval()
    np.testing.assert_array_equal(first[together.outputs[0]], [1, 2])
    np.testing.assert_array_equal(first[together.outputs[1]], [1, 2])
    np.testing.assert_array_equal(ref.value, [1, 2])
    np.testing.assert_array_equal(reading.eval(), [2, 4])


def test_reading_something_else_sets_nothing():
    ref = C.Parameter(1)
    _, other = C.assign(ref, ref + 1), ref * 2
    other.eval()
    assert ref.value == 0


def test_going_forward_and_back_sets_it_once_at_the_end():
    ref, value = C.Parameter(1), C.Parameter(1, init=3)
    f = C.assign(ref, value + ref)
    state, _ = f.forward({}, [f.output], {f.output})
    assert ref.value == 0
    gradients = f.backward(state, {f.output: [1.0]}, [ref, value])
    assert ref.value == 3
    assert (gradients[ref], gradients[value]) == (1, 1)


def test_training_sets_what_the_loss_assigns():
    x, w, count = C.input_variable(1), C.Parameter(1), C.Parameter(())
    loss = x * w + C.assign(count, count + 1)
    trainer = C.Trainer(None, loss, C.sgd([w], 0.1))
    for _ in range(3):
        trainer.train_minibatch({x: [[1], [2]]})
    assert count.value == 3
    assert w.value == pytest.approx(-0.45)


def test_values_that_do_not_fit():
    ref, x = C.Parameter(2), C.input_variable(2)
    with pytest.raises(C.GraphError, match="can't assign"):
        C.assign(ref, C.constant(np.zeros(3)))
    with pytest.raises(C.GraphError, match="reduce it over the batch"):
        C.assign(ref, x)
    with pytest.raises(C.GraphError, match="only a parameter or a constant"):
        C.assign(x, ref)


def test_set_once_where_a_run_must_know_a_length_first():
    w, s = C.Parameter((), init=1.0), C.sequence.input_variable(1)
    kept = C.sequence.gather(s * C.assign(w, w * 2), s > 0)
    C.sequence.unpack(kept, 0, no_mask_output=True).eval([np.ones((3, 1))])
    assert w.value == 2
