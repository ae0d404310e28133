"""The most memory that a program holds, on either side: measured in a process of its own."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import rgraph

from .programs import Program
from .programs.base import Way
from .sides import make, why_not_compiled

Make = Callable[[], Callable[[], Any]]


class Cost(NamedTuple):
    """What a run takes."""

    bytes: int
    seconds: float


def peak_memory(program: Program, way: Way | str, train: bool) -> int:
    """Bytes that a fresh process needs at most for the program, above what importing costs.

    Args:
        way: as for `sides.make`.
    """
    engine = way if isinstance(way, str) and way else rgraph.device.engine().name
    return peak_of(partial(_small, program, way, train), partial(_run, program, way, train), engine)


def peak_of(warm_up: Make, make: Make, engine: str = "") -> int:
    """Bytes that a fresh process needs at most for what `make` gives, above what `warm_up` needs.

    It is called twice, as a training loop does it, and the second time counts: what is loaded when
    something runs for the first time is no part of a program.

    Args:
        warm_up: gives something of the kind that is small.
        engine: rgraph's.
    """
    return cost_of(warm_up, make, engine).bytes


def cost_of(warm_up: Make, make: Make, engine: str = "", once: bool = False) -> Cost:
    """As `peak_of`, with the seconds that the run took whose memory counts.

    Args:
        once: whether that is the first: for what takes minutes.
    """
    engine = engine or rgraph.device.engine().name
    child = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "RGRAPH_CPU_ENGINE": engine},
        input=pickle.dumps((warm_up, make, once)),
        check=True,
        stdout=subprocess.PIPE,
    )
    taken, seconds = child.stdout.split()
    return Cost(int(taken), float(seconds))


def forward_passes(programs: Sequence[Program], peers: Sequence[str]) -> list[dict[str, Any]]:
    """Megabytes of each program's forward pass, and of PyTorch's way that takes the least.

    Args:
        peers: the ways that may be run; compiled ones are left out.
    """
    rows = []
    for program in programs:
        row: dict[str, Any] = {"part": "memory", "what": f"{program}, forward"}
        row["MB"] = peak_memory(program, "", False) / 1e6
        ways = [w for w in program.ways if w.peer in peers and not w.compiled]
        if ways:
            least = {w.name: peak_memory(program, w, False) / 1e6 for w in ways}
            name = min(least, key=least.__getitem__)
            row |= {"PyTorch": name, "its MB": least[name]}
            row |= {"measured": row["MB"] / least[name], "at most": 1.0}
        print(f"- {row['what']}: {row['MB']:.3g} MB", flush=True)
        rows.append(row)
    return rows


def _run(program: Program, way: Way | str, train: bool) -> Callable[[], Any]:
    side = make(program, way)
    return side.train if train else side.forward


def _small(program: Program, way: Way | str, train: bool) -> Callable[[], Any]:
    if not isinstance(way, Way) or not way.compiled:
        return _run(program.quick(), way, train)
    return why_not_compiled  # loads what compiling needs


def _status(field: str) -> int:
    """Bytes from this process's status: `VmRSS`, what it holds now, or `VmHWM`, at most so far.

    `getrusage` will not do: its `ru_maxrss` starts at what the parent process had used.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this system does not say {field}")


def _child(warm_up: Make, make: Make, once: bool) -> Cost:
    warm_up()()
    gc.collect()
    before = _status("VmRSS")
    run = make()
    if not once:
        run()
        gc.collect()
    with contextlib.suppress(OSError):  # where it can't be reset, what was before counts too
        Path("/proc/self/clear_refs").write_text("5")
    begin = time.perf_counter()
    run()
    return Cost(_status("VmHWM") - before, time.perf_counter() - begin)


if __name__ == "__main__":
    given = pickle.load(sys.stdin.buffer)
    print(*_child(*given))
