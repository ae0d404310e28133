"""Private names of CNTK that programs import nevertheless."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from ..graph import INFERRED
from ..initializer import initializer_with_rank
from ..operands.operand import Operand
from ..operands.tracing import nodes_of, trace
from ..operands.variables import constant
from ..ops import alias, sequence, splice
from ..ops.records import hold

_INFERRED = (INFERRED,)


def _as_tuple(x: object) -> tuple[Any, ...]:
    """A list or tuple as a tuple; any other object as a tuple of one.

    >>> from rgraph.internal import _as_tuple
    >>> _as_tuple(3), _as_tuple([1, 2])
    ((3,), (1, 2))
    """
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _inject_name(f: Any, name: str) -> Any:
    """The function with the given name; unchanged if the name is empty."""
    if not name:
        return f
    made = f if isinstance(f, Operand) else hold(*trace(f))
    nodes = nodes_of(made)
    return hold(nodes, None, name) if len(nodes) > 1 else alias(made, name=name)


def _initializer_for(init: object, rank_params: dict[str, Any] | None = None) -> Any:
    """The initializer with the layer's rank parameters; numbers are returned unchanged."""
    if init is None:
        raise ValueError("init must not be None")
    return initializer_with_rank(init, **rank_params) if rank_params and callable(init) else init


def _get_initial_state_or_default(initial_state: object) -> Any:
    """The initial state of a recurrence: 0 by default; numbers become constants."""
    if isinstance(initial_state, tuple):
        return tuple(map(_get_initial_state_or_default, initial_state))
    if initial_state is None:
        return constant(0)
    return constant(initial_state, shape=1) if np.isscalar(initial_state) else initial_state


def _sanitize_function(f: object) -> Any:
    """Converts a Python function to a `Function`; other objects are returned unchanged."""
    return hold(*trace(f)) if isinstance(f, FunctionType) else f


def _pad_to_shape(filter_shape: tuple[int, ...], param: object, what: str) -> tuple[Any, ...]:
    """An option of a convolution, with one value for each axis of the filter.

    >>> from rgraph.internal.helpers import _pad_to_shape
    >>> _pad_to_shape((3, 3), 2, "strides")
    (2, 2)
    """
    given = _as_tuple(param)
    if len(given) == 1:
        given *= max(len(filter_shape), 1)
    if len(given) != len(filter_shape):
        raise ValueError(
            f"{what}: expected one value, or one for each of the {len(filter_shape)} axes of the "
            f"filter, got {param!r:.60}"
        )
    return given


def _window(
    x: Any, axis: Any, begin: int, end: int, step: int, stride: int, initial_state: Any = None
) -> Any:
    """The frames at offsets `begin` to `end` - 1 of each frame, spliced along an axis."""
    if stride != 1:
        raise NotImplementedError("_window supports only a stride of 1")
    frames = []
    for t in range(begin, end, step):
        delay = sequence.past_value if t < 0 else sequence.future_value
        frames.append(delay(x, initial_state, abs(t)) if t else x)
    return splice(*frames, axis=axis)


_santize_step_function = _sanitize_function


def typemap(f: object) -> Any:
    """Returns `f` unchanged. (In CNTK it converts the results of C++ classes.)

    >>> C.internal.typemap(abs) is abs
    True
    """
    return f


def map_if_possible(obj: object) -> None:
    """Does nothing. (In CNTK it converts C++ objects.)

    >>> C.internal.map_if_possible(3)
    """
