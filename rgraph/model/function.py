"""Functions: what people compose, evaluate, differentiate, save and train."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

from .. import graph
from ..files import persistence, pickling
from ..graph import GraphError, Node, Placeholder
from ..graph.context import context
from ..graph.node import describe, resolve
from ..inspect import explain, picture, profile, summary
from ..operands import search
from ..operands.operand import Operand
from ..operands.tracing import annotated, is_outer, nodes_of, trace
from ..operands.types import Type
from ..operands.variables import Variable, as_variable, leaf
from ..ops.records import hold
from ..runtime import evaluation, jobs
from ..runtime.evaluation import Feed
from ..runtime.feeding import as_feed
from ..runtime.streams import Stream
from ..runtime.windows import window_of
from ..train import functions as training
from . import binding, running, structure
from .cloning import copy
from .piping import piped


def allow_renaming_functions(allow: bool = True) -> None:
    """From here on a function that has a name may be given another; or may not again.

    By default a second name is an error: others may look for the first.

    Source: CNTK's `cntk_py.allow_renaming_functions`.

    >>> f = C.plus(C.input_variable(1), 2, name="sum")
    >>> C.allow_renaming_functions()
    >>> f.name = "total"
    >>> C.allow_renaming_functions(False)
    """
    context().renaming = allow


class Function(Operand):
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

    _nodes: list[Node]
    _signature: list[Node] | None
    _name: str
    _is_primitive: bool
    # Its leaves, and of these its arguments, once nothing below it can change any more
    _closed: list[Node] | None = None
    _stored: list[Node] | None = None  # in the order of `parameters`, once it is closed
    _arguments: tuple[Variable, ...] | None = None
    custom_attributes: dict[str, Any]  # a user's own, saved along

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
                f"a function is made from a Python function of variables, got {source!r:.60}",
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
        self.custom_attributes = {}

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
        given = binding.match(self, args, kwargs)
        if given and not any(isinstance(v, (Operand, Node)) for v in given.values()):
            values = running.run(self, self._current(), given)
            return tuple(values) if len(values) > 1 else values[0]
        return Function(*binding.applied(self, given), self._name)

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
        binding.replace_placeholders(self, substitutions)
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
        given = binding.match(self, types, named)
        inputs = {v: Type.of(t).new(v.name) for v, t in given.items() if t is not None}
        self.replace_placeholders(inputs)

    def replace_placeholder(self, substitution: Any) -> Function:
        """Binds the only placeholder, as `replace_placeholders`.

        >>> f = C.placeholder() * 2
        >>> f.replace_placeholder(C.constant([1, 2])).eval()
        array([2., 4.], dtype=float32)
        """
        return self.replace_placeholders({binding.only_placeholder(self): substitution})

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
        nodes = running.gradients(self, wrt)
        signature = [a.node for a in self.arguments]  # one may only say how long sequences are
        return [Function([n], signature) for n in nodes]

    # What it is made of

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
        nodes = self._nodes  # changed in place: its runner has the list
        for i, node in enumerate(nodes):
            if node.target is not None:
                nodes[i] = resolve(node)
        if self._closed is None:
            graph.complete(nodes)
        return nodes

    def _leaves(self, kind: type[Node] | tuple[type[Node], ...]) -> list[Variable]:
        leaves = self._closed
        if leaves is None:
            leaves = [n for n in graph.order(self._nodes) if n.op is None]
            known = all(resolve(n).is_complete for n in self._nodes)
            if known and not any(isinstance(n, Placeholder) for n in leaves):
                self._closed = leaves
        return [leaf(n) for n in leaves if isinstance(n, kind)]

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
        if self.name and name != self.name and not context().renaming:
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
        return tuple(as_variable(n) for n in self._current())

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The parameters that it reads, in CNTK's order: towards the inputs, but of a sum from left
        to right.

        >>> [p.name for p in C.layers.Dense(2).parameters]
        ['W', 'b']
        """
        found = self._stored
        if found is None:
            if not self._leaves(graph.Parameter):
                return ()
            found = search.stored(self._nodes)
            if self._closed is not None:
                self._stored = found
        return tuple(leaf(n) for n in found if isinstance(n, graph.Parameter))

    @property
    def constants(self) -> tuple[Any, ...]:
        """The constants that it reads, running statistics among them.

        What an operation adds of its own, such as batch normalization's epsilon, is none of them.

        >>> len((C.input_variable(1) * 2 + 1).constants)
        2
        """
        found = self._leaves((graph.Constant, graph.State))
        return tuple(c for c in found if not getattr(c.node, "implied", False))

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
        if self._arguments is not None:
            return self._arguments
        leaves = self._leaves((graph.Input, Placeholder))
        found = sorted(leaves, key=lambda v: v.is_placeholder)  # inputs first
        declared = [leaf(n) for n in self._declared()]
        found = declared + [v for v in found if v not in declared]
        if self._closed is not None and not any(v.is_placeholder for v in declared):
            self._arguments = tuple(found)
        return tuple(found)

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
            return tuple(map(leaf, self._declared()))
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
            return tuple(map(as_variable, search.operands(self.node)))
        return tuple(leaf(n) for n in search.walk(self._current()) if n.op is None)

    @property
    def root_function(self) -> Function:
        """The operation, or the layer, that gives its output, with its operands as `inputs`.

        >>> f = C.exp(C.input_variable(2, name="x")) + 1
        >>> [v.shape for v in f.root_function.inputs]
        [(2,), ()]
        """
        root = hold(self._current())
        root._name = self._name
        root._is_primitive = len(self._nodes) == 1 and self._nodes[0].op is not None
        root._runner, root.custom_attributes = self._runner, self.custom_attributes
        return root

    @property
    def owner(self) -> Function:
        """As `root_function`: the operation that gives its output."""
        return self.root_function

    @property
    def op_name(self) -> str:
        """The kind of operation, or of layer, that gives its output.

        >>> (C.input_variable(1) + 1).op_name, C.layers.Dense(2).op_name
        ('Plus', 'Dense')
        """
        return structure.op_name(self._current())

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
    def block_root(self) -> Function:
        """What a layer computes inside.

        >>> C.layers.Dense(2, activation=C.relu).block_root.op_name
        'ReLU'
        """
        if not self.is_block:
            raise GraphError(f"{self!r} is no block")
        return hold([self.node.inputs[0]])

    @property
    def block_arguments_mapping(self) -> list[tuple[Variable, Variable]]:
        """The operands of a layer: pairs of what it is called inside and outside.

        >>> f = C.layers.Dense(2)(C.input_variable(3))
        >>> [outside.shape for inside, outside in f.block_arguments_mapping]
        [(3,)]
        """
        operands = self.node.inputs[1:] if self.is_block else ()
        return [(as_variable(n), as_variable(n)) for n in operands]

    @property
    def attributes(self) -> dict[str, Any]:
        """What the operation was made with, besides its operands, under CNTK's names.

        >>> C.dropout(C.input_variable(1), 0.3, seed=5).attributes["rngSeed"]
        5
        """
        return structure.attributes(self.node)

    def set_attribute(self, name: str, value: Any) -> None:
        """Sets one of the attributes that may change: `dropoutRate`, `rngSeed`.

        >>> f = C.dropout(C.input_variable(1), 0.3)
        >>> f.set_attribute("dropoutRate", 0.5)
        >>> f.attributes["dropoutRate"]
        0.5
        """
        structure.set_attribute(self.node, name, value)

    def __repr__(self) -> str:
        arguments = ", ".join(describe(a.node) for a in self.arguments)
        outputs = ", ".join(describe(n) for n in self._nodes)
        name = f"{self.name}: " if self.name else ""
        return f"{name}{self.op_name}({arguments}) -> {outputs}"

    def _repr_svg_(self) -> str | None:
        """What a notebook shows: a picture, if it is not too large."""
        return picture.picture(self._nodes)

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
        found = structure.inside(self._current(), name, self._is_primitive)
        if len(found) > 1:
            raise AttributeError(
                f"{self!r} has {len(found)} values named '{name}': find_all_with_name gives all"
            )
        if not found:
            raise AttributeError(f"{self!r} has no attribute or variable '{name}'")
        return search.single(found[0])

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
        return [search.single(n) for n in search.named(name, self._current(), depth)]

    # Running it

    def stream(self, device: Any = None) -> Stream:
        """The function frame by frame: live, or for sequences that have no end.

        It gives what `eval` gives for whole sequences, in constant memory. All that it remembers
        is what its delays hold; see `Stream` for many sequences at once, and for taking what is
        held out and putting it back.

        Args:
            device: `C.device.cpu()`, `C.device.gpu(0)`; by default `use_default_device()`.

        Raises:
            GraphError: something in it looks ahead, or needs all frames at once; it is named.

        >>> x = C.sequence.input_variable(2)
        >>> y = C.layers.Recurrence(C.layers.GRU(3))(x)
        >>> frames = np.arange(8.0).reshape(4, 2)
        >>> live = y.stream()
        >>> found = [live(frame) for frame in frames]
        >>> np.allclose(found, y.eval({x: [frames]})[0])
        True
        """
        return Stream(self._current(), running.inputs_of(self), device)

    def eval(
        self,
        arguments: Any = None,
        outputs: Sequence[Any] | None = None,
        device: Any = None,
        as_numpy: bool = True,
        window: int | None = None,
        memory_limit: int | None = None,
    ) -> Any:
        """The function's value.

        Args:
            arguments: a dict from inputs (or their names) to values, or just the value if there
                is one input. A batch is an array (N, *shape) or a list of samples; sequences
                are a list of arrays (frames, *shape), one such array for a single sequence, or
                an array (N, frames, *shape) for equally long ones. In a list of sequences a
                single frame, an array (*shape), is a sequence of one, as in CNTK.
            outputs: which values to compute; by default the function's outputs.
            device: `C.device.cpu()`, `C.device.gpu(0)`; by default `use_default_device()`.
            as_numpy: whether to give NumPy's arrays. Otherwise each value is a `C.Value`, which
                stays on the device that computed it, for other evaluations and libraries.
            window: how many frames of each sequence are computed at once: less memory for what is
                computed on the way.
            memory_limit: instead of `window`, how many bytes that may take.

        Returns:
            for a sequence a list of arrays (frames, *shape); for a batch an array (N, *shape);
            else one array. A dict from outputs to these if there are several.

        Raises:
            GraphError: an input is missing or does not fit.

        >>> x, s = C.input_variable(2, name="x"), C.sequence.input_variable(1)
        >>> C.square(x).eval({"x": [[1, 2], [3, 4]]})
        array([[ 1.,  4.],
               [ 9., 16.]], dtype=float32)
        >>> C.sequence.past_value(s).eval([np.array([[5], [6]]), np.array([[7]])])
        [array([[0.],
               [5.]], dtype=float32), array([[0.]], dtype=float32)]
        """
        return running.evaluate(self, arguments, outputs, device, as_numpy, window, memory_limit)

    def grad(
        self,
        at: Any = None,
        wrt: Sequence[Any] | Any = None,
        outputs: Sequence[Any] | None = None,
        device: Any = None,
        as_numpy: bool = True,
        grad_root: Any = None,
        window: int | None = None,
        memory_limit: int | None = None,
    ) -> Any:
        """The gradient of the sum of all elements of the output.

        Args:
            at: the inputs' values, as for `eval`.
            wrt: inputs and parameters, or one; by default the inputs with `needs_gradient`.
            outputs: values to compute along with it.
            grad_root: the value to differentiate, by default the function's output.
            window: how many frames of each sequence are computed at once. What delays hold is
                kept between windows, and each is computed anew on the way back: the same gradients
                in less memory, for one more forward pass.
            memory_limit: instead of `window`, how many bytes results on the way may take.

        It is a step of training: dropout drops, and as in CNTK running statistics are carried on.

        Returns:
            an array for a parameter, a batch or list for an input, each in the form that `eval`
            gives; a dict from `wrt` to these if there are several. With `outputs`, the pair of
            that and a dict of their values.

        >>> x = C.input_variable(2, needs_gradient=True)
        >>> C.square(x).grad({x: [[1, 2]]})
        array([[2., 4.]], dtype=float32)
        """
        return running.gradient(
            self, at, wrt, outputs, device, as_numpy, grad_root, window, memory_limit
        )

    def forward(
        self,
        arguments: Any = None,
        outputs: Any = None,
        keep_for_backward: Any = None,
        device: Any = None,
        as_numpy: bool = True,
    ) -> tuple[Feed | None, dict[Any, Any]]:
        """The values of `outputs`, and what `backward` needs to go back from them.

        Args:
            arguments: the inputs' values, as for `eval`.
            outputs: which values to compute; by default the function's outputs.
            keep_for_backward: the outputs that gradients will be given for. If there are any,
                the run is one of training: dropout drops, running statistics are carried on.

        Returns:
            a state (None without `keep_for_backward`), and a dict from `outputs` to their values
            in the form that `eval` gives.

        >>> x = C.input_variable(2)
        >>> f = C.square(x)
        >>> state, values = f.forward({x: [[1, 2]]}, [f.output], {f.output})
        >>> values[f.output]
        array([[1., 4.]], dtype=float32)
        >>> f.backward(state, {f.output: [[1, 10]]}, [x])[x]
        array([[ 2., 40.]], dtype=float32)
        """
        return running.forward(self, arguments, outputs, keep_for_backward, device, as_numpy)

    def backward(
        self,
        state: Feed | None,
        root_gradients: Any,
        variables: Iterable[Any],
        as_numpy: bool = True,
    ) -> dict[Any, Any]:
        """The gradients of a loss, from its gradients with respect to outputs.

        Args:
            state: what `forward` gave.
            root_gradients: a dict from outputs to gradients, each of its output's form; just the
                gradient if there is one output.
            variables: the inputs and parameters that gradients are wanted for.

        Returns:
            a dict from `variables` to gradients.

        >>> w = C.Parameter(2, init=3)
        >>> f = w * C.input_variable(2)
        >>> state, _ = f.forward([[1, 2]], keep_for_backward=f.outputs)
        >>> f.backward(state, np.array([[1, 10]]), [w])[w]
        array([ 1., 20.], dtype=float32)
        """
        return running.backward(self, state, root_gradients, variables, as_numpy)

    def summary(self) -> summary.Summary:
        """A table of its layers: output shapes, parameters, operations, connections.

        Prints as text; in a notebook it is a table. The step function of a recurrence is shown
        inside it.

        >>> model = C.layers.Sequential([C.layers.Dense(4), C.layers.Dense(2)])
        >>> model(C.input_variable(3)).summary().total
        26
        """
        return summary.Summary(self._current())

    def explain(self, wrt: Sequence[Any] = (), frames: int | None = None) -> str:
        """What its plan does: once over all frames, per step of a loop, fused; with its costs.

        Args:
            wrt: inputs and parameters whose gradients are to be planned along.
            frames: the length of a sequence: shows instead what its run takes in memory, whole
                and in windows.

        >>> x = C.sequence.input_variable(2)
        >>> print(C.layers.Recurrence(lambda h, x: C.tanh(h + x))(x).explain())
                            result     MFLOP       MB  by      what
        loop forward along defaultDynamicAxis: 1 calls a step, 1 of its values kept...
          step              rows×2     4e-06  2.4e-05  ...plus tanh
        in all 4e-06 MFLOP a row, on the ... engine
        >>> h = C.layers.Recurrence(C.layers.LSTM(64))(C.sequence.input_variable(32))
        >>> print(h.explain(h.parameters, frames=1000))
        a sequence of 1000 frames: results on the way take
             ... MB  whole
             ... MB  in 2 windows of 500 frames, 0.001 MB of it for states at their borders
        ...
        """
        request = running.request(self, wrt)
        if frames is None:
            return explain.explain(jobs.plan(request))
        plan = jobs.windowed_plan(request._replace(window=window_of(frames, None)))
        return explain.explain_windows(plan, frames)

    def profile(self, arguments: Any = None, wrt: Sequence[Any] = ()) -> profile.Profile:
        """How long each part of a run takes: a table, which can be saved for a trace viewer.

        Args:
            arguments: the inputs' values, as for `eval`.
            wrt: inputs and parameters whose gradients are to be computed along.

        >>> table = C.exp(C.input_variable(2)).profile(np.ones((3, 2)))
        >>> "exp" in str(table)
        True
        """
        request = running.request(self, wrt)
        given = self._runner.feed(as_feed(arguments, self.arguments))
        return profile.profile(request, given, running.inputs_of(self))

    def print_node_timing(self) -> None:
        """Prints how long operations took since the last time; see `debugging.set_node_timing`.

        >>> C.exp(C.input_variable(2)).print_node_timing()
        no run was timed: debugging.set_node_timing(True) has them timed
        """
        profile.print_node_timing()

    # Saving and training it

    def save(
        self,
        filename: str | os.PathLike[str],
        format: Any = None,
        use_external_files_to_store_parameters: bool = False,
    ) -> None:
        """Saves a function: its graph, and the values of its parameters and constants.

        Args:
            filename: a file of that name is replaced at once, when the new one is complete; folders
                that are missing are made.
            format: `ModelFormat.CNTKv2`, which stands for rgraph's own format (the default), or
                `ModelFormat.ONNX`: other programs run it, and rgraph does not load it. Recurrences
                become `Scan`; sequences are arrays (frames, batch, *shape) there. Needs the
                package onnx.
            use_external_files_to_store_parameters: accepted for CNTK's sake: the file holds all.

        Raises:
            GraphError: a parameter has no value yet, or an operation can't be saved.

        >>> import tempfile, os
        >>> model = C.Parameter((2, 1), init=3) * C.input_variable(1, name="x")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "model"))
        ...     C.load_model(os.path.join(folder, "model")).eval([[1]])
        array([[[3.],
                [3.]]], dtype=float32)
        """
        persistence.save(self, filename, format)

    def restore(self, filename: str | os.PathLike[str]) -> None:
        """Gives its parameters and constants the values that a saved copy of it has.

        Raises:
            GraphError: the file holds another function.
        """
        persistence.restore(self, filename)

    @staticmethod
    def load(
        model: str | os.PathLike[str] | bytes, device: Any = None, format: Any = None
    ) -> Function:
        """As `C.load_model`."""
        return persistence.load_model(model, device, format)

    @staticmethod
    def register_udf_deserialize_callback(
        op_name: str, callback: Callable[[Sequence[Any], str, Any], Any]
    ) -> None:
        """As `C.register_udf_deserialize_callback`."""
        persistence.register_udf_deserialize_callback(op_name, callback)

    def __reduce__(self) -> Any:
        return pickling.reduced_function(self)

    def train(
        self,
        minibatch_source: Any,
        minibatch_size: Any = 32,
        streams: Sequence[Any] | None = None,
        model_inputs_to_streams: Mapping[Any, Any] | None = None,
        parameter_learners: Any = (),
        callbacks: Any = (),
        progress_frequency: Any = None,
        max_epochs: float | None = None,
        epoch_size: int | None = None,
        max_samples: int | None = None,
        on_nan: str | None = None,
        window: int | None = None,
        memory_limit: int | None = None,
        loss_scale: training.LossScale = None,
    ) -> training.Progress:
        """Trains a model by this function, its criterion: the loss, or the loss and a metric.

        Args:
            minibatch_source: a dict from inputs (or their names) to arrays (N, *shape), SciPy
                sparse matrices, `Value`s or lists of sequences; a tuple of these in the order of
                the criterion's `arguments`; or a minibatch source.
            minibatch_size: samples in a minibatch, of sequences the frames of the longest stream;
                or `minibatch_size_schedule(…)`.
            streams: the source's streams in the order of the arguments.
            model_inputs_to_streams: instead of `streams`, a dict.
            parameter_learners: a learner or several.
            callbacks: progress writers, and at most one `CheckpointConfig`, `CrossValidationConfig`
                and `TestConfig` each.
            progress_frequency: samples between summaries; by default an epoch. 0: no summaries.
            max_epochs: how long to train, by default for one epoch: `epoch_size` samples, or once
                over the data.
            max_samples: instead of `max_epochs`.
            on_nan: what to do about NaN: "raise", "skip", "ignore" or the default; see `Trainer`.
            window, memory_limit: how much of long sequences is computed at once; see `Trainer`.
            loss_scale: for values of float16: a number or "dynamic"; see `Trainer`.

        All these samples, and those of summaries, are the loss's, as in CNTK: sequences, if each
        has one loss.

        Data is taken in its order; shuffle it before if it has one.

        Source: CNTK's `Function.train`.

        >>> x, t = C.input_variable(1), C.input_variable(1)
        >>> loss = C.squared_error(x * C.Parameter(1), t)
        >>> learner = C.sgd(loss.parameters, 0.25)
        >>> data = np.ones((8, 1)), 3 * np.ones((8, 1))
        >>> progress = loss.train(data, minibatch_size=4, parameter_learners=learner, max_epochs=5)
        >>> [round(epoch.loss, 3) for epoch in progress.epoch_summaries]
        [5.625, 0.352, 0.022, 0.001, 0.0]
        """
        how = on_nan, window, memory_limit, loss_scale
        return training.train(
            self,
            minibatch_source,
            minibatch_size,
            streams,
            model_inputs_to_streams,
            parameter_learners,
            callbacks,
            progress_frequency,
            max_epochs,
            epoch_size,
            max_samples,
            *how,
        )

    def test(
        self,
        minibatch_source: Any,
        minibatch_size: Any = 32,
        streams: Sequence[Any] | None = None,
        model_inputs_to_streams: Mapping[Any, Any] | None = None,
        callbacks: Any = None,
    ) -> training.TestSummary:
        """The mean of a criterion's metric (of its loss if it has no metric) over data.

        Args:
            minibatch_source: data as for `train`, or a source that comes to an end.
            minibatch_size, streams, model_inputs_to_streams: as for `train`.
            callbacks: progress writers.

        Source: CNTK's `Function.test`.

        >>> x, t = C.input_variable(2), C.input_variable(2)
        >>> error = C.classification_error(x, t)
        >>> error.test((np.eye(2), np.eye(2)[::-1]))
        TestSummary(metric=1.0, samples=2)
        """
        return training.measure(
            self,
            minibatch_source,
            minibatch_size,
            streams,
            model_inputs_to_streams,
            callbacks,
        )


@hold.register
def _(node: Node, signature: Sequence[Node] | None = None, name: str = "") -> Any:
    user = node.attrs.get("function")
    if isinstance(user, Function) and node in user._nodes:
        return user
    return Function([node]) if node.op else leaf(node)


@hold.register(list)
@hold.register(tuple)
def _(nodes: Sequence[Node], signature: Sequence[Node] | None = None, name: str = "") -> Function:
    return Function(nodes, signature, name)
