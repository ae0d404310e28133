"""PyTorch, for the tests that compare with it; where it is not installed they are skipped."""

import pytest


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def F(torch):
    return torch.nn.functional
