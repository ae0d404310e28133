"""Types of variables: shape, dtype, dynamic axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..default_options import default_dtype
from ..graph import BATCH, SEQUENCE, Axis, Input, Node, Placeholder


@dataclass(frozen=True)
class Type:
    """The type of an input: `input_variable(**type)` makes one.

    Attributes:
        shape: the shape of a sample or frame; None for any shape.
        dtype: np.float32 or np.float64; None for the default.
        is_sparse: accepted for compatibility with CNTK.
        dynamic_axes: (batch,), (batch, time), or () for parameters.
    """

    shape: tuple[int, ...] | None = None
    dtype: Any = None
    is_sparse: bool = False
    dynamic_axes: tuple[Axis, ...] = (BATCH,)

    @staticmethod
    def of(kind: object) -> Type:
        """A type from what stands for one: a shape, a number's type, or an input."""
        if isinstance(kind, Type):
            return kind
        if kind is float:
            return Type(())
        if isinstance(kind, type) and issubclass(kind, np.floating):
            return Type((), kind)
        if isinstance(kind, (int, np.integer)):
            return Type((int(kind),))
        if isinstance(kind, (tuple, list)):
            return Type(tuple(int(n) for n in kind))
        node = getattr(kind, "node", None)
        if isinstance(node, Node):
            return Type(node.shape, node.dtype, False, node.axes or ())
        raise TypeError(
            f"{kind!r} is not the type of a variable; use Tensor[3, 4], Sequence[Tensor[3]] or "
            "a shape"
        )

    def new(self, name: str = "") -> Node:
        """An input of this type, or a placeholder if the shape is None."""
        if self.shape is None:
            return Placeholder(None, self.dynamic_axes, self.dtype, name)
        node = Input(self.shape, self.dynamic_axes, self.dtype or default_dtype(), name)
        node.is_sparse = self.is_sparse
        return node

    # As a mapping, for **type

    def keys(self) -> Iterator[str]:
        return (f.name for f in fields(self) if getattr(self, f.name) is not None)

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def __call__(self) -> Any:
        raise TypeError(f"{self} is a type; for an input write input_variable(**{self})")

    def __str__(self) -> str:
        text = "tensor"
        if self.shape is not None:
            items = [f"np.{np.dtype(self.dtype).name}"] if self.dtype is not None else []
            items += [str(n) for n in self.shape] or ["()"]
            kind = "SparseTensor" if self.is_sparse else "Tensor"
            kind = kind if self.dynamic_axes else "ParameterTensor"
            text = f"{kind}[{','.join(items)}]"
        for axis in self.dynamic_axes[1:]:
            over = "Sequence" if axis == SEQUENCE else f"SequenceOver[{axis.name}]"
            text = f"{over}[{text}]"
        return text

    __repr__ = __str__
