"""The GPU's benchmarks on a GPU that the CPU plays: that they run, not what they measure."""

import argparse
import json
import sys
import time
import zipfile
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_check
from rgraph import device
from rgraph.engines.cuda import options
from tests.engines import played_gpu
from tests.engines.strict_arrays import LIBRARY


@pytest.fixture
def played(monkeypatch):
    """A GPU that is played; all that is measured takes a second."""
    made = played_gpu.make_engine()
    played_gpu.interpret(made)
    monkeypatch.setitem(sys.modules, "cupy", LIBRARY)
    monkeypatch.setattr(device, "_cuda_engine", lambda number: made)
    best = lambda run, elapsed, synchronize: [run() for _ in range(4)] and 1  # noqa: E731
    monkeypatch.setattr(gpu, "_best", best)
    return made


def test_all_is_recorded(played, monkeypatch, tmp_path, capsys):
    """Also what breaks off, and what cuDNN refuses."""

    class Broken(gpu.ConvGRU):
        def in_rgraph(self):
            raise ValueError("it is broken")

    broken = Broken("broken", (2,), (1, 4, 4), 2, {})
    monkeypatch.setattr(gpu, "PROGRAMS", [broken, gpu.PROGRAMS[0].quick()])
    monkeypatch.setattr(gpu.library, "problem", lambda: None)
    monkeypatch.setattr(gpu, "bandwidth", lambda engine: 1e12)
    monkeypatch.setattr(played.cudnn.cudnn, "supports", lambda name, padding: "weights" not in name)
    monkeypatch.setattr(options, "current", options.Options())
    path = tmp_path / "times.json"
    gpu.main(["--ways", "--record", str(path), "--programs", "W3", "broken"])
    found = json.loads(path.read_text())
    assert found["machine"]["device"] == "a played GPU"
    errors = [row.get("error") for row in found["rows"]]
    assert errors == ["ValueError: it is broken", None, None]
    refused = found["cuDNN has no engine"]
    assert refused and all("weights" in what for what in refused)


@pytest.mark.parametrize("program", gpu.PROGRAMS, ids=lambda p: p.name)
def test_a_program_is_measured(program, played, capsys):
    given = argparse.Namespace(ways=(), until=time.monotonic() + 60, precision="tf32")
    floors = {"bandwidth": 1e12, "matrix rate": 1e14}
    rows = gpu.measure(program.quick(), given, floors)
    assert [r["run"] for r in rows] == ["forward", "train"]
    assert all(r["ms"] == 1e3 and 0 < r["of floor"] < 1 for r in rows)
    assert all(g.startswith("[") for g in rows[0]["graphs"]), "not captured"


def test_the_check_says_how_tests_ended():
    good = gpu_check._summary(0, "...\n3 passed in 1s")
    assert good == {"status": 0, "summary": "3 passed in 1s"}
    bad = gpu_check._summary(1, "F\nFAILED tests/a.py::test_b\n1 failed in 1s")
    assert bad["failed"] == ["FAILED tests/a.py::test_b"]


@pytest.fixture
def check(tmp_path):
    options = argparse.Namespace(
        minutes=1.0, record=str(tmp_path / "records" / "gpu.json"), wheels=None, rehearse=True
    )
    return gpu_check.Check(options)


def recorded(check):
    return json.loads(Path(check.options.record).read_text())


def test_a_part_that_breaks_off_does_not_stop_the_next(check, monkeypatch):
    monkeypatch.setattr(check, "benchmarks", lambda: 1 / 0)
    check.part("benchmarks")
    check.part("install")
    found = recorded(check)
    assert found["benchmarks broke off"].startswith("ZeroDivisionError")
    assert found["installed"] == "nothing"
    assert set(found["seconds"]) == {"benchmarks", "install"}
    assert found["date"][:2] == "20"


def test_what_takes_too_long_is_stopped_with_all_that_it_started(check):
    child = "import os; os.read(os.pipe()[0], 1)"  # waits for ever
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    assert check.python("-c", code, most=0) == (124, "\nstopped after 1 s")


def test_when_no_time_is_left_a_part_is_left_out(check):
    check.options.minutes = 0
    check.part("sanitizer")
    assert recorded(check)["left out for lack of time"] == ["sanitizer"]


def test_wheels_stand_before_what_python_has(check, tmp_path):
    """A wheel of one module, installed with no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "alpha_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("alpha_wheel.py", "number = 7\n")
        wheel.writestr("nvidia/alpha/lib/libalpha.so", "")
        about = "Metadata-Version: 2.1\nName: alpha-wheel\nVersion: 1.0\n"
        wheel.writestr("alpha_wheel-1.0.dist-info/METADATA", about)
        wheel.writestr("alpha_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("alpha_wheel-1.0.dist-info/RECORD", "")
    check.options.wheels, check.options.packages = str(folder), str(tmp_path / "packages")
    check.part("install")
    assert recorded(check)["installed"] == ["alpha_wheel-1.0-py3-none-any.whl"]
    assert check.python("-c", "import alpha_wheel; print(alpha_wheel.number)", most=60)[1] == "7\n"
    first = check.environment["LD_LIBRARY_PATH"].split(":")[0]
    assert first == str(tmp_path / "packages/nvidia/alpha/lib")
