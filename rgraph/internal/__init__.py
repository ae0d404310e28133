"""CNTK's `internal` module: helpers for arguments, for programs that import them."""

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
    """The NumPy type that CNTK uses for a dtype; integers become float32, except int8 and int16.

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
    """Same as `sanitize_dtype_numpy`, but None stays None. (CNTK returns an enum.)

    >>> C.internal.sanitize_dtype_cntk(np.float64) is C.cntk_py.DataType_Double
    True
    """
    return None if dtype is None else sanitize_dtype_numpy(dtype)


def sanitize_precision(precision: Any) -> Any:
    """Same as `sanitize_dtype_cntk`.

    >>> C.internal.sanitize_precision("double").__name__
    'float64'
    """
    return sanitize_dtype_cntk(precision)


def data_type_to_dtype(data_type: Any) -> Any:
    """The NumPy type for one of CNTK's types; `object` if it is unknown (None).

    >>> C.internal.data_type_to_dtype(C.cntk_py.DataType_Float).__name__
    'float32'
    """
    return object if data_type is None else sanitize_dtype_numpy(data_type)


def get_data_type(*args: object) -> Any:
    """The widest dtype of the operands, or if there are none of the arrays; numbers are float32.

    None if all arguments are placeholders.

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
    """Converts to an operand: numbers and arrays become constants.

    Args:
        fallback_dtype: the constant's type.
        reshape: the constant's shape.

    >>> C.internal.sanitize_input([1, 2]).value
    array([1., 2.], dtype=float32)
    """
    if isinstance(arg, Operand):
        return arg
    if isinstance(arg, list) and not arg:
        raise ValueError("an operand must not be an empty list")
    array = asarray(arg).astype(fallback_dtype)
    return constant(array if reshape is None else np.reshape(array, reshape))


def sanitize_batch(var: Variable, batch: Any, seq_starts: Any = None, device: Any = None) -> Value:
    """Same as `Value.create`; a `Value` is returned unchanged.

    >>> C.internal.sanitize_batch(C.input_variable(1), np.array([[1], [2]])).shape
    (2, 1)
    """
    if isinstance(batch, Value):
        if seq_starts is not None:
            raise ValueError("seq_starts can't be given for a Value, which already has them")
        return batch
    return Value.create(var, batch, seq_starts, device)


def sanitize_value(shape: ShapeLike, value: object, dtype: DTypeLike, device: Any) -> Any:
    """An `NDArrayView` with a value, 0 by default; a number fills the shape.

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
    """Converts a variable to a function; functions are returned unchanged.

    >>> C.internal.sanitize_function(C.input_variable(2)).shape
    (2,)
    """
    return hold(nodes_of(arg)) if isinstance(arg, Variable) else sanitize_variable_or_function(arg)


def sanitize_variable_or_function(arg: object) -> Any:
    """Returns a variable or function unchanged; raises `TypeError` for other objects.

    >>> C.internal.sanitize_variable_or_function(C.input_variable(2)).shape
    (2,)
    """
    if not isinstance(arg, Operand):
        raise TypeError(f"expected a variable or function, got {type(arg).__name__}")
    return arg


def sanitize_variables_or_functions(arg: Any) -> list[Any]:
    """A variable or function, or several, as a list.

    >>> len(C.internal.sanitize_variables_or_functions(C.input_variable(2)))
    1
    """
    several = [arg] if isinstance(arg, Operand) else arg
    return [sanitize_variable_or_function(each) for each in several]


def sanitize_axis(axis: Any) -> Axis:
    """The static axis with this number; None: all static axes. (CNTK's result counts from the end.)

    >>> C.internal.sanitize_axis(1).static_axis_index()
    1
    """
    if axis is None:
        return Axis.all_static_axes()
    return axis if isinstance(axis, Axis) else Axis(int(axis))


def sanitize_permutation(perm: Sequence[int]) -> list[int]:
    """The same permutation for axes in reverse order, as CNTK's C++ code counts them.

    >>> C.internal.sanitize_permutation([3, 0, 2, 1])
    [2, 1, 3, 0]
    """
    count = len(perm)
    places = [p + count if p < 0 else p for p in perm]
    if sorted(places) != list(range(count)):
        raise ValueError(f"{perm} is not a permutation of 0 to {count - 1}")
    return [count - 1 - p for p in reversed(places)]


def sanitize_axis_list(axes: object) -> list[Axis]:
    """A list of axes, from one or several numbers.

    >>> len(C.internal.sanitize_axis_list([0, 1]))
    2
    """
    return [sanitize_axis(a) for a in (axes if isinstance(axes, (list, tuple)) else [axes])]


def sanitize_multi_axis_reduction_list(axes: object) -> list[Axis]:
    """Same as `sanitize_axis_list`, but raises `GraphError` for a time axis.

    >>> len(C.internal.sanitize_multi_axis_reduction_list(0))
    1
    """
    found = sanitize_axis_list(axes)
    if any(a.is_sequence_axis and a.name not in ("AllStaticAxes", "AllAxes") for a in found):
        raise GraphError("a reduction over several axes can't include the time axis")
    return found


def sanitize_dynamic_axes(axes: object) -> tuple[Axis, ...]:
    """Dynamic axes as a tuple.

    >>> C.internal.sanitize_dynamic_axes(C.Axis.default_batch_axis())
    (Axis('defaultBatchAxis'),)
    """
    found = tuple(axes) if isinstance(axes, (list, tuple)) else (axes,)
    for axis in found:
        if not isinstance(axis, Axis):
            raise TypeError(f"expected an Axis, got {type(axis).__name__}")
    return found


def sanitize_2d_number(x: object) -> tuple[Any, Any]:
    """A pair of numbers; a single number is repeated.

    >>> C.internal.sanitize_2d_number(3)
    (3, 3)
    """
    pair = (x, x) if np.isscalar(x) else x
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(map(np.isscalar, pair)):
        raise ValueError("expected a number or a tuple of two numbers")
    return tuple(pair)


def sanitize_range(x: object) -> tuple[Any, Any]:
    """Same as `sanitize_2d_number`, for a range (low, high).

    >>> C.internal.sanitize_range((1, 2))
    (1, 2)
    """
    low, high = sanitize_2d_number(x)
    if low > high:
        raise ValueError("the first number must not be above the second")
    return low, high


def set_device_from_pytest_env() -> None:
    """Selects the device named by the environment variable `TEST_DEVICE`, if it is set.

    CNTK's tutorials call it, as `cntk.tests.test_utils.set_device_from_pytest_env`.

    >>> C.internal.set_device_from_pytest_env()
    """
    device = os.environ.get("TEST_DEVICE")
    if device:
        try_set_default_device(cpu() if device in ("cpu", "-1") else gpu(0))


class Record(dict):
    """An immutable dictionary whose values are also attributes.

    Source: CNTK's `Record`.

    >>> r = C.variables.Record(x=13)
    >>> r.x, r["x"], r.updated_with(y=1)
    (13, 13, {'x': 13, 'y': 1})
    """

    def __init__(self, **args_dict: object) -> None:
        super().__init__(args_dict)

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"the record has no member '{name}', only {', '.join(self)}")
        return self[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a record can't be changed; use updated_with")

    def updated_with(self, **kwargs: object) -> Record:
        """A copy of the record with members changed or added."""
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
