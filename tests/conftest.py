"""What all tests share."""

import pytest

import rgraph as C


@pytest.fixture(autouse=True)
def fresh():
    """Every test begins with the same random numbers, and leaves no mode switched on."""
    C.set_seed(1)
    yield
    C.debugging.set_checked_mode(False)


@pytest.fixture
def torch():
    """PyTorch, to compare with; where it is not installed the test is skipped."""
    return pytest.importorskip("torch")


@pytest.fixture
def F(torch):
    return torch.nn.functional
