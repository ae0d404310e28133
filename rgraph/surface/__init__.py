"""CNTK's names at CNTK's module paths: what `from rgraph.ops.functions import load_model` finds.

`names.txt` lists the names in each of CNTK's modules. They have no `__all__`, so these include the
names they import, and programs rely on that: `from cntk.layers import *` imports `sigmoid`. If
rgraph has a module at such a path, missing names are looked up in its other modules; otherwise the
path becomes a module that only looks up names.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from functools import cache, partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .left_out import Refused, reason_for

PACKAGE = __name__.partition(".")[0]

_READERS = (
    *("source", "ctf", "user_deserializer", "text_format", "image_deserializer", "cbf"),
    *("htk", "mlf", "mlf_binary"),
)

# The modules to search for names, in this order. No name has two meanings in these.
HOMES = (
    *("", "device", "operands.variables", "default_options", "initializer", "losses", "metrics"),
    *("ops", "layers", "layers.typing", "layers.basic", "layers.rnn_stack", "learners"),
    *("logging", "logging.graph", "logging.progress_print", "io", "train", "train.distributed"),
    *("eval", "debugging", "model.debugger", "random", "runtime.values", "operands.operand"),
    *("operands.types", "internal", "internal.helpers", "learners.helpers"),
    # imported only if the modules above lack a name
    *(f"io.{name}" for name in _READERS),
    "cntk_py",
)

# Names that CNTK's modules import from elsewhere.
ELSEWHERE = {
    **{name: name for name in ("collections", "ctypes", "enum", "numbers", "os", "platform")},
    **{name: name for name in ("sys", "time", "uuid", "warnings")},
    **{"np": "numpy", "sparse": "scipy.sparse", "path": "os.path"},
    **{"Enum": "enum", "unique": "enum", "defaultdict": "collections"},
    **{"FunctionType": "types", "warn": "warnings"},
}


@cache
def names() -> dict[str, dict[str, str | None]]:
    """The names in each of CNTK's modules, with the path if the name is a module."""
    found: dict[str, dict[str, str | None]] = {}
    for line in Path(__file__).with_name("names.txt").read_text("utf-8").splitlines():
        path, _, rest = line.partition(":")
        pairs = (name.partition("=") for name in rest.split())
        found[path] = {name: target if mark else None for name, mark, target in pairs}
    return found


def module_at(path: str) -> ModuleType:
    """The module at one of CNTK's paths: "" for the package, "ops.functions"."""
    return importlib.import_module(f"{PACKAGE}.{path}" if path else PACKAGE)


def find(path: str, name: str) -> Any:
    """The object called `name` in CNTK's module at `path`.

    Raises `AttributeError`, as a module does. Names that are left out are found, so that programs
    that only import them run; using one raises an error with the reason.
    """
    listed = names()[path]
    if name in listed:
        target = listed[name]
        if target is not None:
            return module_at(target)
        if reason := reason_for(f"{path}.{name}"):
            return Refused(name, reason)
        for home in map(module_at, HOMES):
            value = vars(home).get(name)
            if value is not None and not isinstance(value, ModuleType):
                return value
        if reason := reason_for(name):
            return Refused(name, reason)
        if name in ELSEWHERE:
            module = importlib.import_module(ELSEWHERE[name])
            return getattr(module, name, module)
    where = f"{PACKAGE}.{path}" if path else PACKAGE
    raise AttributeError(f"module '{where}' has no attribute '{name}'")


def complete(module: ModuleType, path: str) -> None:
    """Adds the names of CNTK's module at `path`, and restricts `import *` to these."""
    own = vars(module)
    own["__getattr__"] = partial(find, path)
    own["__ours__"] = own.get("__all__", [])  # names that CNTK doesn't have: those in the reference
    own["__all__"] = [name for name in names()[path] if name[0] != "_"]
    own.setdefault("__path__", [])


class Finder:  # not derived from importlib.abc's, which takes time to import
    """Finds CNTK's module paths; under another root, those of rgraph's modules too."""

    def __init__(self, root: str = PACKAGE) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        """Part of Python's import protocol."""
        root, _, rest = fullname.partition(".")
        if root != self._root or not rest or root == PACKAGE and rest not in names():
            return None
        return ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Lets Python create the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fills a new module, or replaces it by rgraph's."""
        path = module.__name__.partition(".")[2]
        if self._root == PACKAGE:
            module.__doc__ = f"What CNTK's module `cntk.{path}` gives out."
            complete(module, path)
        else:
            sys.modules[module.__name__] = module_at(path)


def install(loaded: Iterable[str]) -> None:
    """Makes CNTK's paths importable, and completes loaded modules."""
    sys.meta_path.append(Finder())
    for path in names().keys() & {name.removeprefix(PACKAGE).lstrip(".") for name in loaded}:
        complete(module_at(path), path)
