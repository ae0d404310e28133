"""The GPU's benchmarks on a GPU that the CPU plays: that they run, not what they measure."""

import argparse
import sys
import time

import pytest

from benchmarks import gpu, gpu_check
from rgraph import device
from tests.engines import played_gpu
from tests.engines.strict_arrays import LIBRARY


@pytest.mark.parametrize("program", gpu.PROGRAMS, ids=lambda p: p.name)
def test_a_program_is_measured(program, monkeypatch, capsys):
    made = played_gpu.make_engine()
    made.kernels["fused"] = played_gpu._fused
    monkeypatch.setitem(sys.modules, "cupy", LIBRARY)
    monkeypatch.setattr(device, "_cuda_engine", lambda number: made)
    best = lambda run, elapsed, synchronize: [run() for _ in range(4)] and 1  # noqa: E731
    monkeypatch.setattr(gpu, "_best", best)
    options = argparse.Namespace(ways=(), until=time.monotonic() + 60, precision="tf32")
    floors = {"bandwidth": 1e12, "matrix rate": 1e14}
    rows = gpu.measure(program.quick(), options, floors)
    assert [r["run"] for r in rows] == ["forward", "train"]
    assert all(r["ms"] == 1e3 and 0 < r["of floor"] < 1 for r in rows)
    assert all(g.startswith("[") for g in rows[0]["graphs"]), "not captured"


def test_the_check_says_how_tests_ended():
    good = gpu_check._summary(0, "...\n3 passed in 1s")
    assert good == {"status": 0, "summary": "3 passed in 1s"}
    bad = gpu_check._summary(1, "F\nFAILED tests/a.py::test_b\n1 failed in 1s")
    assert bad["failed"] == ["FAILED tests/a.py::test_b"]
