"""Leaves: nodes that are not computed from others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .axis import Axis
from .errors import GraphError, Origin
from .free import FREE
from .node import Node, Shape, describe
from .numbers import as_numbers, number_type
from .types import ArrayLike, Data, DTypeLike

INFERRED = -1  # a parameter's dimension that follows from what it is applied to


class Leaf(Node):
    """A node that is not computed from others."""

    __slots__ = ()

    def __init__(
        self,
        shape: Shape | None,
        axes: tuple[Axis, ...] | None,
        dtype: DTypeLike,
        name: str = "",
        where: Origin | None = None,
    ) -> None:
        super().__init__(None, name=name, where=where)
        self.shape = None if shape is None else tuple(int(n) for n in shape)
        self.axes = axes
        self.dtype = None if dtype is None else number_type(dtype)

    @property
    def kind(self) -> str:
        return type(self).__name__


class Input(Leaf):
    """A value that is fed to every run."""

    __slots__ = ("is_sparse", "needs_gradient")

    def __init__(
        self,
        shape: Shape,
        axes: tuple[Axis, ...],
        dtype: DTypeLike,
        name: str = "",
        **kw: Origin | None,
    ) -> None:
        for n in shape:
            if n < 0 and n not in (INFERRED, FREE):
                raise GraphError(
                    f"a size can't be negative, got {shape}",
                    hint="C.FreeDimension stands for a size that each run chooses anew",
                )
        shape = tuple(FREE if n < 0 else n for n in shape)
        super().__init__(shape, axes, dtype, name, **kw)
        self.needs_gradient = False
        self.is_sparse = False


class Stored(Leaf):
    """A value that persists between runs and may be set between them.

    Its array is created when its shape is known and it is first read. Code that changes the array
    in place must call `changed`.

    Attributes:
        edition: the number of changes so far, by which holders of a copy know whether it is
            current.
        elsewhere: returns the value, if the current one is not in CPU memory.
    """

    __slots__ = ("_value", "edition", "elsewhere", "initializer")

    def __init__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        initializer: Callable[[Shape, np.dtype], np.ndarray],
        name: str = "",
        **kw: Origin | None,
    ) -> None:
        super().__init__(shape, (), dtype, name, **kw)
        self.initializer = initializer
        self.edition = 0
        self.elsewhere: Callable[[], np.ndarray] | None = None
        self._value: np.ndarray | None = None

    @property
    def value(self) -> np.ndarray:
        if self.elsewhere is not None:
            self._value, self.elsewhere = self.elsewhere(), None
        if self._value is None:
            assert self.shape is not None
            if INFERRED in self.shape:
                raise GraphError(
                    f"{self.kind.lower()} {describe(self)} has no value yet: its shape "
                    f"follows from what it is applied to\n  made at {self.origin}",
                    hint="apply the model to its input first",
                )
            made = np.asarray(self.initializer(self.shape, self.dtype), self.dtype)
            self._value = repeated(made, self.shape).copy()  # what made it may keep it
        return self._value

    @value.setter
    def value(self, value: ArrayLike) -> None:
        array = as_numbers(value, f"{self.kind.lower()} {describe(self)}")
        array = array.astype(self.dtype, copy=False).view(self.dtype)  # an equal type is another
        assert self.shape is not None
        while array.ndim > len(self.shape) and array.shape[0] == 1:  # CNTK overlooks these
            array = array[0]
        if INFERRED in self.shape and len(array.shape) == len(self.shape):
            self.shape = array.shape
        if array.shape != self.shape:
            if array.ndim:
                raise GraphError(
                    f"a value of shape {array.shape} can't be set on {self.kind.lower()} "
                    f"{describe(self)}",
                    hint=_reshape_hint(array, self.shape),
                )
            array = np.full(self.shape, array, self.dtype)
        self._value = array
        self.changed()

    def take(self, array: np.ndarray) -> None:
        """Set the value to an array of the right shape and type that nothing else writes to."""
        if array.shape != self.shape or array.dtype is not self.dtype:
            self.value = array
            return
        self._value = array
        self.changed()

    def changed(self, elsewhere: Callable[[], np.ndarray] | None = None) -> None:
        """Note that the value has changed; `elsewhere` returns it, if that happened in other
        memory."""
        self.edition += 1
        self.elsewhere = elsewhere


def repeated(array: np.ndarray, shape: Shape) -> np.ndarray:
    """`array`, broadcast to `shape`."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise GraphError(
            f"a value of shape {array.shape} can't be repeated to the shape {shape}",
            hint=_reshape_hint(array, shape) or "leave the shape out, or give a number",
        ) from None


def _reshape_hint(array: np.ndarray, shape: Shape) -> str:
    return f"np.reshape(value, {shape})" if array.size == math.prod(shape) else ""


class Parameter(Stored):
    """A learned value."""

    __slots__ = ()


class State(Stored):
    """A value that runs update themselves: running statistics. See `Op.updates`."""

    __slots__ = ()


class Constant(Leaf):
    """A fixed array, unless it is set. A weak constant, given without a dtype, takes the dtype of
    the other operands.

    Attributes:
        given: the array as it was given: 0.1 as a float64 is not 0.1 as a float32.
        root: the constant of which this is a version in another dtype, or itself: they share their
            value.
        weak: whether it was given without a dtype.
        frozen: whether it was a parameter before.
        implied: whether it is an operation's own setting rather than a constant of the function.
        edition: how often it was set.
    """

    __slots__ = ("_edition", "_seen", "_value", "frozen", "given", "implied", "root", "weak")

    def __init__(
        self,
        value: Data,
        shape: Shape | None = None,
        dtype: DTypeLike = None,
        name: str = "",
        **kw: Origin | None,
    ) -> None:
        array = as_numbers(value, "a constant")
        self.weak = dtype is None
        self.frozen = self.implied = False
        if dtype is None:
            exact = isinstance(value, np.ndarray) and array.dtype == np.float64
            dtype = np.float64 if exact else np.float32
        self.given = array
        self.root = self
        self._edition = self._seen = 0
        array = np.asarray(array, number_type(dtype))
        open_size = shape is not None and any(n < 0 for n in shape)  # a number, repeated as needed
        self._value = array if shape is None or open_size else repeated(array, shape)
        super().__init__(shape if open_size else self._value.shape, (), dtype, name, **kw)

    @property
    def edition(self) -> int:
        return self.root._edition

    @property
    def is_fixed(self) -> bool:
        """Whether it was never set, so that it may be folded into other constants."""
        return self.root._edition == 0

    @property
    def value(self) -> np.ndarray:
        assert self.shape is not None
        if INFERRED in self.shape:
            raise GraphError(
                f"constant {describe(self)} has no value yet: its shape follows from what it is "
                f"used with\n  made at {self.origin}"
            )
        if self._seen != self.edition:
            self._value = repeated(np.asarray(self.root.given, self.dtype), self.shape)
            self._seen = self.edition
        return self._value

    @value.setter
    def value(self, value: ArrayLike) -> None:
        assert self.shape is not None
        array = as_numbers(value, f"constant {describe(self)}")
        repeated(array, self.shape)  # that it can be
        self.root.given = array
        self.root._edition += 1

    def as_dtype(self, dtype: np.dtype) -> Constant:
        if dtype == self.dtype:
            return self
        new = self.copy(dtype)
        new.root, new.weak = self.root, False
        new._seen = self.edition
        return new

    def copy(self, dtype: np.dtype | None = None) -> Constant:
        """One of the same value that is set by itself."""
        shape, dtype = self.shape, dtype or self.dtype
        new = Constant(self.root.given, shape, dtype, self.name, where=self.origin)
        new.weak, new.frozen, new.implied = self.weak, self.frozen, self.implied
        return new


class Placeholder(Leaf):
    """A value that is not known yet. Once bound, it stands for its target."""

    __slots__ = ()

    def __init__(
        self,
        shape: Shape | None = None,
        axes: tuple[Axis, ...] | None = None,
        dtype: DTypeLike = None,
        name: str = "",
        **kw: Origin | None,
    ) -> None:
        super().__init__(shape, axes, dtype, name, **kw)


KINDS: dict[str, Any] = {k.__name__: k for k in (Input, Parameter, State, Constant, Placeholder)}


def has_value(shape: Shape, dtype: DTypeLike) -> np.ndarray:
    """The initializer of a parameter that is given its value."""
    raise AssertionError("it has its value")
