"""The threads of the NumPy engine, their scratch memory, and the threads of the BLAS.

NumPy releases the interpreter's lock while it computes, so plain threads use all cores. The BLAS is
limited to one thread meanwhile: its own threads would not help with the work between the products.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

Array = np.ndarray
Item = TypeVar("Item")
Result = TypeVar("Result")


def _first_number() -> int:
    """`OMP_NUM_THREADS`, or the number of cores of this process."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if told.isdigit() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_number = _first_number()
_followers: list[Callable[[int], object]] = []


def number() -> int:
    """How many threads an operation may use."""
    return _number


def set_number(threads: int) -> None:
    """Set the number of threads for all CPU engines and for NumPy's BLAS."""
    global _number, _pool, _restore
    with _lock:
        _number = threads
        if _pool is not None:
            _pool.shutdown(wait=False)
        _pool = None
        _restore = threads
        if _blas is not None and not _users:
            _blas[1](threads)
    for follow in _followers:
        follow(threads)


def follow_number(follow: Callable[[int], object]) -> None:
    """Call `follow` with the number of threads, now and whenever it changes."""
    _followers.append(follow)
    follow(_number)


_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """A buffer of this thread, by name: its pages stay mapped from call to call.

    It is aligned to cache lines, since vector instructions are slower across two.
    """
    buffers: dict[str, Array] = _local.__dict__
    size = math.prod(shape) * dtype.itemsize
    buffer = buffers.get(name)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size + 63, np.uint8)
        start = -buffer.ctypes.data % 64
        buffer = buffers[name] = buffer[start : start + size]
    return buffer[:size].view(dtype).reshape(shape)


def openmp_library(path: str) -> ctypes.CDLL:
    """Load a library that uses OpenMP.

    Its threads spin briefly between calls that follow each other closely, since waking them takes
    longer than many a call, but not for long, because NumPy uses other threads. OpenMP reads the
    setting when it is loaded.
    """
    name = "GOMP_SPINCOUNT"
    spin = os.environ.get(name)
    os.environ[name] = spin or "10000"
    try:
        return ctypes.CDLL(path)
    finally:
        if spin is None:
            del os.environ[name]


def _blas_threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """The getter and setter of the number of threads of NumPy's OpenBLAS; None for another BLAS."""
    try:
        # Symbols of a library are found through the extension module that is linked to it.
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (AttributeError, OSError):
        return None
    for prefix, suffix in ("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""):
        get = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
        put = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
        if get and put:
            return get, put
    return None


_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_held_for_fork: list[threading.Lock] = []
_forking = threading.Lock()  # by one thread at a time
_openmp_calls: list[tuple[weakref.ref[object], str]] = []


def lock() -> threading.Lock:
    """A lock that forks wait for, so that a forked process never sees it held."""
    new = threading.Lock()
    _locks.add(new)
    return new


_blas = _blas_threads()
_pool: ThreadPoolExecutor | None = None
_lock = lock()
_users = 0
_restore = 1


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Limit the BLAS to one thread while any correlation runs."""
    global _users, _restore
    if _blas is None:
        yield
        return
    get, put = _blas
    with _lock:
        _users += 1
        if _users == 1:
            _restore = get()
            put(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                put(_restore)


def lives_over_forks(owner: object, name: str) -> None:
    """Keep the method `owner.name`, which calls an OpenMP library, usable in forked processes.

    There, GNU OpenMP waits for threads that no longer exist, unless it is called from a new thread.
    """
    _openmp_calls.append((weakref.ref(owner), name))


def _before_fork() -> None:
    _forking.acquire()
    _held_for_fork[:] = _locks
    for held in _held_for_fork:
        held.acquire()


def _after_fork() -> None:
    for held in _held_for_fork:
        held.release()
    _held_for_fork.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    """Reset state about threads, which do not exist in a forked process."""
    global _pool, _users
    _after_fork()
    _pool = None
    if _users and _blas is not None:
        _users = 0
        _blas[1](_restore)
    for reference, name in _openmp_calls:
        owner = reference()
        if owner is not None:
            vars(owner).pop(name, None)  # that of the process which was forked itself
            setattr(owner, name, _in_a_new_thread(getattr(owner, name)))


def _in_a_new_thread(function: Callable[..., Result]) -> Callable[..., Result]:
    thread = ThreadPoolExecutor(1, "rgraph")
    return lambda *arguments: thread.submit(function, *arguments).result()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )


def run(
    work: Callable[[Iterator[Item]], Any],
    items: Sequence[Item],
    parallel: bool,
    fixed: bool = False,
) -> list[Any]:
    """Divide items among threads. Returns the result of `work` for each thread's share.

    Threads take items as they are free, or, if `fixed`, the same ones in every run, so that sums
    over them are bitwise reproducible.
    """
    global _pool
    threads = number()
    if not parallel or len(items) == 1 or _blas is None or threads == 1:
        return [work(iter(items))]
    queue = iter(items)  # taking the next of a list is safe among threads
    shares = [iter(items[i::threads]) if fixed else queue for i in range(threads)]

    def task(share: Iterator[Item]) -> Any:
        # The BLAS may compute with leftovers in its own buffers, which it then discards.
        with np.errstate(all="ignore"):
            return work(share)

    with _one_blas_thread():
        with _lock:
            if _pool is None:
                _pool = ThreadPoolExecutor(threads, "rgraph")
            others = [_pool.submit(task, share) for share in shares[1:]]
        results = [task(shares[0])]
        for other, share in zip(others, shares[1:], strict=True):
            # What the system has not begun by now, this thread does: nothing waits for it.
            results.append(task(share) if other.cancel() else other.result())
        return results
