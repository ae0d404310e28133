"""Variables, parameters and constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import graph, ops
from ..default_options import default_dtype
from ..device import engine as device_engine
from ..device import gpu
from ..graph import BATCH, SEQUENCE, Axis, GraphError
from ..graph.node import describe_type, resolve
from ..graph.types import DTypeLike, ShapeLike
from ..ops.records import hold
from ..runtime.arrays import DLPACK_CPU, as_numpy_asks, exported, on_cpu, on_gpu
from ..runtime.values import dense
from .operand import Operand
from .pickling import reduced_variable


class Variable(Operand):
    """A value in a graph. Variables are equal if they stand for the same value.

    >>> x = C.input_variable(2, name="x")
    >>> (x + 1).inputs[0] == x
    True
    """

    def __init__(self, node: graph.Node) -> None:
        self._node = node

    @property
    def node(self) -> graph.Node:  # type: ignore[override]
        """Its node, or what that stands for."""
        node = self._node
        return node if node.target is None else resolve(node)

    def stand_anew(self) -> None:
        """Has a placeholder that was bound be one again, for what it is used in from now on."""
        self._node.handle = None
        self._node = graph.Placeholder(name=self._node.name)
        self._node.handle = self

    @property
    def name(self) -> str:
        """The name, or ''."""
        return self.node.name

    def eval(self, arguments: object = None, **options: object) -> Any:
        """Evaluates the variable, see `Function.eval`."""
        return hold(ops.alias(self.node)).eval(arguments, **options)

    def __reduce__(self) -> Any:
        return reduced_variable(self)

    def __copy__(self) -> Variable:
        return self

    def __repr__(self) -> str:
        node = self.node
        told = [f"'{node.name}'"] * bool(node.name) + [describe_type(node)]
        return f"{node.kind}({', '.join(told)})"


class Valued(Variable):
    """A variable with an array, which can be read and set."""

    @property
    def value(self) -> np.ndarray:
        """A copy of the array. `p.value = array` copies a new array.

        For a constant the new array is broadcast to its shape.

        >>> p = C.Parameter((2, 2), init=1)
        >>> changed = p.value
        >>> changed[0, 0] = 100
        >>> p.value = changed
        >>> p.value
        array([[100.,   1.],
               [  1.,   1.]], dtype=float32)
        """
        return self.node.value.copy()  # type: ignore[attr-defined]

    @value.setter
    def value(self, value: Any) -> None:
        node: Any = self.node
        value = dense(value)
        if isinstance(node, graph.Constant):
            node.value = on_cpu(value)
            return
        there = on_gpu(value)
        if there is not None and there.shape == node.shape:
            device_engine(gpu(there.device.id)).store(node, there)
        else:
            node.value = on_cpu(value)

    def set_value(self, value: object) -> None:
        """Same as setting `value`."""
        self.value = value

    def asarray(self) -> np.ndarray:
        """Same as `value`."""
        return self.value

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        return as_numpy_asks(self.value, dtype, copy, True)

    def __dlpack__(self, **options: object) -> Any:
        """A copy of its array in the CPU's memory, for other libraries: `torch.from_dlpack(p)`."""
        if options.get("copy") is False:
            raise BufferError("the array of a parameter can only be exported as a copy")
        return exported(self.value, options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return DLPACK_CPU, 0


class State(Valued):
    """A value that training updates without a learner, such as running statistics.

    Args:
        shape: the shape; `C.InferredDimension` infers a size from its use.
        value: the initial value, a number.
        dtype: np.float32 (default) or np.float64.

    >>> C.State((2,), 1).value
    array([1., 1.], dtype=float32)
    """

    def __init__(
        self,
        shape: ShapeLike = (),
        value: object = 0,
        dtype: DTypeLike = None,
        name: str = "",
    ) -> None:
        dims = ops.shaping.as_shape(shape)
        super().__init__(graph.State(dims, dtype or default_dtype(), _initializer(value), name))
        self._node.handle = self


class Parameter(Valued):
    """A value that training learns.

    Args:
        shape: the shape; `C.InferredDimension` infers a size from the operands it is used with.
        init: a number, an array, or an initializer (`C.glorot_uniform()`). With an array, a shape
            of () means the shape of the array.
        dtype: np.float32 (default) or np.float64, independent of the dtype of an array.

    >>> C.Parameter((2, 3), init=1).value
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """

    def __init__(
        self,
        shape: ShapeLike | None = None,
        init: Any = None,
        dtype: DTypeLike = None,
        device: Any = None,
        name: str = "",
    ) -> None:
        if shape is None and (init is None or callable(init)):
            raise GraphError(
                "a parameter needs a shape, or an array as init",
                hint="write C.Parameter(shape, init=…); C.InferredDimension for a size to infer",
            )
        if not callable(init):
            init = on_cpu(init)
            graph.as_numbers(0 if init is None else init, "a parameter")
        array = not callable(init) and (isinstance(init, np.ndarray) or np.ndim(init) > 0)
        sized = isinstance(shape, (int, np.integer, tuple, list)) and shape not in ((), [])
        if array and not sized or shape is None:
            shape = np.shape(init)
        node = graph.Parameter(
            ops.shaping.as_shape(shape), dtype or default_dtype(), _initializer(init), name
        )
        if not callable(init) and np.ndim(0 if init is None else init):
            node.value = init
        super().__init__(node)
        node.handle = self


class Constant(Valued):
    """A constant: a number or an array, broadcast to `shape` if given.

    Without a dtype it adopts the dtype of the operands it is used with.

    >>> C.Constant(2, (1, 3)).value
    array([[2., 2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        value: Any = None,
        shape: ShapeLike | None = None,
        dtype: DTypeLike = None,
        device: Any = None,
        name: str = "",
    ) -> None:
        dims = None if shape is None else ops.shaping.as_shape(shape)
        value = 0 if value is None else on_cpu(value)
        node = graph.Constant(value, dims, dtype or default_dtype(), name)
        node.weak = dtype is None
        super().__init__(node)
        node.handle = self


def _initializer(init: object) -> Callable[..., np.ndarray]:
    if callable(init):
        return init.seeded() if hasattr(init, "seeded") else init
    value = 0 if init is None else init
    return partial(_filled, value)


def _filled(value: object, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype), shape)


def input_variable(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    needs_gradient: bool = False,
    is_sparse: bool = False,
    dynamic_axes: Sequence[Axis] | Axis | None = None,
    name: str = "",
) -> Variable:
    """An input, with a value per sample that each evaluation provides.

    Args:
        shape: the shape of a sample, without the batch.
        dtype: np.float32 (default) or np.float64.
        needs_gradient: whether `grad` computes the gradient with respect to it by default.
        dynamic_axes: by default the batch axis; for sequences use `sequence.input_variable`.

    >>> C.input_variable((3, 32, 32)).shape
    (3, 32, 32)
    """
    axes: tuple[Axis, ...] = (BATCH,)
    if isinstance(dynamic_axes, Axis):
        axes = (dynamic_axes,) if dynamic_axes.is_batch_axis else (BATCH, dynamic_axes)
    elif dynamic_axes is not None:
        axes = tuple(dynamic_axes)
    return ops.sequence.new_input(shape, dtype, needs_gradient, is_sparse, axes, name)


def input(
    shape: ShapeLike,
    dtype: DTypeLike = None,
    needs_gradient: bool = False,
    is_sparse: bool = False,
    dynamic_axes: Sequence[Axis] | Axis | None = None,
    name: str = "",
) -> Variable:
    """Same as `input_variable`.

    >>> C.input(3).shape
    (3,)
    """
    return input_variable(shape, dtype, needs_gradient, is_sparse, dynamic_axes, name)


def placeholder(
    shape: ShapeLike | str | None = None,
    dynamic_axes: Sequence[Axis] | None = None,
    name: str = "",
) -> Variable:
    """A placeholder for a value that `replace_placeholders` or a call binds later.

    A string as the first argument is the name.

    >>> p = C.placeholder()
    >>> f = p * 2
    >>> f(C.constant([1, 2])).eval()
    array([2., 4.], dtype=float32)
    """
    if isinstance(shape, str):
        shape, name = None, name or shape
    dims = None if shape is None else ops.shaping.as_shape(shape)
    axes = None if dynamic_axes is None else tuple(dynamic_axes)
    return hold(graph.Placeholder(dims, axes, None, name))


def parameter(
    shape: ShapeLike = None,
    init: object = None,
    dtype: DTypeLike = None,
    device: object = None,
    name: str = "",
) -> Parameter:
    """Same as `Parameter`, but by default with the dtype of an array given as init, as in CNTK.

    >>> C.parameter((2,), init=0.5).value
    array([0.5, 0.5], dtype=float32)
    >>> C.parameter(init=np.ones(1)).value, C.Parameter(init=np.ones(1)).value
    (array([1.]), array([1.], dtype=float32))
    """
    init = init if callable(init) else on_cpu(init)
    return Parameter(shape, init, dtype or _own_dtype(init), device, name)


def _own_dtype(value: Any) -> Any:
    """The dtype of an array of floating-point numbers."""
    kind = getattr(value, "dtype", None)
    return kind if kind is not None and np.ndim(value) and np.dtype(kind).kind == "f" else None


def constant(
    value: object = None,
    shape: ShapeLike = None,
    dtype: DTypeLike = None,
    device: object = None,
    name: str = "",
) -> Constant:
    """Same as `Constant`, but by default with the dtype of an array, as in CNTK.

    >>> C.constant([1, 2]).shape
    (2,)
    >>> C.constant(np.ones(1)).value, C.Constant(np.ones(1)).value
    (array([1.]), array([1.], dtype=float32))
    """
    dims = None if shape is None else ops.shaping.as_shape(shape)
    return hold(graph.Constant(0 if value is None else on_cpu(value), dims, dtype, name))


_KINDS: dict[type, type[Variable]] = {
    graph.Parameter: Parameter,
    graph.State: State,
    graph.Constant: Constant,
}


def leaf(node: graph.Node) -> Variable:
    """The variable that people hold for a leaf."""
    if node.handle is None:
        kind = _KINDS.get(type(node), Variable)
        node.handle = kind.__new__(kind)
        Variable.__init__(node.handle, node)
    return node.handle


def as_variable(node: graph.Node) -> Variable:
    """A leaf as people hold it, or the result of an operation as a variable."""
    return Variable(node) if node.op else leaf(node)


__all__ = [
    "Constant",
    "Parameter",
    "SEQUENCE",
    "Variable",
    "constant",
    "input_variable",
    "parameter",
    "placeholder",
]
