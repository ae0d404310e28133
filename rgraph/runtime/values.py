"""Minibatches as objects: fed by CNTK programs, and returned with `as_numpy=False`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..device import DeviceDescriptor, cpu, gpu
from ..graph import GraphError
from ..graph.types import Array, ArrayLike, Data, DTypeLike
from .arrays import (
    Capsule,
    NDArrayView,
    as_array,
    as_numpy_asks,
    csr,
    exported,
    is_foreign,
    is_sparse,
    on_cpu,
    on_gpu,
)
from .samples import samples_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ..operands.variables import Variable


def dense(data: Data) -> Data:
    """Data without wrappers: arrays, numbers, and lists of these."""
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, Value):
        return data.content
    if isinstance(data, NDArrayView):
        return data.array
    if is_sparse(data):
        return data.toarray()
    if isinstance(data, (list, tuple)):
        return [dense(d) for d in data]
    if is_foreign(data):
        return as_array(data)
    inner = unwrapped(data)
    return data if inner is data else dense(inner)


def unwrapped(data: Data) -> Data:
    """The data in a part of a reader's minibatch; anything else unchanged."""
    if isinstance(data, np.ndarray):
        return data
    return data.value if hasattr(data, "num_sequences") else data


class Value:
    """A minibatch of one input or output: a batch, or sequences of different lengths.

    It is what `as_numpy=False` gives. Other libraries take it without a copy
    (`torch.from_dlpack(value)`), and so does the next evaluation; on a GPU its arrays stay there.
    `asarray`, `as_sequences` and NumPy's own functions bring them to the CPU's memory.

    Args:
        batch: an array, an `NDArrayView`, or a list of sequences.
        seq_starts: for each sequence whether it starts anew, as for `Value.create`.

    Attributes:
        content: its array, or a list of its sequences' arrays: NumPy's, or CuPy's on a GPU.

    >>> value = C.Value([np.zeros((3, 2)), np.zeros((1, 2))])
    >>> value.shape
    (2, 3, 2)
    """

    is_read_only = False
    is_valid = True
    ONE_HOT_SKIP = 2**32 - 1  # an index that `one_hot` makes a vector of zeros of

    def __init__(
        self,
        batch: Data,
        seq_starts: Sequence[bool] | None = None,
        device: DeviceDescriptor | None = None,
    ) -> None:
        batch = unwrapped(batch)
        self.is_sparse = _any_sparse(batch)
        self.starts: list[bool] | None = None  # whether each sequence begins anew; None: all do
        self.continued: list[int | None] | None = None  # see `sources`
        self.content = dense(batch)
        if not isinstance(self.content, list):
            self.content = as_array(self.content)
        if seq_starts is not None:
            _check_starts(seq_starts, self.content, 2)
            self.starts = list(seq_starts)
        known = isinstance(batch, (Value, NDArrayView))
        self.device: DeviceDescriptor = device or device_of(batch if known else self.content)

    @classmethod
    def of_run(cls, content: Data) -> Value:
        """The `Value` of a result: an array, or a list of arrays, used as they are."""
        if is_sparse(content):
            return cls(content)
        made = cls.__new__(cls)
        made.is_sparse, made.starts, made.continued = False, None, None
        made.content = content if isinstance(content, list) else as_array(content)
        made.device = device_of(made.content)
        return made

    @staticmethod
    def create(
        var: Variable,
        data: Data,
        seq_starts: Sequence[bool] | None = None,
        device: DeviceDescriptor | None = None,
        read_only: bool = False,
    ) -> Value:
        """The value of `data` for a variable.

        Args:
            var: what it will be fed to.
            data: an array (a batch), or a list of sequences or samples, each an array, a sparse
                matrix, or a list of samples. Of a list of samples each has an axis of one frame.
            seq_starts: for each sequence whether it starts anew or goes on from the minibatch
                before, from the sequence with its number there. Delays then hold what they held
                at that one's end. Gradients do not go back into that minibatch.

        >>> x = C.sequence.input_variable(1)
        >>> C.Value.create(x, [[[1.0], [2.0]], [[3.0]]]).shape
        (2, 2, 1)
        """
        axes = len(var.dynamic_axes)
        if seq_starts is not None:
            _check_starts(seq_starts, data, axes)
            data = list(data)
        if not isinstance(data, (list, tuple)):
            return Value(data, device=device)
        sparse = _any_sparse(data)
        if axes == 0 and sparse:
            raise GraphError("a list was given for a variable that has no batch axis")
        if axes < 2:
            samples = [np.asarray(dense(d), var.dtype) for d in data]
            rank = len(var.shape)
            if axes:  # CNTK: each is a sequence of one
                samples = [s[None] if s.ndim == rank else s for s in samples]
            value = Value(_stacked(samples), device=device)
        else:
            value = Value(samples_of(var.node, dense(data)), device=device)
            value.starts = None if seq_starts is None else list(seq_starts)
        value.is_sparse = sparse
        return value

    @property
    def sources(self) -> list[int | None] | None:
        """For each sequence the one of the minibatch before that it goes on from, or None.

        None in place of the list: nothing was said of it, all start anew.
        """
        if self.continued is not None or self.starts is None:
            return self.continued
        return [None if start else i for i, start in enumerate(self.starts)]

    @staticmethod
    def one_hot(
        batch: Data,
        num_classes: int | Sequence[int],
        dtype: DTypeLike = None,
        device: DeviceDescriptor | None = None,
    ) -> Value:
        """One-hot vectors from their indices.

        Args:
            batch: a list of sequences of indices, or a list (or array) of indices;
                `Value.ONE_HOT_SKIP` stands for a vector of zeros.
            num_classes: the vectors' size; a shape for vectors with axes before that.

        >>> C.Value.one_hot([[0, 2], [1]], 3).as_sequences()[1].toarray()
        array([[0., 1., 0.]], dtype=float32)
        """
        shape = (num_classes,) if isinstance(num_classes, (int, np.integer)) else tuple(num_classes)
        if isinstance(batch, (list, tuple)) and not len(batch):
            raise ValueError("the batch is empty")
        eye = np.eye(shape[-1], dtype=dtype or np.float32)

        def vectors(indices: ArrayLike) -> np.ndarray:
            numbers = np.asarray(indices)
            if numbers.dtype.kind not in "iu":
                raise ValueError(f"indices must be whole numbers, got {numbers.dtype}")
            skipped = numbers == Value.ONE_HOT_SKIP
            numbers = np.where(skipped, 0, numbers)
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < shape[-1]:
                raise ValueError(f"indices must be from 0 to {shape[-1] - 1}")
            found = eye[numbers]
            found[skipped] = 0
            return found.reshape(-1, *shape) if len(shape) > 1 else found

        ragged = isinstance(batch, (list, tuple)) and np.ndim(batch[0]) > 0
        result = Value([vectors(s) for s in batch] if ragged else vectors(batch), device=device)
        result.is_sparse = True
        return result

    @property
    def data(self) -> NDArrayView:
        """All as one array (N, …); sequences are padded with zeros to the longest."""
        return NDArrayView._of(self._padded(), self.device, self.is_sparse)

    def __dlpack__(self, **options: object) -> Capsule:
        """All as one array, for other libraries: `torch.from_dlpack(value)`.

        A batch, and a single sequence, are given without a copy, but for one that is read-only.
        """
        padded = self._padded()
        if options.get("copy") is False and self._pads:
            raise BufferError("several sequences are one array in a copy only")
        return exported(padded, options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._padded().__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """All as one array on a GPU, for libraries without DLPack; there is none on the CPU."""
        found: dict[str, object] = self._padded().__cuda_array_interface__
        return found

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        padded = self._padded()
        array = on_cpu(padded)
        return as_numpy_asks(array, dtype, copy, self._pads or array is not padded)

    @property
    def _pads(self) -> bool:
        """Whether a single array of all data requires a copy."""
        return isinstance(self.content, list) and len(self.content) != 1

    def _padded(self) -> Array:
        if not isinstance(self.content, list):
            return self.content
        parts = [as_array(s) for s in self.content]
        if not self._pads:
            return parts[0][None]
        steps = max(map(len, parts))
        shape = (len(parts), steps, *parts[0].shape[1:])
        out = np.zeros(shape, parts[0].dtype, like=parts[0])
        for row, part in zip(out, parts, strict=True):
            row[: len(part)] = part
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …); for sequences (N, frames of the longest, …)."""
        if not isinstance(self.content, list):
            return self.content.shape
        first = as_array(self.content[0])
        return (len(self.content), max(map(len, self.content)), *first.shape[1:])

    @property
    def dtype(self) -> type[np.generic]:
        """The type of its numbers: np.float32 or np.float64."""
        first = self.content[0] if isinstance(self.content, list) else self.content
        return as_array(first).dtype.type

    @property
    def mask(self) -> np.ndarray | None:
        """(N, frames): 2 at the first frame of a sequence, 1 at its others, 0 after its end."""
        if not isinstance(self.content, list):
            return None
        lengths = np.array([len(s) for s in self.content])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.uint8)
        mask[:, 0] *= 2 if self.starts is None else 1 + np.array(self.starts, np.uint8)
        return mask

    def as_sequences(self, variable: object = None) -> list[np.ndarray] | list[csr_matrix]:
        """The sequences (or samples) one by one, as NumPy arrays, or CSR matrices if sparse."""
        parts = [np.asarray(on_cpu(s)) for s in self.content]
        return [csr(p) for p in parts] if self.is_sparse else parts

    def asarray(self) -> np.ndarray:
        """All as one array of NumPy's.

        Raises:
            ValueError: the sequences have different lengths.
        """
        if isinstance(self.content, list) and len({len(s) for s in self.content}) > 1:
            raise GraphError(
                "sequences of different lengths are no array", hint="use as_sequences()"
            )
        return on_cpu(self._padded())

    def deep_clone(self, *args: object) -> Value:
        """The same numbers in memory of their own.

        >>> value = C.Value(np.ones((2, 3)))
        >>> value.deep_clone().asarray() is value.asarray()
        False
        """
        new = copy.copy(self)
        content = self.content
        new.content = [s.copy() for s in content] if isinstance(content, list) else content.copy()
        return new

    def __len__(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        return f"Value{self.shape}"


def device_of(data: Data) -> DeviceDescriptor:
    """The device of an array, or of the first array in a list."""
    if isinstance(data, (Value, NDArrayView)):
        return data.device
    array = on_gpu(data[0] if isinstance(data, list) and data else data)
    return cpu() if array is None else gpu(array.device.id)


def _check_starts(starts: Sequence[bool], data: Data, axes: int) -> None:
    if axes < 2 or isinstance(data, (Value, NDArrayView)) or is_sparse(data):
        raise GraphError(
            "which sequences start anew is said of a list or an array of them, for an input "
            "that is a sequence"
        )
    if len(starts) != len(data):
        raise GraphError(f"there are {len(data)} sequences, {len(starts)} say if they start anew")


def _any_sparse(data: Data) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_any_sparse, data))
    return is_sparse(data) or getattr(data, "is_sparse", False)


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    if len({p.shape for p in parts}) > 1:
        raise GraphError(
            f"samples of shapes {sorted({p.shape for p in parts})} are no batch; they must agree"
        )
    return np.stack(parts)


def asvalue(variable: Variable, data_array: Data) -> Value:
    """The `Value` of arrays for a variable, as `Value.create`.

    >>> x = C.input_variable(2)
    >>> C.asvalue(x, [[1, 2], [3, 4]]).shape
    (2, 1, 2)
    """
    return Value.create(variable, data_array)


def asarray(value: Data, dtype: DTypeLike = None) -> np.ndarray:
    """What holds data, a `Value` or a list of numbers, as one array of NumPy's.

    Args:
        dtype: the array's type; by default as it comes.

    Raises:
        GraphError: sequences have different lengths; `value.as_sequences()` takes them.

    >>> C.asarray(C.asvalue(C.input_variable(2), np.array([[1.0, 2]], "f")))
    array([[1., 2.]], dtype=float32)
    """
    array = value.asarray() if hasattr(value, "asarray") else np.asarray(value)
    if getattr(array.dtype, "kind", "") == "O":
        raise ValueError(f"{type(value).__name__} holds no array of numbers")
    return array if dtype is None else array.astype(dtype)


__all__ = ["Value", "asarray", "asvalue"]
