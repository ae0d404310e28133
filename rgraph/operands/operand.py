"""The base class of variables and functions, with Python's operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import graph, ops
from ..default_options import get_global_option
from ..graph import Axis, GraphError
from ..graph.inference import type_ahead
from ..graph.node import describe
from ..graph.types import DTypeLike, OperandLike
from ..ops.records import Sameness, hold

if TYPE_CHECKING:
    from ..model.function import Function


class Operand:
    """The base class of variables and functions, with Python's operators.

    `==` and `!=` compare identity, so that variables can be keys of a dict and members of lists;
    `C.equal` and `C.not_equal` compare elements. Python's `if`, `and`, `not` and `max` raise an
    error, since elements are only known when the graph runs.

    >>> x = C.input_variable(1)
    >>> y = C.exp(x)
    >>> x in [y, x], y == y.output, y == C.exp(x)
    (True, True, False)
    """

    node: graph.Node

    def _same(self) -> tuple[graph.Node, ...]:
        """What another must have, too, to be the same value."""
        return (self.node,)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Operand):
            return Sameness(self._same() == other._same())
        if isinstance(other, (list, tuple)) and not other:  # a value or none of several
            return False
        if isinstance(other, (Number, np.generic, np.ndarray, list, tuple)):
            raise GraphError(
                f"== and != ask whether two are the same value of the graph, got {other!r:.60}",
                hint="C.equal and C.not_equal compare elements",
            )
        return NotImplemented

    def __ne__(self, other: object) -> Any:
        same = self.__eq__(other)
        return same if same is NotImplemented else Sameness(not same)

    def __hash__(self) -> int:
        return hash(self._same())

    def __bool__(self) -> bool:
        if get_global_option("values_are_true", False):  # as in CNTK: there is one
            return True
        raise GraphError(
            "a value of the graph is neither true nor false, it is computed when the graph runs:"
            + "".join(f"\n  {n.title if n.op else n.kind} {describe(n)}" for n in self._same()),
            hint="C.element_select(c, a, b) is `a if c else b`; C.element_max, C.element_min, "
            "C.element_and, C.element_or and C.element_not are max, min, and, or, not; "
            "`is not None` asks whether there is a value",
        )

    def __contains__(self, item: object) -> bool:
        raise GraphError(
            f"what is in {describe(self.node)} is not known before the graph runs",
            hint="C.reduce_max(C.equal(a, b)) is 1 if b is in a",
        )

    def __add__(self, other: OperandLike) -> Function:
        return ops.plus(self, other)

    def __radd__(self, other: OperandLike) -> Function:
        return ops.plus(other, self)

    def __sub__(self, other: OperandLike) -> Function:
        return ops.minus(self, other)

    def __rsub__(self, other: OperandLike) -> Function:
        return ops.minus(other, self)

    def __mul__(self, other: OperandLike) -> Function:
        return ops.element_times(self, other)

    def __rmul__(self, other: OperandLike) -> Function:
        return ops.element_times(other, self)

    def __truediv__(self, other: OperandLike) -> Function:
        return ops.element_divide(self, other)

    def __rtruediv__(self, other: OperandLike) -> Function:
        return ops.element_divide(other, self)

    def __pow__(self, other: OperandLike) -> Function:
        return ops.pow(self, other)

    def __rpow__(self, other: OperandLike) -> Function:
        return ops.pow(other, self)

    def __matmul__(self, other: OperandLike) -> Function:
        return ops.times(self, other)

    def __rmatmul__(self, other: OperandLike) -> Function:
        return ops.times(other, self)

    def __neg__(self) -> Function:
        return ops.negate(self)

    def __abs__(self) -> Function:
        return ops.abs(self)

    def __lt__(self, other: object) -> Function:
        return ops.less(self, other)

    def __le__(self, other: object) -> Function:
        return ops.less_equal(self, other)

    def __gt__(self, other: object) -> Function:
        return ops.greater(self, other)

    def __ge__(self, other: object) -> Function:
        return ops.greater_equal(self, other)

    def __getitem__(self, key: Any) -> Function:
        return ops.slicing.get_item(self, key)

    def __iter__(self) -> Iterator[Function]:
        """Iterates over slices of size 1 along the first static axis, like `self[i]`."""
        shape = self.node.shape
        if not shape or shape[0] < 0:
            raise GraphError(f"{describe(self.node)} has no first axis to iterate over")
        return (self[i] for i in range(shape[0]))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Function:
        """Supports NumPy's functions, and arrays as left operands, by operations of the graph."""
        if ufunc.__name__ in ("equal", "not_equal"):  # an array that is compared with `==`
            return self.__eq__(next(i for i in inputs if i is not self))
        function = _UFUNCS.get(ufunc.__name__) if method == "__call__" and not options else None
        if function is None:
            raise GraphError(
                f"NumPy's {ufunc.__name__} can't be applied to a value of the graph",
                hint="use the operations of rgraph: C.tanh, C.element_max, …",
            )
        return function(*inputs)

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        raise GraphError(
            f"{describe(self.node)} has no array, it is computed when the graph runs",
            hint="f.eval({x: …}) computes its array",
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample (or frame).

        A dimension that is inferred later is -1, a free dimension is -3; (-2,) is a completely
        unknown shape.
        """
        shape = type_ahead(self.node, guessing=True).shape
        return (-2,) if shape is None else shape

    @property
    def dtype(self) -> Any:
        return self.node.dtype.type if self.node.dtype is not None else None

    @property
    def owner(self) -> Any:
        """The function that computes it; None for inputs, parameters and constants."""
        return hold(self.node) if self.node.op else None

    @property
    def is_input(self) -> bool:
        """Whether it is an input."""
        return isinstance(self.node, graph.Input)

    @property
    def is_output(self) -> bool:
        """Whether a function computes it."""
        return self.node.op is not None

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter."""
        return isinstance(self.node, graph.Parameter)

    @property
    def is_constant(self) -> bool:
        """Whether it is a constant or a running statistic."""
        return isinstance(self.node, (graph.Constant, graph.State))

    @property
    def is_placeholder(self) -> bool:
        """Whether it is an unbound placeholder."""
        return isinstance(self.node, graph.Placeholder)

    @property
    def needs_gradient(self) -> bool:
        """Whether `grad` computes the gradient with respect to it by default."""
        return getattr(self.node, "needs_gradient", self.is_parameter)

    @property
    def is_sparse(self) -> bool:
        """Whether it was declared as sparse."""
        return getattr(self.node, "is_sparse", False)

    @property
    def dynamic_axes(self) -> tuple[Axis, ...]:
        """(batch,), (batch, time), or () for a value that is the same for all samples."""
        return type_ahead(self.node, guessing=True).axes or ()

    @property
    def uid(self) -> str:
        """A unique name."""
        node = self.node
        return f"{node.op.name if node.op else node.kind}{node.uid}"

    def is_sequence(self) -> bool:
        """Whether it has a time axis."""
        return len(self.dynamic_axes) == 2


# NumPy's functions of this name
_UFUNCS: dict[str, Callable[..., Function]] = {
    "add": ops.plus, "subtract": ops.minus, "multiply": ops.element_times,
    "divide": ops.element_divide, "power": ops.pow, "matmul": ops.times, "negative": ops.negate,
    "absolute": ops.abs, "exp": ops.exp, "expm1": ops.expm1, "log": ops.log, "log1p": ops.log1p,
    "logaddexp": ops.log_add_exp, "sqrt": ops.sqrt, "square": ops.square,
    "reciprocal": ops.reciprocal, "sin": ops.sin, "cos": ops.cos, "tan": ops.tan,
    "sinh": ops.sinh, "cosh": ops.cosh, "tanh": ops.tanh, "arcsin": ops.asin, "arccos": ops.acos,
    "arctan": ops.atan, "arcsinh": ops.asinh, "arctanh": ops.atanh, "floor": ops.floor,
    "ceil": ops.ceil, "sign": ops.sign, "remainder": ops.mod, "maximum": ops.element_max,
    "minimum": ops.element_min, "less": ops.less, "less_equal": ops.less_equal,
    "greater": ops.greater, "greater_equal": ops.greater_equal,
}  # fmt: skip
