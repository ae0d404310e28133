import numpy as np
import pytest

import rgraph as C
from rgraph.layers import Delay, PastValueWindow
from rgraph.testing import check_gradients

FRAMES = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize("steps", [-3, -1, 0, 1, 2, 5])
def test_delay(steps):
    x = C.sequence.input_variable(2)
    y = Delay(steps, initial_state=7)(x)
    expected = [FRAMES[t - steps] if 0 <= t - steps < 4 else [7, 7] for t in range(4)]
    np.testing.assert_array_equal(y.eval({x: FRAMES})[0], expected)
    check_gradients(y, order=2)


@pytest.mark.parametrize("backwards", [False, True])
def test_past_value_window(backwards):
    x = C.sequence.input_variable(2)
    window = PastValueWindow(3, axis=-2, go_backwards=backwards)(x)
    value, valid = window.outputs
    lengths = (4, 1, 2)
    data = [FRAMES[:n] for n in lengths]
    for ours, known, frames in zip(value.eval({x: data}), valid.eval({x: data}), data, strict=True):
        chosen = frames[:3] if backwards else frames[::-1][:3]
        n = len(chosen)
        np.testing.assert_array_equal(ours[:n], chosen)
        assert not ours[n:].any()
        np.testing.assert_array_equal(known, [[1]] * n + [[0]] * (3 - n))
    check_gradients(value, {x: data})


def test_the_window_of_images_has_an_axis_in_front():
    x = C.sequence.input_variable((2, 5, 4))
    value, valid = PastValueWindow(3, axis=C.Axis(-4))(x).outputs
    assert (value.shape, valid.shape) == ((3, 2, 5, 4), (3, 1, 1, 1))
