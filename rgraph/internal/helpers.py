"""Names that CNTK has for itself alone and other people's programs import all the same."""

from __future__ import annotations

from typing import Any

from ..graph import INFERRED
from ..initializer import initializer_with_rank
from ..operands.operand import Operand
from ..operands.tracing import nodes_of, trace
from ..ops import alias
from ..ops.records import hold

_INFERRED = (INFERRED,)


def _as_tuple(x: Any) -> tuple[Any, ...]:
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


def _initializer_for(init: Any, rank_params: dict[str, Any] | None = None) -> Any:
    """An initializer with what a layer says of its parameter's axes; numbers stay numbers."""
    if init is None:
        raise ValueError("there is no init")
    return initializer_with_rank(init, **rank_params) if rank_params and callable(init) else init


def typemap(f: Any) -> Any:
    """The function itself: there are no classes of C++ whose results would have to be mapped.

    >>> C.internal.typemap(abs) is abs
    True
    """
    return f


def map_if_possible(obj: Any) -> None:
    """Does nothing, as `typemap`.

    >>> C.internal.map_if_possible(3)
    """
