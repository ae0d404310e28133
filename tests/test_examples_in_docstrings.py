"""The examples in the docstrings of all public names, run as tests."""

import doctest
import importlib
import inspect
import pkgutil
import re
import types

import numpy as np
import pytest

import rgraph as C


def modules():
    yield C
    for found in pkgutil.walk_packages(C.__path__, "rgraph."):
        if not found.name.split(".")[-1].startswith("_"):
            yield importlib.import_module(found.name)


class Checker(doctest.OutputChecker):
    """Numbers may differ in their last digits: machines do."""

    NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+)(?:e[-+]?\d+)?")

    def check_output(self, want, got, flags):
        if super().check_output(want, got, flags):
            return True
        numbers = [[float(n) for n in self.NUMBER.findall(text)] for text in (want, got)]
        if len(numbers[0]) != len(numbers[1]) or not np.allclose(*numbers, rtol=1e-5, atol=1e-7):
            return False
        words = [re.sub(r"\s+", "", self.NUMBER.sub("#", text)) for text in (want, got)]
        return super().check_output(*words, flags)


def examples():
    seen = set()
    for module in modules():
        for name, value in vars(module).items():
            if getattr(value, "__doc__", None) and callable(value) and not name.startswith("_"):
                origin = getattr(value, "__module__", "") or ""
                if not origin.startswith("rgraph") or id(value) in seen:
                    continue
                seen.add(id(value))
                for test in doctest.DocTestFinder(recurse=True).find(
                    value, f"{origin}.{name}", module=False, globs={}
                ):
                    if test.examples:
                        yield pytest.param(test, id=test.name)
        if module.__doc__:
            for test in doctest.DocTestFinder(recurse=False).find(module, module.__name__):
                if test.examples:
                    yield pytest.param(test, id=test.name)


# What needs no example: what others give to people, and what is made by a function that has one
WITHOUT = {"GraphError", "GradientError", "GradientReport", "TrainingSession"}


def listed(module):
    """What a module's source lists; its `__all__`, for a star, is CNTK's where CNTK has it."""
    return getattr(module, "__ours__", None) or getattr(module, "__all__", [])


def public(module=C, seen=None):
    """What the reference shows: what modules list, modules in it included."""
    seen = set() if seen is None else seen
    for name in listed(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            assert value.__doc__, f"{value.__name__} has no docstring"
            yield from public(value, seen)
        elif isinstance(value, (type, types.FunctionType)) and id(value) not in seen:
            if not value.__module__.startswith("rgraph"):
                continue  # NumPy's types
            seen.add(id(value))
            yield pytest.param(name, value, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("name, value", list(public()))
def test_every_public_name_is_documented_with_an_example(name, value):
    assert value.__doc__, f"{name} has no docstring"
    assert name in WITHOUT or ">>> " in value.__doc__, f"{name} has no example"
    for part in vars(value) if isinstance(value, type) else ():
        if not part.startswith("_") and isinstance(vars(value)[part], METHODS):
            assert inspect.getdoc(getattr(value, part)), f"{name}.{part} has no docstring"


METHODS = (types.FunctionType, property, classmethod, staticmethod)


@pytest.mark.parametrize("module", [C, C.ops, C.learners, C.layers], ids=lambda m: m.__name__)
def test_what_can_be_imported_is_listed(module):
    found = {name for name, v in vars(module).items() if not isinstance(v, types.ModuleType)}
    assert {name for name in found if name[0] != "_"} == {
        name for name in listed(module) if not isinstance(getattr(module, name), types.ModuleType)
    }


@pytest.mark.parametrize("test", list(examples()))
def test_example(test):
    test.globs = {"C": C, "np": np, "rgraph": C}
    report = []
    runner = doctest.DocTestRunner(
        Checker(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
