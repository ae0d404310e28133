"""Functions: what people compose, evaluate and differentiate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from .. import graph, ops
from ..graph import FREE, GraphError, Node, Placeholder
from ..graph.node import describe, resolve
from ..ops import records
from ..passes import autodiff
from ..runtime.evaluation import set_seed
from .cloning import CloneMethod, copy, operand
from .operand import Operand
from .piping import piped
from .running import Runnable
from .tracing import annotated, is_outer, nodes_of, trace
from .types import Type
from .variables import Constant, Parameter, Variable, handle


class Function(Runnable):
    """One or more values as a function of inputs.

    Operations give functions. `Function(f)`, also as a decorator, makes one of a Python function
    of variables. Calling a function on variables or functions gives a new one; the parameters
    are shared.

    Functions, variables, parameters, learners and trainers can be pickled and deep-copied, so
    that other processes can have them; what is pickled together stays together.

    >>> @C.Function
    ... def twice(x):
    ...     return x * 2
    >>> twice(C.constant([1, 2])).eval()
    array([2., 4.], dtype=float32)
    """

    def __new__(cls, source: Any = None, *args: Any, **kwargs: Any) -> Function:
        if isinstance(source, Function):
            return source
        self = super().__new__(cls)
        if callable(source):
            nodes, arguments = trace(source)
            self._start(nodes, arguments, getattr(source, "__name__", ""))
        elif isinstance(source, Iterable) and not isinstance(source, Operand):
            self._start(source, *args, **kwargs)
        elif source is not None:
            raise GraphError(
                f"a function is made of a Python function of variables, got {source!r:.60}",
                hint="lambda x: …",
            )
        return self

    def _start(
        self, nodes: Iterable[Node], signature: Sequence[Node] | None = None, name: str = ""
    ) -> None:
        self._nodes = [resolve(n) for n in nodes]
        self._signature = None if signature is None else list(signature)
        self._name = name
        self._is_primitive = False
        self.custom_attributes: dict[str, Any] = {}  # a user's own, saved along

    @overload
    def __call__(self, *args: Operand, **kwargs: Operand) -> Function: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function applied: to variables and functions it gives a function, to data values.

        Positional and named arguments correspond to `arguments`. What is left out stays open.
        Values are in the form that `eval` gives, a tuple of them if there are several outputs.

        >>> f = C.top_k(C.input_variable(3), 1)
        >>> values, places = f([[3, 7, 5]])
        >>> values, places
        (array([[7.]], dtype=float32), array([[1.]], dtype=float32))
        """
        given = self._match(args, kwargs)
        if given and not any(isinstance(v, (Operand, Node)) for v in given.values()):
            values = self._run(self._current(), given)
            return tuple(values) if len(values) > 1 else values[0]
        replace = {k.node: records.as_node(v) for k, v in given.items()}
        for argument, value in replace.items():
            _refuse_another_shape(argument, value)
        nodes = graph.copy(self._current(), replace)
        return Function(nodes, self._left_open(given), self._name)

    def _left_open(self, given: Mapping[Variable, Any]) -> list[Node] | None:
        """The signature once arguments are given: a function's own stand in its place."""
        declared = given if self._signature is None else map(handle, self._declared())
        found: list[Node] = []
        for argument in declared:
            value = given.get(argument, argument)
            if isinstance(value, Function):
                found += value._declared()
            elif value is argument:
                found.append(argument.node)
        return list(dict.fromkeys(found)) or None

    def _match(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Variable, Any]:
        parameters = [a for a in self.arguments if not is_outer(a.node)]
        if len(args) > len(parameters):
            raise GraphError(
                f"{self.name or 'the function'} takes {len(parameters)} arguments "
                f"({', '.join(describe(p.node) for p in parameters)}), got {len(args)}"
            )
        given: dict[Variable, Any] = {}
        for parameter, value in zip(parameters, args, strict=False):
            given[parameter] = value
        for name, value in kwargs.items():
            named = [p for p in parameters if p.name == name]
            if not named or named[0] in given:
                raise GraphError(
                    f"{self.name or 'the function'} has no free argument '{name}'; it has "
                    f"{', '.join(describe(p.node) for p in parameters)}"
                )
            given[named[0]] = value
        return given

    def __rshift__(self, other: Any) -> Any:
        """`f >> g` is g applied to the results of f, as in `layers.Sequential([f, g])`."""
        values = piped(self.outputs if len(self._nodes) > 1 else (self,), other)
        if len(values) == 1 and self._signature is None:
            return values[0]
        return Function([n for v in values for n in nodes_of(v)], self._declared() or None)

    def __lshift__(self, other: Any) -> Any:
        """`f << g` is f applied to the result of g."""
        return self(other)

    def replace_placeholders(self, substitutions: Mapping[Any, Any]) -> Function:
        """Binds placeholders for good, here and wherever they are used; returns the function.

        A placeholder may be bound to what depends on it: that ties a cycle, which must have a
        delay in it.

        >>> x = C.sequence.input_variable(1)
        >>> p = C.placeholder()
        >>> total = x + C.sequence.past_value(p)
        >>> _ = total.replace_placeholders({p: total})
        >>> total.eval({x: np.array([[1], [2], [3]])})[0]
        array([[1.],
               [3.],
               [6.]], dtype=float32)
        """
        bindings = {records.as_node(k): records.as_node(v) for k, v in substitutions.items()}
        for node in bindings:
            if not isinstance(node, Placeholder):
                raise GraphError(f"{describe(node)} is no placeholder, it is bound already")
        try:
            graph.bind(bindings)  # type: ignore[arg-type]
            self._current()
        except GraphError:
            for node in bindings:
                node.target = None
            raise
        for node in bindings:  # used again, the variable is a placeholder once more
            if isinstance(node.handle, Variable):
                node.handle.node = Placeholder(name=node.name)
                node.handle.node.handle, node.handle = node.handle, None
        vars(self).pop("_runner", None)
        return self

    @staticmethod
    def with_signature(*types: Any, **named: Any) -> Callable[[Callable[..., Any]], Function]:
        """A decorator: a function of arguments of these types, in their order or by name.

        >>> from rgraph.layers.typing import Tensor
        >>> @C.Function.with_signature(Tensor[2])
        ... def f(x):
        ...     return x * 2
        >>> f([[1, 2]])
        array([[2., 4.]], dtype=float32)
        """
        return lambda f: Function(annotated(f, *types, **named))

    def update_signature(self, *types: Any, **named: Any) -> None:
        """Gives the open arguments types, in their order or by name, for good.

        Args:
            types: `Tensor[3, 4]`, `Sequence[Tensor[3]]`, or just a shape; None leaves one open.

        >>> f = C.layers.Dense(2)
        >>> f.update_signature(3)
        >>> f.W.shape
        (3, 2)
        """
        given = self._match(types, named)
        inputs = {v: Type.of(t).new(v.name) for v, t in given.items() if t is not None}
        self.replace_placeholders(inputs)

    def replace_placeholder(self, substitution: Any) -> Function:
        """Binds the only placeholder, as `replace_placeholders`.

        >>> f = C.placeholder() * 2
        >>> f.replace_placeholder(C.constant([1, 2])).eval()
        array([2., 4.], dtype=float32)
        """
        own = [p for p in self.placeholders if not is_outer(p.node)]
        if len(own) != 1:
            raise GraphError(f"{self!r} has {len(own)} placeholders, not one")
        return self.replace_placeholders({own[0]: substitution})

    def clone(self, method: str = "clone", substitutions: Mapping[Any, Any] | None = None) -> Any:
        """A copy.

        The inputs and placeholders of its `signature` are its own, in this order.

        Args:
            method: `"share"`: with the same parameters and constants; `"clone"`: with its own
                that start at the same values; `"freeze"`: with constants of its own for both.
            substitutions: what to put in the place of inputs, placeholders or inner values.

        >>> f = C.Parameter(2, init=1) * C.placeholder()
        >>> f.clone("freeze").parameters
        ()
        """
        nodes, signature = copy(self, method, substitutions or {})
        return Function(nodes, signature or None, self._name)

    def gradients(self, wrt: Sequence[Any]) -> list[Function]:
        """The gradients of the sum of the output, as functions: they have gradients themselves.

        Raises:
            GraphError: a size in the graph is free, so that a run decides it.

        >>> x = C.input_variable(1)
        >>> (first,) = (x * x * x).gradients([x])
        >>> first.grad({x: [[2.0]]}, wrt=[x])
        array([[12.]], dtype=float32)
        """
        free = [n for n in graph.order([self.node]) if FREE in (n.shape or ())]
        if free:  # rules of gradients count elements, and there is nothing to count yet
            raise GraphError(
                f"a run decides the size of {describe(free[-1])}, and gradients as functions must "
                f"know it\n  made at {free[-1].origin}",
                hint="grad(at, wrt=[…]) computes them when the size is known",
            )
        nodes = autodiff.gradients(self.node, [records.as_node(w) for w in wrt])
        signature = [a.node for a in self.arguments]  # one may only say how long sequences are
        return [Function([n], signature) for n in nodes]


def BlockFunction(op_name: str, name: str = "") -> Callable[[Callable[..., Any]], Function]:
    """Makes a layer of a Python function: a `Function` whose parts messages and `summary` name.

    Args:
        op_name: what kind of layer it is.
        name: its own name, which `find_by_name` finds.

    Source: CNTK's `BlockFunction`.

    >>> @C.BlockFunction("Twice", "my_twice")
    ... def twice(x):
    ...     return x * 2
    >>> twice.name
    'my_twice'
    """

    def decorate(f: Callable[..., Any]) -> Function:
        with graph.errors.layer(f"{op_name} '{name}'" if name else op_name):
            nodes, arguments = trace(f)
            used = set(graph.order(nodes))
            ends = [a for a in arguments if a in used]
            nodes = ops.shaping.mark_block(nodes, op_name, name, ends)
        return Function(nodes, arguments, name)

    return decorate


def as_block(
    composite: Any,
    block_arguments_map: Sequence[tuple[Any, Any]],
    block_op_name: str,
    block_instance_name: str = "",
) -> Function:
    """A function applied to operands, as one block under a name, as a layer is.

    Args:
        composite: a function of placeholders.
        block_arguments_map: pairs of a placeholder and the operand in its place.
        block_op_name: the kind of block.
        block_instance_name: its own name.

    Source: CNTK's `as_block`.

    >>> p, x = C.placeholder(), C.input_variable(1)
    >>> C.as_block(p * p, [(p, x)], "Square").eval({x: [[3]]})
    array([[9.]], dtype=float32)
    """
    pairs = {operand(k): operand(v) for k, v in block_arguments_map}
    operands = [resolve(v) for v in pairs.values()]
    inner = graph.copy(nodes_of(composite), pairs)
    kind, name = block_op_name, block_instance_name
    return Function(ops.shaping.mark_block(inner, kind, name, operands), None, name)


def combine(*operands: Any, name: str = "") -> Function:
    """Several functions or variables as one function with all their outputs.

    >>> x = C.input_variable(1)
    >>> len(C.combine(x + 1, x + 2).outputs)
    2
    """
    listed = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    flat = operands[0] if listed else operands
    nodes: list[Node] = []
    for o in flat:
        nodes += nodes_of(o)
    return Function(nodes, None, name)


def _hold(node: Node | Sequence[Node]) -> Any:
    if not isinstance(node, Node):
        return Function(node)
    user = node.attrs.get("function")
    if isinstance(user, Function) and node in user._nodes:
        return user
    return Function([node]) if node.op else handle(node)


records.hold = _hold


def _refuse_another_shape(argument: Node, value: Node) -> None:
    """Where an argument says its shape, so must be what it is given.

    One may leave an axis open; axes of one element in front make no difference.
    """
    own, given = argument.shape, value.shape
    if own is None or given is None:
        return
    while len(given) > len(own) and given[0] == 1:
        given = given[1:]
    alike = (a == b or FREE in (a, b) for a, b in zip(own, given, strict=False))
    if len(own) != len(given) or not all(alike):
        raise GraphError(
            f"argument {argument.name or '?'} has shape {own}, it is given a value of shape {given}"
        )


__all__ = [
    "BlockFunction",
    "CloneMethod",
    "Constant",
    "Function",
    "Parameter",
    "Variable",
    "as_block",
    "combine",
    "set_seed",
]
