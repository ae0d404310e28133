"""Layers that see other frames than the present one: delays, windows."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..default_options import overridable
from ..function import BlockFunction, Function
from ..graph import Axis
from ..variables import Constant


def delayed(x: Any, initial_state: Any, steps: int) -> Any:
    """`x` as it was `steps` frames ago; as it will be, if negative."""
    if steps == 0:
        return x
    if steps > 0:
        return ops.sequence.past_value(x, initial_state, steps)
    return ops.sequence.future_value(x, initial_state, -steps)


@overridable("initial_state")
def Delay(T: int = 1, initial_state: Any = 0, name: str = "") -> Function:
    """A sequence as it was T frames ago (as it will be, for a negative T).

    Args:
        initial_state: what stands where that is outside the sequence.

    Source: CNTK's `Delay`.

    >>> x = C.sequence.input_variable(1)
    >>> C.layers.Delay()(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([[0.],
           [1.],
           [2.]], dtype=float32)
    """

    @BlockFunction("Delay", name)
    def delay(x: Any) -> Any:
        return delayed(x, initial_state, T)

    return delay


@overridable("go_backwards")
def PastValueWindow(
    window_size: int,
    axis: int | Axis,
    go_backwards: bool = False,
    name: str = "",
) -> Function:
    """The last frames of each sequence, stacked along a static axis, and which of them exist.

    Args:
        window_size: how many frames.
        axis: the axis to stack along: for vectors -2, a new one in front.
        go_backwards: whether to take each sequence's first frames instead.

    Returns:
        a function with two outputs: the frames, the last one first, shape (window_size, n) for
        vectors of n, with zeros where the sequence is shorter; and 1 or 0 for each, shape
        (window_size, 1).

    Source: CNTK's `PastValueWindow`.

    >>> x = C.sequence.input_variable(2)
    >>> value, valid = C.layers.PastValueWindow(3, axis=-2)(x).outputs
    >>> value.eval({x: np.array([[0, 1], [2, 3]])})
    array([[[2., 3.],
            [0., 1.],
            [0., 0.]]], dtype=float32)
    """
    number = axis.static_axis_index() if isinstance(axis, Axis) else axis
    end = ops.sequence.first if go_backwards else ops.sequence.last
    sign = -1 if go_backwards else 1

    def stacked(x: Any) -> Any:
        frames = [end(delayed(x, 0, sign * t)) for t in range(window_size)]
        return ops.splice(*frames, axis=number)

    @BlockFunction("PastValueWindow", name)
    def window(x: Any) -> Any:
        one = Constant(1, (1,) * max(-number - 1, 0))
        return stacked(x), stacked(ops.sequence.broadcast_as(one, x))

    return window
