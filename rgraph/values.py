"""Data as objects: what CNTK's programs feed, and what they get with `as_numpy=False`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .device import DeviceDescriptor, cpu, gpu
from .graph import GraphError


def is_sparse(data: Any) -> bool:
    """Whether it is a sparse matrix of SciPy's."""
    return hasattr(data, "tocsr")


def on_gpu(data: Any) -> Any:
    """What lies in a GPU's memory, as CuPy's array, without a copy; None for all else.

    Anything with DLPack will do: arrays of CuPy, PyTorch, JAX.
    """
    if isinstance(data, np.ndarray) or not hasattr(data, "__dlpack_device__"):
        return None
    if int(data.__dlpack_device__()[0]) != _DLPACK_CUDA:
        return None
    import cupy  # only who has such data needs it

    return data if isinstance(data, cupy.ndarray) else cupy.from_dlpack(data)


_DLPACK_CUDA = 2  # DLPack's kDLCUDA


def as_array(data: Any) -> Any:
    """An array where it is: a GPU's, or else NumPy's."""
    array = on_gpu(data)
    return np.asarray(data) if array is None else array


def on_cpu(data: Any) -> Any:
    """An array, or a list of them, in the CPU's memory."""
    if isinstance(data, list):
        return [on_cpu(d) for d in data]
    array = on_gpu(data)
    return data if array is None else array.get()


def dense(data: Any) -> Any:
    """Data without its wrapping: arrays, numbers, and lists of these."""
    if isinstance(data, Value):
        return data.content
    if isinstance(data, NDArrayView):
        return data.array
    if is_sparse(data):
        return data.toarray()
    if isinstance(data, (list, tuple)):
        return [dense(d) for d in data]
    inner = getattr(data, "data", None)  # a minibatch's part, as CNTK's readers give it
    return dense(inner) if isinstance(inner, (Value, NDArrayView)) else data


class NDArrayView:
    """An array that knows its device, as CNTK's.

    Args:
        shape: its shape; it is filled with zeros.
        data_type: np.float32 or np.float64.

    >>> C.NDArrayView((2, 3), np.float32).shape
    (2, 3)
    """

    is_read_only = False

    def __init__(
        self, shape: Sequence[int], data_type: Any = np.float32, device: Any = None
    ) -> None:
        self._start(np.zeros(shape, data_type), device, False)

    def _start(self, array: np.ndarray, device: Any, sparse: bool) -> None:
        self.array, self.is_sparse = array, sparse
        self.device: DeviceDescriptor = device or cpu()

    @classmethod
    def _of(cls, array: np.ndarray, device: Any = None, sparse: bool = False) -> NDArrayView:
        self = cls.__new__(cls)
        self._start(array, device, sparse)
        return self

    @classmethod
    def from_dense(
        cls, np_array: Any, device: Any = None, read_only: bool = False, borrow: bool = False
    ) -> NDArrayView:
        """An array's copy (with `borrow` the array itself)."""
        return cls._of(np_array if borrow else np.array(np_array), device)

    @classmethod
    def from_csr(
        cls,
        csr_array: Any,
        device: Any = None,
        read_only: bool = False,
        borrow: bool = False,
        shape: Sequence[int] | None = None,
    ) -> NDArrayView:
        """A sparse matrix, seen in `shape`: its rows are the vectors along the last axis."""
        array = csr_array.toarray()
        if shape is not None:
            if np.prod(shape) != array.size or shape[-1] != array.shape[-1]:
                raise GraphError(f"a matrix of shape {array.shape} can't be seen as {shape}")
            array = array.reshape(shape)
        return cls._of(array, device, sparse=True)

    @classmethod
    def from_data(
        cls, data: Any, device: Any = None, read_only: bool = False, borrow: bool = False
    ) -> NDArrayView:
        """As `from_csr` for a sparse matrix, as `from_dense` for an array."""
        return (cls.from_csr if is_sparse(data) else cls.from_dense)(data, device)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """The type of its numbers: np.float32 or np.float64."""
        return self.array.dtype.type

    def as_shape(self, shape: Sequence[int]) -> NDArrayView:
        """The same elements in another shape."""
        dims = tuple(int(n) for n in shape)
        return NDArrayView._of(self.array.reshape(dims), self.device, self.is_sparse)

    def slice_view(
        self, start_offset: Sequence[int], extent: Sequence[int], read_only: bool = True
    ) -> NDArrayView:
        """A part: `extent` elements from `start_offset`, axis by axis.

        If `extent` is shorter, it is for the last axes, and one element is taken of the others.
        """
        whole = len(start_offset) - len(extent)
        spans = zip(start_offset[whole:], extent, strict=True)
        part: tuple[Any, ...] = (*start_offset[:whole], *(slice(a, a + n) for a, n in spans))
        return NDArrayView._of(self.array[part], self.device, self.is_sparse)

    def asarray(self) -> Any:
        """The array; a CSR matrix for what is sparse."""
        return _csr(self.array) if self.is_sparse else self.array

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"NDArrayView{self.shape}"


class Value:
    """A minibatch of one input or output: a batch, or sequences of different lengths.

    Args:
        batch: an array, an `NDArrayView`, or a list of sequences.

    >>> value = C.Value([np.zeros((3, 2)), np.zeros((1, 2))])
    >>> value.shape
    (2, 3, 2)
    """

    is_read_only = False
    is_valid = True
    ONE_HOT_SKIP = 2**32 - 1  # an index that `one_hot` makes a vector of zeros of

    def __init__(self, batch: Any, device: Any = None) -> None:
        self.is_sparse = _any_sparse(batch)
        self.starts: list[bool] | None = None  # whether each sequence begins anew; None: all do
        self.content = dense(batch)  # an array, or a list of sequences
        if not isinstance(self.content, list):
            self.content = as_array(self.content)
        known = isinstance(batch, (Value, NDArrayView))
        self.device: DeviceDescriptor = device or device_of(batch if known else self.content)

    @staticmethod
    def create(
        var: Any,
        data: Any,
        seq_starts: Sequence[bool] | None = None,
        device: Any = None,
        read_only: bool = False,
    ) -> Value:
        """The value of `data` for a variable.

        Args:
            var: what it will be fed to.
            data: an array (a batch), or a list of sequences or samples, each an array, a sparse
                matrix, or a list of samples.
            seq_starts: for each sequence whether it starts anew or goes on from the minibatch
                before. The mask shows it; a run takes only what starts anew.

        >>> x = C.sequence.input_variable(1)
        >>> C.Value.create(x, [[[1.0], [2.0]], [[3.0]]]).shape
        (2, 2, 1)
        """
        axes = len(var.dynamic_axes)
        if seq_starts is not None:
            _check_starts(seq_starts, data, axes)
            data = list(data)
        if not isinstance(data, (list, tuple)):
            return Value(data, device)
        sparse = _any_sparse(data)
        parts = [np.asarray(dense(d), var.dtype) for d in data]
        if axes == 0 and sparse:
            raise GraphError("a list was given for a variable that has no batch axis")
        if axes < 2:
            value = Value(_stacked(parts), device)
        else:
            rank = len(var.shape)
            value = Value([p[None] if p.ndim == rank else p for p in parts], device)
            value.starts = None if seq_starts is None else list(seq_starts)
        value.is_sparse = sparse
        return value

    @staticmethod
    def one_hot(
        batch: Any, num_classes: int | Sequence[int], dtype: Any = None, device: Any = None
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

        def vectors(indices: Any) -> np.ndarray:
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
        result = Value([vectors(s) for s in batch] if ragged else vectors(batch), device)
        result.is_sparse = True
        return result

    @property
    def data(self) -> NDArrayView:
        """All as one array (N, …); sequences are padded with zeros to the longest."""
        return NDArrayView._of(self._padded(), self.device, self.is_sparse)

    def __dlpack__(self, **options: Any) -> Any:
        """All as one array, for other libraries: `torch.from_dlpack(value)`."""
        return self._padded().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._padded().__dlpack_device__()

    def _padded(self) -> Any:
        if not isinstance(self.content, list):
            return self.content
        parts = [as_array(s) for s in self.content]
        steps = max(map(len, parts))
        shape = (len(parts), steps, *parts[0].shape[1:])
        out = np.zeros(shape, parts[0].dtype, like=parts[0])
        for row, part in zip(out, parts, strict=True):
            row[: len(part)] = part
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …), for sequences (N, frames of the longest, …)."""
        return self._padded().shape

    @property
    def dtype(self) -> Any:
        """The type of its numbers: np.float32 or np.float64."""
        return self._padded().dtype.type

    @property
    def mask(self) -> np.ndarray | None:
        """(N, frames): 2 where a sequence starts, 1 on its other frames, 0 behind its end."""
        if not isinstance(self.content, list):
            return None
        lengths = np.array([len(s) for s in self.content])
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.uint8)
        mask[:, 0] *= 2 if self.starts is None else 1 + np.array(self.starts, np.uint8)
        return mask

    def as_sequences(self, variable: Any = None) -> list[Any]:
        """The sequences (or samples) one by one; CSR matrices for what is sparse."""
        parts = [as_array(s) for s in self.content]
        return [_csr(p) for p in parts] if self.is_sparse else parts

    def asarray(self) -> Any:
        """All as one array.

        Raises:
            ValueError: the sequences have different lengths.
        """
        if isinstance(self.content, list) and len({len(s) for s in self.content}) > 1:
            raise GraphError(
                "sequences of different lengths are no array", mend="use as_sequences()"
            )
        array = self._padded()
        return _csr(array) if self.is_sparse else array

    def __len__(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        return f"Value{self.shape}"


def device_of(data: Any) -> DeviceDescriptor:
    """Where an array lies, or the first of a list of them."""
    if isinstance(data, (Value, NDArrayView)):
        return data.device
    array = on_gpu(data[0] if isinstance(data, list) and data else data)
    return cpu() if array is None else gpu(array.device.id)


def _check_starts(starts: Sequence[bool], data: Any, axes: int) -> None:
    if axes < 2 or isinstance(data, (Value, NDArrayView)) or is_sparse(data):
        raise GraphError(
            "which sequences start anew is said of a list or an array of them, for an input "
            "that is a sequence"
        )
    if len(starts) != len(data):
        raise GraphError(f"there are {len(data)} sequences, {len(starts)} say if they start anew")


def _any_sparse(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_any_sparse, data))
    return is_sparse(data) or getattr(data, "is_sparse", False)


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    if len({p.shape for p in parts}) > 1:
        raise GraphError(
            f"samples of shapes {sorted({p.shape for p in parts})} are no batch; they must agree"
        )
    return np.stack(parts)


def _csr(array: np.ndarray) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(array.reshape(-1, array.shape[-1]))


def asvalue(variable: Any, data_array: Any) -> Value:
    """The `Value` of arrays for a variable, as `Value.create`.

    >>> x = C.input_variable(2)
    >>> C.asvalue(x, [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    return Value.create(variable, data_array)


def asarray(variable: Any, value: Value) -> Any:
    """A `Value` as arrays: a list of them for a sequence.

    >>> x = C.input_variable(2)
    >>> C.asarray(x, C.asvalue(x, [[1, 2]]))
    array([[1., 2.]], dtype=float32)
    """
    return value.as_sequences() if len(variable.dynamic_axes) > 1 else value.asarray()


__all__ = ["NDArrayView", "Value", "asarray", "asvalue"]
