"""CuPy, played on the CPU: NumPy under CuPy's names and CuPy's rules.

What CuPy does not have raises here too: names that it lacks (`cupy_names.json` was read off it),
arrays of NumPy where it wants its own, conversions to NumPy, `where=`, reductions of most ufuncs.
What makes the CPU wait for the GPU is counted, and refused while a stream is captured. A captured
graph holds the calls, and launching it does them again on the same memory.
"""

import contextlib
import ctypes
import json
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy import special

NAMES = json.loads((Path(__file__).parent / "cupy_names.json").read_text())
_UFUNCS = set(NAMES["ufuncs"])
_NUMBERS = (bool, int, float, complex, np.generic)


class State:
    """What goes on: how often the CPU waited, the bytes of each copy to the GPU's memory and back,
    and the calls of the graph that is being captured."""

    waits = 0
    copied_in: ClassVar[list[int]] = []
    copied_out: ClassVar[list[int]] = []
    tape = None
    invalidated = False  # the capture, by an error of CUDA's
    pools = 0  # that have blocks to give back
    ranges: ClassVar[list[str]] = []  # that were begun, and "" for each that ended

    @classmethod
    def wait(cls, what):
        if cls.tape is not None:
            cls.invalidated = True
            raise RuntimeError(f"{what} while a stream is captured")
        cls.waits += 1


def _unwrapped(value, where):
    if isinstance(value, Array):
        return value.memory
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)} for {where}")
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrapped(v, where) for v in value)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        if any(isinstance(p, Array) for p in parts):
            State.wait("a slice that an array decides")
        return slice(*(int(p) if isinstance(p, Array) else p for p in parts))
    return value


def _wrapped(result):
    if isinstance(result, (np.ndarray, np.generic)):
        return Array(np.asarray(result))
    if isinstance(result, (list, tuple)):
        return type(result)(map(_wrapped, result))
    return result


def _do(function, *args, **kwargs):
    """Calls a function of NumPy on arrays of memory; its result is wrapped."""
    result = _wrapped(function(*args, **kwargs))
    if State.tape is not None:
        State.tape.append(_again(function, args, kwargs, result))
    return result


def _again(function, args, kwargs, result):
    """The call as one to be made again, into the memory that its result has."""
    targets = [a for a in _flat(result) if isinstance(a, Array)]

    def call():
        for target, new in zip(targets, _flat(function(*args, **kwargs))):
            if not np.may_share_memory(target.memory, new):
                np.copyto(target.memory, new)

    return call


def _flat(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]


class Pointer:
    """`cupy.cuda.MemoryPointer`: where an array begins."""

    def __init__(self, memory):
        self.memory = memory
        self.ptr = memory.ctypes.data

    @property
    def mem(self):
        """What was allocated: the same for all views."""
        base = self.memory
        while isinstance(base.base, np.ndarray):
            base = base.base
        return base

    def copy_from_host_async(self, address, size, stream=None):
        if State.tape is not None and stream.capturing:
            raise RuntimeError("H2D transfers are disallowed while a stream is captured")
        State.copied_in.append(size)
        ctypes.memmove(self.ptr, address, size)

    def copy_to_host_async(self, address, size, stream=None):
        if State.tape is not None:
            raise RuntimeError("D2H transfers are disallowed while a stream is captured")
        State.copied_out.append(size)
        ctypes.memmove(address, self.ptr, size)


class Array:
    """`cupy.ndarray`."""

    __array_priority__ = 100

    def __init__(self, memory):
        self.memory = memory

    shape = property(lambda self: self.memory.shape)
    strides = property(lambda self: self.memory.strides)
    dtype = property(lambda self: self.memory.dtype)
    ndim = property(lambda self: self.memory.ndim)
    size = property(lambda self: self.memory.size)
    itemsize = property(lambda self: self.memory.itemsize)
    nbytes = property(lambda self: self.memory.nbytes)
    T = property(lambda self: self.transpose())
    data = property(lambda self: Pointer(self.memory))
    device = types.SimpleNamespace(id=0)

    @property
    def flags(self):
        own = self.memory.flags
        return types.SimpleNamespace(
            c_contiguous=own.c_contiguous, f_contiguous=own.f_contiguous, owndata=own.owndata
        )

    def __len__(self):
        return len(self.memory)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__":
            raise TypeError(f"{ufunc.__name__}.{method} of NumPy's on arrays of CuPy's")
        if out is not None:
            kwargs["out"] = out[0]
        return getattr(LIBRARY, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, function, types_, args, kwargs):
        return getattr(LIBRARY, function.__name__)(*args, **kwargs)

    @property
    def __cuda_array_interface__(self):
        return {**self.memory.__array_interface__, "version": 3}

    def __dlpack__(self, **options):
        return self.memory.__dlpack__(**options)

    def __dlpack_device__(self):
        return (2, 0)

    def get(self):
        State.wait("get()")
        State.copied_out.append(self.nbytes)
        return self.memory.copy()

    def item(self):
        State.wait("item()")
        return self.memory.item()

    def tolist(self):
        State.wait("tolist()")
        return self.memory.tolist()

    def __bool__(self):
        State.wait("bool()")
        return bool(self.memory)

    def __float__(self):
        State.wait("float()")
        return float(self.memory)

    def __int__(self):
        State.wait("int()")
        return int(self.memory)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return _do(np.ndarray.__getitem__, self.memory, _index(index))

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("assignment from an array of the CPU's")
        index, value = _index(index), _unwrapped(value, "assignment")
        _do(np.ndarray.__setitem__, self.memory, index, value)

    def fill(self, value):
        _do(np.ndarray.fill, self.memory, _unwrapped(value, "fill"))

    def copy(self, order="C"):
        return _do(np.ndarray.copy, self.memory, order)

    def transpose(self, *axes):
        return _do(np.ndarray.transpose, self.memory, *axes)

    def reshape(self, *shape, order="C"):
        return _do(np.reshape, self.memory, shape[0] if len(shape) == 1 else shape, order)

    def __getattr__(self, name):
        if name.startswith("__") or name not in NAMES["ndarray"]:
            raise AttributeError(f"arrays of CuPy's have no {name}")
        if name in ("nonzero", "compress"):
            State.wait(name)
        method = getattr(np.ndarray, name)

        def call(*args, **kwargs):
            args = [_unwrapped(a, name) for a in args]
            kwargs = {k: _unwrapped(v, name) for k, v in kwargs.items()}
            if "where" in kwargs:
                raise TypeError(f"{name}() got an unexpected keyword argument 'where'")
            return _do(method, self.memory, *args, **kwargs)

        return call


def _index(index):
    """What may stand in brackets: NumPy's arrays are copied to the GPU, masks are counted there."""
    parts = index if isinstance(index, tuple) else (index,)
    result = []
    for part in parts:
        if isinstance(part, (list, np.ndarray)):
            if State.tape is not None:
                raise RuntimeError("H2D transfers are disallowed while a stream is captured")
            State.copied_in.append(np.asarray(part).nbytes)
        kind = getattr(part, "dtype", np.dtype(int)).kind
        if isinstance(part, (Array, np.ndarray)) and kind not in "biu":
            raise IndexError(f"arrays used as indices must be of integer or boolean type: {kind}")
        if isinstance(part, Array) and kind == "b":
            State.wait("a mask as an index")
        result.append(part if isinstance(part, np.ndarray) else _unwrapped(part, "an index"))
    return tuple(result) if isinstance(index, tuple) else result[0]


def _operator(name):
    function = getattr(np.ndarray, name)

    def operate(self, *others):
        if any(isinstance(o, np.ndarray) for o in others):
            raise TypeError("arrays of NumPy's and CuPy's do not mix")
        if not all(isinstance(o, (Array, *_NUMBERS)) for o in others):
            return NotImplemented
        result = _do(function, self.memory, *(_unwrapped(o, name) for o in others))
        return self if name.startswith("__i") and name != "__invert__" else result

    return operate


for _name in NAMES["ndarray"]:
    if _name.startswith("__") and _name not in vars(Array) and hasattr(np.ndarray, _name):
        _skipped = ("__array", "__buffer", "__class", "__copy", "__deep", "__del", "__module")
        if not _name.startswith(_skipped):
            setattr(Array, _name, _operator(_name))
for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Array, _name, _operator(_name))
Array.__hash__ = None


class Ufunc:
    """A ufunc of CuPy's."""

    def __init__(self, name, source=np):
        self.name, self.function = name, getattr(source, name)
        self.nin = getattr(self.function, "nin", 1)

    def __call__(self, *args, out=None, dtype=None, casting="same_kind"):
        if self.name in _PRODUCTS and State.tape is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture")
        if len(args) > self.nin:
            args, out = args[: self.nin], args[self.nin]
        for a in args:
            if not isinstance(a, (Array, *_NUMBERS)):
                raise TypeError(f"Unsupported type {type(a)} for {self.name}")
        if out is not None and not isinstance(out, Array):
            raise TypeError(f"out of {self.name} must be of CuPy's, got {type(out)}")
        given = [_unwrapped(a, self.name) for a in args]
        if out is None:
            return _do(self.function, *given, dtype=dtype)
        _do(self.function, *given, out=out.memory, casting=casting)
        return out

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        if self.name not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return _do(self.function.reduce, array.memory, axis=axis, dtype=dtype, keepdims=keepdims)

    def at(self, a, indices, b=None):
        if self.name not in ("add", "subtract", "maximum", "minimum"):
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        index, b = _index(indices), _unwrapped(b, "at")
        _do(self.function.at, a.memory, index, b)


_MAKES = {"zeros", "ones", "full", "empty", "arange", "eye", "linspace", "asarray", "array"}
_WAITS = {"flatnonzero", "nonzero", "argwhere", "unique", "extract"}
_PRODUCTS = {"matmul", "dot", "vdot", "inner", "outer", "tensordot", "einsum"}  # cuBLAS's
_SORTS = {"argsort", "sort", "lexsort", "argpartition", "partition"}  # Thrust waits for them


class Library:
    """The module `cupy`."""

    ndarray = Array
    __name__ = "played"
    __version__ = NAMES["version"]

    def __getattr__(self, name):
        if name not in NAMES["module"]:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        value = getattr(np, name, None)
        if name in _UFUNCS:
            result = Ufunc(name)
        elif not callable(value) or isinstance(value, type):
            result = value
        else:
            result = self._function(name, value)
        setattr(self, name, result)
        return result

    def _function(self, name, function):
        def call(*args, **kwargs):
            if name in _WAITS or name in _SORTS:
                State.wait(name)
            if name in _PRODUCTS - {"vdot"} and State.tape is not None:
                raise NotImplementedError("calling cuBLAS API during stream capture")
            if name in _SORTS and kwargs.get("kind") not in (None, "stable"):
                raise ValueError("kind can only be None or 'stable'")
            if "where" in kwargs:
                raise TypeError(f"{name}() got an unexpected keyword argument 'where'")
            out = kwargs.pop("out", None)
            kwargs.pop("like", None)
            args = [_unwrapped(a, name) for a in args]
            kwargs = {k: _unwrapped(v, name) for k, v in kwargs.items()}
            if out is None:
                return _do(function, *args, **kwargs)
            _do(function, *args, out=out.memory, **kwargs)
            return out

        return call

    @staticmethod
    def asarray(value, dtype=None, **options):
        if isinstance(value, Array):
            return value if dtype in (None, value.dtype) else value.astype(dtype)
        made = np.array(value, dtype)
        if made.ndim:  # a single number comes with the call of a kernel that writes it
            if State.tape is not None:
                raise RuntimeError("H2D transfers are disallowed while a stream is captured")
            State.copied_in.append(made.nbytes)
        return _do(np.array, value, dtype)

    @staticmethod
    def array(value, dtype=None, **options):
        made = Library.asarray(value, dtype)
        return made.copy() if made is value else made

    @staticmethod
    def empty(shape, dtype=float, **options):
        made = np.empty(shape, dtype)
        if made.dtype.kind == "f":
            made.fill(np.nan)  # whoever reads it unwritten shall see it
        return Array(made)

    @staticmethod
    def empty_like(array, **options):
        return Array(np.empty_like(array.memory))

    @staticmethod
    def broadcast_shapes(*shapes):
        return np.broadcast_shapes(*shapes)

    @staticmethod
    def moveaxis(a, source, destination):
        return _do(np.moveaxis, a.memory, source, destination)

    @staticmethod
    def from_dlpack(value):
        return value

    @staticmethod
    def put_along_axis(array, indices, values, axis):
        values = _unwrapped(values, "put_along_axis")
        _do(np.put_along_axis, array.memory, indices.memory, values, axis)

    @staticmethod
    def get_default_memory_pool():
        return types.SimpleNamespace(free_all_blocks=lambda: None)


# cupy.cuda


class OutOfMemoryError(Exception):
    pass


class Event:
    done = True

    def synchronize(self):
        if State.tape is not None and Stream.current[-1].capturing:
            pass  # another stream's event

    def record(self, stream=None):
        pass


class Graph:
    def __init__(self, tape):
        self.tape = tape
        self.launches = 0

    def debug_dot_str(self, flags=0):
        return "label=" * len(self.tape)

    def launch(self, stream=None):
        self.launches += 1
        for call in self.tape:
            call()


class Stream:
    ptr = 7
    current = [None]  # noqa: RUF012

    def __init__(self, non_blocking=False):
        self.capturing = False

    def __enter__(self):
        Stream.current.append(self)

    def __exit__(self, *error):
        Stream.current.pop()

    def record(self):
        return Event()

    def wait_event(self, event):
        if self.capturing:
            raise RuntimeError("a graph waits for what is outside of it")

    def synchronize(self):
        if self.capturing:
            raise RuntimeError("synchronize() while a stream is captured")

    def begin_capture(self):
        self.capturing, State.tape = True, []

    def is_capturing(self):
        if self.capturing and State.invalidated:
            raise RuntimeError("the stream was capturing, but an error has invalidated that")
        return self.capturing

    def end_capture(self):
        if not self.capturing:
            raise RuntimeError("cudaErrorIllegalState")
        graph, invalidated = Graph(State.tape), State.invalidated
        self.capturing, State.tape, State.invalidated = False, None, False
        if invalidated:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return graph


class ExternalStream(Stream):
    """Somebody else's; what is asked of it, in order."""

    def __init__(self, stream):
        super().__init__()
        self.ptr, self.asked = stream.__cuda_stream__()[1], []
        ExternalStream.made.append(self)

    made: ClassVar[list[Any]] = []

    def record(self):
        self.asked.append("record")
        return Event()

    def wait_event(self, event):
        self.asked.append("wait")


class MemoryPool:
    """It gives nothing back unless it is told to."""

    SIZE = 64 << 20

    def __init__(self):
        State.pools += 1
        self.size = self.SIZE

    def malloc(self, size):
        raise NotImplementedError

    def total_bytes(self):
        return self.size

    def free_all_blocks(self):
        State.pools -= 1
        self.size = 0


def _cuda():
    cuda = types.SimpleNamespace()
    cuda.Stream, cuda.Event, cuda.MemoryPool = Stream, Event, MemoryPool
    Stream.from_external = ExternalStream
    cuda.nvtx = types.SimpleNamespace(
        RangePush=State.ranges.append, RangePop=lambda: State.ranges.append("")
    )
    cuda.Device = lambda number: contextlib.nullcontext()
    cuda.alloc_pinned_memory = bytearray
    cuda.alloc = lambda size: Pointer(np.empty(max(size, 1), np.uint8))
    cuda.using_allocator = lambda allocator: contextlib.nullcontext()
    cuda.get_elapsed_time = lambda start, end: 1.0
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.device = types.SimpleNamespace(get_cublas_handle=lambda: 1)
    cuda.runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        runtimeGetVersion=lambda: 12090,
        driverGetVersion=lambda: 13000,
        memGetInfo=lambda: (1 << 30, 80 << 30),
        getDeviceProperties=lambda number: {
            "name": b"a played GPU",
            "major": 9,
            "minor": 0,
            "totalGlobalMem": 80 << 30,
        },
    )
    return cuda


class _Random:
    """`cupy.random`, as far as engines use it."""

    @staticmethod
    def Philox4x3210(seed):
        return seed

    class Generator:
        def __init__(self, bits):
            self.generator = np.random.Generator(np.random.Philox(bits))

        def random(self, size=None, dtype=float, out=None):
            return Array(np.asarray(self.generator.random(size, dtype)))

        def standard_normal(self, size=None, dtype=float, out=None):
            return Array(np.asarray(self.generator.standard_normal(size, dtype)))


LIBRARY = Library()
sys.modules["playedx.scipy.special"] = types.SimpleNamespace(erf=Ufunc("erf", special))
LIBRARY.cuda = _cuda()
LIBRARY.random = _Random()
