"""What the tests of engines share."""

import sys

import pytest

from rgraph import device
from rgraph.engines.cuda import options
from rgraph.graph.context import context
from tests.engines import played_gpu
from tests.engines.strict_arrays import LIBRARY


@pytest.fixture
def played(monkeypatch):
    """Makes the played GPU the default device; pointwise groups are NumPy's."""
    made = played_gpu.make_engine()
    made.generated = made.kernels["fused"], made.pointwise.launch
    played_gpu.interpret(made)
    monkeypatch.setitem(sys.modules, "cupy", LIBRARY)
    monkeypatch.setattr(device, "_cuda_engine", lambda number: made)
    monkeypatch.setattr(device, "_gpu_count", lambda: 1)
    monkeypatch.setattr(context(), "device", device.gpu(0))
    monkeypatch.setattr(context(), "gpu_options", options.Options())
    return made


@pytest.fixture
def compiled(played):
    """As `played`; pointwise groups are the kernels that are generated, compiled for the CPU."""
    if played_gpu.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    played.kernels["fused"], played.pointwise.launch = played.generated
    return played
