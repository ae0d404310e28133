"""Operations that a user writes, with a forward and a backward of their own.

    user_call       the user's forward on all operands: a value that only the others read
    user_output     one of its outputs
    user_back       the user's backward from the gradient of one output
    user_gradient   the gradient with respect to one operand, out of that

What the user's code gets and gives are arrays as people read them: a batch in its order, a list
of sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph import Axis, GraphError, Node, apply
from ..graph.node import Type
from .records import define


class _Called(NamedTuple):
    state: Any
    results: list[Any]


def _batch_order(run: Any) -> np.ndarray | None:
    return next((layout.batch_order for layout in run.layouts.values()), None)


def _as_people(run: Any, rows: Any, axes: tuple[Axis, ...]) -> Any:
    array = run.engine.to_numpy(rows)
    if len(axes) == 2:
        return run.layouts[axes[1]].unpack(array)
    order = _batch_order(run)
    return array[np.argsort(order)] if axes and order is not None else array.copy()


def _as_rows(run: Any, value: Any, kind: Type) -> Any:
    shape, axes = kind.shape or (), kind.axes or ()
    if len(axes) < 2:
        array = np.asarray(value, kind.dtype).reshape((-1,) * len(axes) + shape)
        order = _batch_order(run)
        return run.engine.from_numpy(array[order] if axes and order is not None else array)
    if axes[1] not in run.layouts:
        raise GraphError("a user function gives sequences along the time axis of an operand only")
    layout = run.layouts[axes[1]]
    parts = [np.asarray(v, kind.dtype).reshape((-1, *shape)) for v in value]
    return run.engine.from_numpy(layout.pack(parts, np.empty((layout.rows, *shape), kind.dtype)))


def _call(run: Any, *rows: Any, function: Any, axes: Sequence[tuple[Axis, ...]]) -> _Called:
    arguments = [_as_people(run, r, a) for r, a in zip(rows, axes, strict=True)]
    return _Called(*function.run_forward(arguments))


def _back(
    run: Any, called: _Called, g: Any, *, function: Any, index: int, axes: tuple[Axis, ...]
) -> list[Any]:
    return function.run_backward(called.state, called.results, index, _as_people(run, g, axes))


def _gradient(run: Any, found: list[Any], like: Any, *, index: int, kind: Type) -> Any:
    value = found[index]
    return run.xp.zeros_like(like) if value is None else _as_rows(run, value, kind)


def _hidden(types: Sequence[Type], **_: Any) -> Type:
    """The type of a value that is no array; nothing looks at it."""
    return Type((), (), next((t.dtype for t in types if t.dtype is not None), None))


def _output_gradient(node: Node, g: Node) -> list[Node | None]:
    called, *operands = node.inputs
    function, index = node.attrs["function"], node.attrs["index"]
    if not function.passes_gradient(index):
        return [None] * len(node.inputs)
    found = apply(BACK, called, g, function=function, index=index)
    return [None, *(apply(GRADIENT, found, x, index=i) for i, x in enumerate(operands))]


def _unused(*_: Any, **__: Any) -> Any:
    raise AssertionError("a user function's type comes from `type`")


CALL = define(
    "user_call",
    shape=_unused,
    type=_hidden,
    align=None,
    kernel=_call,
    arguments=lambda node: {**node.attrs, "axes": [i.axes or () for i in node.inputs]},
    framewise=False,
    random=True,
)
OUTPUT = define(
    "user_output",
    shape=_unused,
    type=lambda types, function, index: function.output_type(types[1:], index),
    align=None,
    kernel=lambda run, called, *_, index, kind: _as_rows(run, called.results[index], kind),
    arguments=lambda node: {"index": node.attrs["index"], "kind": Type.of(node)},
    gradient=_output_gradient,
    framewise=False,
    random=True,
)
BACK = define(
    "user_back",
    shape=_unused,
    type=_hidden,
    align=None,
    kernel=_back,
    arguments=lambda node: {**node.attrs, "axes": node.inputs[1].axes or ()},
    operands=("call", "gradient"),
    framewise=False,
    random=True,
)
GRADIENT = define(
    "user_gradient",
    shape=_unused,
    type=lambda types, index: types[1],
    align=None,
    kernel=_gradient,
    arguments=lambda node: {**node.attrs, "kind": Type.of(node)},
    operands=("gradients", "operand"),
    framewise=False,
    random=True,
)
