"""Arrays on the CPU, on a GPU, sparse, and as CNTK's `NDArrayView`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..device import DeviceDescriptor, cpu
from ..graph import GraphError
from ..graph.types import Array, Data, DTypeLike

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


Capsule: TypeAlias = Any  # in which DLPack hands memory over


def is_sparse(data: object) -> bool:
    """Whether it is a SciPy sparse matrix."""
    return hasattr(data, "tocsr")


def on_gpu(data: Data) -> Array | None:
    """An array in GPU memory as a CuPy array, without a copy; None for anything else.

    Any array that supports DLPack is accepted: of CuPy, PyTorch, JAX.
    """
    if isinstance(data, np.ndarray) or not is_foreign(data):
        return None
    try:
        kind = int(data.__dlpack_device__()[0])
    except (ValueError, RuntimeError):  # memory that DLPack does not know
        return None
    if kind != _DLPACK_CUDA:
        return None
    import cupy  # only who has such data needs it

    return data if isinstance(data, cupy.ndarray) else cupy.from_dlpack(data)


DLPACK_CPU, _DLPACK_CUDA = 1, 2  # DLPack's kDLCPU, kDLCUDA


def as_array(data: Data) -> Array:
    """An array where it is, on a GPU or in NumPy; without a copy if it belongs to another library.

    Raises:
        GraphError: the other library's array can't be converted to NumPy's types.
    """
    if type(data) is np.ndarray:
        return data
    if is_foreign(data):
        array = on_gpu(data)
        return _of_other_library(data) if array is None else array
    if isinstance(data, np.ma.MaskedArray) and data.mask.any():
        raise GraphError(
            "an array whose mask hides some values gives no numbers for them",
            hint="array.filled(0) puts a number there",
        )
    return np.asarray(data)


def is_foreign(data: object) -> bool:
    """Whether it is another library's array, with DLPack support."""
    return not isinstance(data, np.ndarray) and hasattr(data, "__dlpack_device__")


def _of_other_library(data: Data) -> np.ndarray:
    """Another library's array in CPU memory as a NumPy array that shares its memory."""
    try:
        return np.asarray(data) if hasattr(data, "__array__") else np.from_dlpack(data)
    except (TypeError, ValueError, RuntimeError, BufferError) as refusal:
        raise GraphError(
            f"a {type(data).__module__}.{type(data).__qualname__} gives no array: {refusal}",
            hint="of a tensor of PyTorch that has a gradient tensor.detach() does, of one in "
            "bfloat16 tensor.float(), of a sparse one tensor.to_dense()",
        ) from None


def on_cpu(data: Data) -> Data:
    """An array, or a list of arrays, in CPU memory; anything else unchanged."""
    if isinstance(data, list):
        return [on_cpu(d) for d in data]
    array = on_gpu(data)
    if array is not None:
        return array.get()
    return as_array(data) if is_foreign(data) else data


def exported(array: Array, options: Mapping[str, object]) -> Capsule:
    """An array for another library, by DLPack: its own memory, or a copy if it is read-only.

    DLPack can mark memory as read-only, but not every library respects that: PyTorch 2 does not.
    """
    if options.get("copy") is not False and not getattr(array.flags, "writeable", True):
        array = array.copy()
    return array.__dlpack__(**options)


def as_numpy_asks(
    array: np.ndarray, dtype: DTypeLike, copy: bool | None, is_copy: bool
) -> np.ndarray:
    """The result of `__array__`: an array of the requested type, copied if `copy` says so.

    Args:
        is_copy: whether nothing else uses the array's memory.

    Raises:
        ValueError: a copy would be needed, and `copy` is False.
    """
    found = np.asarray(array, dtype)
    if copy is False and (is_copy or found is not array):
        raise ValueError("it takes a copy to give this as an array of NumPy's")
    return found.copy() if copy and found is array and not is_copy else found


def memory_of(array: Array) -> object:
    """The owner of an array's memory; the same object for all views of it."""
    if not isinstance(array, (np.ndarray, np.generic)):
        return array.data.mem
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def csr(array: np.ndarray) -> csr_matrix:
    """The vectors along the last axis as the rows of a sparse matrix."""
    from scipy.sparse import csr_matrix

    return csr_matrix(array.reshape(-1, array.shape[-1]))


class NDArrayView:
    """An array with its device, like CNTK's.

    Args:
        shape: its shape; it is filled with zeros.
        data_type: np.float32 or np.float64.

    >>> C.NDArrayView((2, 3), np.float32).shape
    (2, 3)
    """

    is_read_only = False

    def __init__(
        self,
        shape: Sequence[int],
        data_type: DTypeLike = np.float32,
        device: DeviceDescriptor | None = None,
    ) -> None:
        self._start(np.zeros(shape, data_type), device, False)

    def _start(self, array: np.ndarray, device: DeviceDescriptor | None, sparse: bool) -> None:
        self.array, self.is_sparse = array, sparse
        self.device: DeviceDescriptor = device or cpu()

    @classmethod
    def _of(
        cls, array: np.ndarray, device: DeviceDescriptor | None = None, sparse: bool = False
    ) -> NDArrayView:
        self = cls.__new__(cls)
        self._start(array, device, sparse)
        return self

    @classmethod
    def from_dense(
        cls,
        np_array: Data,
        device: DeviceDescriptor | None = None,
        read_only: bool = False,
        borrow: bool = False,
    ) -> NDArrayView:
        """A copy of an array (with `borrow` the array itself)."""
        array = on_cpu(np_array)
        return cls._of(np.asarray(array) if borrow else np.array(array), device)

    @classmethod
    def from_csr(
        cls,
        csr_array: csr_matrix,
        device: DeviceDescriptor | None = None,
        read_only: bool = False,
        borrow: bool = False,
        shape: Sequence[int] | None = None,
    ) -> NDArrayView:
        """A sparse matrix, reshaped to `shape`: its rows are the vectors along the last axis."""
        array = csr_array.toarray()
        if shape is not None:
            if np.prod(shape) != array.size or shape[-1] != array.shape[-1]:
                raise GraphError(f"a matrix of shape {array.shape} can't be seen as {shape}")
            array = array.reshape(shape)
        return cls._of(array, device, sparse=True)

    @classmethod
    def from_data(
        cls,
        data: Data,
        device: DeviceDescriptor | None = None,
        read_only: bool = False,
        borrow: bool = False,
    ) -> NDArrayView:
        """Like `from_csr` for a sparse matrix, like `from_dense` for an array."""
        return (cls.from_csr if is_sparse(data) else cls.from_dense)(data, device)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape

    @property
    def dtype(self) -> type[np.generic]:
        """The type of its numbers: np.float32 or np.float64."""
        return self.array.dtype.type

    def as_shape(self, shape: Sequence[int]) -> NDArrayView:
        """The same elements in another shape."""
        dims = tuple(int(n) for n in shape)
        return NDArrayView._of(self.array.reshape(dims), self.device, self.is_sparse)

    def slice_view(
        self, start_offset: Sequence[int], extent: Sequence[int], read_only: bool = True
    ) -> NDArrayView:
        """A part of the array: `extent` elements from `start_offset`, axis by axis.

        If `extent` is shorter, it applies to the last axes, and one element of the others is taken.
        """
        whole = len(start_offset) - len(extent)
        spans = zip(start_offset[whole:], extent, strict=True)
        part: tuple[int | slice, ...] = (
            *start_offset[:whole],
            *(slice(a, a + n) for a, n in spans),
        )
        return NDArrayView._of(self.array[part], self.device, self.is_sparse)

    def asarray(self) -> np.ndarray | csr_matrix:
        """The array in CPU memory; a CSR matrix if it is sparse."""
        array = on_cpu(self.array)
        return csr(array) if self.is_sparse else array

    def __dlpack__(self, **options: object) -> Capsule:
        """The array where it lies, for other libraries: `torch.from_dlpack(view)`.

        Of one that is read-only they get a copy.
        """
        return exported(self.array, options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        array = on_cpu(self.array)
        return as_numpy_asks(array, dtype, copy, array is not self.array)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"NDArrayView{self.shape}"


__all__ = ["NDArrayView"]
