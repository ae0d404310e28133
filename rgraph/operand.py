"""What can stand in a formula, and the operators of Python on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import graph, ops
from .graph import Axis

if TYPE_CHECKING:
    from .function import Function


class Operand:
    """What can stand in a formula: it has a node, and the operators of Python."""

    node: graph.Node

    def __add__(self, other: Any) -> Function:
        return ops.plus(self, other)

    def __radd__(self, other: Any) -> Function:
        return ops.plus(other, self)

    def __sub__(self, other: Any) -> Function:
        return ops.minus(self, other)

    def __rsub__(self, other: Any) -> Function:
        return ops.minus(other, self)

    def __mul__(self, other: Any) -> Function:
        return ops.element_times(self, other)

    def __rmul__(self, other: Any) -> Function:
        return ops.element_times(other, self)

    def __truediv__(self, other: Any) -> Function:
        return ops.element_divide(self, other)

    def __rtruediv__(self, other: Any) -> Function:
        return ops.element_divide(other, self)

    def __pow__(self, other: Any) -> Function:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> Function:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> Function:
        return ops.times(self, other)

    def __rmatmul__(self, other: Any) -> Function:
        return ops.times(other, self)

    def __neg__(self) -> Function:
        return ops.negate(self)

    def __abs__(self) -> Function:
        return ops.abs(self)

    def __lt__(self, other: Any) -> Function:
        return ops.less(self, other)

    def __le__(self, other: Any) -> Function:
        return ops.less_equal(self, other)

    def __gt__(self, other: Any) -> Function:
        return ops.greater(self, other)

    def __ge__(self, other: Any) -> Function:
        return ops.greater_equal(self, other)

    def __getitem__(self, key: Any) -> Function:
        return ops.slicing.get_item(self, key)

    # NumPy must not take `array * variable` apart element by element.
    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample's (or frame's) shape.

        A dimension that is inferred later is -1, a free one -3; (-2,) is a shape that is not known
        yet at all, rank included.
        """
        return (-2,) if self.node.shape is None else self.node.shape

    @property
    def dtype(self) -> Any:
        return self.node.dtype.type if self.node.dtype is not None else None

    @property
    def dynamic_axes(self) -> tuple[Axis, ...]:
        """() for what is the same for all samples, (batch,), or (batch, time)."""
        return self.node.axes or ()

    @property
    def uid(self) -> str:
        """A name that no other value has."""
        node = self.node
        return f"{node.op.name if node.op else node.kind}{node.uid}"

    def is_sequence(self) -> bool:
        """Whether it has a time axis."""
        return len(self.dynamic_axes) == 2
