"""Names that CNTK has for itself alone and other people's programs import all the same."""

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
    """A single thing as a tuple of it.

    >>> from rgraph.internal import _as_tuple
    >>> _as_tuple(3), _as_tuple([1, 2])
    ((3,), (1, 2))
    """
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _inject_name(f: Any, name: str) -> Any:
    """A function under a name, if there is one."""
    if not name:
        return f
    made = f if isinstance(f, Operand) else hold(*trace(f))
    nodes = nodes_of(made)
    return hold(nodes, None, name) if len(nodes) > 1 else alias(made, name=name)


def _initializer_for(init: object, rank_params: dict[str, Any] | None = None) -> Any:
    """An initializer with what a layer says of its parameter's axes; numbers stay numbers."""
    if init is None:
        raise ValueError("there is no init")
    return initializer_with_rank(init, **rank_params) if rank_params and callable(init) else init


def _get_initial_state_or_default(initial_state: object) -> Any:
    """The state before a recurrence's first frame: 0 where none is given, numbers as constants."""
    if isinstance(initial_state, tuple):
        return tuple(map(_get_initial_state_or_default, initial_state))
    if initial_state is None:
        return constant(0)
    return constant(initial_state, shape=1) if np.isscalar(initial_state) else initial_state


def _sanitize_function(f: object) -> Any:
    """A Python function as one of ours."""
    return hold(*trace(f)) if isinstance(f, FunctionType) else f


def _pad_to_shape(filter_shape: tuple[int, ...], param: object, what: str) -> tuple[Any, ...]:
    """An option of a convolution for each axis of its filter, where one was given for all.

    >>> from rgraph.internal.helpers import _pad_to_shape
    >>> _pad_to_shape((3, 3), 2, "strides")
    (2, 2)
    """
    given = _as_tuple(param)
    if len(given) == 1:
        given *= max(len(filter_shape), 1)
    if len(given) != len(filter_shape):
        raise ValueError(f"{what}: one is wanted, or as many as the filter has axes: {param!r:.60}")
    return given


def _window(
    x: Any, axis: Any, begin: int, end: int, step: int, stride: int, initial_state: Any = None
) -> Any:
    """The frames from `begin` to before `end` around each frame, side by side along an axis."""
    if stride != 1:
        raise NotImplementedError("windows with a stride")
    frames = []
    for t in range(begin, end, step):
        delay = sequence.past_value if t < 0 else sequence.future_value
        frames.append(delay(x, initial_state, abs(t)) if t else x)
    return splice(*frames, axis=axis)


_santize_step_function = _sanitize_function


def typemap(f: object) -> Any:
    """The function itself: there are no classes of C++ whose results would have to be mapped.

    >>> C.internal.typemap(abs) is abs
    True
    """
    return f


def map_if_possible(obj: object) -> None:
    """Does nothing, as `typemap`.

    >>> C.internal.map_if_possible(3)
    """
