"""The GPU's benchmarks on a GPU that the CPU plays: that they run, not what they measure."""

import argparse
import json
import sys
import time
import zipfile

import pytest

from benchmarks import gpu, gpu_check
from rgraph import device
from rgraph.graph.context import context
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
    small = next(p for p in gpu.PROGRAMS if p.name == "W3").quick()
    monkeypatch.setattr(gpu, "PROGRAMS", [broken, small])
    monkeypatch.setattr(gpu.library, "problem", lambda: None)
    monkeypatch.setattr(gpu, "bandwidth", lambda engine: 1e12)
    monkeypatch.setattr(played.cudnn.cudnn, "supports", lambda name, padding: "weights" not in name)
    monkeypatch.setattr(context(), "gpu_options", None)
    monkeypatch.setattr("warnings.warn", lambda *args, **more: None)
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
    *_, rows = gpu.measure(program.quick(), given, floors)
    assert [r["run"] for r in rows] == ["forward", "train"]
    assert all(r["ms"] == 1e3 and 0 < r["of floor"] < 1 for r in rows)
    assert all(g.startswith("[") for g in rows[0]["graphs"]), "not captured"


@pytest.fixture
def check(tmp_path):
    options = argparse.Namespace(
        out=str(tmp_path / "out"), packages=str(tmp_path / "packages"), wheels=None, rehearse=True
    )
    made = gpu_check.Check(options)
    made.until = time.monotonic() + 60
    return made


def done(check):
    return json.loads((check.out / "done.json").read_text())


def test_what_takes_too_long_is_stopped_with_all_that_it_started(check):
    """What it said until then is kept."""
    child = "import os; print('begun', flush=True); os.read(os.pipe()[0], 1)"  # waits for ever
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    check.until = time.monotonic() + 6
    assert check.python("endless", "-c", code) == -9
    assert (check.out / "endless.txt").read_text() == "begun\n"
    assert done(check)["endless"]["status"] == -9
    check.until = 0
    assert check.python("more", "-c", "") == -1
    assert "no time" in done(check)["more"]["status"]
    assert set(done(check)) == {"endless", "more"}


def test_what_fails_is_noted_and_the_next_is_done(check):
    assert check.python("bad", "-c", "raise SystemExit(3)") == 3
    assert check.python("good", "-c", "print(7)") == 0
    assert {k: v["status"] for k, v in done(check).items()} == {"bad": 3, "good": 0}


def test_the_smoke_test_passes_and_tells_what_was_refused(monkeypatch, played, tmp_path):
    from benchmarks import gpu_smoke

    monkeypatch.setattr(device, "_gpu_count", lambda: 1)
    monkeypatch.setattr(gpu_smoke, "PROGRAM", gpu_smoke.PROGRAM.quick())
    monkeypatch.setattr(context(), "gpu_options", None)
    assert gpu_smoke.outcome("tf32")["passed"]
    monkeypatch.setattr(played.cudnn.cudnn, "supports", lambda name, padding: False)
    monkeypatch.setattr("warnings.warn", lambda *args, **more: None)
    found = gpu_smoke.outcome("float32")
    assert found["refusals"] and not found["passed"]


def test_what_is_to_be_tested_is_there():
    for folder in gpu_check.FOLDERS:
        assert list((gpu_check.ROOT / "tests" / folder).glob("test_*.py")), folder


def test_a_precision_that_fails_does_not_keep_the_others_from_being_tried(monkeypatch, tmp_path):
    from benchmarks import gpu_smoke

    def outcome(precision):
        if precision == "tf32":
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        return {"precision": precision, "passed": True}

    record = tmp_path / "smoke.json"
    monkeypatch.setattr(gpu_smoke, "outcome", outcome)
    monkeypatch.setattr("sys.argv", ["gpu_smoke", "--record", str(record)])
    with pytest.raises(SystemExit) as ended:
        gpu_smoke.main()
    found = json.loads(record.read_text())
    assert ended.value.code == 1
    assert [f["passed"] for f in found] == [False, True, True]
    assert "EXECUTION_FAILED" in found[0]["error"]


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
    check.options.wheels = str(folder)
    check.install()
    assert check.python("use", "-c", "import alpha_wheel; print(alpha_wheel.number)") == 0
    assert (check.out / "use.txt").read_text() == "7\n"
    first = check.environment["LD_LIBRARY_PATH"].split(":")[0]
    assert first == str(tmp_path / "packages/nvidia/alpha/lib")
