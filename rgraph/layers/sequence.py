"""Recurrences, which apply a step function to its own delayed output; delays and windows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .. import ops
from ..default_options import overridable
from ..graph import Axis, GraphError, order
from ..graph.types import OperandLike
from ..model.building import BlockFunction
from ..model.function import Function
from ..operands.tracing import nodes_of
from ..operands.variables import Constant, placeholder

Step = Callable[..., Any]


def _with_signature(f: Step) -> Function:
    """`f` as a function of its own arguments; those of an expression are its placeholders."""
    if f is None:
        raise GraphError(
            "the step function is None",
            hint="a function that makes a step function must end with `return step`",
        )
    function = Function(f)
    own = function.signature
    if function._signature is None:
        own = tuple(a for a in own if a.is_placeholder) or own
    return Function(nodes_of(function), [a.node for a in own])


def _as_step(step_function: Step) -> tuple[Function, int]:
    """The step function, with its states and its input as arguments, and the number of states."""
    step = _with_signature(step_function)
    count = len(step.signature) - 1
    if count < 1:
        raise GraphError(
            "a step function takes its previous state and 1 input, "
            f"this one takes {count + 1} argument{'s' if count else ''}",
            hint="define it as def step(previous_state, x): …, for example with layers f and g: "
            "return C.tanh(f(x) + g(previous_state))",
        )
    if len(step.outputs) < count:
        raise GraphError(
            f"the step function takes {count} states, but returns {len(step.outputs)}",
            hint="return the new states in the order of the previous ones",
        )
    return step, count


def _tied(step: Function, initial: Sequence[Any], x: Any, go_backwards: bool) -> list[Any]:
    """The states of the step function over whole sequences, from their delayed values."""
    delay = ops.sequence.future_value if go_backwards else ops.sequence.past_value
    after = [placeholder(name=f"state {i}") for i in range(len(initial))]
    before = [delay(a, s) for a, s in zip(after, initial, strict=True)]
    result = step(*before, x)
    frame = step.signature[-1].node
    states: list[Any] = list(result.outputs[: len(after)])
    for i, new in enumerate(nodes_of(step)[: len(after)]):
        if frame not in order([new]):  # it still has as many frames as the input
            states[i] = ops.reconcile_dynamic_axes(states[i], x)
    result.replace_placeholders(dict(zip(after, states, strict=True)))
    return states


def _states(initial_state: object, count: int) -> list[Any]:
    if not isinstance(initial_state, tuple):
        return [initial_state] * count
    if len(initial_state) != count:
        raise GraphError(
            f"the step function has {count} states, but initial_state has {len(initial_state)}"
        )
    return list(initial_state)


@overridable("go_backwards", "initial_state")
def Recurrence(
    step_function: Step,
    go_backwards: bool = False,
    initial_state: object = 0,
    return_full_state: bool = False,
    name: str = "",
) -> Function:
    """A recurrence: applies a step function along a sequence.

    Args:
        step_function: `step(state, x)` returns the new state; `step(h, c, x)` returns `(h, c)`, and
            so on. A Python function of variables, or a layer such as `LSTM(100)`.
        go_backwards: whether to start at the end of each sequence.
        initial_state: the state before the first frame: a number, an array, a parameter, or a
            function with one value per sequence; a tuple of these for several states. A number is
            broadcast to the shape of the state.
        return_full_state: whether to return all states, not only the first one.

    Returns:
        a function of a sequence; its result is the first state (or all states) at every frame.

    Raises:
        GraphError: the step function takes no state, or doesn't return as many states as it takes.

    Source: CNTK's `Recurrence`.

    >>> x = C.sequence.input_variable(1)
    >>> total = C.layers.Recurrence(lambda state, x: state + x)(x)
    >>> total.eval({x: np.array([[1], [2], [3]])})[0]
    array([[1.],
           [3.],
           [6.]], dtype=float32)
    """
    step, count = _as_step(step_function)
    initial = _states(initial_state, count)

    @BlockFunction("Recurrence", name)
    def recurrence(x: OperandLike) -> Any:
        states = _tied(step, initial, x, go_backwards)
        return states if return_full_state else states[0]

    return recurrence


@overridable("go_backwards")
def RecurrenceFrom(
    step_function: Step,
    go_backwards: bool = False,
    return_full_state: bool = False,
    name: str = "",
) -> Function:
    """Like `Recurrence`, but the initial states are arguments: `f(initial_state, …, x)`.

    If an initial state is a sequence, with any time axis, its last frame is used (the first one if
    the recurrence goes backwards).

    Source: CNTK's `RecurrenceFrom`.

    >>> x = C.sequence.input_variable(1)
    >>> total = C.layers.RecurrenceFrom(lambda state, x: state + x)(10, x)
    >>> total.eval({x: np.array([[1], [2]])})[0]
    array([[11.],
           [13.]], dtype=float32)
    """
    step, count = _as_step(step_function)

    def recurrence_from(*values: object) -> Any:
        states = _tied(step, values[:-1], values[-1], go_backwards)
        return states if return_full_state else states[0]

    names = [f"initial_state{i}" for i in range(count)] + ["x"]
    recurrence_from.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    )
    return BlockFunction("RecurrenceFrom", name)(recurrence_from)


@overridable("go_backwards", "initial_state")
def Fold(
    folder_function: Step,
    go_backwards: bool = False,
    initial_state: object = 0,
    return_full_state: bool = False,
    name: str = "",
) -> Function:
    """The final state of a `Recurrence`; the arguments are the same.

    Source: CNTK's `Fold`.

    >>> x = C.sequence.input_variable(1)
    >>> C.layers.Fold(C.plus)(x).eval({x: np.array([[1], [2], [3]])})
    array([[6.]], dtype=float32)
    """
    step, count = _as_step(folder_function)
    initial = _states(initial_state, count)
    end = ops.sequence.first if go_backwards else ops.sequence.last

    @BlockFunction("Fold", name)
    def fold(x: OperandLike) -> Any:
        states = _tied(step, initial, x, go_backwards)
        return tuple(map(end, states)) if return_full_state else end(states[0])

    return fold


def UnfoldFrom(
    generator_function: Step,
    until_predicate: Callable[..., Any] | None = None,
    length_increase: float = 1,
    name: str = "",
) -> Function:
    """Generates a sequence from an initial state: `f(initial_state, dynamic_axes_like)`.

    Args:
        generator_function: `generator(state)` returns the next output, which is also the next
            state, or a pair (output, state).
        until_predicate: a function of the output; a nonzero value ends the sequence.
        length_increase: the largest length of the result, relative to `dynamic_axes_like`.

    Source: CNTK's `UnfoldFrom`.

    >>> x = C.sequence.input_variable(1)
    >>> double = C.layers.UnfoldFrom(lambda state: state * 2)
    >>> double(1, x).eval({x: np.zeros((3, 1))})[0]
    array([2., 4., 8.], dtype=float32)
    """
    generator = _with_signature(generator_function)
    if len(generator.signature) != 1:
        raise GraphError(
            f"a generator function takes 1 argument, its previous state; this one takes "
            f"{len(generator.signature)}",
            hint="use other values directly in the function, without arguments",
        )

    @BlockFunction("UnfoldFrom", name)
    def unfold(initial_state: Any, dynamic_axes_like: Any) -> Any:
        like = dynamic_axes_like
        if length_increase != 1:
            factors = ops.sequence.broadcast_as(length_increase, like)
            like = ops.sequence.where(factors)
        state = placeholder(name="state")
        before = ops.sequence.past_value(state, initial_state)
        result = generator(ops.reconcile_dynamic_axes(before, like))
        output, new = result.outputs[0], result.outputs[-1]
        result.replace_placeholders({state: ops.reconcile_dynamic_axes(new, like)})
        if until_predicate is None:
            return output
        ends = ops.sequence.past_value(Function(until_predicate)(output))
        running = Recurrence(lambda alive, end: (1 - end) * alive, initial_state=1)(ends)
        return ops.sequence.gather(output, running)

    return unfold


def delayed(x: Any, initial_state: Any, steps: int) -> Any:
    """`x` delayed by `steps` frames; negative numbers look ahead."""
    if steps == 0:
        return x
    if steps > 0:
        return ops.sequence.past_value(x, initial_state, steps)
    return ops.sequence.future_value(x, initial_state, -steps)


@overridable("initial_state")
def Delay(T: int = 1, initial_state: object = 0, name: str = "") -> Function:
    """Delays a sequence by T frames; a negative T looks ahead.

    Args:
        initial_state: the value of frames before the start (or after the end) of the sequence.

    Source: CNTK's `Delay`.

    >>> x = C.sequence.input_variable(1)
    >>> C.layers.Delay()(x).eval({x: np.array([[1], [2], [3]])})[0]
    array([[0.],
           [1.],
           [2.]], dtype=float32)
    """

    @BlockFunction("Delay", name)
    def delay(x: OperandLike) -> Any:
        return delayed(x, initial_state, T)

    return delay


@overridable("go_backwards")
def PastValueWindow(
    window_size: int,
    axis: int | Axis,
    go_backwards: bool = False,
    name: str = "",
) -> Function:
    """The last frames of each sequence, stacked along a static axis, and a mask.

    Args:
        window_size: the number of frames.
        axis: the axis to stack along: for vectors -2, a new axis in front.
        go_backwards: whether to take the first frames of each sequence instead.

    Returns:
        a function with two outputs: the frames, the last one first, of shape (window_size, n) for
        vectors of size n, with zeros where the sequence is shorter; and a mask of 1 or 0 for each
        frame, of shape (window_size, 1).

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

    def stacked(x: OperandLike) -> Any:
        frames = [end(delayed(x, 0, sign * t)) for t in range(window_size)]
        return ops.splice(*frames, axis=number)

    @BlockFunction("PastValueWindow", name)
    def window(x: Any) -> Any:
        one = Constant(1, (1,) * max(-number - 1, 0))
        return stacked(x), stacked(ops.sequence.broadcast_as(one, x))

    return window
