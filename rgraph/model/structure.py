"""What a function is made of: its inputs, outputs and parameters, its operation, its parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .. import graph
from ..graph import GraphError, Node, Placeholder
from ..graph.node import describe, resolve
from ..ops import records
from ..runtime import evaluation
from . import search
from .operand import Operand
from .tracing import is_outer
from .variables import Variable, handle

_renaming = False


def allow_renaming_functions(allow: bool = True) -> None:
    """From here on a function that has a name may be given another; or may not again.

    By default a second name is an error: others may look for the first.

    Source: CNTK's `cntk_py.allow_renaming_functions`.

    >>> f = C.plus(C.input_variable(1), 2, name="sum")
    >>> C.allow_renaming_functions()
    >>> f.name = "total"
    >>> C.allow_renaming_functions(False)
    """
    global _renaming
    _renaming = allow


class Structure(Operand):
    """The part of `Function` that says what it is made of."""

    _nodes: list[Node]
    _signature: list[Node] | None
    _name: str
    _is_primitive: bool
    _closed: list[Node] | None = None  # its leaves, once nothing below it can change any more
    custom_attributes: dict[str, Any]

    @cached_property
    def _runner(self) -> evaluation.Runner:
        """Made when first asked for: most functions are parts of others, and are never run."""
        made: evaluation.Runner = vars(self).setdefault("_runner", evaluation.Runner(self._nodes))
        return made

    @property
    def node(self) -> Node:  # type: ignore[override]
        """The node of its only output."""
        if len(self._nodes) != 1:
            raise GraphError(
                f"{self.name or 'this function'} has {len(self._nodes)} outputs, where one value "
                "is needed",
                hint="take one of its outputs: f.outputs[0]",
            )
        return self._current()[0]

    def _same(self) -> tuple[Node, ...]:
        return tuple(map(resolve, self._nodes))

    def _current(self) -> list[Node]:
        self._nodes[:] = [resolve(n) for n in self._nodes]  # in place: its runner has the list
        graph.complete(self._nodes)
        return self._nodes

    def _leaves(self, kind: type[Node] | tuple[type[Node], ...]) -> list[Variable]:
        leaves = self._closed
        if leaves is None:
            leaves = [n for n in graph.order(self._nodes) if n.op is None]
            known = all(resolve(n).is_complete for n in self._nodes)
            if known and not any(isinstance(n, Placeholder) for n in leaves):
                self._closed = leaves
        return [handle(n) for n in leaves if isinstance(n, kind)]

    @property
    def name(self) -> str:
        """The name that it, or else its only output, was given. It may be set where it is "".

        >>> f = C.input_variable(1) + 1
        >>> f.name = "next"
        >>> f.output.name
        'next'
        """
        return self._name or (self._nodes[0].name if len(self._nodes) == 1 else "")

    @name.setter
    def name(self, name: str) -> None:
        if self.name and name != self.name and not _renaming:
            raise GraphError(
                f"{self.name!r} has its name, it can't be renamed to {name!r}",
                hint="C.alias(f, name=…) has another; or call C.allow_renaming_functions()",
            )
        if len(self._nodes) == 1 and self._nodes[0].op is not None:
            self._nodes[0].name = name
        else:
            self._name = name

    @property
    def output(self) -> Variable:
        """Its only output, as a variable.

        >>> C.exp(C.input_variable(2)).output.shape
        (2,)
        """
        return Variable(self.node)

    @property
    def outputs(self) -> tuple[Variable, ...]:
        """What it gives.

        >>> x = C.input_variable((2, 3))
        >>> [v.shape for v in C.combine(x, C.reduce_sum(x)).outputs]
        [(2, 3), ()]
        """
        return tuple(Variable(n) if n.op else handle(n) for n in self._current())

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The parameters that it reads, in the order in which it reads them.

        >>> [p.name for p in C.layers.Dense(2).parameters]
        ['W', 'b']
        """
        return tuple(self._leaves(graph.Parameter))

    @property
    def constants(self) -> tuple[Any, ...]:
        """The constants that it reads, running statistics among them.

        >>> len((C.input_variable(1) * 2 + 1).constants)
        2
        """
        return tuple(self._leaves((graph.Constant, graph.State)))

    @property
    def placeholders(self) -> tuple[Variable, ...]:
        """What is still to be bound.

        >>> [p.name for p in C.layers.Dense(2).placeholders]
        ['x']
        """
        return tuple(self._leaves(Placeholder))

    @property
    def arguments(self) -> tuple[Variable, ...]:
        """Its inputs and unbound placeholders, in the order in which a call takes them.

        >>> f = C.Function(lambda a, b: b - a)
        >>> [v.name for v in f.arguments]
        ['a', 'b']
        """
        leaves = self._leaves((graph.Input, Placeholder))
        found = sorted(leaves, key=lambda v: v.is_placeholder)  # inputs first
        declared = [handle(n) for n in self._declared()]
        return tuple(declared + [v for v in found if v not in declared])

    @property
    def signature(self) -> tuple[Variable, ...]:
        """Its own arguments; what else it reads is captured.

        Those of the Python function that it was made of. Otherwise its `arguments` without those
        of Python functions around it, which are just being made functions of.

        >>> x = C.input_variable(1, name="x")
        >>> f = C.Function(lambda a, b: a * x - b)
        >>> [v.name for v in f.signature], [v.name for v in f.arguments]
        (['a', 'b'], ['a', 'b', 'x'])
        """
        if self._signature is not None:
            return tuple(map(handle, self._declared()))
        return tuple(a for a in self.arguments if not is_outer(a.node))

    def _declared(self) -> list[Node]:
        """What is still open of the arguments that it was made with."""
        nodes = map(resolve, self._signature or ())
        return [n for n in nodes if isinstance(n, (graph.Input, Placeholder))]

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The leaves below it; the operands for a `root_function`, which is one operation.

        >>> f = C.times(C.input_variable(2, name="x"), C.Parameter((2, 3), name="W")) + 1
        >>> [v.name for v in f.inputs[:2]]
        ['x', 'W']
        """
        if self._is_primitive:
            return tuple(map(_variable, search.operands(self.node)))
        return tuple(handle(n) for n in search.walk(self._current()) if n.op is None)

    @property
    def root_function(self) -> Any:
        """The operation, or the layer, that gives its output, with its operands as `inputs`.

        >>> f = C.exp(C.input_variable(2, name="x")) + 1
        >>> [v.shape for v in f.root_function.inputs]
        [(2,), ()]
        """
        root = records.hold(self._current())
        root._name = self._name
        root._is_primitive = len(self._nodes) == 1 and self._nodes[0].op is not None
        root._runner, root.custom_attributes = self._runner, self.custom_attributes
        return root

    @property
    def owner(self) -> Any:
        """As `root_function`: the operation that gives its output."""
        return self.root_function

    @property
    def op_name(self) -> str:
        """The kind of operation, or of layer, that gives its output.

        >>> (C.input_variable(1) + 1).op_name, C.layers.Dense(2).op_name
        ('Plus', 'Dense')
        """
        if len(self._nodes) != 1:
            return "Combine"
        node = self.node
        if node.op is None:
            return node.kind
        if self.is_block:
            return node.attrs["block"]
        return "".join(word.capitalize() for word in node.op.name.split("_"))

    @property
    def is_primitive(self) -> bool:
        """Whether it stands for one operation alone, as a `root_function` does."""
        return self._is_primitive

    @property
    def is_composite(self) -> bool:
        """Whether it stands for all operations from its inputs to its outputs."""
        return not self._is_primitive

    @property
    def is_block(self) -> bool:
        """Whether its output comes out of a layer.

        >>> C.layers.Dense(2).is_block, (C.layers.Dense(2) >> C.exp).is_block
        (True, False)
        """
        return len(self._nodes) == 1 and search.is_block(self._current()[0])

    @property
    def block_root(self) -> Any:
        """What a layer computes inside.

        >>> C.layers.Dense(2, activation=C.relu).block_root.op_name
        'Relu'
        """
        if not self.is_block:
            raise GraphError(f"{self!r} is no block")
        return records.hold([self.node.inputs[0]])

    @property
    def block_arguments_mapping(self) -> list[tuple[Variable, Variable]]:
        """The operands of a layer: pairs of what it is called inside and outside.

        >>> f = C.layers.Dense(2)(C.input_variable(3))
        >>> [outside.shape for inside, outside in f.block_arguments_mapping]
        [(3,)]
        """
        operands = self.node.inputs[1:] if self.is_block else ()
        return [(_variable(n), _variable(n)) for n in operands]

    @property
    def attributes(self) -> dict[str, Any]:
        """What the operation was made with, besides its operands.

        >>> C.dropout(C.input_variable(1), 0.3, seed=5).attributes["rngSeed"]
        5
        """
        found = {k: v for k, v in self.node.attrs.items() if k not in ("block", "layer")}
        for name, (node, key) in self._settings().items():
            found[name] = node.attrs[key]
        return found

    def set_attribute(self, name: str, value: Any) -> None:
        """Sets one of the attributes that may change: `dropoutRate`, `rngSeed`.

        >>> f = C.dropout(C.input_variable(1), 0.3)
        >>> f.set_attribute("dropoutRate", 0.5)
        >>> f.attributes["dropoutRate"]
        0.5
        """
        settings = self._settings()
        if name not in settings:
            raise GraphError(f"{name!r} can't be set; what can is {sorted(settings)}")
        node, key = settings[name]
        node.attrs[key] = value
        evaluation.forget_plans()

    def _settings(self) -> dict[str, tuple[Node, str]]:
        """Where the attributes that may change stand: here, or in an operand that is random."""
        names = {"rate": "dropoutRate", "seed": "rngSeed"}
        nodes = [n for n in (self.node, *self.node.inputs) if n.op and n.op.random]
        return {names[k]: (n, k) for n in nodes for k in n.attrs if k in names}

    def __repr__(self) -> str:
        arguments = ", ".join(describe(a.node) for a in self.arguments)
        outputs = ", ".join(describe(n) for n in self._nodes)
        name = f"{self.name}: " if self.name else ""
        return f"{name}{self.op_name}({arguments}) -> {outputs}"

    def __getitem__(self, key: Any) -> Any:
        """An output of several; of a single one a slice, as NumPy's."""
        return self.outputs[key] if len(self._nodes) > 1 else super().__getitem__(key)

    def __iter__(self) -> Any:
        return iter(self.outputs) if len(self._nodes) > 1 else super().__iter__()

    def __contains__(self, item: Any) -> bool:
        return item in self.outputs if len(self._nodes) > 1 else super().__contains__(item)

    def __getattr__(self, name: str) -> Any:
        """A parameter, input, layer or named value inside: `model.encoder.dense1.W`."""
        if name.startswith("_") or "_nodes" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        roots: Sequence[Node] = self._current()
        ends: Sequence[Node] = ()
        if self._is_primitive and self.is_block:  # a layer found by its name: what is in it
            roots, ends = roots[0].inputs[:1], roots[0].inputs[1:]
        found = search.named(name, roots, 1, ends)
        if len(found) > 1:
            raise AttributeError(
                f"{self!r} has {len(found)} values named '{name}': find_all_with_name gives all"
            )
        if not found:
            raise AttributeError(f"{self!r} has no attribute or variable '{name}'")
        return single(found[0])

    @property
    def uid(self) -> str:
        """A name that no other function has."""
        return f"{self.op_name}{self._nodes[0].uid}" + ("" if len(self._nodes) == 1 else "Combine")

    def find_by_name(self, name: str, depth: int = 0) -> Any:
        """As `find_all_with_name`, but the only one, or None.

        Raises:
            GraphError: several have the name.

        >>> f = C.exp(C.input_variable(2), name="e") * 2
        >>> f.find_by_name("e").op_name
        'Exp'
        """
        found = self.find_all_with_name(name, depth)
        if len(found) > 1:
            raise GraphError(f"there are {len(found)} values named '{name}'")
        return found[0] if found else None

    def find_all_with_name(self, name: str, depth: int = 0) -> list[Any]:
        """The variables, and the operations and layers as a `root_function`, of this name below.

        Args:
            depth: into how many layers, one within the other, to look; -1 for all. Where there is
                no such name all layers are looked into. (CNTK then finds nothing.)

        >>> f = C.exp(C.exp(C.input_variable(2), name="e"), name="e")
        >>> len(f.find_all_with_name("e"))
        2
        """
        return [single(n) for n in search.named(name, self._current(), depth)]


def single(node: Node) -> Any:
    """What people hold for a node that was searched for: a leaf, or one operation or layer."""
    held = records.hold(node)
    return held.root_function if isinstance(held, Structure) else held


def _variable(node: Node) -> Variable:
    return Variable(node) if node.op else handle(node)
