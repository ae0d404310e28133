"""A pytest plugin under which CNTK's own tests find rgraph where they look for `cntk`.

Names only: every module `cntk.x` hands out what rgraph has, and what the tests take from CNTK's
private modules is said in the public interface. Nothing here computes what an operation should.
"""

import ast
import builtins
import importlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _pytest.assertion import rewrite

PACKAGE = os.environ.get("CONFORMANCE_PACKAGE", "rgraph")
C = importlib.import_module(PACKAGE)

MODULES = [
    "axis",
    "core",
    "cntk_py",
    "debugging",
    "debugging.debug",
    "default_options",
    "device",
    "eval",
    "initializer",
    "internal",
    "internal.sanitize",
    "internal.swig_helper",
    "internal.utils",
    "io",
    "io.transforms",
    "layers",
    "layers.blocks",
    "layers.higher_order_layers",
    "layers.sequence",
    "layers.typing",
    "learners",
    "logging",
    "logging.graph",
    "logging.progress_print",
    "losses",
    "metrics",
    "misc",
    "ops",
    "ops.functions",
    "ops.sequence",
    "random",
    "train",
    "train.trainer",
    "train.training_session",
    "variables",
]
PRIVATE = ("cntk.cntk_py", "cntk.debugging", "cntk.internal", "cntk.io")


class Alias(types.ModuleType):
    """The module `cntk.x.y`: a name is looked up in `rgraph.x.y`, then `rgraph.x`, then `rgraph`.

    CNTK's names from `cntk.ops` are given out at the top of rgraph, so there `ops` is passed over.
    """

    def __init__(self, name: str, **names: object) -> None:
        super().__init__(name)
        self.__dict__.update(names)
        parts = [part for part in name.split(".")[1:] if part != "ops"]
        paths = [".".join([PACKAGE, *parts[:end]]) for end in range(len(parts), -1, -1)]
        paths.insert(0, PACKAGE + name.removeprefix("cntk"))
        self.__dict__["_places"] = [place for path in paths if (place := module_or_none(path))]

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [each for each in dir(self._places[0]) if not each.startswith("_")]
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        for place in self._places:
            if hasattr(place, name):
                return getattr(place, name)
        if self.__name__.startswith(PRIVATE):
            return private(f"{self.__name__}.{name}")
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


def module_or_none(path: str) -> types.ModuleType | None:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and path.startswith(error.name):
            return None
        raise


def private(name: str) -> type:
    """Stands for what only CNTK has, so that a file imports and just the tests that use it fail."""

    def fail(self: object, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(f"{name} is private to CNTK")

    return type(name.rpartition(".")[2], (), {"__init__": fail})


def sanitize_dtype(dtype: Any) -> Any:
    """CNTK's names of types as NumPy types: as in CNTK, `int` is float32 and `float` is float64."""
    names = {"float": np.float32, "double": np.float64, int: np.float32, float: np.float64}
    return dtype if dtype is None else np.dtype(names.get(dtype, dtype)).type


def evaluate(
    op: Any,
    arguments: Any = None,
    precision: Any = None,
    device: Any = None,
    backward_pass: bool = False,
    expected_backward: Any = None,
) -> tuple[dict, dict | None]:
    """Forward, and backward from a gradient of ones: what most tests of operations call."""
    retained = op.outputs if backward_pass else None
    state, forward = op.forward(arguments, op.outputs, retained, device=device)
    if not backward_pass:
        return forward, None
    roots = {variable: ones_like(value, precision) for variable, value in forward.items()}
    wanted = arguments if expected_backward is None else expected_backward
    return forward, op.backward(state, roots, wanted)


def ones_like(batch: Any, precision: Any) -> list[np.ndarray]:
    return [np.ones_like(sample, dtype=sanitize_dtype(precision)) for sample in batch]


def value_as_sequence_or_array(value: Any, variable: Any) -> Any:
    return value.as_sequences(variable) if len(variable.dynamic_axes) > 1 else value.asarray()


def progress_writer() -> type:
    base = getattr(getattr(C, "logging", None), "ProgressWriter", None)
    if base is None:
        return private("cntk.cntk_py.ProgressWriter")
    return type("ProgressWriter", (base,), {"__disown__": lambda self: None})


INTERNAL = {
    "_ones_like": ones_like,
    "_value_as_sequence_or_array": value_as_sequence_or_array,
    "eval": evaluate,
    "typemap": lambda function: function,
}
CNTK_PY = {
    "ProgressWriter": progress_writer(),
}
PROMPTS = getattr(module_or_none(f"{PACKAGE}.model.debugger"), "PROMPT", {})
DEBUG = {
    "_DebugNode": type("_DebugNode", (), {f"PROMPT_{k.upper()}": v for k, v in PROMPTS.items()})
}
OWN = {"cntk_py": CNTK_PY, "debugging.debug": DEBUG}  # what modules have besides rgraph's names
GONE_FROM_NUMPY = {"float": float, "int": int, "product": np.prod, "alltrue": np.all}


class OldIndices(ast.NodeTransformer):
    """Lets the tests write `array[index]` for a list of slices, which NumPy took until 1.22."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Name):
            call = ast.Call(ast.Name("as_index", ast.Load()), [node.slice], [])
            node.slice = ast.copy_location(call, node.slice)
        return ast.fix_missing_locations(node)


def as_index(index: Any) -> Any:
    slices = isinstance(index, list) and any(isinstance(i, slice) for i in index)
    return tuple(index) if slices else index


def taking_ragged(function: Callable[..., Any], read: Callable[[Any], Any]) -> Callable[..., Any]:
    """The function as until NumPy 1.23, for which lists of arrays of several shapes are arrays."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            if "inhomogeneous" not in str(error):
                raise
            return function(*map(read, args), **kwargs)

    return call


def as_objects(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    objects = np.empty(len(value), object)
    objects[:] = value
    return objects


def as_numbers(value: Any) -> Any:
    """Arrays of one element among numbers, which counted as numbers."""
    return [np.asarray(v).item() for v in value] if isinstance(value, list) else value


def restore_numpy() -> None:
    """What the tests use of NumPy and what has gone since."""
    for name, value in GONE_FROM_NUMPY.items():
        setattr(np, name, value)
    np.atleast_1d = taking_ragged(np.atleast_1d, as_objects)
    compare = np.testing.assert_array_almost_equal
    np.testing.assert_array_almost_equal = taking_ragged(compare, as_numbers)
    np.lib.pad = np.pad
    builtins.as_index = as_index
    rewrite_asserts = rewrite.rewrite_asserts

    def rewrite_all(tree: ast.Module, *rest: Any) -> None:
        rewrite_asserts(OldIndices().visit(tree), *rest)

    rewrite.rewrite_asserts = rewrite_all


def pytest_configure(config: pytest.Config) -> None:
    restore_numpy()
    np.set_printoptions(precision=6, suppress=True, legacy="1.13")  # as CNTK's own conftest.py
    sys.modules["cntk"] = Alias("cntk", _to_cntk_dict_value=lambda value: value)
    sys.modules["_cntk_py"] = Alias("cntk.cntk_py", **CNTK_PY)
    for path in MODULES:
        name = f"cntk.{path}"
        names = INTERNAL if path.startswith("internal") else OWN.get(path, {})
        add_module(name, Alias(name, **names))
    for folder in sorted(config.rootpath.glob("cntk/**/tests")):
        name = ".".join(folder.relative_to(config.rootpath).parts)
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        add_module(name, package)


def add_module(name: str, module: types.ModuleType) -> None:
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    # `cntk.default_options` is a module to import and a function to look up.
    if isinstance(getattr(sys.modules[parent], child, module), types.ModuleType):
        setattr(sys.modules[parent], child, module)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device_id" in metafunc.fixturenames:
        metafunc.parametrize("device_id", [-1])


@pytest.fixture(autouse=True)
def reset_random_seed() -> None:
    """As CNTK's own conftest.py."""
    C.cntk_py.reset_random_seed(0)
