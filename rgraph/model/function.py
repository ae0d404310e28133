"""Functions: compose, evaluate, differentiate, save and train them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

from .. import graph
from ..device import DeviceDescriptor
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
from ..runtime.feeding import as_feed
from ..runtime.streams import Stream
from ..runtime.windows import window_of
from ..train import functions as training
from . import binding, running, structure
from .cloning import copy
from .piping import piped


def allow_renaming_functions(allow: bool = True) -> None:
    """Whether the name of a function may be changed.

    By default setting a second name is an error, since other code may use the first.

    Source: CNTK's `cntk_py.allow_renaming_functions`.

    >>> f = C.plus(C.input_variable(1), 2, name="sum")
    >>> C.allow_renaming_functions()
    >>> f.name = "total"
    >>> C.allow_renaming_functions(False)
    """
    context().renaming = allow


class Function(Operand):
    """One or more values as a function of inputs.

    Operations return functions. `Function(f)`, also as a decorator, makes a function from a Python
    function of variables. Calling a function with variables or functions returns a new function
    with the same parameters.

    Functions, variables, parameters, learners and trainers can be pickled and deep-copied; objects
    that are pickled together keep their references to each other.

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
    # Its leaves and its arguments, cached once nothing below can change
    _closed: list[Node] | None = None
    _stored: list[Node] | None = None  # in the order of `parameters`, once it is closed
    _arguments: tuple[Variable, ...] | None = None
    custom_attributes: dict[str, Any]  # attributes of the user, saved with it

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
                hint="for example C.Function(lambda x: 2 * x)",
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
        """Applies the function: to variables and functions, giving a function, or to data.

        Positional and named arguments correspond to `arguments`. Omitted ones stay arguments of the
        result. Data gives values as `eval` returns them, or a tuple if there are several outputs.

        >>> f = C.top_k(C.input_variable(3), 1)
        >>> values, indices = f([[3, 7, 5]])
        >>> values, indices
        (array([[7.]], dtype=float32), array([[1.]], dtype=float32))
        """
        given = binding.match(self, args, kwargs)
        if given and not any(isinstance(v, (Operand, Node)) for v in given.values()):
            values = running.run(self, self._current(), given)
            return tuple(values) if len(values) > 1 else values[0]
        return Function(*binding.applied(self, given), self._name)

    def __rshift__(self, other: object) -> Any:
        """`f >> g` applies g to the results of f, like `layers.Sequential([f, g])`."""
        values = piped(self.outputs if len(self._nodes) > 1 else (self,), other)
        if len(values) == 1 and self._signature is None:
            return values[0]
        return Function([n for v in values for n in nodes_of(v)], self._declared() or None)

    def __lshift__(self, other: object) -> Any:
        """`f << g` applies f to the result of g."""
        return self(other)

    def replace_placeholders(self, substitutions: Mapping[Any, object]) -> Function:
        """Binds placeholders permanently, here and wherever they are used; returns the function.

        A placeholder may be bound to a value that depends on it. This makes a cycle, which must
        contain a delay.

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
    def with_signature(*types: object, **named: object) -> Callable[[Callable[..., Any]], Function]:
        """A decorator that makes a function with arguments of these types, in order or by name.

        >>> from rgraph.layers.typing import Tensor
        >>> @C.Function.with_signature(Tensor[2])
        ... def f(x):
        ...     return x * 2
        >>> f([[1, 2]])
        array([[2., 4.]], dtype=float32)
        """
        return lambda f: Function(annotated(f, *types, **named))

    def update_signature(self, *types: object, **named: object) -> None:
        """Sets the types of unbound arguments permanently, in order or by name.

        Args:
            types: `Tensor[3, 4]`, `Sequence[Tensor[3]]`, or a shape; None skips an argument.

        >>> f = C.layers.Dense(2)
        >>> f.update_signature(3)
        >>> f.W.shape
        (3, 2)
        """
        given = binding.match(self, types, named)
        inputs = {v: Type.of(t).new(v.name) for v, t in given.items() if t is not None}
        self.replace_placeholders(inputs)

    def replace_placeholder(self, substitution: object) -> Function:
        """Binds the only placeholder, see `replace_placeholders`.

        >>> f = C.placeholder() * 2
        >>> f.replace_placeholder(C.constant([1, 2])).eval()
        array([2., 4.], dtype=float32)
        """
        return self.replace_placeholders({binding.only_placeholder(self): substitution})

    def clone(self, method: str = "clone", substitutions: Mapping[Any, Any] | None = None) -> Any:
        """A copy of the function.

        The copy has its own inputs and placeholders in its `signature`, in the same order.

        Args:
            method: `"share"` keeps the parameters and constants, `"clone"` copies them with their
                values, `"freeze"` replaces both by constants.
            substitutions: a dict from inputs, placeholders or inner values to replacements.

        >>> f = C.Parameter(2, init=1) * C.placeholder()
        >>> f.clone("freeze").parameters
        ()
        """
        nodes, signature = copy(self, method, substitutions or {})
        return Function(nodes, signature or None, self._name)

    def gradients(self, wrt: Sequence[object]) -> list[Function]:
        """The gradients of the sum of the output as functions, which can be differentiated again.

        Args:
            wrt: inputs, parameters or inner values.

        Returns:
            a function for each of `wrt`, of its shape.

        Raises:
            GraphError: the graph has a free dimension.

        >>> x = C.input_variable(1)
        >>> (first,) = (x * x * x).gradients([x])
        >>> first.grad({x: [[2.0]]}, wrt=[x])
        array([[12.]], dtype=float32)
        """
        nodes = running.gradients(self, wrt)
        signature = [a.node for a in self.arguments]  # some may only determine sequence lengths
        return [Function([n], signature) for n in nodes]

    # Structure

    @cached_property
    def _runner(self) -> evaluation.Runner:
        """Made on first use, since most functions are only parts of others."""
        made: evaluation.Runner = vars(self).setdefault("_runner", evaluation.Runner(self._nodes))
        return made

    @property
    def node(self) -> Node:  # type: ignore[override]
        """The node of its only output. Raises `GraphError` if there are several."""
        if len(self._nodes) != 1:
            raise GraphError(
                f"{self.name or 'this function'} has {len(self._nodes)} outputs, but one value "
                "is expected",
                hint="choose one of its outputs, for example f.outputs[0]",
            )
        return self._current()[0]

    def _same(self) -> tuple[Node, ...]:
        return tuple(map(resolve, self._nodes))

    def _current(self) -> list[Node]:
        nodes = self._nodes  # changed in place: the runner shares the list
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
        """The name of the function, or else of its only output. It can be set if it is "".

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
                f"{self.name!r} already has a name, it can't be renamed to {name!r}",
                hint="use C.alias(f, name=…), or call C.allow_renaming_functions()",
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
        """The outputs, as variables.

        >>> x = C.input_variable((2, 3))
        >>> [v.shape for v in C.combine(x, C.reduce_sum(x)).outputs]
        [(2, 3), ()]
        """
        return tuple(as_variable(n) for n in self._current())

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The parameters of the function, in CNTK's order: from the output to the inputs, and from
        left to right in sums.

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
        """The constants of the function, including running statistics.

        Numbers inside an operation, such as the epsilon of batch normalization, are not included.

        >>> len((C.input_variable(1) * 2 + 1).constants)
        2
        """
        found = self._leaves((graph.Constant, graph.State))
        return tuple(c for c in found if not getattr(c.node, "implied", False))

    @property
    def placeholders(self) -> tuple[Variable, ...]:
        """The placeholders that are not bound yet.

        >>> [p.name for p in C.layers.Dense(2).placeholders]
        ['x']
        """
        return tuple(self._leaves(Placeholder))

    @property
    def arguments(self) -> tuple[Variable, ...]:
        """The inputs and unbound placeholders, in the order of the arguments of a call.

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
        """The function's own arguments, without captured ones.

        These are the arguments of the Python function it was made from. Otherwise they are
        `arguments`, without those of enclosing Python functions that are being traced.

        >>> x = C.input_variable(1, name="x")
        >>> f = C.Function(lambda a, b: a * x - b)
        >>> [v.name for v in f.signature], [v.name for v in f.arguments]
        (['a', 'b'], ['a', 'b', 'x'])
        """
        if self._signature is not None:
            return tuple(map(leaf, self._declared()))
        return tuple(a for a in self.arguments if not is_outer(a.node))

    def _declared(self) -> list[Node]:
        """The nodes of its own arguments that are still unbound."""
        nodes = map(resolve, self._signature or ())
        return [n for n in nodes if isinstance(n, (graph.Input, Placeholder))]

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The leaves of its graph; for a `root_function`, which is one operation, the operands.

        >>> f = C.times(C.input_variable(2, name="x"), C.Parameter((2, 3), name="W")) + 1
        >>> [v.name for v in f.inputs[:2]]
        ['x', 'W']
        """
        if self._is_primitive:
            return tuple(map(as_variable, search.operands(self.node)))
        return tuple(leaf(n) for n in search.walk(self._current()) if n.op is None)

    @property
    def root_function(self) -> Function:
        """The operation or layer that computes the output, with its operands as `inputs`.

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
        """Same as `root_function`: the operation that computes the output."""
        return self.root_function

    @property
    def op_name(self) -> str:
        """The name of the operation or layer that computes the output.

        >>> (C.input_variable(1) + 1).op_name, C.layers.Dense(2).op_name
        ('Plus', 'Dense')
        """
        return structure.op_name(self._current())

    @property
    def is_primitive(self) -> bool:
        """Whether it is a single operation, as a `root_function` is."""
        return self._is_primitive

    @property
    def is_composite(self) -> bool:
        """Whether it consists of all operations from its inputs to its outputs."""
        return not self._is_primitive

    @property
    def is_block(self) -> bool:
        """Whether a layer or block computes its output.

        >>> C.layers.Dense(2).is_block, (C.layers.Dense(2) >> C.exp).is_block
        (True, False)
        """
        return len(self._nodes) == 1 and search.is_block(self._current()[0])

    @property
    def block_root(self) -> Function:
        """The function inside a layer or block.

        >>> C.layers.Dense(2, activation=C.relu).block_root.op_name
        'ReLU'
        """
        if not self.is_block:
            raise GraphError(f"{self!r} is not a block")
        return hold([self.node.inputs[0]])

    @property
    def block_arguments_mapping(self) -> list[tuple[Variable, Variable]]:
        """The operands of a layer or block: pairs of the variable inside and outside.

        >>> f = C.layers.Dense(2)(C.input_variable(3))
        >>> [outside.shape for inside, outside in f.block_arguments_mapping]
        [(3,)]
        """
        operands = self.node.inputs[1:] if self.is_block else ()
        return [(as_variable(n), as_variable(n)) for n in operands]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the operation (all but its operands), under CNTK's names.

        >>> C.dropout(C.input_variable(1), 0.3, seed=5).attributes["rngSeed"]
        5
        """
        return structure.attributes(self.node)

    def set_attribute(self, name: str, value: object) -> None:
        """Sets one of the attributes that can change: `dropoutRate` or `rngSeed`.

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
        """The picture that a notebook shows, unless it is too large."""
        return picture.picture(self._nodes)

    def __getitem__(self, key: Any) -> Any:
        """One of several outputs; or a slice of a single output, as in NumPy."""
        return self.outputs[key] if len(self._nodes) > 1 else super().__getitem__(key)

    def __iter__(self) -> Any:
        return iter(self.outputs) if len(self._nodes) > 1 else super().__iter__()

    def __contains__(self, item: object) -> bool:
        return item in self.outputs if len(self._nodes) > 1 else super().__contains__(item)

    def __getattr__(self, name: str) -> Any:
        """A parameter, input, layer or named value inside: `model.encoder.dense1.W`."""
        if name.startswith("_") or "_nodes" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        found = structure.inside(self._current(), name, self._is_primitive)
        if len(found) > 1:
            raise AttributeError(
                f"{self!r} has {len(found)} values named '{name}': use find_all_with_name"
            )
        if not found:
            raise AttributeError(f"{self!r} has no attribute or variable '{name}'")
        return search.single(found[0])

    @property
    def uid(self) -> str:
        """A unique name."""
        return f"{self.op_name}{self._nodes[0].uid}" + ("" if len(self._nodes) == 1 else "Combine")

    def find_by_name(self, name: str, depth: int = 0) -> Any:
        """The only value of this name, or None; see `find_all_with_name`.

        Raises:
            GraphError: there are several values of this name.

        >>> f = C.exp(C.input_variable(2), name="e") * 2
        >>> f.find_by_name("e").op_name
        'Exp'
        """
        found = self.find_all_with_name(name, depth)
        if len(found) > 1:
            raise GraphError(f"there are {len(found)} values named '{name}'")
        return found[0] if found else None

    def find_all_with_name(self, name: str, depth: int = 0) -> list[Any]:
        """All variables, operations and layers of this name; the latter two as a `root_function`.

        Args:
            depth: the number of levels of nested layers to search in, -1 for all. If nothing is
                found, all layers are searched. (CNTK then finds nothing.)

        >>> f = C.exp(C.exp(C.input_variable(2), name="e"), name="e")
        >>> len(f.find_all_with_name("e"))
        2
        """
        return [search.single(n) for n in search.named(name, self._current(), depth)]

    # Running it

    def stream(self, device: DeviceDescriptor | None = None) -> Stream:
        """Evaluates the function frame by frame, for live data or endless sequences.

        The results are those of `eval` for whole sequences, in constant memory: only the states of
        delays are kept. See `Stream` for several sequences at once, and for saving and restoring
        states.

        Args:
            device: `C.device.cpu()`, `C.device.gpu(0)`; by default `use_default_device()`.

        Raises:
            GraphError: an operation looks ahead, or needs all frames at once; the error names it.

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
        arguments: object = None,
        outputs: Sequence[object] | None = None,
        device: DeviceDescriptor | None = None,
        as_numpy: bool = True,
        window: int | None = None,
        memory_limit: int | None = None,
    ) -> Any:
        """Evaluates the function.

        Args:
            arguments: a dict from inputs (or their names) to values, or just the value if there
                is one input. A batch is an array (N, *shape) or a list of samples; sequences
                are a list of arrays (frames, *shape), one such array for a single sequence, or
                an array (N, frames, *shape) for sequences of equal length. In a list of sequences,
                an array (*shape) is a sequence of one frame, as in CNTK.
            outputs: the values to compute; by default the function's outputs.
            device: `C.device.cpu()`, `C.device.gpu(0)`; by default `use_default_device()`.
            as_numpy: whether to return NumPy arrays. Otherwise each value is a `C.Value`, which
                stays on the device that computed it, for other evaluations and libraries.
            window: the number of frames of each sequence to compute at once, which saves memory
                for intermediate results.
            memory_limit: chooses the window by the number of bytes for intermediate results.

        Returns:
            for sequences a list of arrays (frames, *shape); for a batch an array (N, *shape);
            otherwise one array. A dict from outputs to these if there are several outputs.

        Raises:
            GraphError: an input is missing or has the wrong shape.

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
        at: object = None,
        wrt: object = None,
        outputs: Sequence[object] | None = None,
        device: DeviceDescriptor | None = None,
        as_numpy: bool = True,
        grad_root: object = None,
        window: int | None = None,
        memory_limit: int | None = None,
    ) -> Any:
        """The gradient of the sum of all elements of the output.

        Args:
            at: the values of the inputs, as for `eval`.
            wrt: one or several inputs and parameters; by default the inputs with
                `needs_gradient`.
            outputs: further values to compute.
            grad_root: the value to differentiate, by default the function's output.
            window: the number of frames of each sequence to compute at once. Only the states at
                the borders of windows are kept, and each window is computed again in the backward
                pass: the same gradients with less memory, at the cost of a second forward pass.
            memory_limit: chooses the window by the number of bytes for intermediate results.

        The run is in training mode: dropout is active and, as in CNTK, running statistics are
        updated.

        Returns:
            an array for a parameter, a batch or list for an input, as `eval` returns them; a dict
            from `wrt` to these if there are several. With `outputs`, a pair of that and a dict
            from outputs to their values.

        Raises:
            GraphError: an input is missing or has the wrong shape, or no gradient is asked for.

        >>> x = C.input_variable(2, needs_gradient=True)
        >>> C.square(x).grad({x: [[1, 2]]})
        array([[2., 4.]], dtype=float32)
        """
        return running.gradient(
            self, at, wrt, outputs, device, as_numpy, grad_root, window, memory_limit
        )

    def forward(
        self,
        arguments: object = None,
        outputs: object = None,
        keep_for_backward: object = None,
        device: DeviceDescriptor | None = None,
        as_numpy: bool = True,
    ) -> tuple[evaluation.Feed | None, dict[Any, Any]]:
        """The values of `outputs`, and the state that `backward` needs.

        Args:
            arguments: the values of the inputs, as for `eval`.
            outputs: the values to compute; by default the function's outputs.
            keep_for_backward: the outputs that `backward` will get gradients for. If there are
                any, the run is in training mode, see `grad`.

        Returns:
            a state (None without `keep_for_backward`), and a dict from `outputs` to their values,
            as `eval` returns them.

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
        state: evaluation.Feed | None,
        root_gradients: object,
        variables: Iterable[object],
        as_numpy: bool = True,
    ) -> dict[Any, Any]:
        """The gradients of a loss, from its gradients with respect to outputs.

        Args:
            state: the state that `forward` returned.
            root_gradients: a dict from outputs to gradients, each of its output's shape; or just
                the gradient if there is one output.
            variables: the inputs and parameters to compute gradients for.

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
        """A table of the layers: output shapes, parameters, operations, connections.

        It prints as text, and as a table in a notebook. A recurrence contains its step function.

        >>> model = C.layers.Sequential([C.layers.Dense(4), C.layers.Dense(2)])
        >>> model(C.input_variable(3)).summary().total
        26
        """
        return summary.Summary(self._current())

    def explain(self, wrt: Sequence[object] = (), frames: int | None = None) -> str:
        """Describes the plan: work over all frames, work per step of a loop, fusion, and costs.

        Args:
            wrt: inputs and parameters whose gradients are included in the plan.
            frames: the length of a sequence: shows instead the memory for a run, whole and in
                windows.

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

    def profile(self, arguments: object = None, wrt: Sequence[object] = ()) -> profile.Profile:
        """The time of each part of a run: a table, which can be saved for a trace viewer.

        Args:
            arguments: the values of the inputs, as for `eval`.
            wrt: inputs and parameters whose gradients are computed too.

        >>> table = C.exp(C.input_variable(2)).profile(np.ones((3, 2)))
        >>> "exp" in str(table)
        True
        """
        request = running.request(self, wrt)
        given = self._runner.feed(as_feed(arguments, self.arguments))
        return profile.profile(request, given, running.inputs_of(self))

    def print_node_timing(self) -> None:
        """Prints the times of operations since the last call; see `debugging.set_node_timing`.

        >>> C.exp(C.input_variable(2)).print_node_timing()
        no run was timed: call debugging.set_node_timing(True) before
        """
        profile.print_node_timing()

    # Saving and training it

    def save(
        self,
        filename: str | os.PathLike[str],
        format: persistence.ModelFormat | None = None,
        use_external_files_to_store_parameters: bool = False,
    ) -> None:
        """Saves a function: its graph, and the values of its parameters and constants.

        Args:
            filename: the file; an existing one is replaced atomically, once the new one is
                complete. Missing folders are created.
            format: `ModelFormat.CNTKv2`, which means rgraph's own format (the default), or
                `ModelFormat.ONNX`, for other programs. In ONNX recurrences become `Scan`, and
                sequences are arrays (frames, batch, *shape). Requires the package onnx.
            use_external_files_to_store_parameters: accepted for compatibility with CNTK: there is
                always a single file.

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
        """Sets the parameters and constants to the values in a saved copy of this function.

        Raises:
            GraphError: the file contains a different function.
        """
        persistence.restore(self, filename)

    @staticmethod
    def load(
        model: str | os.PathLike[str] | bytes, device: Any = None, format: Any = None
    ) -> Function:
        """Same as `C.load_model`."""
        return persistence.load_model(model, device, format)

    @staticmethod
    def register_udf_deserialize_callback(
        op_name: str, callback: Callable[[Sequence[Any], str, Any], Any]
    ) -> None:
        """Same as `C.register_udf_deserialize_callback`."""
        persistence.register_udf_deserialize_callback(op_name, callback)

    def __reduce__(self) -> Any:
        return pickling.reduced_function(self)

    def train(
        self,
        minibatch_source: object,
        minibatch_size: object = 32,
        streams: Sequence[object] | None = None,
        model_inputs_to_streams: Mapping[Any, object] | None = None,
        parameter_learners: object = (),
        callbacks: object = (),
        progress_frequency: object = None,
        max_epochs: float | None = None,
        epoch_size: int | None = None,
        max_samples: int | None = None,
        on_nan: str | None = None,
        window: int | None = None,
        memory_limit: int | None = None,
        loss_scale: training.LossScale = None,
    ) -> training.Progress:
        """Trains a model with this function as the criterion: a loss, or a loss and a metric.

        Args:
            minibatch_source: a dict from inputs (or their names) to arrays (N, *shape), SciPy
                sparse matrices, `Value`s or lists of sequences; a tuple of these in the order of
                the criterion's `arguments`; or a minibatch source.
            minibatch_size: the number of samples in a minibatch (frames of the longest stream, for
                sequences), or `minibatch_size_schedule(…)`.
            streams: the source's streams in the order of the arguments.
            model_inputs_to_streams: a dict from inputs to streams, instead of `streams`.
            parameter_learners: one or several learners.
            callbacks: progress writers, and at most one each of `CheckpointConfig`,
                `CrossValidationConfig` and `TestConfig`.
            progress_frequency: the number of samples between summaries; by default an epoch. 0: no
                summaries.
            max_epochs: the number of epochs, by default 1. An epoch has `epoch_size` samples, or
                is one pass over the data.
            max_samples: the number of samples to train on, instead of `max_epochs`.
            on_nan: what to do about NaN: "raise", "skip", "ignore" or the default; see `Trainer`.
            window, memory_limit: compute long sequences in parts; see `Trainer`.
            loss_scale: scales the loss for float16: a number or "dynamic"; see `Trainer`.

        All numbers of samples except the minibatch size are counted by the loss, as in CNTK: whole
        sequences, if each has one loss.

        Arrays are read in their order, without shuffling.

        Returns:
            a `Progress` with the summaries of minibatches and epochs.

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
        minibatch_source: object,
        minibatch_size: object = 32,
        streams: Sequence[object] | None = None,
        model_inputs_to_streams: Mapping[Any, object] | None = None,
        callbacks: object = None,
    ) -> training.TestSummary:
        """The mean of the criterion's metric (or of its loss, without a metric) over data.

        Args:
            minibatch_source: data as for `train`, or a source with a limited number of samples.
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
