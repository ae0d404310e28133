"""User-defined functions: forward and backward in Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import graph
from ..graph import Axis, GraphError, Input, Placeholder
from ..graph.node import Type, resolve
from ..graph.types import DTypeLike, ShapeLike
from ..operands.variables import Variable, as_variable
from ..ops import records
from ..ops.user import CALL, OUTPUT, UserOperation
from ..runtime.values import Value, dense
from .building import combine
from .function import Function

_MADE = ("_nodes", "_signature", "_name", "_is_primitive", "_passes")


class UserFunction(Function, UserOperation):
    """The base class of user-defined operations, with a forward and a backward in Python.

    A subclass defines

    - `infer_outputs(self)`: a list with an `output_variable` for each output, from `self.inputs`.
    - `forward(self, argument, device=None, outputs_to_retain=None)`: the pair of a state for
      `backward` (or None) and the result. `argument` is the operand's value, or a list of values
      if there are several operands: an array, for a batch an array (N, *shape), for sequences a
      list of arrays (frames, *shape).
      With several outputs `forward(self, argument, outputs, device=None, …)` puts its results
      into the dict `outputs` by output variable and returns the state.
    - `backward(self, state, root_gradients)`: the gradient with respect to the only operand;
      with several operands `backward(self, state, root_gradients, variables)`, which puts a
      gradient into the dict `variables` for each of its keys, inputs of the function. With
      several outputs `root_gradients` is a dict.
    - optionally, to be saved and loaded, `serialize(self)`, which returns a state for JSON, and
      the static method `deserialize(inputs, name, state)`.

    Use it with `C.user_function`. In a recurrence it is called in each step, with one frame of
    each sequence that has not ended yet.

    Args:
        inputs: the operands.
        as_numpy: whether values are arrays; otherwise `Value` objects.
        attributes: a dict, kept as `self.attributes`.
        name: its name.

    Source: CNTK's `UserFunction`.

    >>> class Double(C.UserFunction):
    ...     def __init__(self, x, name="double"):
    ...         super().__init__([x], name=name)
    ...     def infer_outputs(self):
    ...         x = self.inputs[0]
    ...         return [C.output_variable(x.shape, x.dtype, x.dynamic_axes)]
    ...     def forward(self, x, device=None, outputs_to_retain=None):
    ...         return None, 2 * x
    ...     def backward(self, state, root_gradients):
    ...         return 2 * root_gradients
    >>> x = C.input_variable(2, needs_gradient=True)
    >>> f = C.user_function(Double(x)) + 1
    >>> f.eval({x: [[1, 2]]})
    array([[3., 5.]], dtype=float32)
    >>> f.grad({x: [[1, 2]]})
    array([[2., 2.]], dtype=float32)
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> UserFunction:
        return object.__new__(cls)

    def __init__(
        self,
        inputs: Iterable[Any],
        as_numpy: bool = True,
        attributes: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> None:
        self.as_numpy = as_numpy
        self._attributes = dict(attributes or {})
        self._operands = [records.as_node(i) for i in inputs]
        self._given_name = name
        self._inferring: list[Variable] | None = None

    def _declare(self) -> None:
        """Makes the nodes, when they are first asked for: the subclass is ready by then."""
        try:
            declared = self.infer_outputs()
        except GraphError:
            raise
        except Exception as error:
            raise RuntimeError(f"infer_outputs of {self.op_name} failed: {error}") from error
        self._passes = [getattr(v, "passes_gradient", True) for v in declared]
        called = graph.apply(CALL, *self._operands, function=self)
        nodes = [
            graph.apply(OUTPUT, called, *self._operands, function=self, index=i, name=v.name)
            for i, v in enumerate(declared)
        ]
        if len(nodes) == 1 and self._given_name:
            nodes[0].name = self._given_name
        self._start(nodes, None, self._given_name)

    def __getattr__(self, name: str) -> Any:
        if name in _MADE and "_inferring" in self.__dict__:
            self._declare()
            return self.__dict__[name]
        return super().__getattr__(name)

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """The operands."""
        if self._inferring is not None:
            return tuple(self._inferring)
        return tuple(as_variable(n) for n in map(resolve, self._operands))

    @property
    def arguments(self) -> tuple[Variable, ...]:
        """The operands that are neither parameters nor constants."""
        return tuple(v for v in self.inputs if not (v.is_parameter or v.is_constant))

    @property
    def attributes(self) -> dict[str, Any]:
        """What it was made with, besides its operands."""
        return self._attributes

    @property
    def root_function(self) -> Function:
        return self

    @property
    def op_name(self) -> str:
        """The name by which a saved file knows the operation: module and class, or what a subclass
        says, which `register_udf_deserialize_callback` must be told then."""
        return self.known_as()

    # What the subclass writes

    def infer_outputs(self) -> list[Any]:
        """The output variables, from the shapes, dtypes and axes of `self.inputs`."""
        raise NotImplementedError(f"{type(self).__name__} must define infer_outputs")

    def backward(  # type: ignore[override]
        self, state: Any, root_gradients: Any, variables: Any = None
    ) -> Any:
        """The gradients with respect to the operands."""
        raise GraphError(f"{type(self).__name__} has no backward, so it has no gradient")

    # What the operation's record and files ask

    @property
    def instance_name(self) -> str:
        return self.name

    def set_output(self, index: int, node: graph.Node) -> None:
        self._nodes[index] = node

    def output_type(self, types: Sequence[Type], index: int) -> Type:
        known = all(t.is_complete for t in types)
        stand_ins = [
            (Input if known else Placeholder)(t.shape, t.axes, t.dtype, n.name)
            for t, n in zip(types, self._operands, strict=True)
        ]
        self._inferring = [Variable(n) for n in stand_ins]
        try:
            node = self.infer_outputs()[index].node
        except Exception:
            if known:
                raise
            return Type(None, None, None)  # it depends on what is not known yet
        finally:
            self._inferring = None
        dtype = node.dtype or types[0].dtype
        if not known:  # `shape` and `dynamic_axes` say so with these
            return Type(None if node.shape == (-2,) else node.shape, node.axes or None, dtype)
        return Type(node.shape, node.axes, dtype)

    def passes_gradient(self, index: int) -> bool:
        return self._passes[index]

    def run_forward(self, arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
        values = [a if self.as_numpy else Value(a) for a in arguments]
        given = values if len(values) > 1 else values[0]
        if len(self._passes) == 1:
            state, result = self._called(self.forward, given, None, None)
            return state, [dense(result)]
        outputs: dict[Any, Any] = dict.fromkeys(self.outputs)
        state = self._called(self.forward, given, outputs, None, None)
        missing = [v for v in self.outputs if outputs[v] is None]
        if missing:
            raise GraphError(f"forward of {self.op_name} gave no value for {missing}")
        return state, [dense(outputs[v]) for v in self.outputs]

    def _called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a user's function returns. Raises `GraphError` if it takes other arguments."""
        try:
            return function(*arguments)
        except TypeError:
            try:
                inspect.signature(function).bind(*arguments)
            except TypeError as error:
                raise GraphError(
                    f"{function.__name__} of {self.op_name}: {error}",
                    hint="with one output it is forward(self, arguments, device, "
                    "outputs_to_retain), with several forward(self, arguments, outputs, device, "
                    "outputs_to_retain); with one input backward(self, state, root_gradients), "
                    "with several backward(self, state, root_gradients, variables)",
                ) from None
            raise

    def run_backward(self, state: Any, results: Sequence[Any], index: int, g: Any) -> list[Any]:
        wrap = (lambda v: v) if self.as_numpy else Value
        root: Any = wrap(g)
        if len(results) > 1:
            zero = [
                [np.zeros_like(s) for s in r] if isinstance(r, list) else np.zeros_like(r)
                for r in results
            ]
            zero[index] = g
            root = {v: wrap(z) for v, z in zip(self.outputs, zero, strict=True)}
        if len(self._operands) == 1:
            return [dense(self._called(self.backward, state, root))]
        variables: dict[Any, Any] = {v: None for v in self.inputs if not v.is_constant}
        self._called(self.backward, state, root, variables)
        return [dense(variables.get(v)) for v in self.inputs]


class OutputVariable(Variable):
    """An output that a `UserFunction` declares."""

    passes_gradient = True


def output_variable(
    shape: ShapeLike,
    dtype: DTypeLike,
    dynamic_axes: Sequence[Axis] = (),
    needs_gradient: bool = True,
    name: str = "",
) -> OutputVariable:
    """An output of a `UserFunction`, for its `infer_outputs`.

    Args:
        shape: one sample's (or frame's) shape.
        dtype: np.float32 or np.float64.
        dynamic_axes: those of an operand, or () for none.
        needs_gradient: whether gradients go back through it.

    >>> C.output_variable((2, 3), np.float32, []).shape
    (2, 3)
    """
    dims = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    variable = OutputVariable(Placeholder(dims, tuple(dynamic_axes), dtype, name))
    variable.passes_gradient = needs_gradient
    return variable


def user_function(user_func: Any) -> Function:
    """A `UserFunction`, or what is made of some, as a function to build on and to run.

    Source: CNTK's `user_function`. See `UserFunction` for an example.

    >>> C.user_function(C.input_variable(2) + 1).shape
    (2,)
    """
    return as_composite(user_func)


def as_composite(root_function: Any, name: str = "") -> Function:
    """A function or variable as the function of everything below it.

    >>> C.as_composite(C.input_variable(2) + 1).shape
    (2,)
    """
    if isinstance(root_function, UserFunction):
        return Function(root_function._nodes, None, name or root_function.name)
    return root_function if isinstance(root_function, Function) else combine(root_function)


__all__ = ["UserFunction", "as_composite", "output_variable", "user_function"]
