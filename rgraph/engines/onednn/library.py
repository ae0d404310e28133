"""A small binding of oneDNN's C interface (version 3), through ctypes.

The numbers are those of `dnnl_types.h`; `dnnl_alg_kind2str` and its like give them back as words.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import os
import sys
from ctypes import byref, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

FLOAT32 = 3
TAG_ANY = 1
FORWARD_TRAINING = 64
CONVOLUTION_DIRECT = 1

# What an argument of a primitive is
SRC, DST, WEIGHTS = 1, 17, 33
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 129, 145, 161

# What can be asked of a primitive's description
QUERY_SRC, QUERY_DIFF_SRC, QUERY_WEIGHTS, QUERY_DIFF_WEIGHTS = 129, 130, 131, 132
QUERY_DST, QUERY_DIFF_DST = 133, 134

_CPU = 1
_IN_ORDER = 1


class OnednnError(RuntimeError):
    """The library refused a call, or is not there."""


def _candidates() -> list[str]:
    """Where the library may be: this Python's environment, and the system's."""
    found = [
        path
        for pattern in ("libdnnl.so.3", "libdnnl.so.3.*", "libdnnl.3.dylib", "dnnl.dll")
        for path in sorted(glob.glob(os.path.join(sys.prefix, "lib", pattern)))
    ]
    system = ctypes.util.find_library("dnnl")
    return found + ([system] if system else [])


def _open() -> ctypes.CDLL:
    # The library's threads must sleep between calls: NumPy's work goes on in others.
    spin = os.environ.get("GOMP_SPINCOUNT")
    os.environ["GOMP_SPINCOUNT"] = spin or "0"
    try:
        for path in _candidates():
            try:
                library = ctypes.CDLL(path)
            except OSError:
                continue
            library.dnnl_version.restype = ctypes.POINTER(c_int)
            if library.dnnl_version()[0] == 3:
                return library
    finally:
        if spin is None:
            del os.environ["GOMP_SPINCOUNT"]
    raise OnednnError("no oneDNN library of version 3 was found")


class _Argument(ctypes.Structure):
    _fields_ = [("arg", c_int), ("memory", c_void_p)]


def _dims(values: Any) -> Any:
    return (c_int64 * 12)(*values)


class Library:
    """oneDNN on this CPU: an engine of its own with one stream of work."""

    def __init__(self) -> None:
        self._library = _open()
        self.engine = self.make("dnnl_engine_create", c_int(_CPU), c_size_t(0))
        self.stream = self.make("dnnl_stream_create", self.engine, c_int(_IN_ORDER))

    def call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise OnednnError(f"{function} failed with status {status}")

    def make(self, function: str, *arguments: Any) -> c_void_p:
        """Calls a function that gives an object through its first argument."""
        result = c_void_p()
        self.call(function, byref(result), *arguments)
        return result

    def plain(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> c_void_p:
        """Describes an array; strides are in elements."""
        return self.make(
            "dnnl_memory_desc_create_with_strides",
            c_int(len(shape)), _dims(shape), c_int(FLOAT32), _dims(strides),
        )  # fmt: skip

    def any_order(self, shape: tuple[int, ...]) -> c_void_p:
        """Describes an array whose memory order the primitive may choose."""
        return self.make(
            "dnnl_memory_desc_create_with_tag",
            c_int(len(shape)), _dims(shape), c_int(FLOAT32), c_int(TAG_ANY),
        )  # fmt: skip

    def queried(self, description: c_void_p, what: int) -> c_void_p:
        query = self._library.dnnl_primitive_desc_query_md
        query.restype = c_void_p
        return c_void_p(query(description, c_int(what), c_int(0)))

    def size(self, memory_description: c_void_p) -> int:
        get = self._library.dnnl_memory_desc_get_size
        get.restype = c_size_t
        return int(get(memory_description))

    def same(self, a: c_void_p, b: c_void_p) -> bool:
        return bool(self._library.dnnl_memory_desc_equal(a, b))


class Primitive:
    """One operation on arrays of fixed shapes and orders.

    Args:
        description: what the library made of its `…_primitive_desc_create`.
        arguments: for each of its arrays, in the order in which `run` takes them: what it is,
            and its memory's description.
    """

    def __init__(
        self, library: Library, description: c_void_p, arguments: list[tuple[int, c_void_p]]
    ) -> None:
        self._library = library
        self._primitive = library.make("dnnl_primitive_create", description)
        self._memories = [
            library.make("dnnl_memory_create", md, library.engine, c_void_p(0))
            for _, md in arguments
        ]
        self._arguments = (_Argument * len(arguments))(
            *(_Argument(a, m.value) for (a, _), m in zip(arguments, self._memories, strict=True))
        )

    def run(self, *arrays: np.ndarray) -> None:
        library = self._library
        for memory, array in zip(self._memories, arrays, strict=True):
            library.call("dnnl_memory_set_data_handle", memory, c_void_p(array.ctypes.data))
        library.call(
            "dnnl_primitive_execute",
            self._primitive, library.stream, c_int(len(self._arguments)), self._arguments,
        )  # fmt: skip
        library.call("dnnl_stream_wait", library.stream)


class Reorder:
    """Copies an array from one memory order to another."""

    def __init__(self, library: Library, source: c_void_p, target: c_void_p) -> None:
        description = library.make(
            "dnnl_reorder_primitive_desc_create",
            source, library.engine, target, library.engine, c_void_p(0),
        )  # fmt: skip
        self._primitive = Primitive(library, description, [(SRC, source), (DST, target)])
        self._size = library.size(target)

    def __call__(self, array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            out = np.empty(self._size // 4, np.float32)
        self._primitive.run(array, out)
        return out
