"""Names for the types that many modules speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from numpy.typing import ArrayLike, DTypeLike

from .node import Node


class HasNode(Protocol):
    """A variable or a function with one output."""

    @property
    def node(self) -> Node: ...


Array: TypeAlias = Any  # NumPy's, or of a library with NumPy's API
# What people feed: an array of any library, a sparse matrix, a number, a `Value`, lists of these
Data: TypeAlias = Any
Generator: TypeAlias = Any  # of random numbers: NumPy's, or what has some of its methods
Library: TypeAlias = Any  # NumPy, or a library with its API
# What stays in files and checkpoints: numbers, texts, arrays, lists and dicts of these
Saved: TypeAlias = Mapping[str, Any]
ShapeLike: TypeAlias = int | Sequence[int]  # a size is a vector's
OperandLike: TypeAlias = Node | HasNode | ArrayLike  # what an operation takes

__all__ = [
    "Array",
    "ArrayLike",
    "DTypeLike",
    "Data",
    "Generator",
    "HasNode",
    "Library",
    "OperandLike",
    "Saved",
    "ShapeLike",
]
