"""Nodes, and how the type of one (shape, dynamic axes, dtype) follows from its operands'."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from . import axis as _axis
from .axis import Axis
from .errors import GraphError, Origin, located, origin
from .free import FREE, is_free, tried

Shape = tuple[int, ...]

INFERRED = -1  # a parameter's dimension that follows from what it is applied to

_uids = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Op:
    """The record of an operation: everything that the rest of the library knows of it.

    Attributes:
        name: its name, CNTK's where it has one.
        shape: `shape(*operand_shapes, **attrs)`, the result's sample shape. Raises `GraphError`.
        kernel: `kernel(run, *arrays, **arguments)`, written against `run.xp`. An operand with
            dynamic axes has its rows as the first axis of its array, one without just its shape.
        arguments: `arguments(node)`, what the kernel is given, once types are known; by default
            the node's attrs.
        gradient: `gradient(node, adjoint)`, one node for each operand, or None for those that
            none flows to. None: no gradient flows through the operation at all.
        operands: what the operands are called in messages.
        title: what the operation is called in messages; by default its name.
        axes: `axes(operand_axes, **attrs)`, the result's dynamic axes; by default their union.
        dtype: `dtype(operand_dtypes, **attrs)`; by default the one that all share.
        type: `type(operand_types, **attrs)`, shape, axes and dtype at once, instead of these three.
        align: `align(inputs, axes)`, the operands fitted to one another once types are known.
        infer: `infer(*operand_shapes, **attrs)`, the operands' shapes with inferred dimensions
            of parameters filled in.
        guess: whether `shape` copes with an operand of unknown shape (None).
        pointwise: each element of the result depends on the operands' elements at its place.
        framewise: whether it may stand in a loop: a frame's result depends on that frame alone.
        into: whether the kernel takes `out=`, an array to write the result to.
        new_axis: whether the result's time axis is its own, attrs["axis"].
        random: whether two equal calls may give different results.
        updates: `updates(node)`, what a step of training sets operands of it to: a node for each
            such `Stored` operand. Whoever runs such steps computes these nodes along with the
            rest and stores them; nothing else does.
        cases: operands to test it with: functions of a random generator that give
            (operand arrays, attrs); see `tests/ops`.
    """

    name: str
    shape: Callable[..., Shape]
    kernel: Callable[..., Any]
    gradient: Callable[..., Sequence[Any]] | None = None
    arguments: Callable[[Node], Mapping[str, Any]] = lambda node: node.attrs
    operands: tuple[str, ...] = ("operand",)
    title: str | None = None
    axes: Callable[..., tuple[Axis, ...] | None] | None = None
    dtype: Callable[..., np.dtype | None] | None = None
    type: Callable[..., Type] | None = None
    align: Callable[[Sequence[Node], tuple[Axis, ...]], Sequence[Node]] | None = None
    infer: Callable[..., Sequence[Shape]] | None = None
    guess: bool = False
    pointwise: bool = False
    framewise: bool = True
    into: bool = False
    new_axis: bool = False
    random: bool = False
    updates: Callable[[Node], Mapping[Node, Node]] | None = None
    cases: tuple[Callable[..., Any], ...] = field(default=(), repr=False)


class Node:
    """A value in a graph: an operation applied to other nodes, or a leaf (a subclass).

    `shape`, `axes` and `dtype` are None until they can be known: while a placeholder below is
    unbound.
    """

    __slots__ = (
        "_inputs",
        "attrs",
        "axes",
        "dtype",
        "handle",
        "name",
        "op",
        "open_since",
        "origin",
        "shape",
        "uid",
    )

    def __init__(
        self,
        op: Op | None,
        inputs: Iterable[Node] = (),
        attrs: Mapping[str, Any] | None = None,
        name: str = "",
        where: Origin | None = None,
    ) -> None:
        self.op = op
        self._inputs = tuple(inputs)
        self.attrs = dict(attrs or {})
        self.name = name
        self.origin = where or origin()
        self.uid = next(_uids)
        self.shape: Shape | None = None
        self.axes: tuple[Axis, ...] | None = None
        self.dtype: np.dtype | None = None
        self.handle: Any = None  # what a person holds for this node, if anything
        self.open_since = 0  # the count of bindings at which its type could not be known

    @property
    def inputs(self) -> tuple[Node, ...]:
        return tuple(map(resolve, self._inputs))

    @inputs.setter
    def inputs(self, inputs: Iterable[Node]) -> None:
        self._inputs = tuple(inputs)

    @property
    def time_axis(self) -> Axis:
        """The axis of its frames, if it is a sequence."""
        assert self.axes is not None and len(self.axes) == 2
        return self.axes[1]

    @property
    def is_delay(self) -> bool:
        return self.op is not None and self.op.name == "delay"

    @property
    def is_complete(self) -> bool:
        return self.shape is not None and self.axes is not None and self.dtype is not None

    @property
    def kind(self) -> str:
        return "Output"

    def __repr__(self) -> str:
        return f"<{self.op.name if self.op else self.kind} {describe(self)}>"


class Leaf(Node):
    """A node that is not computed from others."""

    __slots__ = ()

    def __init__(
        self,
        shape: Shape | None,
        axes: tuple[Axis, ...] | None,
        dtype: Any,
        name: str = "",
        where: Origin | None = None,
    ) -> None:
        super().__init__(None, name=name, where=where)
        self.shape = None if shape is None else tuple(int(n) for n in shape)
        self.axes = axes
        self.dtype = None if dtype is None else np.dtype(dtype)

    @property
    def kind(self) -> str:
        return type(self).__name__


class Input(Leaf):
    """A value that every run is fed with."""

    __slots__ = ("is_sparse", "needs_gradient")

    def __init__(
        self, shape: Shape, axes: tuple[Axis, ...], dtype: Any, name: str = "", **kw: Any
    ) -> None:
        shape = tuple(FREE if n < 0 else n for n in shape)
        super().__init__(shape, axes, dtype, name, **kw)
        self.needs_gradient = False
        self.is_sparse = False


class Stored(Leaf):
    """A value that stays from run to run, and may be set between them.

    Its array is made when its shape is known and it is first read.
    """

    __slots__ = ("_value", "initializer")

    def __init__(
        self,
        shape: Shape,
        dtype: Any,
        initializer: Callable[[Shape, np.dtype], np.ndarray],
        name: str = "",
        **kw: Any,
    ) -> None:
        super().__init__(shape, (), dtype, name, **kw)
        self.initializer = initializer
        self._value: np.ndarray | None = None

    @property
    def value(self) -> np.ndarray:
        if self._value is None:
            assert self.shape is not None
            if INFERRED in self.shape:
                raise GraphError(
                    f"{self.kind.lower()} {describe(self)} has no value yet: its shape "
                    f"follows from what it is applied to\n  made at {self.origin}",
                    mend="apply the model to its input first",
                )
            self._value = np.asarray(self.initializer(self.shape, self.dtype), self.dtype)
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        array = np.array(value, self.dtype)
        assert self.shape is not None
        while array.ndim > len(self.shape) and array.shape[0] == 1:  # CNTK overlooks these
            array = array[0]
        if INFERRED in self.shape and len(array.shape) == len(self.shape):
            self.shape = array.shape
        if array.shape != self.shape:
            if array.ndim:
                raise GraphError(
                    f"a value of shape {array.shape} can't be set on {self.kind.lower()} "
                    f"{describe(self)}"
                )
            array = np.full(self.shape, array, self.dtype)
        self._value = array


class Parameter(Stored):
    """A value that is learned."""

    __slots__ = ()


class State(Stored):
    """A value that runs themselves change: running statistics. See `Op.updates`."""

    __slots__ = ()


class Constant(Leaf):
    """A fixed array. A weak one, given without a dtype, takes the dtype of what it meets."""

    __slots__ = ("_given", "_value", "frozen", "weak")

    def __init__(
        self, value: Any, shape: Shape | None = None, dtype: Any = None, name: str = "", **kw: Any
    ) -> None:
        array = np.array(value)
        self.weak = dtype is None
        self.frozen = False  # whether it was a parameter once
        if dtype is None:
            exact = isinstance(value, np.ndarray) and array.ndim and array.dtype == np.float64
            dtype = np.float64 if exact else np.float32
        self._given = array  # 0.1 as a float64 is not 0.1 as a float32
        array = np.asarray(array, dtype)
        open_size = shape is not None and any(n < 0 for n in shape)  # a number, repeated as needed
        self._value = array if shape is None or open_size else np.broadcast_to(array, shape)
        super().__init__(shape if open_size else self._value.shape, (), dtype, name, **kw)

    @property
    def value(self) -> np.ndarray:
        return self._value

    @value.setter
    def value(self, value: np.ndarray) -> None:
        self._value = self._given = value

    def as_dtype(self, dtype: np.dtype) -> Constant:
        if dtype == self.dtype:
            return self
        return Constant(self._given, self.shape, dtype, self.name, where=self.origin)


class Placeholder(Leaf):
    """A value that is not known yet. Once bound it stands for its target and nothing else."""

    __slots__ = ("target",)

    def __init__(
        self,
        shape: Shape | None = None,
        axes: tuple[Axis, ...] | None = None,
        dtype: Any = None,
        name: str = "",
        **kw: Any,
    ) -> None:
        super().__init__(shape, axes, dtype, name, **kw)
        self.target: Node | None = None


def resolve(node: Node) -> Node:
    while isinstance(node, Placeholder) and node.target is not None:
        node = node.target
    return node


def describe(node: Node) -> str:
    """A node in a message: name, shape, dynamic axes, dtype if it is not float32."""
    shape = "of unknown shape" if node.shape is None else str(node.shape).replace("-1", "inferred")
    shape = shape.replace(str(FREE), "free")
    text = f"'{node.name}' {shape}" if node.name else shape
    if node.axes:
        text += " per frame of a sequence" if len(node.axes) == 2 else " per sample"
        if len(node.axes) == 2 and node.axes[1] != _axis.SEQUENCE:
            text += f" along {node.axes[1].name}"
    if node.dtype is not None and node.dtype != np.float32:
        text += f" {node.dtype}"
    return text


@dataclass
class Type:
    """What is known of a value's shape, dynamic axes and dtype; None for what is not."""

    shape: Shape | None
    axes: tuple[Axis, ...] | None
    dtype: np.dtype | None

    @staticmethod
    def of(node: Node) -> Type:
        return Type(node.shape, node.axes, node.dtype)


def _operands(node: Node) -> list[str]:
    assert node.op is not None
    names = node.op.operands
    lines = []
    for i, operand in enumerate(node.inputs):
        name = names[i] if i < len(names) else names[-1]
        maker = f" ({operand.op.name})" if operand.op else f" ({operand.kind})"
        lines.append(f"{name}: {describe(operand)}{maker}")
    return lines


def failed(node: Node, error: GraphError) -> GraphError:
    """`error`, which `node` gave, with the node's place in the user's code."""
    assert node.op is not None
    title = node.op.name if node.op.title is None else node.op.title
    return located(error, title, node.origin, _operands(node))


def _common_dtype(node: Node, types: Sequence[Type]) -> np.dtype | None:
    strong = {
        t.dtype
        for i, t in zip(node.inputs, types, strict=True)
        if not (isinstance(i, Constant) and i.weak)
    }
    if not strong:  # constants among themselves
        return np.result_type(*[t.dtype for t in types if t.dtype is not None])
    known = {d for d in strong if d is not None}
    if len(known) > 1:
        raise GraphError(
            "the operands have different types, " + " and ".join(sorted(map(str, known))),
            mend="give input_variable, Parameter and layers the same dtype "
            "(with C.default_options(dtype=np.float64): …), or cast one operand",
        )
    return known.pop() if known and None not in strong else None


def _infer(node: Node, types: Sequence[Type]) -> Type:
    """The type that follows from the operands' types, as far as these are known."""
    op = node.op
    assert op is not None
    if op.type:
        return op.type(types, **node.attrs)
    axes = [t.axes for t in types]
    result_axes = op.axes(axes, **node.attrs) if op.axes else _axis.union(axes)
    if op.dtype:
        dtype = op.dtype([t.dtype for t in types], **node.attrs)
    else:
        dtype = _common_dtype(node, types)
    shapes: Sequence[Shape | None] = [t.shape for t in types]
    known = all(s is not None for s in shapes)
    if any(map(is_free, shapes)):
        shape = tried(partial(op.shape, **node.attrs), shapes, FREE) if known or op.guess else None
        return Type(shape, result_axes, dtype)
    if known and op.infer and any(INFERRED in s for s in shapes if s):
        shapes = op.infer(*shapes, **node.attrs)
    shape = op.shape(*shapes, **node.attrs) if known or op.guess else None
    return Type(shape, result_axes, dtype)


def _settle(node: Node) -> None:
    """Gives `node` its final type, all operands having theirs."""
    op = node.op
    assert op is not None
    try:
        types = [Type.of(i) for i in node.inputs]
        if op.infer and any(i.shape and INFERRED in i.shape for i in node.inputs):
            shapes = [t.shape for t in types]
            filled = (
                tried(partial(op.infer, **node.attrs), shapes, INFERRED) or shapes
                if any(map(is_free, shapes))
                else op.infer(*shapes, **node.attrs)
            )
            for operand, shape in zip(node.inputs, filled, strict=True):
                if operand.shape != tuple(shape) and isinstance(operand, (Constant, Stored)):
                    operand.shape = tuple(shape)
                    if isinstance(operand, Constant) and INFERRED not in shape:
                        operand._value = np.broadcast_to(operand.value, shape)
            types = [Type.of(i) for i in node.inputs]
        result = _infer(node, types)
        node.shape, node.axes, node.dtype = result.shape, result.axes, result.dtype
        if node.is_complete and not any(is_free(n.shape) for n in (node, *node.inputs)):
            assert node.axes is not None and node.dtype is not None
            inputs = [
                i.as_dtype(node.dtype) if isinstance(i, Constant) and i.weak else i
                for i in node.inputs
            ]
            node.inputs = op.align(inputs, node.axes) if op.align else inputs
    except GraphError as error:
        node.shape = node.axes = node.dtype = None
        raise failed(node, error) from None


def apply(op: Op, *inputs: Node, name: str = "", **attrs: Any) -> Node:
    """The node of `op` applied to `inputs`; its type is known at once if theirs are."""
    node = Node(op, inputs, attrs, name)
    if all(i.is_complete for i in node.inputs):
        _settle(node)
    elif any(map(_is_open, node.inputs)):
        node.open_since = _bindings
    return node


_bindings = 1  # how often placeholders were bound


def _is_open(node: Node) -> bool:
    """Whether its type can't be known: nothing was bound since that was found out."""
    unbound = isinstance(node, Placeholder) or node.open_since == _bindings
    return unbound and not node.is_complete


def bind(placeholders: Mapping[Placeholder, Node]) -> None:
    """Makes each placeholder stand for its node from now on."""
    global _bindings
    _bindings += bool(placeholders)
    for placeholder, target in placeholders.items():
        target = resolve(target)
        if target is placeholder:
            raise GraphError(
                f"placeholder '{placeholder.name}' is bound to itself\n  at {placeholder.origin}"
            )
        if None not in (placeholder.shape, target.shape) and placeholder.shape != target.shape:
            raise GraphError(
                f"placeholder {describe(placeholder)} can't stand for {describe(target)}\n"
                f"  at {placeholder.origin}"
            )
        placeholder.target = target


def complete(roots: Iterable[Node]) -> None:
    """Finds the type of every node below `roots` that has none yet.

    A cycle's types depend on themselves: they are guessed round by round, an unknown operand
    being taken to agree with the others, until nothing changes, and then checked.
    Raises `GraphError` for a cycle without a delay.
    """
    from .traverse import dependents, order

    roots = [r for r in map(resolve, roots) if not r.is_complete and not _is_open(r)]
    if not roots:
        return
    open_nodes = order(roots, enter=lambda n: not n.is_complete)
    for node in open_nodes:
        if node.op and all(i.is_complete for i in node.inputs):
            _settle(node)
    open_nodes = [n for n in open_nodes if not n.is_complete]
    unbound = dependents(open_nodes, [n for n in open_nodes if n.op is None])
    for node in unbound:
        node.open_since = _bindings
    open_nodes = [n for n in open_nodes if n not in unbound]
    guesses: dict[Node, Type] = {}
    states: dict[Node, list[Any]] = {n: [] for n in open_nodes if n.is_delay}  # shapes guessed

    def type_of(node: Node) -> Type:
        return Type.of(node) if node.is_complete or not node.op else guesses.get(node, _UNKNOWN)

    for numbers_count in (False, True):  # only where nothing else decides
        for _ in range(len(open_nodes) + 2):
            changed = False
            for node in open_nodes:
                types = [type_of(i) for i in node.inputs]
                try:
                    guess = _guess(node, types, numbers_count)
                except GraphError as error:
                    raise failed(node, error) from None
                if guess != guesses.get(node):
                    guesses[node], changed = guess, True
                    if node.is_delay and guess.shape not in (seen := states[node]):
                        seen.append(guess.shape)
            if not changed:
                break
    for node in open_nodes:  # a delay may be read before what it delays is settled
        if node.is_delay and INFERRED not in (guesses[node].shape or ()):
            _adopt(node, guesses[node])
    for node in open_nodes:
        if not node.is_delay and all(i.is_complete for i in node.inputs):
            _settle(node)
    for node in open_nodes:
        if node.is_delay and all(i.is_complete for i in node.inputs):
            assumed = node.shape
            _settle(node)
            if node.shape != assumed:
                raise failed(node, _changing([*states[node], assumed, node.shape]))
    follows_data = any(is_free(i.shape) for n in open_nodes for i in n.inputs)
    for node in sorted(open_nodes, key=lambda n: not n.is_delay):
        if not node.is_complete and not follows_data:
            raise failed(node, _unknowable(node, guesses[node]))


def _changing(shapes: Sequence[Shape | None]) -> GraphError:
    first = [str(s) for s in dict.fromkeys(shapes) if s is not None][:3]
    return GraphError(
        f"the state's shape changes in every step: {', then '.join(first)} …",
        mend="return a state of the shape of the previous one",
    )


def _unknowable(node: Node, guess: Type) -> GraphError:
    if guess.shape is None or INFERRED in guess.shape:
        return GraphError(
            "its shape can't be known, it depends on itself alone",
            mend="give the recurrence's initial_state the state's shape: np.zeros(shape)",
        )
    return GraphError(
        "nothing says how many frames it has, no sequence flows into it",
        mend="declare the input with sequence.input_variable and let the step function use it",
    )


_UNKNOWN = Type(None, None, None)


def _adopt(node: Node, guess: Type) -> None:
    node.shape, node.axes, node.dtype = guess.shape, guess.axes, guess.dtype


def _guess(node: Node, types: Sequence[Type], numbers_count: bool) -> Type:
    """As `_infer`, but what is unknown is taken to agree with what is known.

    Only if `numbers_count` do weak constants have a say in the dtype, and single elements (which
    go with any shape) in the shape.
    """
    assert node.op is not None
    known_axes = [t.axes for t in types if t.axes is not None]
    known_dtypes = [
        t.dtype
        for i, t in zip(node.inputs, types, strict=True)
        if t.dtype is not None and (numbers_count or not (isinstance(i, Constant) and i.weak))
    ]
    own_rule = node.op.axes is not None
    axes = max(known_axes, key=len, default=None)
    if own_rule or axes is not None and len(axes) < 2:
        axes = None  # an unknown operand may well be a sequence
    agreeing = [
        Type(
            t.shape,
            t.axes if t.axes is not None else axes,
            t.dtype if t.dtype is not None else next(iter(known_dtypes), None),
        )
        for t in types
    ]
    guess = _infer(node, agreeing)
    open_shape = any(t.shape is None for t in types) and (node.op.pointwise or node.is_delay)
    if open_shape and not numbers_count and math.prod(guess.shape or ()) == 1:
        guess.shape = None
    return guess


_random = [np.random.SeedSequence(0)]


_first_uid = [0]  # of the nodes made since the seed was set


def reset_random(seed: int) -> None:
    """Starts the random numbers of initial values and of operations anew."""
    _random[0] = np.random.SeedSequence(seed)
    _first_uid[0] = next(_uids)


def random_key(node: Node) -> int:
    """What tells the random numbers of an operation from others': its number since the seed."""
    return (node.uid - _first_uid[0]) % (1 << 63)


def next_random() -> np.random.Generator:
    """A generator of its own for each parameter, in the order in which they ask."""
    return np.random.default_rng(_random[0].spawn(1)[0])
