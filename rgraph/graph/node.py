"""Nodes, the values of a graph, and records, which describe operations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import axis as _axis
from .axis import Axis
from .errors import GraphError, Origin, located, origin
from .free import FREE

if TYPE_CHECKING:
    from .types import Array, Library

Shape = tuple[int, ...]
Attributes: TypeAlias = Mapping[str, Any]  # which there are depends on the operation
# Operands to try an operation with, and its attributes
Case = Callable[[np.random.Generator], tuple[list[np.ndarray], Attributes]]

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
        title: what people call it, in messages and tables: a name, or a function of the node that
            gives one; by default its name.
        axes: `axes(operand_axes, **attrs)`, the result's dynamic axes; by default their union.
        dtype: `dtype(operand_dtypes, **attrs)`; by default the one that all share.
        type: `type(operand_types, **attrs)`, shape, axes and dtype at once, instead of these three.
        align: `align(inputs, axes, **attrs)`, the operands fitted to one another once types are
            known.
        infer: `infer(*operand_shapes, **attrs)`, the operands' shapes with inferred dimensions
            of parameters filled in.
        fitted: `fitted(node)`, the node that stands for it once the shapes of operands are known
            that were not when it was made; None: itself.
        guess: whether `shape` copes with an operand of unknown shape (None).
        pointwise: each element of the result depends on the operands' elements at its place.
        function: of a pointwise operation: `function(xp)`, what it is on whole arrays of an array
            library; it takes `out=`, too.
        expression: of a pointwise operation: what it is of single numbers, by its operands' names;
            see `ops.expressions`. It means what the kernel means, NaN and infinities included.
        cheap: whether to compute it again costs less than to write its result and read it.
        takes_tail: whether pointwise operations on its result may be done along with it.
        work: `work(node)`, its floating-point operations for one row (for all, if it has no rows);
            by default one for each element of a pointwise operation, and none for others.
        constant: whether gradients take its result for a constant, whatever it depends on.
        finite: whether finite operands of moderate size give a finite result.
        delay: whether its result is its first operand at another step of a loop.
        of_last_frames: `of_last_frames(node)`, the kernel that gives its result from the last
            frame of each sequence of its operand; None where it needs others.
        is_first_frame: `is_first_frame(node)`, whether it gives its operand's first frame.
        part: `part(node)`, the one range along one axis that it takes from its operand, as
            (axis, start, size), the axis counted from the last; None where it takes no such.
        joins_along: `joins_along(node)`, the axis, counted from the last, along which it puts its
            operands one after the other; None where it doesn't.
        framewise: whether it may stand in a loop: a frame's result depends on that frame alone.
        on_one_frame: `on_one_frame(node, operands, passed)`, the node that stands for it where a
            sequence is run frame by frame: `operands` are those of one frame of each sequence,
            `passed` says how many frames went before. None: the same operation.
        in_window: `in_window(node, passed, left)`, the node that stands for it in a window of
            frames, where its own kernel would take the window for the sequence: `passed` and
            `left` are sequences that say how many frames went before each one and how many are
            to come. None: the same operation.
        of_windows: `of_windows(node)`, how its result, which has no frames, follows from its
            results for windows of frames: their "sum", or that of the "first" or "last" window of
            each sequence; "" where it needs all frames at once.
        instead: for a message, what to do where it stands in a loop and may not.
        into: whether the kernel takes `out=`, an array to write the result to.
        new_axis: whether the result's time axis is its own, attrs["axis"].
        sparse: `sparse(node)`, whether its result is sparse vectors, with a few elements that are
            not 0.
        chosen_rows: `chosen_rows(node)`, the operand of which sparse vectors choose rows, so that
            no others have a gradient; None where there is none.
        random: whether two equal calls may give different results.
        draws: whether its kernel draws random numbers.
        calls_back: whether its kernel, or that of its gradient, calls a user's own code.
        waits: whether its kernel looks at values in the CPU's memory, and so waits for them.
        assigns: whether its first operand, which stays from run to run, is set to its result once a
            run is over.
        inference_form: `inference_form(node)`, the node that stands for it outside training;
            None: training makes no difference.
        updates: `updates(node, now)`, what a step of training sets operands of it to: a node for
            each such `Stored` operand; `now` has the nodes of what came before in the same step.
            Whoever runs such steps computes these nodes along with the rest and stores them;
            nothing else does.
        right_first: whether CNTK counts its last operand as the first, which shows in the order of
            a function's parameters.
        attributes: `attributes(node)`, what it was made with besides its operands, under CNTK's
            names; by default its attrs.
        cases: operands to test it with: functions of a random generator that give
            (operand arrays, attrs); see `tests/ops`.
    """

    name: str
    shape: Callable[..., Shape]
    kernel: Callable[..., Array]
    gradient: Callable[..., Sequence[Node | None]] | None = None
    arguments: Callable[[Node], Attributes] = lambda node: node.attrs
    operands: tuple[str, ...] = ("operand",)
    title: str | Callable[[Node], str] | None = None
    axes: Callable[..., tuple[Axis, ...] | None] | None = None
    dtype: Callable[..., np.dtype | None] | None = None
    type: Callable[..., Type] | None = None
    align: Callable[..., Sequence[Node]] | None = None
    infer: Callable[..., Sequence[Shape]] | None = None
    fitted: Callable[[Node], Node | None] = lambda node: None
    guess: bool = False
    pointwise: bool = False
    function: Callable[[Library], Callable[..., Array]] | None = None
    expression: str = ""
    cheap: bool = False
    takes_tail: bool = False
    work: Callable[[Node], int] | None = None
    constant: bool = False
    finite: bool = True
    delay: bool = False
    of_last_frames: Callable[[Node], Callable[..., Array] | None] = lambda node: None
    is_first_frame: Callable[[Node], bool] = lambda node: False
    part: Callable[[Node], tuple[int, int, int] | None] = lambda node: None
    joins_along: Callable[[Node], int | None] = lambda node: None
    framewise: bool = True
    on_one_frame: Callable[[Node, Sequence[Node], Node], Node] | None = None
    in_window: Callable[[Node, Node, Node], Node] | None = None
    of_windows: Callable[[Node], str] = lambda node: ""
    instead: str = "take it out of the step function, or put past_value in its place"
    into: bool = False
    new_axis: bool = False
    sparse: Callable[[Node], bool] = lambda node: False
    chosen_rows: Callable[[Node], int | None] = lambda node: None
    random: bool = False
    draws: bool = False
    calls_back: bool = False
    waits: bool = False
    assigns: bool = False
    inference_form: Callable[[Node], Node] | None = None
    updates: Callable[[Node, Mapping[Node, Node]], Mapping[Node, Node]] | None = None
    right_first: bool = False
    attributes: Callable[[Node], Attributes] = lambda node: {
        k: v for k, v in node.attrs.items() if k not in ("block", "layer")
    }
    cases: tuple[Case, ...] = field(default=(), repr=False)


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
        "target",
        "uid",
    )

    def __init__(
        self,
        op: Op | None,
        inputs: Iterable[Node] = (),
        attrs: Attributes | None = None,
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
        self.target: Node | None = None  # what stands for it: of a placeholder, once it is bound
        self.open_since = 0  # the count of bindings at which its type could not be known

    @property
    def inputs(self) -> tuple[Node, ...]:
        for node in self._inputs:
            if node.target is not None:
                return tuple(map(resolve, self._inputs))
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: Iterable[Node]) -> None:
        self._inputs = tuple(inputs)

    @property
    def time_axis(self) -> Axis:
        """The axis of its frames, if it is a sequence."""
        assert self.axes is not None and len(self.axes) == 2
        return self.axes[1]

    @property
    def batch_axis(self) -> Axis:
        """The axis of its samples or sequences, if it has one."""
        assert self.axes
        return self.axes[0]

    @property
    def is_delay(self) -> bool:
        return self.op is not None and self.op.delay

    @property
    def is_complete(self) -> bool:
        return self.shape is not None and self.axes is not None and self.dtype is not None

    @property
    def kind(self) -> str:
        return "Output"

    @property
    def title(self) -> str:
        """The name of the operation for people, or the kind of a leaf."""
        if self.op is None:
            return self.kind
        title = self.op.title
        return self.op.name if title is None else title(self) if callable(title) else title

    def __repr__(self) -> str:
        return f"<{self.op.name if self.op else self.kind} {describe(self)}>"


def resolve(node: Node) -> Node:
    """The node itself, or the target of a bound placeholder."""
    while node.target is not None:
        node = node.target
    return node


def same_type(*nodes: Node) -> bool:
    """Whether all have the same shape, axes and dtype."""
    first = nodes[0]
    of = first.shape, first.axes, first.dtype
    return all((n.shape, n.axes, n.dtype) == of for n in nodes[1:])


def twin(
    node: Node,
    op: Op | None = None,
    inputs: Iterable[Node] = (),
    attrs: Attributes | None = None,
) -> Node:
    """A node of the same type with the same or another operation; by default without inputs.

    It has the same `uid`, so random operations draw the same numbers with and without passes.
    """
    new = Node(
        op or node.op, inputs, node.attrs if attrs is None else attrs, node.name, node.origin
    )
    new.uid = node.uid
    new.shape, new.axes, new.dtype = node.shape, node.axes, node.dtype
    return new


def describe(node: Node, type: Type | None = None) -> str:
    """A node for messages: name, shape, dynamic axes, and dtype if it is not float32.

    Args:
        type: the type known so far, if it is not final yet.
    """
    told = describe_type(node if type is None or node.shape is not None else type)
    return f"'{node.name}' {told}" if node.name else told


def describe_type(of: Node | Type) -> str:
    """Shape, dynamic axes, dtype if it is not float32."""
    shape = "of unknown shape" if of.shape is None else str(of.shape).replace("-1", "inferred")
    text = shape.replace(str(FREE), "free")
    if of.axes:
        own = of.axes[0].is_made
        text += " per frame of a sequence" if len(of.axes) == 2 else "" if own else " per sample"
        text += f" per row of a {of.axes[0].name}" if own else ""
        if len(of.axes) == 2 and of.axes[1] != _axis.SEQUENCE:
            text += f" along {of.axes[1].name}"
    if of.dtype is not None and of.dtype != np.float32:
        text += f" {of.dtype}"
    return text


@dataclass(eq=False)
class Type:
    """What is known of a value's shape, dynamic axes and dtype; None for what is unknown."""

    shape: Shape | None
    axes: tuple[Axis, ...] | None
    dtype: np.dtype | None

    @property
    def is_complete(self) -> bool:
        return self.shape is not None and self.axes is not None and self.dtype is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Type):
            return NotImplemented
        both_known = (self.dtype is None) == (other.dtype is None)  # float64 == None for NumPy
        return both_known and vars(self) == vars(other)

    @staticmethod
    def of(node: Node) -> Type:
        return Type(node.shape, node.axes, node.dtype)


def _maker(node: Node) -> str:
    if node.op is None:
        return node.kind
    layer = node.attrs.get("block")
    return f"layer {layer}" if layer else "the previous state" if node.is_delay else node.title


def _operands(node: Node, types: Sequence[Type] = ()) -> list[str]:
    assert node.op is not None
    names = node.op.operands
    lines = []
    for i, operand in enumerate(node.inputs):
        name = names[i] if i < len(names) else names[-1]
        text = describe(operand, types[i] if types else None)
        lines.append(f"{name}: {text} ({_maker(operand)})")
    return lines


def failed(node: Node, error: GraphError, types: Sequence[Type] = ()) -> GraphError:
    """`error`, raised by `node`, with its place in the user's code.

    `types` are those of the operands, if some are not final.
    """
    assert node.op is not None
    return located(error, node.title, node.origin, _operands(node, types))


def random_key(node: Node) -> int:
    """The key of an operation's random numbers.

    In a plan for a function, it is the operation's position among the random ones.
    """
    return node.uid


AUTO_SEED = 2**64 - 3  # as a seed, CNTK's number for none
