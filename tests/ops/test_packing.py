"""Sequences as padded arrays and back, gathered, scattered and continued, by hand."""

import numpy as np
import pytest

import rgraph as C
from rgraph.graph import GraphError
from rgraph.testing import check_gradients

LENGTHS = (2, 4, 1)


def ragged(*shape, lengths=LENGTHS, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, *shape)) for n in lengths]


@pytest.fixture
def x():
    return C.sequence.input_variable(2, np.float64, needs_gradient=True)


def padded(frames, value):
    steps = max(map(len, frames))
    rest = [np.full((steps - len(f), *f.shape[1:]), value) for f in frames]
    return np.stack([np.concatenate([f, r]) for f, r in zip(frames, rest)])


def test_unpack_pads_behind_each_sequence(x):
    data = ragged(2)
    f = C.sequence.unpack(x, -7)
    values, mask = f.eval({x: data}).values()
    np.testing.assert_array_equal(values, padded(data, -7))
    np.testing.assert_array_equal(mask, padded([np.ones(n) for n in LENGTHS], 0))


def test_unpack_of_minibatches_of_ever_other_lengths(x):
    f = C.reduce_sum(C.sequence.unpack(x, 0, no_mask_output=True), axis=0)
    for lengths in [(1,), (5, 2), (2, 2, 3), (5, 2)]:
        data = ragged(2, lengths=lengths)
        expected = [[s.sum(axis=0)] for s in data]
        np.testing.assert_allclose(f.eval({x: data}), expected, rtol=1e-12)


def test_unpack_of_a_sequence_whose_lengths_are_computed(x):
    data = [np.array([[1.0, 9], [0, 9], [1, 9]]), np.array([[0.0, 9]]), np.array([[1.0, 8]])]
    kept = C.sequence.gather(x, C.slice(x, 0, 0, 1))
    found = C.sequence.unpack(kept, 0, no_mask_output=True).eval({x: data})
    np.testing.assert_array_equal(found, [[[1, 9], [1, 9]], [[0, 0], [0, 0]], [[1, 8], [0, 0]]])


def test_what_to_sequence_took_apart_is_put_together_with_a_known_shape():
    volume = C.input_variable((1, 5, 2, 3), np.float64)
    slices = C.to_sequence(C.reshape(volume, (5, 1, 2, 3)))
    stack = C.sequence.unpack(slices * 2, 0, no_mask_output=True)
    assert stack.shape == (5, 1, 2, 3)
    back = C.reshape(stack, volume.shape)
    assert back.shape == volume.shape
    data = np.random.default_rng(0).normal(size=(4, 1, 5, 2, 3))
    np.testing.assert_array_equal(back.eval({volume: data}), 2 * data)
    x = C.input_variable((5, 2))
    stack = C.sequence.unpack(C.to_sequence(x), 0, no_mask_output=True)
    assert stack.clone("share", {x: C.input_variable((7, 2))}).shape == (7, 2)
    some = C.to_sequence(C.input_variable((5, 2)), C.input_variable(()))
    assert C.sequence.unpack(some, 0, no_mask_output=True).shape == (C.FreeDimension, 2)


def test_to_sequence_takes_as_many_as_lengths_say():
    y = C.input_variable((C.FreeDimension, 2), np.float64)
    n = C.input_variable((), np.float64)
    data = np.arange(16.0).reshape(2, 4, 2)
    found = C.to_sequence(y, n).eval({y: data, n: [1, 3]})
    np.testing.assert_array_equal(found[0], data[0, :1])
    np.testing.assert_array_equal(found[1], data[1, :3])
    whole = C.to_sequence(y).eval({y: data})
    np.testing.assert_array_equal(whole, data)


def test_lengths_beyond_the_axis_are_refused():
    y, n = C.input_variable((3, 1)), C.input_variable(())
    with pytest.raises(GraphError, match="from 0 to 3"):
        C.to_sequence(y, n).eval({y: np.zeros((1, 3, 1)), n: [4]})


def test_what_is_a_sequence_is_no_array_of_frames(x):
    with pytest.raises(GraphError, match="already a sequence"):
        C.to_sequence(x)


def test_gradients_through_packing(x):
    y = C.input_variable((4, 2), np.float64, needs_gradient=True)
    n = C.input_variable((), np.float64)
    arrays = np.random.default_rng(0).normal(size=(3, 4, 2))
    data = ragged(2)
    cubes = C.sequence.unpack(x * x * x, 5, no_mask_output=True)
    for found, frames in zip(cubes.grad({x: data}), data):
        np.testing.assert_allclose(found, 3 * frames**2, rtol=1e-12)
    check_gradients(C.square(C.to_sequence_like(y, x)), {x: data, y: arrays}, wrt=[y], order=2)
    counted = C.sequence.reduce_sum(C.square(C.to_sequence(y, n)))
    check_gradients(counted, {y: arrays, n: np.array([4.0, 1, 2])}, wrt=[y])


def test_there_and_back(x):
    data = ragged(2)
    back = C.to_sequence_like(C.sequence.unpack(x, 0, no_mask_output=True), x)
    for found, frames in zip(back.eval({x: data}), data):
        np.testing.assert_array_equal(found, frames)


def test_sequences_gathered_by_one_condition_may_meet(x):
    data = ragged(2)
    even = C.greater(C.slice(x, 0, 0, 1), 0)
    both = C.sequence.gather(x, even) + C.sequence.gather(2 * x, even)
    for found, frames in zip(both.eval({x: data}), data):
        np.testing.assert_allclose(found, 3 * frames[frames[:, 0] > 0], rtol=1e-12)
    again = both.clone("share", {x: x * 1})
    for found, frames in zip(again.eval({x: data}), data):
        np.testing.assert_allclose(found, 3 * frames[frames[:, 0] > 0], rtol=1e-12)


def test_scatter_puts_frames_where_the_condition_holds(x):
    c = C.sequence.input_variable(1, np.float64, sequence_axis=C.Axis("c"))
    condition = [np.array([[0.0], [1], [1]]), np.array([[1.0], [0]])]
    data = [np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6]])]
    found = C.sequence.scatter(x, c).eval({x: data, c: condition})
    np.testing.assert_array_equal(found[0], [[0, 0], [1, 2], [3, 4]])
    np.testing.assert_array_equal(found[1], [[5, 6], [0, 0]])


@pytest.mark.parametrize("step", [2, -2])
@pytest.mark.parametrize("lengths", [(3, 2, 4), (1, 1, 1)])
def test_delay_goes_on_from_another_sequence(x, step, lengths):
    outer = C.sequence.input_variable(2, np.float64, needs_gradient=True, sequence_axis=C.Axis("o"))
    data, before = ragged(2, lengths=(3, 4, 2)), ragged(2, lengths=lengths, seed=8)
    f = C.sequence.delay(x, outer, step)
    for found, frames, other in zip(f.eval({x: data, outer: before}), data, before):
        other = np.repeat(other, 2, axis=0) if len(other) == 1 else other
        joined = np.concatenate([other, frames] if step > 0 else [frames, other])
        at = len(other) - step if step > 0 else -step
        np.testing.assert_allclose(found, joined[at : at + len(frames)], rtol=1e-12)
    check_gradients(C.square(f), {x: data, outer: before}, wrt=[x, outer])
