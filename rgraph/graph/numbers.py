"""Numbers given by the user: types, arrays, and whole numbers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .errors import GraphError
from .types import DTypeLike

_TYPES = {t: t for t in map(np.dtype, (np.float16, np.float32, np.float64))}
_SPELLINGS: dict[object, type] = {int: np.float32, "float": np.float32}  # as CNTK reads them


def number_type(dtype: DTypeLike) -> np.dtype:
    """The number type meant by `dtype`.

    Graphs compute with floating-point numbers: as an integer, 0.5 would be 0.

    Raises:
        GraphError: `dtype` is not a floating-point type.
    """
    try:
        found = np.dtype(_SPELLINGS.get(dtype, dtype))
    except TypeError:
        problem = GraphError(f"{dtype!r} is no dtype; write np.float32 or np.float64")
        raise _bfloat16(dtype) or problem from None
    kind = _TYPES.get(found.newbyteorder("="))
    if kind is None:
        whole = found.kind in "biu"
        raise _bfloat16(dtype) or GraphError(
            f"a graph does not compute with numbers of type {found}",
            hint="np.float32 or np.float64"
            + ("; arrays of integers may be given for them" if whole else ""),
        )
    return kind  # NumPy's own: what is asked for by identity is found


def _bfloat16(dtype: object) -> GraphError | None:
    """The error for bfloat16: PyTorch's type, that of `ml_dtypes`, or its name."""
    if "bfloat16" not in str(dtype):
        return None
    return GraphError(
        "a graph does not compute with numbers of type bfloat16",
        hint="np.float16, trained with loss_scale='dynamic'; or np.float32 and, for convolutions "
        "on a GPU, C.device.gpu_convolutions('bfloat16')",
    )


def as_numbers(value: object, of: str) -> np.ndarray:
    """A new array of the numbers given for `of`.

    Raises:
        GraphError: it is not an array of numbers.
    """
    try:
        array = np.array(value)
    except ValueError as error:
        raise GraphError(f"a ragged list is no value of {of}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise GraphError(
            f"a value of {of} is a number or an array of numbers, "
            f"got {type(value).__name__} {value!r:.60}"
        )
    return array


def whole(value: Any, of: str) -> int:
    """A whole number, of any numeric type.

    Raises:
        GraphError: `value` is not a whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            return int(value)
        raise GraphError(f"{of} must be a whole number, got {value!r:.60}") from None
