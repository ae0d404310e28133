"""Operations with forward and backward functions written by users.

    user_call       calls the user's forward on all operands; read only by those below
    user_output     one of the outputs of that call
    user_back       calls the user's backward with the gradient of one output
    user_gradient   the gradient with respect to one operand, from that call

The user's code takes and returns arrays in the user's format: samples in the order of the
minibatch, sequences as a list of arrays. In a loop these are sequences of one frame, of the
samples that are still going. What the user's code returns is stored in the run's memo; the value
of a call is its index there, for each frame that it computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from ..graph import BATCH, FREE, Axis, GraphError, Node, apply, as_numbers
from ..graph.node import Type
from ..graph.types import Array, Data, DTypeLike
from .records import define

if TYPE_CHECKING:
    from ..plan import Run


class UserOperation:
    """The interface of user functions that operations and model files use."""

    @classmethod
    def known_as(cls) -> str:
        """The name of the class in files."""
        return f"{cls.__module__}.{cls.__name__}"

    @property
    def op_name(self) -> str:
        """The name in files; a user's class may override it."""
        return self.known_as()

    @property
    def instance_name(self) -> str:
        """The name of this instance."""
        raise NotImplementedError

    def set_output(self, index: int, node: Node) -> None:
        """Set one of the outputs to a node that was read from a file."""
        raise NotImplementedError

    def output_type(self, types: Sequence[Type], index: int) -> Type:
        """The type of an output for operands of these types, which may be unknown."""
        raise NotImplementedError

    def passes_gradient(self, index: int) -> bool:
        """Whether the gradient of an output flows back through the function."""
        raise NotImplementedError

    def run_forward(self, arguments: Sequence[Array]) -> tuple[object, list[Data]]:
        """Return a state for `run_backward`, and the values of the outputs."""
        raise NotImplementedError

    def run_backward(
        self, state: object, results: Sequence[Data], index: int, g: Array
    ) -> list[Data | None]:
        """Return the gradient (or None) of each operand, given the gradient `g` of one output."""
        raise NotImplementedError

    def serialize(self) -> Any:
        """Return the state for `deserialize`: numbers, strings, arrays, lists, dicts."""
        return {}

    @staticmethod
    def deserialize(inputs: Sequence[Any], name: str, state: Any) -> Any:
        """Create the function from its operands, its name and the result of `serialize`."""
        raise NotImplementedError("a user function that is to be loaded must define deserialize")


class _Called(NamedTuple):
    state: object
    results: list[Data]


def _rows_of_sequences(run: Run, axis: Axis) -> list[np.ndarray]:
    """For each sequence, in the minibatch's order: its rows among those computed now."""
    layout = run.layouts[axis]
    if not run.step:
        return layout.rows_of_sequences
    return [np.array([i]) for i in np.argsort(layout.order[: run.rows((BATCH, axis))])]


def _to_user(run: Run, rows: Array, axes: tuple[Axis, ...]) -> Array:
    array = run.engine.to_numpy(rows)
    if len(axes) == 2:
        if not run.step:
            return run.layouts[axes[1]].unpack(array)
        return [array[i] for i in _rows_of_sequences(run, axes[1])]
    order = run.order(axes[0]) if axes else None
    array = array[np.argsort(order)] if order is not None else array.copy()
    if axes and run.step:
        time = run.step[0]
        array = array[np.sort(run.layouts[time].order[: run.rows((*axes, time))])]
    return array


def _from_user(run: Run, value: Array, kind: Type) -> Array:
    shape, axes = kind.shape or (), kind.axes or ()
    if FREE in shape:
        raise GraphError(
            "the size of a user function's result must be known before it runs, and is free",
            hint="give output_variable a size: an input's, self.inputs[0].shape, or a number",
        )
    if len(axes) < 2:
        if run.step:
            raise GraphError(
                "in a recurrence a user function is called frame by frame, but this value is the "
                "same for all frames of a sequence",
                hint="make it a sequence: sequence.broadcast_as(value, x)",
            )
        array = _given(value, kind, run.rows(axes) if axes else 1, "samples")
        order = run.order(axes[0]) if axes else None
        array = array if order is None else array[order]
        return run.engine.from_numpy(array if axes else array[0])
    if axes[1] not in run.layouts:
        raise GraphError(
            "a user function can return sequences only on the time axis of one of its operands"
        )
    out = np.empty((run.rows(axes), *shape), kind.dtype)
    places = _rows_of_sequences(run, axes[1])
    _check_count(0 if value is None else len(value), len(places), "sequences")
    for rows, frames in zip(places, value, strict=True):
        out[rows] = _given(frames, kind, len(rows), "frames of a sequence")
    return run.engine.from_numpy(out)


def _given(value: Data, kind: Type, count: int, of: str) -> np.ndarray:
    """Check and convert `count` rows that a user function returned."""
    array = as_numbers(value, "a user_function").astype(kind.dtype, copy=False)
    size = math.prod(kind.shape or ())
    if array.size != count * size:
        _check_count(array.size // max(size, 1), count, of)
        raise GraphError(f"it returned an array of shape {array.shape} for {count} {of}")
    return array.reshape((count, *(kind.shape or ())))


def _check_count(count: int, wanted: int, of: str) -> None:
    if count != wanted:
        raise GraphError(
            f"it returned {count} {of}, expected {wanted}",
            hint="for sequences, forward and backward take a list of arrays and must return such "
            "a list",
        )


# Results of the user's code, which values of the graph refer to by index


def _kept(run: Run) -> list[Any]:
    return run.memo.setdefault("user calls", [])


def _keep(run: Run, what: Array, axes: tuple[Axis, ...], dtype: DTypeLike) -> Array:
    _kept(run).append(what)
    shape = (run.rows(axes),) if axes else ()
    return run.xp.full(shape, len(_kept(run)) - 1, dtype)


def _parts(run: Run, called: Array, axes: tuple[Axis, ...]) -> Iterator[tuple[Any, Any]]:
    """Stored results with the rows they are for: one per step if the call was in a loop."""
    numbers = run.engine.to_numpy(called).astype(int).ravel()
    if run.step or len(axes) < 2 or not (numbers != numbers[:1]).any():
        if len(numbers):
            yield _kept(run)[numbers[0]], ...
        return
    starts = run.layouts[axes[1]].offsets
    for start, end in zip(starts, starts[1:], strict=False):
        run.step = (axes[1], slice(start, end))
        yield _kept(run)[numbers[start]], slice(start, end)
    run.step = None


def _call(
    run: Run,
    *rows: Array,
    function: UserOperation,
    axes: Sequence[tuple[Axis, ...]],
    own: tuple[Axis, ...],
    dtype: DTypeLike,
) -> Array:
    arguments = [_to_user(run, r, a) for r, a in zip(rows, axes, strict=True)]
    return _keep(run, _Called(*function.run_forward(arguments)), own, dtype)


def _output(
    run: Run, called: Array, *rows: Array, index: int, kind: Type, axes: tuple[Axis, ...]
) -> Array:
    parts = [_from_user(run, c.results[index], kind) for c, _ in _parts(run, called, axes)]
    return parts[0] if len(parts) == 1 else _joined(run, parts, kind)


def _back(
    run: Run,
    called: Array,
    g: Array,
    *,
    function: UserOperation,
    index: int,
    own: tuple[Axis, ...],
    axes: tuple[Axis, ...],
    dtype: DTypeLike,
) -> Array:
    parts = [
        _keep(
            run,
            function.run_backward(c.state, c.results, index, _to_user(run, g[rows], axes)),
            own,
            dtype,
        )
        for c, rows in _parts(run, called, own)
    ]
    return parts[0] if len(parts) == 1 else run.xp.concatenate(parts or [called])


def _gradient(
    run: Run, found: Array, like: Array, *, index: int, kind: Type, axes: tuple[Axis, ...]
) -> Array:
    parts = [
        run.xp.zeros_like(like[rows] if kind.axes else like)
        if gradients[index] is None
        else _from_user(run, gradients[index], kind)
        for gradients, rows in _parts(run, found, axes)
    ]
    return parts[0] if len(parts) == 1 else _joined(run, parts, kind)


def _joined(run: Run, parts: Sequence[Array], kind: Type) -> Array:
    empty = run.xp.zeros((0,) * len((kind.axes or ())[:1]) + (kind.shape or ()), kind.dtype)
    return run.xp.concatenate(parts) if parts else empty


def _number(types: Sequence[Type], **_: object) -> Type:
    """The type of the index of a call: one for each frame, since loops store values by frame."""
    known = [t.axes for t in types if t.axes is not None]
    axes = max(known, key=len, default=()) if len(known) == len(types) else None
    if axes and any(
        a != axes[: len(a)] for a in known
    ):  # with several time axes it can't be in a loop
        axes = ()
    return Type((), axes, next((t.dtype for t in types if t.dtype is not None), None))


def _output_gradient(node: Node, g: Node) -> list[Node | None]:
    called, *operands = node.inputs
    function: UserOperation = node.attrs["function"]
    index: int = node.attrs["index"]
    if not function.passes_gradient(index):
        return [None] * len(node.inputs)
    found = apply(BACK, called, g, function=function, index=index)
    return [None, *(apply(GRADIENT, found, x, index=i) for i, x in enumerate(operands))]


def _refuse_gradient(node: Node, g: Node) -> list[Node | None]:
    raise GraphError(
        "the backward of a user_function can't be differentiated",
        hint="for gradients of gradients, write the function with operations of this library",
    )


def _unused(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the shape comes from `type`")


CALL = define(
    "user_call",
    title="user_function",
    shape=_unused,
    type=_number,
    align=None,
    kernel=_call,
    arguments=lambda node: {
        **node.attrs,
        "axes": [i.axes or () for i in node.inputs],
        "own": node.axes,
        "dtype": node.dtype,
    },
    random=True,
    waits=True,
)
OUTPUT = define(
    "user_output",
    title="user_function",
    shape=_unused,
    calls_back=True,
    type=lambda types, function, index: function.output_type(types[1:], index),
    align=None,
    kernel=_output,
    arguments=lambda node: {
        "index": node.attrs["index"],
        "kind": Type.of(node),
        "axes": node.inputs[0].axes,
    },
    gradient=_output_gradient,
    random=True,
    waits=True,
)
BACK = define(
    "user_back",
    title="gradient of a user_function",
    shape=_unused,
    type=lambda types, **_: types[0],
    align=None,
    kernel=_back,
    arguments=lambda node: {
        **node.attrs,
        "own": node.axes,
        "axes": node.inputs[1].axes,
        "dtype": node.dtype,
    },
    operands=("call", "gradient"),
    random=True,
    waits=True,
)
GRADIENT = define(
    "user_gradient",
    title="gradient of a user_function",
    shape=_unused,
    type=lambda types, index: types[1],
    align=None,
    kernel=_gradient,
    arguments=lambda node: {**node.attrs, "kind": Type.of(node), "axes": node.inputs[0].axes},
    operands=("gradients", "operand"),
    gradient=_refuse_gradient,
    random=True,
    waits=True,
)
