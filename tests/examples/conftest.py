"""The program that a file of tests is about, imported and run for real."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def program(request):
    """Its path: the tests of x.py are in test_x.py."""
    return EXAMPLES / f"{request.path.stem.removeprefix('test_')}.py"


@pytest.fixture
def example(program, monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return pytest.importorskip(program.stem)


@pytest.fixture
def environment():
    """For the program as a process of its own: this rgraph, installed or not."""
    return {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}


@pytest.fixture
def run(program, environment):
    """`run(*options)`: what the program prints, less the times."""

    def run(*options):
        command = [sys.executable, program, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return re.sub(r" +[\d.]+ s\b", "", done.stdout)

    return run
