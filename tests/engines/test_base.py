"""Every engine keeps to `engines.base.Engine`, and nothing else is asked of one."""

import ast
import inspect

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.engines.base import Engine
from tests.test_floors import modules

BELOW = ("plan", "passes", "runtime", "ops", "train", "learners", "model", "inspect", "testing")


@pytest.fixture(params=[*C.device.cpu_engines(), "cuda"])
def engine(request):
    if request.param != "cuda":
        return cpu.made(request.param)
    request.getfixturevalue("played")
    return device.engine(C.gpu(0))


def test_signatures_are_those_of_the_protocol(engine):
    for name, method in inspect.getmembers(Engine, inspect.isfunction):
        if not name.startswith("_"):
            own = inspect.signature(getattr(type(engine), name))
            assert list(own.parameters) == list(inspect.signature(method).parameters), name


def test_memory(engine):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    with engine.active():
        array = engine.from_numpy(values)
        assert engine.from_numpy(array) is array
        np.testing.assert_array_equal(engine.to_numpy(array), values)
        rows = engine.empty(values.shape, np.float32)
        assert rows.shape == values.shape and rows.dtype == np.float32
        assert rows.strides[1] == rows.itemsize, "channels are innermost"
        alike = engine.empty(values.shape, np.float32, array)
        assert np.argsort(alike.strides).tolist() == np.argsort(values.strides).tolist()
        staged = engine.staging((2, 3), np.float64)
        assert isinstance(staged, np.ndarray) and staged.shape == (2, 3)


def test_what_stays_is_stored(engine):
    node = C.Parameter(3, init=1).node
    with engine.active():
        engine.store(node, engine.from_numpy(np.array([1, 2, 3], np.float32)))
    np.testing.assert_array_equal(node.value, [1, 2, 3])


def _names_of_engines():
    """Attributes that modules above the engines take from what they call an engine."""
    for name, path in modules():
        if name.split(".")[0] in BELOW:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and "engine" in _last_name(node.value):
                    yield name, node.attr


def _last_name(node):
    if isinstance(node, ast.Attribute):
        return node.attr if node.attr in ("engine", "_engine") else ""
    return node.id if isinstance(node, ast.Name) and node.id == "engine" else ""


def test_nothing_else_is_asked_of_an_engine():
    known = {*dir(Engine), *Engine.__annotations__}
    asked = set(_names_of_engines())
    assert {attribute for _, attribute in asked} & {"bind", "empty"}
    assert not [a for a in asked if a[1] not in known]


def test_nothing_is_probed_for():
    for name, path in modules():
        if name.split(".")[0] in ("plan", "runtime", "train", "inspect"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
                    assert "engine" not in ast.unparse(node.args[0]), f"{name}:{node.lineno}"
