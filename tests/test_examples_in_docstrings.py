"""The examples in the docstrings of all public names, run as tests."""

import doctest
import importlib
import pkgutil
import re

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


# What needs no example: errors, what others give to people, and other names for the same thing
WITHOUT = {
    *("CloneMethod", "DeviceDescriptor", "GraphError", "State", "Variable", "all_devices"),
    *("as_composite", "input", "is_default_override", "load_model", "parameter"),
    *("register_udf_deserialize_callback", "try_set_default_device", "user_function"),
}


def public():
    for name, value in vars(C).items():
        if callable(value) and not name.startswith("_"):
            yield pytest.param(value, id=name)


@pytest.mark.parametrize("value", list(public()))
def test_every_public_name_is_documented_with_an_example(value, request):
    name = request.node.callspec.id
    assert value.__doc__, f"{name} has no docstring"
    assert name in WITHOUT or ">>> " in value.__doc__, f"{name} has no example"


@pytest.mark.parametrize("test", list(examples()))
def test_example(test):
    test.globs = {"C": C, "np": np, "rgraph": C}
    report = []
    runner = doctest.DocTestRunner(
        Checker(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
