"""A few of the random programs; `python -m tests.random_programs` checks as many as one likes."""

import pytest

from rgraph.engines.numpy import pointwise
from rgraph.plan import call, grouping
from tests import random_programs

# Wrong splices and tails, ties of a maximum and pooling without rows, as there once were, show here
SEEDS = [*range(90, 120), 136, 318, 542, 638, 2138]


@pytest.fixture(scope="module")
def engines():
    return random_programs.engines()


@pytest.mark.parametrize("small", [False, True], ids=["", "in pieces"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_program(seed, small, engines, monkeypatch):
    if small:  # then small arrays go the ways of large ones
        monkeypatch.setattr(pointwise, "PIECE", 32)
        monkeypatch.setattr(call, "_SMALL", 0)
        monkeypatch.setattr(grouping, "SMALL", 0)
    random_programs.check(seed, engines)
