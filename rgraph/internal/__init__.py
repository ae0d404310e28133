"""What CNTK's own layers prepare arguments with, for programs that do so too: `internal`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import cpu, gpu, try_set_default_device
from ..graph import Axis, GraphError
from ..graph.types import DTypeLike, ShapeLike
from ..operands.operand import Operand
from ..operands.tracing import nodes_of
from ..operands.variables import Variable, constant
from ..ops.records import hold
from ..runtime.values import Value, asarray
from .helpers import map_if_possible, typemap

_DTYPES = {
    "float": np.float32,
    "double": np.float64,
    int: np.float32,  # as in CNTK
    float: np.float64,
}


def sanitize_dtype_numpy(dtype: DTypeLike) -> Any:
    """The NumPy type that CNTK understands by this; whole numbers are float32 to it.

    >>> C.internal.sanitize_dtype_numpy("float").__name__
    'float32'
    """
    try:
        found = np.dtype(_DTYPES.get(dtype, dtype))
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "fiu" or found.itemsize > 8:
        raise ValueError(f"data type {dtype!r} is not supported")
    whole = found.kind in "iu" and found.name not in ("int8", "int16")
    return np.float32 if whole else found.type


def sanitize_dtype_cntk(dtype: DTypeLike) -> Any:
    """As `sanitize_dtype_numpy`; None stays None. (CNTK numbers its types.)

    >>> C.internal.sanitize_dtype_cntk(np.float64) is C.cntk_py.DataType_Double
    True
    """
    return None if dtype is None else sanitize_dtype_numpy(dtype)


def sanitize_precision(precision: Any) -> Any:
    """As `sanitize_dtype_cntk`.

    >>> C.internal.sanitize_precision("double").__name__
    'float64'
    """
    return sanitize_dtype_cntk(precision)


def data_type_to_dtype(data_type: Any) -> Any:
    """As `sanitize_dtype_cntk`; `object` for an unknown type.

    >>> C.internal.data_type_to_dtype(C.cntk_py.DataType_Float).__name__
    'float32'
    """
    return object if data_type is None else sanitize_dtype_numpy(data_type)


def get_data_type(*args: object) -> Any:
    """The widest type among operands, or else among arrays; of numbers float32.

    None where there are placeholders alone.

    >>> C.internal.get_data_type(C.input_variable(1), np.ones(1)).__name__
    'float32'
    """
    graph, arrays = [], []
    for arg in args:
        if isinstance(arg, Operand):
            if arg.dtype is not None and not getattr(arg, "is_placeholder", False):
                graph.append(np.dtype(arg.dtype))
        elif isinstance(arg, (np.ndarray, np.inexact)):
            arrays.append(np.dtype(arg.dtype))
        else:
            arrays.append(np.dtype(np.float32))
    found = graph or arrays
    return np.result_type(*found).type if found else None


def sanitize_shape(shape: ShapeLike) -> tuple[int, ...]:
    """A shape as a tuple.

    >>> C.internal.sanitize_shape(3)
    (3,)
    """
    return (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)


def sanitize_input(arg: Any, fallback_dtype: Any = np.float32, reshape: Any = None) -> Any:
    """An operand: a variable or function as it is, numbers and arrays as a constant.

    Args:
        fallback_dtype: the constant's type.
        reshape: the constant's shape.

    >>> C.internal.sanitize_input([1, 2]).value
    array([1., 2.], dtype=float32)
    """
    if isinstance(arg, Operand):
        return arg
    if isinstance(arg, list) and not arg:
        raise ValueError("input is empty")
    array = asarray(arg).astype(fallback_dtype)
    return constant(array if reshape is None else np.reshape(array, reshape))


def sanitize_batch(var: Variable, batch: Any, seq_starts: Any = None, device: Any = None) -> Value:
    """As `Value.create`; a `Value` stays as it is.

    >>> C.internal.sanitize_batch(C.input_variable(1), np.array([[1], [2]])).shape
    (2, 1)
    """
    if isinstance(batch, Value):
        if seq_starts is not None:
            raise ValueError("a Value says itself which sequences begin anew")
        return batch
    return Value.create(var, batch, seq_starts, device)


def sanitize_value(shape: ShapeLike, value: object, dtype: DTypeLike, device: Any) -> Any:
    """An array of a shape and type, as an `NDArrayView`.

    >>> C.internal.sanitize_value((2,), 1, np.float32, C.cpu()).asarray()
    array([1., 1.], dtype=float32)
    """
    from ..runtime.arrays import NDArrayView

    if value is None and shape is None:
        raise ValueError("a shape or a value must be given")
    array = np.asarray(0 if value is None else value, sanitize_dtype_numpy(dtype))
    if shape and not array.ndim:
        array = np.full(sanitize_shape(shape), array)
    return NDArrayView.from_dense(array.copy(), device)


def sanitize_function(arg: object) -> Any:
    """A function, of a variable too.

    >>> C.internal.sanitize_function(C.input_variable(2)).shape
    (2,)
    """
    return hold(nodes_of(arg)) if isinstance(arg, Variable) else sanitize_variable_or_function(arg)


def sanitize_variable_or_function(arg: object) -> Any:
    """A variable or function as it is. Raises `TypeError` for all else.

    >>> C.internal.sanitize_variable_or_function(C.input_variable(2)).shape
    (2,)
    """
    if not isinstance(arg, Operand):
        raise TypeError(f"a variable or function is expected, got {type(arg).__name__}")
    return arg


def sanitize_variables_or_functions(arg: Any) -> list[Any]:
    """Variables and functions in a list.

    >>> len(C.internal.sanitize_variables_or_functions(C.input_variable(2)))
    1
    """
    several = [arg] if isinstance(arg, Operand) else arg
    return [sanitize_variable_or_function(each) for each in several]


def sanitize_axis(axis: Any) -> Axis:
    """An axis from its number; None: all static axes. (CNTK's counts backwards, as C++ does.)

    >>> C.internal.sanitize_axis(1).static_axis_index()
    1
    """
    if axis is None:
        return Axis.all_static_axes()
    return axis if isinstance(axis, Axis) else Axis(int(axis))


def sanitize_permutation(perm: Sequence[int]) -> list[int]:
    """The permutation that does to axes in reverse order what this one does to axes.

    >>> C.internal.sanitize_permutation([3, 0, 2, 1])
    [2, 1, 3, 0]
    """
    count = len(perm)
    places = [p + count if p < 0 else p for p in perm]
    if sorted(places) != list(range(count)):
        raise ValueError(f"{perm} is no permutation of 0 to {count - 1}")
    return [count - 1 - p for p in reversed(places)]


def sanitize_axis_list(axes: object) -> list[Axis]:
    """Axes from their numbers, in a list.

    >>> len(C.internal.sanitize_axis_list([0, 1]))
    2
    """
    return [sanitize_axis(a) for a in (axes if isinstance(axes, (list, tuple)) else [axes])]


def sanitize_multi_axis_reduction_list(axes: object) -> list[Axis]:
    """As `sanitize_axis_list`; no time axis may be among them.

    >>> len(C.internal.sanitize_multi_axis_reduction_list(0))
    1
    """
    found = sanitize_axis_list(axes)
    if any(a.is_sequence_axis and a.name not in ("AllStaticAxes", "AllAxes") for a in found):
        raise GraphError("a reduction over several axes can't go over time")
    return found


def sanitize_dynamic_axes(axes: object) -> tuple[Axis, ...]:
    """Dynamic axes as a tuple.

    >>> C.internal.sanitize_dynamic_axes(C.Axis.default_batch_axis())
    (Axis('defaultBatchAxis'),)
    """
    found = tuple(axes) if isinstance(axes, (list, tuple)) else (axes,)
    for axis in found:
        if not isinstance(axis, Axis):
            raise TypeError(f"an Axis is expected, got {type(axis).__name__}")
    return found


def sanitize_2d_number(x: object) -> tuple[Any, Any]:
    """Two numbers: of one, itself twice.

    >>> C.internal.sanitize_2d_number(3)
    (3, 3)
    """
    pair = (x, x) if np.isscalar(x) else x
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(map(np.isscalar, pair)):
        raise ValueError("a number or a tuple of two numbers is expected")
    return tuple(pair)


def sanitize_range(x: object) -> tuple[Any, Any]:
    """As `sanitize_2d_number`, of which the first is not above the second.

    >>> C.internal.sanitize_range((1, 2))
    (1, 2)
    """
    low, high = sanitize_2d_number(x)
    if low > high:
        raise ValueError("the first number must not be above the second")
    return low, high


def set_device_from_pytest_env() -> None:
    """Chooses the device that the environment variable `TEST_DEVICE` names, if there is one.

    CNTK's tutorials call it, as `cntk.tests.test_utils.set_device_from_pytest_env`.

    >>> C.internal.set_device_from_pytest_env()
    """
    device = os.environ.get("TEST_DEVICE")
    if device:
        try_set_default_device(cpu() if device in ("cpu", "-1") else gpu(0))


class Record(dict):
    """A dictionary whose values are attributes, too, and that does not change.

    Source: CNTK's `Record`.

    >>> r = C.variables.Record(x=13)
    >>> r.x, r["x"], r.updated_with(y=1)
    (13, 13, {'x': 13, 'y': 1})
    """

    def __init__(self, **args_dict: object) -> None:
        super().__init__(args_dict)

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"the record has no '{name}', it has {', '.join(self)}")
        return self[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a record does not change; updated_with makes another one")

    def updated_with(self, **kwargs: object) -> Record:
        """Another record with members changed or added."""
        return Record(**{**self, **kwargs})


TensorOpsMixin = Operand

__all__ = [
    "map_if_possible",
    "typemap",
    "Record",
    "data_type_to_dtype",
    "get_data_type",
    "sanitize_2d_number",
    "sanitize_axis",
    "sanitize_axis_list",
    "sanitize_permutation",
    "sanitize_batch",
    "sanitize_dtype_cntk",
    "sanitize_dtype_numpy",
    "sanitize_dynamic_axes",
    "sanitize_function",
    "sanitize_input",
    "sanitize_multi_axis_reduction_list",
    "sanitize_precision",
    "sanitize_range",
    "sanitize_shape",
    "sanitize_value",
    "sanitize_variable_or_function",
    "sanitize_variables_or_functions",
    "set_device_from_pytest_env",
]
