"""CNTK's names at CNTK's module paths: what `from rgraph.ops.functions import load_model` finds.

`names.txt` lists what each of CNTK's modules gives out. They have no `__all__`, so that is also
what they import themselves, and programs rely on it: `from cntk.layers import *` brings `sigmoid`.
Where a module of ours stands at such a path, what it lacks of the list is looked up in the other
modules; where none stands, the path becomes a module that only looks up.
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

# Where names are looked up, in this order. No name of CNTK's stands for two things in these.
HOMES = (
    *("", "device", "operands.variables", "default_options", "initializer", "losses", "metrics"),
    *("ops", "layers", "layers.typing", "layers.basic", "layers.rnn_stack", "learners"),
    *("logging", "logging.graph", "logging.progress_print", "io", "train", "train.distributed"),
    *("eval", "debugging", "model.debugger", "random", "runtime.values", "operands.operand"),
    *("operands.types", "internal", "internal.helpers", "learners.helpers"),
    # imported when first asked for, and what is above has no such name
    *(f"io.{name}" for name in _READERS),
    "cntk_py",
)

# What CNTK's modules import from elsewhere, and so give out too.
ELSEWHERE = {
    **{name: name for name in ("collections", "ctypes", "enum", "numbers", "os", "platform")},
    **{name: name for name in ("sys", "time", "uuid", "warnings")},
    **{"np": "numpy", "sparse": "scipy.sparse", "path": "os.path"},
    **{"Enum": "enum", "unique": "enum", "defaultdict": "collections"},
    **{"FunctionType": "types", "warn": "warnings"},
}


@cache
def names() -> dict[str, dict[str, str | None]]:
    """Of each of CNTK's modules its names, each with the path of the module that it stands for."""
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
    """What CNTK's module at `path` calls `name`.

    Raises `AttributeError`, as a module does. What is left out is found all the same, so that
    programs that only import it run; its use is refused with the reason.
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
    """Has a module give out all that CNTK's at `path` does, and no more by a star."""
    own = vars(module)
    own["__getattr__"] = partial(find, path)
    own["__ours__"] = own.get("__all__", [])  # with what CNTK hasn't: what the reference shows
    own["__all__"] = [name for name in names()[path] if name[0] != "_"]
    own.setdefault("__path__", [])


class Finder:  # not derived from importlib.abc's, which takes time to import
    """Finds CNTK's paths at which no module stands; under another root, modules of ours."""

    def __init__(self, root: str = PACKAGE) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        """What Python asks for when it imports a module."""
        root, _, rest = fullname.partition(".")
        if root != self._root or not rest or root == PACKAGE and rest not in names():
            return None
        return ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves it to Python to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fills a new module, or puts ours in its place."""
        path = module.__name__.partition(".")[2]
        if self._root == PACKAGE:
            module.__doc__ = f"What CNTK's module `cntk.{path}` gives out."
            complete(module, path)
        else:
            sys.modules[module.__name__] = module_at(path)


def install(loaded: Iterable[str]) -> None:
    """Makes CNTK's paths importable, and completes the modules of ours that are loaded."""
    sys.meta_path.append(Finder())
    for path in names().keys() & {name.removeprefix(PACKAGE).lstrip(".") for name in loaded}:
        complete(module_at(path), path)
