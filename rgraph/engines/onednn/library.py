"""A small binding of oneDNN's C interface (version 3), through ctypes.

The numbers are those of `dnnl_types.h`; `dnnl_alg_kind2str` and its like give them back as words.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from ctypes import byref, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p

import numpy as np

from ..numpy.threads import lives_over_forks, lock, openmp_library
from ..strides import address
from .patience import Patience, Watch

FLOAT32 = 3
TAG_ANY = 1
FORWARD_TRAINING, FORWARD_INFERENCE = 64, 96
CONVOLUTION_DIRECT = 1

# Operations on single elements
ELTWISE = {
    "relu": 0x20, "tanh": 0x21, "elu": 0x22, "square": 0x23, "abs": 0x24, "sqrt": 0x25,
    "linear": 0x26, "soft_relu": 0x27, "logistic": 0x29, "exp": 0x2A, "log": 0x2D, "pow": 0x30,
}  # fmt: skip
BINARY = {
    "add": 0x1FFF0, "mul": 0x1FFF1, "max": 0x1FFF2, "min": 0x1FFF3, "div": 0x1FFF4,
    "sub": 0x1FFF5, "ge": 0x1FFF6, "gt": 0x1FFF7, "le": 0x1FFF8, "lt": 0x1FFF9, "eq": 0x1FFFA,
    "ne": 0x1FFFB,
}  # fmt: skip

POOLING = {"max": 0x1FF, "mean, padding included": 0x2FF, "mean": 0x3FF}
SOFTMAX = {"softmax": 0x30000, "log_softmax": 0x30001}

# What an argument of a primitive is
SRC, SRC_1, DST, WEIGHTS, WORKSPACE, SCRATCHPAD = 1, 2, 17, 33, 64, 80
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 129, 145, 161

# What can be asked of a primitive's description
QUERY_SRC, QUERY_DIFF_SRC, QUERY_WEIGHTS, QUERY_DIFF_WEIGHTS = 129, 130, 131, 132
QUERY_DST, QUERY_DIFF_DST, QUERY_WORKSPACE, QUERY_SCRATCHPAD = 133, 134, 135, 136
_QUERY_IMPLEMENTATION = 8
_POST_OPERATION = 32768  # times the place of a post-operation, counted from 1: its argument

_KEPT_BY_LIBRARY = 64  # reorders, mostly, which primitives of many sizes have in common
_CPU = 1
_IN_ORDER = 1
_SCRATCHPAD_IS_GIVEN = 1


class _Caller(threading.local):
    """Attributes: `threads`: that the library may use for this caller."""

    threads = 0


_caller = _Caller()


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
    for path in _candidates():
        try:
            library = openmp_library(path)
        except OSError:
            continue
        library.dnnl_version.restype = ctypes.POINTER(c_int)
        if library.dnnl_version()[0] == 3:
            return library
    raise OnednnError("no oneDNN library of version 3 was found")


class Handle(c_void_p):
    """An object of the library's, destroyed with this."""

    destroy: Callable[[Handle], object] | None = None

    def __del__(self) -> None:
        if self.value and self.destroy:
            self.destroy(self)


# What is destroyed with its handle. The engine and its stream live as long as the process.
_DESTROYED = "primitive_desc", "memory_desc", "primitive_attr", "post_ops", "primitive", "memory"


class _Argument(ctypes.Structure):
    _fields_ = [("arg", c_int), ("memory", c_void_p)]


def dims(values: Iterable[int]) -> ctypes.Array[c_int64]:
    return (c_int64 * 12)(*values)


class PostOperations:
    """What a primitive does to its result before it writes that: see `Library.make`."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._chain = library.make("dnnl_post_ops_create")
        self._length = 0
        self.arguments: list[tuple[int, c_void_p]] = []  # what `Primitive` must be given as well

    def eltwise(self, name: str, alpha: float, beta: float) -> None:
        self._library.call(
            "dnnl_post_ops_append_eltwise",
            self._chain, c_int(ELTWISE[name]), c_float(alpha), c_float(beta),
        )  # fmt: skip
        self._length += 1

    def binary(self, name: str, operand: c_void_p) -> None:
        """An operation with one more array, of this memory description."""
        self._library.call("dnnl_post_ops_append_binary", self._chain, c_int(BINARY[name]), operand)
        self._length += 1
        self.arguments.append((_POST_OPERATION * self._length | SRC_1, operand))

    def sum(self) -> None:
        """Adds to what is there already."""
        self._library.call(
            "dnnl_post_ops_append_sum", self._chain, c_float(1), c_int32(0), c_int(FLOAT32)
        )
        self._length += 1

    def attributes(self) -> c_void_p:
        attributes = self._library.new_attributes()
        self._library.call("dnnl_primitive_attr_set_post_ops", attributes, self._chain)
        return attributes


class Library:
    """oneDNN on this CPU: an engine of its own with one stream of work.

    Args:
        threads: that it may use, where they are GNU OpenMP's; that is for each caller's thread.
        patience: what it loses where they are held up.
    """

    def __init__(self, threads: int = 1, patience: Patience | None = None) -> None:
        self._library = _open()
        self.threads, self.patience = threads, patience or Patience()
        self._set_threads = getattr(self._library, "omp_set_num_threads", None)
        self._refused = False
        self.lock = lock()  # a primitive's arrays are set and then used
        self.set_address = self._library.dnnl_memory_set_data_handle
        self.set_address.argtypes = [c_void_p, c_void_p]
        self._execute = self._library.dnnl_primitive_execute
        self._execute.argtypes = [c_void_p, c_void_p, c_int, c_void_p]
        lives_over_forks(self, "execute")
        self.wait = self._library.dnnl_stream_wait
        self.wait.argtypes = [c_void_p]
        self.engine = self.make("dnnl_engine_create", c_int(_CPU), c_size_t(0))
        self.stream = self.make("dnnl_stream_create", self.engine, c_int(_IN_ORDER))
        self.attributes = self.new_attributes()  # of what has no others
        # Primitives are kept here, by who makes them: what they let go is not to live on there.
        self.call("dnnl_set_primitive_cache_capacity", c_int(_KEPT_BY_LIBRARY))
        self._scratchpad = np.empty(0, np.uint8)

    def _take_threads(self) -> None:
        if self._set_threads:
            self._set_threads(self.threads)
        _caller.threads = self.threads

    def execute(
        self, primitive: c_void_p, stream: c_void_p, count: int, arguments: ctypes.Array[_Argument]
    ) -> int:
        if _caller.threads != self.threads:
            self._take_threads()
        status: int = self._execute(primitive, stream, count, arguments)
        return status

    def call(self, function: str, *arguments: object) -> None:
        if _caller.threads != self.threads:
            self._take_threads()
        status = getattr(self._library, function)(*arguments)
        if status:
            raise OnednnError(f"{function} failed with status {status}")

    def make(self, function: str, *arguments: object) -> c_void_p:
        """Calls a function that gives an object through its first argument."""
        result = Handle()
        self.call(function, byref(result), *arguments)
        kind = next((k for k in _DESTROYED if f"{k}_create" in function), None)
        if kind is not None:
            result.destroy = getattr(self._library, f"dnnl_{kind}_destroy")
        return result

    def new_attributes(self) -> c_void_p:
        """What a primitive is made with: the memory that it works in is given to it.

        The library's own is its thread's that makes the primitive, too small in another's.
        """
        attributes = self.make("dnnl_primitive_attr_create")
        self.call(
            "dnnl_primitive_attr_set_scratchpad_mode", attributes, c_int(_SCRATCHPAD_IS_GIVEN)
        )
        return attributes

    def scratchpad(self, size: int) -> int:
        """The address of as many bytes, for who holds the lock."""
        if self._scratchpad.size < size + 63:
            self._scratchpad = np.empty(size + 63, np.uint8)
        start = address(self._scratchpad)
        return start + -start % 64

    def warn_of_refusal(self) -> None:
        """Says once that from here on NumPy may do the work.

        Version 3.2 makes no more primitives in a process in which it could not compile one.
        """
        if not self._refused:
            warnings.warn("oneDNN could not compile an operation; NumPy does it", stacklevel=2)
        self._refused = True

    def plain(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> c_void_p:
        """Describes an array; strides are in elements."""
        return self.make(
            "dnnl_memory_desc_create_with_strides",
            c_int(len(shape)), dims(shape), c_int(FLOAT32), dims(strides),
        )  # fmt: skip

    def dense(self, shape: tuple[int, ...]) -> c_void_p:
        """Describes an array whose last axis is innermost."""
        return self.plain(shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))

    def any_order(self, shape: tuple[int, ...]) -> c_void_p:
        """Describes an array whose memory order the primitive may choose."""
        return self.make(
            "dnnl_memory_desc_create_with_tag",
            c_int(len(shape)), dims(shape), c_int(FLOAT32), c_int(TAG_ANY),
        )  # fmt: skip

    def implementation(self, description: c_void_p) -> str:
        """What the library chose to compute with, "ref" where it has nothing fast."""
        name = c_char_p()
        self.call(
            "dnnl_primitive_desc_query",
            description, c_int(_QUERY_IMPLEMENTATION), c_int(0), byref(name),
        )  # fmt: skip
        return (name.value or b"").decode()

    def turn_to_next(self, description: c_void_p) -> bool:
        """Turns the description to what the library would choose next, if there is anything."""
        return not self._library.dnnl_primitive_desc_next_impl(description)

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
        try:
            self._primitive = library.make("dnnl_primitive_create", description)
        except OnednnError:
            library.warn_of_refusal()
            raise
        scratchpad = library.queried(description, QUERY_SCRATCHPAD)
        self._scratchpad = library.size(scratchpad) if scratchpad else 0  # bytes
        if self._scratchpad:
            arguments = [*arguments, (SCRATCHPAD, scratchpad)]
        self._memories = [
            library.make("dnnl_memory_create", md, library.engine, c_void_p(0))
            for _, md in arguments
        ]
        self._addresses = [0] * len(arguments)
        self._watch = Watch(library.patience) if library.threads > 1 else None
        self._arguments = (_Argument * len(arguments))(
            *(_Argument(a, m.value) for (a, _), m in zip(arguments, self._memories, strict=True))
        )

    def run(self, *arrays: np.ndarray) -> None:
        self.run_at([address(array) for array in arrays])

    def run_at(self, addresses: Sequence[int]) -> None:
        """As `run`, on arrays at these addresses."""
        library = self._library
        with library.lock:
            if self._scratchpad:
                addresses = [*addresses, library.scratchpad(self._scratchpad)]
            for i, here in enumerate(addresses):
                if self._addresses[i] != here:
                    library.set_address(self._memories[i], here)
                    self._addresses[i] = here
            if self._watch is not None:
                self._watch.start()
            status = library.execute(
                self._primitive, library.stream, len(self._arguments), self._arguments
            )
            library.wait(library.stream)
            if self._watch is not None:
                self._watch.stop()
        if status:
            raise OnednnError(f"a primitive failed with status {status}")


class Reorder:
    """Copies an array from one memory order to another."""

    def __init__(self, library: Library, source: c_void_p, target: c_void_p) -> None:
        description = library.make(
            "dnnl_reorder_primitive_desc_create",
            source, library.engine, target, library.engine, library.attributes,
        )  # fmt: skip
        self._primitive = Primitive(library, description, [(SRC, source), (DST, target)])
        self._size = library.size(target)

    def __call__(self, array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            out = np.empty(self._size // 4, np.float32)
        self._primitive.run(array, out)
        return out
