"""Changes of arrays, written with NumPy's functions and in place, as one generated kernel.

Learners' steps are written so. On a GPU, operation by operation, they would be ten launches for
each parameter. Here the same function is called on arrays of which it is only noted what they are
to become, and what was noted is one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...ops.fused import Program
from .guard import Guard, guarded
from .pointwise import Pointwise

# NumPy's functions, with the operations that they are
_OPERATIONS = {
    "add": "plus",
    "subtract": "minus",
    "multiply": "element_times",
    "divide": "element_divide",
    "true_divide": "element_divide",
    "maximum": "element_max",
    "minimum": "element_min",
    "negative": "negate",
    "absolute": "abs",
    "sqrt": "sqrt",
    "square": "square",
    "sign": "sign",
    "greater": "greater",
    "less": "less",
}


_NUMBERS = (bool, int, float, np.generic)


class NotPointwise(Exception):
    """What is to be done is not done on each element by itself."""


class Noted(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of which it is noted what it is to become; or one that is in no memory yet.

    Attributes:
        value: the number of its present value among all that were noted.
    """

    def __init__(self, notes: Notes, value: int) -> None:
        self.notes, self.value = notes, value
        self.shape, self.dtype = notes.shape, notes.dtype
        self.ndim = len(self.shape)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *operands: Any, out: Any = None, **options: Any
    ) -> Noted:
        name = _OPERATIONS.get(ufunc.__name__)
        if name is None or method != "__call__" or options:
            raise NotPointwise(ufunc.__name__)
        value = self.notes.operation(name, *operands)
        if out is None:
            return Noted(self.notes, value)
        out[0].value = value
        return out[0]

    def __array_function__(self, function: Any, types: Any, operands: Any, options: Any) -> Any:
        if function.__name__ not in _FUNCTIONS:
            raise NotPointwise(function.__name__)
        return _FUNCTIONS[function.__name__](self.notes, *operands, **options)

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis:
            raise NotPointwise("a part of an array")
        self.value = self.notes.number(value)

    def copy(self) -> Noted:
        return Noted(self.notes, self.value)


class Notes:
    """What is to be computed of arrays of one shape and type.

    Values have numbers: those of the arrays, those of the single numbers that are met, and, counted
    down from -1, those of the operations.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays, self.singles = arrays, list[float]()
        self.shape, self.dtype = arrays[0].shape, np.dtype(arrays[0].dtype)
        if any(a.shape != self.shape or a.dtype != self.dtype for a in arrays):
            raise NotPointwise("arrays of several shapes")
        self.noted = [Noted(self, i) for i in range(len(arrays))]
        self.steps: list[tuple[str, tuple[int, ...]]] = []

    def number(self, value: Any) -> int:
        """The number of an operand's value."""
        if isinstance(value, Noted):
            return value.value
        if not isinstance(value, _NUMBERS):
            raise NotPointwise(f"an operand of type {type(value).__name__}")
        self.singles.append(float(value))
        return len(self.arrays) + len(self.singles) - 1

    def operation(self, name: str, *operands: Any) -> int:
        """Notes an operation; the number of its value."""
        self.steps.append((name, tuple(map(self.number, operands))))
        return -len(self.steps)

    def program(self, results: list[Noted]) -> Program:
        """What was noted, with the values of `results` written."""
        first = len(self.arrays) + len(self.singles)

        def place(number: int) -> int:
            return number if number >= 0 else first - 1 - number

        steps = tuple((name, tuple(map(place, reads))) for name, reads in self.steps)
        wanted = tuple(place(r.value) for r in results)
        return Program(steps, len(self.arrays), wanted, len(self.singles))


def _clip(notes: Notes, x: Any, low: Any, high: Any, out: Noted | None = None) -> Noted:
    result = out if out is not None else Noted(notes, 0)
    result.value = notes.operation("element_max", x, low)
    result.value = notes.operation("element_min", result, high)
    return result


def _copyto(notes: Notes, target: Noted, source: Any) -> None:
    target[...] = source


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "clip": _clip,
    "copyto": _copyto,
    "where": lambda notes, *three: Noted(notes, notes.operation("element_select", *three)),
    "empty_like": lambda notes, like: Noted(notes, like.value),
    "zeros_like": lambda notes, like: Noted(notes, notes.number(0.0)),
    "full_like": lambda notes, like, value: Noted(notes, notes.number(value)),
}


Function = Callable[[Any, Any, dict[str, Any]], None]


class _Outcome(NamedTuple):
    """What a function does to arrays of a shape, whatever is in them.

    Attributes:
        program: gives the array, then what is new of the state's.
        singles: the numbers that it is called with.
        state: the state's numbers, and None for its arrays.
    """

    program: Program
    singles: list[float]
    state: dict[str, Any]


def _outcome(arrays: Sequence[Any], state: Mapping[str, Any], function: Function) -> _Outcome:
    """See `change`; `state` has None for its arrays, which are `arrays` from the third on."""
    notes = Notes(arrays)
    noted = iter(notes.noted)
    array, other = next(noted), next(noted)
    after = {k: next(noted) if v is None else v for k, v in state.items()}
    function(array, other, after)
    results = [v for v in after.values() if isinstance(v, Noted)]
    left = {k: None if isinstance(v, Noted) else v for k, v in after.items()}
    return _Outcome(notes.program([array, *results]), notes.singles, left)


def change(
    pointwise: Pointwise,
    array: Any,
    other: Any,
    state: dict[str, Any],
    function: Function,
    memo: dict[Any, Any],
    guard: Guard | None = None,
) -> None:
    """Does `function(array, other, state)` on the GPU: in one kernel, if it is pointwise.

    Args:
        array: is changed in place.
        other: is read.
        state: its arrays are changed in place; new ones are made for what is new in it.
        memo: what is remembered of the function: it does the same to arrays of one shape.
        guard: nothing is changed where this has found something. The CPU waits to hear of that
            if the change is not pointwise, or if there is something new in the state.
    """
    kept = {k: v for k, v in state.items() if not isinstance(v, _NUMBERS)}
    arrays = [array, other, *kept.values()]
    numbers = {k: None if k in kept else v for k, v in state.items()}
    key = array.shape, array.dtype, tuple(numbers.items())
    if key not in memo:
        try:
            memo[key] = _outcome(arrays, numbers, function)
        except NotPointwise:
            memo[key] = None
    outcome = memo[key]
    if guard is not None and (outcome is None or outcome.state.keys() != state.keys()):
        if guard.is_set():
            return
        guard = None
    if outcome is None:
        function(array, other, state)
        return
    targets = {
        k: kept[k] if k in kept else pointwise.cupy.empty_like(array)
        for k, v in outcome.state.items()
        if v is None
    }
    program, results = outcome.program, [array, *targets.values()]
    if guard is not None:
        places = [0, *(2 + list(kept).index(k) for k in targets)]
        program = guarded(program, len(arrays), places)
        arrays.append(guard.found)
    pointwise.launch(program, results, arrays, outcome.singles)
    state.clear()
    state.update(outcome.state | targets)
