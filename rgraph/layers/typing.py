"""Types of variables, written as Python types: CNTK's `layers.typing` module.

`Tensor[3, 2]` is a value of shape (3, 2) per sample, `Sequence[Tensor[3, 2]]` one per frame, and
`SequenceOver[axis][Tensor[3, 2]]` one per frame along the given time axis. They are used to
annotate the arguments of functions, in `update_signature` and in `input_variable(**Tensor[3])`.

>>> from rgraph.layers.typing import Sequence, Tensor
>>> @C.Function
... def f(x: Sequence[Tensor[3]]):
...     return C.sequence.last(x)
>>> f(np.ones((4, 3)))
array([[1., 1., 1.]], dtype=float32)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import BATCH, SEQUENCE, Axis
from ..graph.types import ShapeLike
from ..operands.tracing import annotated
from ..operands.types import Type


class _Tensors:
    """`Tensor[13, 42]`; the first item may be a NumPy type, the dtype."""

    def __init__(self, name: str, axes: tuple[Axis, ...], is_sparse: bool = False) -> None:
        self._name, self._axes, self._is_sparse = name, axes, is_sparse

    def __getitem__(self, shape: ShapeLike) -> Type:
        items = shape if isinstance(shape, tuple) else (shape,)
        dtype = None
        if items and isinstance(items[0], type) and issubclass(items[0], np.floating):
            dtype, items = items[0], items[1:]
        return Type(tuple(int(n) for n in items), dtype, self._is_sparse, self._axes)

    def __repr__(self) -> str:
        return self._name


class _Sequences:
    """`Sequence[Tensor[13]]`."""

    def __init__(self, axis: Axis) -> None:
        self._axis = axis

    def __getitem__(self, item: Any) -> Type:
        frame = Type.of(item)
        if len(frame.dynamic_axes) > 1:
            raise TypeError(
                "sequences of sequences are not supported: a value has at most one time axis"
            )
        return Type(frame.shape, frame.dtype, frame.is_sparse, (BATCH, self._axis))

    def __repr__(self) -> str:
        return "Sequence" if self._axis == SEQUENCE else f"SequenceOver[{self._axis.name}]"


class _SequencesOver:
    """`SequenceOver[axis][Tensor[13]]`."""

    def __getitem__(self, axis: Axis) -> _Sequences:
        return _Sequences(axis)

    def __repr__(self) -> str:
        return "SequenceOver"


Tensor = _Tensors("Tensor", (BATCH,))
SparseTensor = _Tensors("SparseTensor", (BATCH,), is_sparse=True)
ParameterTensor = _Tensors("ParameterTensor", ())
Sequence = _Sequences(SEQUENCE)
SequenceOver = _SequencesOver()
tensor = Type()  # a value per sample, of any shape


def Signature(
    *args: object, **kwargs: object
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that annotates the arguments of a function, in order or by name.

    Source: CNTK's `Signature`.

    >>> from rgraph.layers.typing import Signature, Tensor
    >>> @C.Function
    ... @Signature(Tensor[2])
    ... def f(x):
    ...     return x * 2
    >>> f.shape
    (2,)
    """

    def decorate(f: Callable[..., object]) -> Callable[..., Any]:
        if inspect.signature(f).return_annotation is not inspect.Signature.empty or any(
            p.annotation is not p.empty for p in inspect.signature(f).parameters.values()
        ):
            raise ValueError(f"{f.__name__} already has annotations")
        return annotated(f, *args, **kwargs)

    return decorate


__all__ = [
    "ParameterTensor",
    "Sequence",
    "SequenceOver",
    "Signature",
    "SparseTensor",
    "Tensor",
    "tensor",
]
