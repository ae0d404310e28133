"""The most memory that a program holds, on either side: measured in a process of its own."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import rgraph

from .programs import Program
from .programs.base import Way
from .sides import make, why_not_compiled


def peak_memory(program: Program, way: Way | str, train: bool) -> int:
    """Bytes that a fresh process needs at most for the program, above what importing costs.

    Args:
        way: as for `sides.make`.
    """
    engine = way if isinstance(way, str) and way else rgraph.device.engine().name
    child = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "RGRAPH_CPU_ENGINE": engine},
        input=pickle.dumps((program, way, train)),
        check=True,
        stdout=subprocess.PIPE,
    )
    return int(child.stdout)


def _status(field: str) -> int:
    """Bytes from this process's status: `VmRSS`, what it holds now, or `VmHWM`, at most so far.

    `getrusage` will not do: its `ru_maxrss` starts at what the parent process had used.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this system does not say {field}")


def _child(program: Program, way: Way | str, train: bool) -> int:
    """Runs the program twice, as a training loop does, and gives the second run's peak.

    What is loaded when something runs for the first time, and what `torch.compile` needs while
    it compiles, is not counted: that is no part of the program.
    """

    def run(side: object) -> None:
        side.train() if train else side.forward()  # type: ignore[attr-defined]

    if isinstance(way, Way) and way.compiled:
        why_not_compiled()  # loads what compiling needs
    else:
        run(make(program.quick(), way))
    gc.collect()
    before = _status("VmRSS")
    side = make(program, way)
    run(side)
    gc.collect()
    with contextlib.suppress(OSError):  # where it can't be reset, the first run counts too
        Path("/proc/self/clear_refs").write_text("5")
    run(side)
    return _status("VmHWM") - before


if __name__ == "__main__":
    given = pickle.load(sys.stdin.buffer)
    print(_child(*given))
