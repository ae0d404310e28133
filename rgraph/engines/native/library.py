"""The engine's work in C, compiled by the machine's own C compiler when needed.

The compiled library is kept in the user's cache folder, by source, flags and processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from ctypes import c_char_p, c_int, c_size_t, c_void_p, sizeof
from pathlib import Path

import numpy as np

from ..expressions import EXPRESSIONS
from ..numpy.threads import openmp_library

# Those that have no form here in vector instructions; NumPy has
_LEFT_OUT = {
    "pow", "sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh",
}  # fmt: skip

# What operations.c does faster than by the expression
_OWN = {"sigmoid": "sigmoid_({0})"}

OPERATIONS = {name: i for i, name in enumerate(n for n in EXPRESSIONS if n not in _LEFT_OUT)}

_FLAGS = "-O3 -march=native -fno-math-errno -fno-trapping-math -fopenmp -fPIC -shared -std=gnu11 -w"
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
    names = "operations", "interpreter", "products", "winograd", "sums", "tape"
    before, *after = ((here / f"{name}.c").read_text() for name in names)
    return "\n".join([before, *functions, table, *after])


def load() -> ctypes.CDLL:
    """The library, compiled if that has not been done on this machine.

    Raises `NativeError` where it can't be had.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or ""]
    if not shutil.which(compiler[0]) or os.name != "posix":
        raise NativeError("there is no C compiler")
    if not _knows_arrays():
        raise NativeError("arrays lie in memory in another way than interpreter.c expects")
    text = source()
    key = hashlib.sha256(f"{text}{_FLAGS}{compiler}{_processor()}".encode()).hexdigest()[:16]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rgraph"
        path = cache / f"native-{key}.so"
        if not path.exists():
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            _compile(compiler, text, path)
        library = openmp_library(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # there may be no home
        raise NativeError(str(error)) from error
    library.run.argtypes = [c_void_p, c_char_p, c_int]
    library.know_arrays.argtypes = [c_size_t, c_void_p, c_void_p]
    library.know_arrays(object.__basicsize__, id(np.ndarray), id(np.dtype(np.float32)))
    return library


def _compile(compiler: list[str], text: str, path: Path) -> None:
    """Whole or not at all: others may be looking for the file at the same time."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder, "made.so")
        command = [*compiler, *_FLAGS.split(), "-x", "c", "-", "-o", str(made), "-lm"]
        subprocess.run(command, input=text, text=True, check=True, capture_output=True)
        os.replace(made, path)


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
