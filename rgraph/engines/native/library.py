"""The engine's work in C, compiled by the machine's own C compiler when needed.

The compiled library is kept in the user's cache folder, by source, flags and processor. It is run
only if nobody else can write there, and if it is what was made: its name tells its digest.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from ctypes import c_char_p, c_int, c_size_t, c_void_p, sizeof
from pathlib import Path

import numpy as np

from ..expressions import EXPRESSIONS
from ..numpy.threads import follow_number

# Those that have no form here in vector instructions; NumPy has
_LEFT_OUT = {
    "pow", "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh",
}  # fmt: skip

# What operations.c does faster than by the expression
_OWN = {"sigmoid": "sigmoid_({0})"}

OPERATIONS = {name: i for i, name in enumerate(n for n in EXPRESSIONS if n not in _LEFT_OUT)}

_PARTS = (
    "operations", "threads", "interpreter", "products", "winograd", "winograd_gradient", "sums",
    "tape", "text",
)  # fmt: skip

_TRIAL, _LONGEST = 5, 120  # seconds for a compiler to compile next to nothing, and the whole

_FLAGS = "-O3 -march=native -fno-math-errno -fno-trapping-math -pthread -fPIC -shared -std=gnu11 -w"
if platform.machine() in ("x86_64", "AMD64"):
    _FLAGS += " -mprefer-vector-width=512"


class NativeError(RuntimeError):
    """There is no compiler, or it failed, or what it made can't be kept."""


def source() -> str:
    """The library's C source; the interpreter's operations are written here."""
    here = Path(__file__).parent
    pointers = "float *r, const float *a, const float *b, const float *c"
    loop = "#pragma GCC ivdep\n    for (ptrdiff_t i = 0; i < n; ++i)\n        r[i] = "
    functions = [
        f"static void op{i}({pointers}, ptrdiff_t n)\n{{\n{loop}"
        f"{_OWN.get(name, EXPRESSIONS[name]).format('a[i]', 'b[i]', 'c[i]')};\n}}\n"
        for name, i in OPERATIONS.items()
    ]
    table = (
        "static void (*const operations[])(float *, const float *, const float *, const float *,"
        f" ptrdiff_t) = {{{', '.join(f'op{i}' for i in OPERATIONS.values())}}};\n"
    )
    before, *after = ((here / f"{name}.c").read_text() for name in _PARTS)
    return "\n".join([before, *functions, table, *after])


def load() -> ctypes.CDLL:
    """The library, compiled if that has not been done on this machine.

    Raises `NativeError` where it can't be had.
    """
    try:
        compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or ""]
    except ValueError as error:
        raise NativeError(f"the environment variable CC can't be read: {error}") from error
    if not shutil.which(compiler[0]) or os.name != "posix":
        raise NativeError("there is no C compiler")
    if not _knows_arrays():
        raise NativeError("arrays lie in memory in another way than interpreter.c expects")
    text = source()
    key = hashlib.sha256(f"{text}{_FLAGS}{compiler}{_processor()}".encode()).hexdigest()[:16]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rgraph"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_that_ours(cache)
        path = _kept(cache, key) or _compile(compiler, text, cache, key)
        library = ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # there may be no home
        raise NativeError(str(error)) from error
    library.run.argtypes = [c_void_p, c_char_p, c_int]
    library.know_arrays.argtypes = [c_size_t, c_void_p, c_void_p]
    follow_number(library.set_threads)
    library.know_arrays(object.__basicsize__, id(np.ndarray), id(np.dtype(np.float32)))
    return library


def _check_that_ours(path: Path) -> None:
    about = path.stat()
    if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NativeError(f"{path} is another user's, or others may write to it")


def _kept(cache: Path, key: str) -> Path | None:
    """What was compiled before; what has been changed or cut off since is deleted."""
    for path in cache.glob(f"native-{key}-*.so"):
        _check_that_ours(path)
        if path.name == _name(key, path.read_bytes()):
            return path
        path.unlink(missing_ok=True)
    return None


def _name(key: str, content: bytes) -> str:
    return f"native-{key}-{hashlib.sha256(content).hexdigest()[:32]}.so"


def _compile(compiler: list[str], text: str, cache: Path, key: str) -> Path:
    """Whole or not at all: others may be looking for the file at the same time."""
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder, "made.so")
        command = [*compiler, *_FLAGS.split(), "-x", "c", "-", "-o", str(made), "-lm"]
        for source_text, seconds in ("", _TRIAL), (text, _LONGEST):
            subprocess.run(
                command, input=source_text, text=True, check=True, capture_output=True,
                timeout=seconds,
            )  # fmt: skip
        made.chmod(0o700)
        path = cache / _name(key, made.read_bytes())
        os.replace(made, path)
    return path


def _knows_arrays() -> bool:
    """Whether an array's fields are where the interpreter looks for them."""
    if platform.python_implementation() != "CPython":
        return False
    array = np.empty((2, 3), np.float32)
    data, rank, _, _, _, dtype = (c_void_p * 6).from_address(id(array) + object.__basicsize__)
    (kind,) = (c_void_p * 1).from_address(id(array) + object.__basicsize__ - sizeof(c_void_p))
    found = data, c_int(rank or 0).value, dtype, kind
    return found == (array.ctypes.data, 2, id(array.dtype), id(np.ndarray))


def _processor() -> str:
    """What machine code depends on: homes are shared among machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
