"""`python -m benchmarks`: times and memory beside PyTorch's, as tables and a plot."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rgraph

from . import memory, neighbours, overhead, ranks, reading, report, sides, small, windows
from .compare import COLUMNS, Row, compare
from .measure import LEAST, Neighbours, matrix_peak
from .programs import PARTS as WITH_PROGRAMS
from .programs import PROGRAMS, Program

PARTS = (*WITH_PROGRAMS, "small", "overhead", "neighbours", "reading", "memory", "windows", "ranks")
PEERS = ("eager", "channels-last", "compiled")
OVERHEAD = ("what", "side", "ms", "others")
MEMORY = ("what", "MB", "PyTorch", "its MB", "measured", "at most")
WINDOWS = ("what", "s", "MB", "of the time", "of the memory")
READ = ("what", "measured", "at most", "at least")
BESIDE = ("program", "run", "busy", "ms", "one thread's", "over one's")
HELD = ("what", "target", "measured", "of rounds", "met")


class Bench:
    """What the command line asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.modes = ["forward", "train"] if options.mode is None else [options.mode]
        self.rounds = (1, 0.0) if options.quick else (options.repeat, LEAST)
        self.peers = _usable(options.peers)
        self.memory = not options.quick
        self.failures: list[str] = []  # programs whose sides compute different things
        self.peak = 0.0
        self.default = rgraph.device.engine().name

    def programs(self, part: str) -> list[Program]:
        chosen = {name.lower() for name in self.options.programs}
        found = [p for p in WITH_PROGRAMS[part] if p.name.lower() in chosen]
        return [p.quick() for p in found] if self.options.quick else found

    def measure_peak(self) -> None:
        """The matrix product's rate, the best that was seen: before each part, once more."""
        self.peak = max(self.peak, matrix_peak(256 if self.options.quick else 4096, 2, 0.0))

    def beside_pytorch(self, part: str, padded: bool = False) -> list[Row]:
        """The programs of a part.

        Args:
            padded: whether ours is also to be run on sequences that are all as long as the longest.
        """
        self.measure_peak()
        rows = []
        for program in self.programs(part):
            ways: list[Any] = [w for w in program.ways if w.peer in self.peers]
            if self.default != "numpy" and any("numpy" in key for key in program.targets):
                ways.insert(0, "numpy")
            found = [sides.make(program, way) for way in ("", *ways)]
            try:
                difference = sides.check_same(found)
            except AssertionError as error:
                print(f"- {error}", flush=True)
                self.failures.append(str(error))
                continue
            more: list[sides.Side] = []
            if padded:
                length = max(program.lengths)
                longest: Any = replace(program, lengths=(length,) * len(program.lengths))
                more.append(sides.Rgraph(longest, name="rgraph padded"))
            for mode in self.modes:
                wanted = [s for s in found if s.way != "numpy" or mode == "forward"]
                for row in compare(wanted, more, mode, self.peak, self.rounds, self.memory):
                    if self.default == "numpy" and f"{mode} on numpy" in program.targets:
                        row["target"] = program.targets[f"{mode} on numpy"]
                    rows.append({"part": part, **row, "difference": difference})
        return rows

    def part_programs(self) -> list[Row]:
        """Programs beside PyTorch"""
        return self.beside_pytorch("programs")

    def part_ragged(self) -> list[Row]:
        """Sequences of different lengths: beside PyTorch's padded and packed"""
        return self.beside_pytorch("ragged", padded=True)

    def part_long(self) -> list[Row]:
        """Long sequences: W3's convGRU over more and more frames"""
        return self.beside_pytorch("long")

    def part_small(self) -> list[Row]:
        """Single small calls, and whole steps of training with a learner"""
        rows = small.small(*self.rounds, self.options.quick, alone=not self.peers)
        return [{"part": "small", **row} for row in rows]

    def part_overhead(self) -> list[Row]:
        """The graph itself"""
        operations, steps = (40, 4) if self.options.quick else (2000, 100)
        program = PROGRAMS["W1"].quick() if self.options.quick else PROGRAMS["W1"]
        neighbours = Neighbours()
        found = {
            "planning W1": overhead.planning(program, *self.rounds),
            f"graph of {operations} operations": overhead.build(operations),
            "a step of a small LSTM": overhead.lstm(steps, 32, *self.rounds),
        }
        others = neighbours.share()
        return [
            {"part": "overhead", "what": what, "side": side, "ms": 1e3 * seconds, "others": others}
            | ({"at most, ms": 1e3 * overhead.PLANNING} if what == "planning W1" else {})
            for what, times in found.items()
            for side, seconds in times.items()
        ]

    def part_neighbours(self) -> list[Row]:
        """Beside busy processes: the default number of threads against one"""
        rows = neighbours.beside(*self.rounds, quick=self.options.quick)
        return [{"part": "neighbours", **row} for row in rows]

    def part_reading(self) -> list[Row]:
        """Reading: steps from a text file beside steps from arrays"""
        return reading.reading(4 if self.options.quick else 40, self.options.quick)

    def part_memory(self) -> list[Row]:
        """Memory of forward passes, beside PyTorch's"""
        if self.options.quick:  # the smallest that shows among a process's pages
            return memory.forward_passes([PROGRAMS["T16"]], ())
        programs = [p for part in WITH_PROGRAMS for p in self.programs(part)]
        return memory.forward_passes(programs, self.peers)

    def part_windows(self) -> list[Row]:
        """Windows of frames: gradients of long films, beside whole ones"""
        return windows.measure(self.options.quick, *self.rounds)

    def part_ranks(self) -> list[Row]:
        """Two workers under MPI beside one, each with one thread: the video example's net"""
        return ranks.measure(self.rounds[0], self.options.quick, self.options.real_time)


def _usable(peers: Sequence[str]) -> list[str]:
    """Those ways to run PyTorch that work here; says so if one does not."""
    if not peers or not sides.torch_version():
        return []
    found = list(peers)
    if "compiled" in found and (why := sides.why_not_compiled()):
        print(f"torch.compile does not work here, it is left out: {why}", file=sys.stderr)
        found.remove("compiled")
    return found


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measures, prints tables, and gives all their rows.

    Raises `SystemExit` in the end if the sides of a program do not compute the same.
    """
    options = _parser().parse_args(arguments)
    rgraph.try_set_default_device(rgraph.cpu())  # `benchmarks.gpu` is for GPUs
    if options.engine:
        rgraph.device.use_cpu_engine(options.engine)
        os.environ["RGRAPH_CPU_ENGINE"] = options.engine  # for processes that measure memory
    bench = Bench(options)
    about = _machine()
    for name, value in about.items():
        print(f"{name}: {value}")
    rows: list[Row] = []
    for part in options.parts:
        if part in WITH_PROGRAMS and not bench.programs(part):
            continue
        measure = getattr(bench, f"part_{part}")
        print(f"\n## {measure.__doc__.splitlines()[0]}\n", flush=True)
        found = measure()
        if part in WITH_PROGRAMS:
            print()  # after the list of all times
        if found:
            columns = {"overhead": OVERHEAD, "neighbours": BESIDE}
            columns |= {"reading": READ, "memory": MEMORY, "windows": WINDOWS, "ranks": READ}
            print(report.table(found, columns.get(part, COLUMNS)))
        rows += found
    if judged := report.held(rows):
        print("\n## Held to\n\n" + report.table(judged, HELD))
    about["matrix product, GFLOP/s"] = round(bench.peak / 1e9, 1)
    print(f"\nmatrix product: {bench.peak / 1e9:.1f} GFLOP/s")
    if options.record:
        record = {"machine": about, "columns": COLUMNS, "rows": rows, "held to": judged}
        Path(options.record).write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nwritten to {options.record}")
    if options.plot:
        report.plot(rows, options.plot)
        print(f"\ndrawn to {options.plot}")
    if bench.failures:
        sys.exit("\n".join(bench.failures))
    return rows


def _parser() -> argparse.ArgumentParser:
    columns = "".join(f"\n  {name:12}{text}" for name, text in COLUMNS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        epilog="columns:" + columns,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = sorted({*PROGRAMS, *map(str.lower, PROGRAMS)})
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=names,
        default=list(PROGRAMS),
        metavar="NAME",
        help=f"of {', '.join(PROGRAMS)} (default: all)",
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    mode = parser.add_mutually_exclusive_group()
    for name in "forward", "train":
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name)
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=PEERS,
        default=PEERS,
        help="ways to run PyTorch (default: all; of packed sequences, as of padded ones)",
    )
    engines = rgraph.device.cpu_engines()
    parser.add_argument("--engine", choices=engines, help=f"rgraph's (default: {engines[0]})")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, at least (default: 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
    real_time = "run the part ranks before all other programs of the machine (needs chrt)"
    parser.add_argument("--real-time", action="store_true", help=real_time)
    parser.add_argument("--record", metavar="FILE", help="write all numbers as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios; needs Matplotlib")
    return parser


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": sides.CORES,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "PyTorch": sides.torch_version() or "not installed",
        "rgraph": rgraph.__version__,
        "engine": rgraph.device.engine().name,
    }


if __name__ == "__main__":
    main()
