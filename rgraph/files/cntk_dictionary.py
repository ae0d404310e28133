"""CNTK's files: a dictionary in a protobuf message, which holds dictionaries, lists, arrays, axes.

Source: the schema CNTK.proto of CNTK 2.7, which is public (MIT licence).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..graph import GraphError

# Of each message: its fields' numbers, names and kinds; "*" before a kind: several of it
_MESSAGES = {
    "NDShape": {1: ("shape_dim", "*uint64")},
    "Axis": {
        1: ("static_axis_idx", "int32"), 2: ("name", "string"), 3: ("is_ordered", "bool"),
    },
    "FloatValues": {1: ("value", "*float")},
    "DoubleValues": {1: ("value", "*double")},
    "NDArrayView": {
        1: ("data_type", "int32"), 2: ("storage_format", "int32"), 3: ("shape", "NDShape"),
        4: ("float_values", "FloatValues"), 5: ("double_values", "DoubleValues"),
    },
    "Vector": {1: ("value", "*DictionaryValue")},
    "Entry": {1: ("key", "string"), 2: ("value", "DictionaryValue")},
    "Dictionary": {1: ("version", "uint64"), 2: ("data", "*Entry")},
    "DictionaryValue": {
        1: ("version", "uint64"), 2: ("value_type", "int32"), 3: ("bool_value", "bool"),
        4: ("int_value", "int32"), 5: ("size_t_value", "uint64"), 6: ("float_value", "float"),
        7: ("double_value", "double"), 8: ("string_value", "string"),
        9: ("nd_shape_value", "NDShape"), 10: ("axis_value", "Axis"),
        11: ("vector_value", "Vector"), 12: ("dictionary_value", "Dictionary"),
        13: ("nd_array_view_value", "NDArrayView"),
    },
}  # fmt: skip

# What a value's type says holds it
_HOLDS = {
    1: "bool_value", 2: "int_value", 3: "size_t_value", 4: "float_value", 5: "double_value",
    6: "string_value", 7: "nd_shape_value", 8: "axis_value", 9: "vector_value",
    10: "dictionary_value", 11: "nd_array_view_value",
}  # fmt: skip


class AxisIn(NamedTuple):
    """An axis in a file. CNTK counts static axes from the last; negative numbers from the first."""

    number: int
    name: str

    @property
    def is_static(self) -> bool:
        return self.name.startswith("staticAxisIdx") or self.name == "AllStaticAxes"


Message: TypeAlias = Any  # a message of protobuf's, or one's class: made from names, without types


@cache
def _message() -> Callable[[], Message]:
    """The class of the outermost message."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise GraphError(
            "reading a model of CNTK needs the package protobuf, which is not installed",
            hint="pip install protobuf",
        ) from None
    file = descriptor_pb2.FileDescriptorProto(name="cntk.proto", package="cntk", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in fields.items():
            several = kind.startswith("*")
            label = kinds.LABEL_REPEATED if several else kinds.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            kind = kind.removeprefix("*")
            if kind in _MESSAGES:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".cntk.{kind}"
            else:
                made.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cntk.Dictionary"))


def of_cntk(source: str | os.PathLike[str] | bytes) -> bytes | None:
    """The content of a file that CNTK wrote, by its name or content; None for all else."""
    if isinstance(source, (bytes, bytearray)):
        return bytes(source) if _begins_as_cntk(source[:9]) else None
    with open(source, "rb") as file:
        begin = file.read(9)
        return begin + file.read() if _begins_as_cntk(begin) else None


def _begins_as_cntk(begin: bytes) -> bool:
    """Ours begins with a length of eight bytes and a brace."""
    return begin[:1] == b"\x08" and begin[8:] != b"{"


def read(content: bytes) -> dict[str, Any]:
    """What a file holds. Raises `GraphError` for one that is broken, or something else."""
    message = _message()()
    try:
        message.ParseFromString(content)
        return _dictionary(message)
    except GraphError:
        raise
    except Exception as error:  # the library has several kinds
        raise GraphError(f"the file is not a model of CNTK, or is damaged: {error}") from None


def _dictionary(message: Message) -> dict[str, Any]:
    return {entry.key: _value(entry.value) for entry in message.data}


def _value(value: Message) -> Any:
    name = _HOLDS.get(value.value_type)
    if name is None:
        return None
    held = getattr(value, name)
    if name == "vector_value":
        return [_value(v) for v in held.value]
    if name == "dictionary_value":
        return _dictionary(held)
    if name == "nd_shape_value":
        return _shape(held)
    if name == "axis_value":
        return AxisIn(held.static_axis_idx, held.name)
    if name == "nd_array_view_value":
        return _array(held)
    return held


def _shape(shape: Message) -> tuple[int, ...]:
    """As NumPy counts: CNTK has the axis that is contiguous in memory first."""
    return tuple(n - 2**64 if n >= 2**63 else n for n in reversed(shape.shape_dim))


def _array(view: Message) -> np.ndarray:
    if view.storage_format:
        raise GraphError("the model holds a sparse array, which is not supported")
    double = view.data_type == 2
    values = view.double_values if double else view.float_values
    array = np.array(values.value, np.float64 if double else np.float32)
    shape = _shape(view.shape)
    if array.size != int(np.prod(shape, dtype=object)):
        raise GraphError(f"an array of shape {shape} in the file has {array.size} numbers")
    return array.reshape(shape)
