"""`python -m benchmarks`: times and memory beside PyTorch's, printed as tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rgraph

from . import overhead, sides
from .measure import LEAST, Neighbours, interleaved, matrix_peak, peak_memory
from .programs import PROGRAMS, RAGGED, Program, quick

PARTS = ("programs", "frames", "ragged", "overhead")
COLUMNS = {
    "program": "the ConvolutionalGRU: frames, batch, image, channels of the state",
    "run": "forward, or train: forward and backward",
    "side": "who runs it",
    "ms": "the fastest round",
    "median": "the median round, ms",
    "GFLOP/s": "floating-point work, counted from the shapes, over the fastest round",
    "of peak": "the same over the matrix product's rate",
    "MB": "peak memory above what importing costs, in a process of its own",
    "ratio": "the first side's fastest round over this side's",
    "of medians": "the same of the median rounds",
    "others": "what other processes took of the cores meanwhile: trust no row where it is much",
}

Row = dict[str, Any]


class Bench:
    """What the command line asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.modes = ["forward", "train"] if options.mode is None else [options.mode]
        self.repeat = 1 if options.quick else options.repeat
        self.least = 0.0 if options.quick else LEAST
        self.programs = [PROGRAMS[name.upper()] for name in options.programs]
        self.ragged = RAGGED
        if options.quick:
            self.programs, self.ragged = [quick(p) for p in self.programs], quick(RAGGED)
        self.peers = options.peers if sides.torch_version() else []
        self.peak = 0.0
        self.measure_peak()

    def measure_peak(self) -> None:
        """The matrix product's rate, the best that was seen: before each comparison, once more."""
        self.peak = max(self.peak, matrix_peak(256 if self.options.quick else 4096, 2, 0.0))

    def compare(self, found: Sequence[sides.Side], mode: str) -> list[Row]:
        """A row for each side, with its ratio to the first."""
        runs = {s.name: s.train if mode == "train" else s.forward for s in found}
        self.measure_peak()
        neighbours = Neighbours()
        times = interleaved(runs, self.repeat, self.least)
        others = neighbours.share()
        first, rows = times[found[0].name], []
        for side in found:
            fastest, median = min(times[side.name]), statistics.median(times[side.name])
            rate = side.program.flops(mode == "train") / fastest
            row = {
                "program": str(side.program),
                "run": mode,
                "side": side.name,
                "ms": 1e3 * fastest,
                "median": 1e3 * median,
                "GFLOP/s": rate / 1e9,
                "of peak": rate / self.peak,
                "MB": peak_memory(side.program, side.kind, mode == "train") / 1e6,
                "ratio": min(first) / fastest,
                "of medians": statistics.median(first) / median,
                "others": others,
            }
            rows.append(row)
        return rows

    def beside_pytorch(self, program: Program) -> list[sides.Side]:
        """The program in rgraph and each variant of PyTorch, found to give the same."""
        found = [sides.make(program, name) for name in ("rgraph", *self.peers)]
        sides.check_same(found)
        return found

    def part_programs(self) -> list[Row]:
        """A ConvolutionalGRU beside PyTorch"""
        rows = []
        for program in self.programs:
            found = self.beside_pytorch(program)
            for mode in self.modes:
                rows += self.compare(found, mode)
        return rows

    def part_frames(self) -> list[Row]:
        """Twice the frames"""
        program = self.programs[0]
        twice = replace(program, lengths=tuple(2 * n for n in program.lengths))
        found = [sides.Rgraph(twice, "twice the frames"), sides.Rgraph(program, "once")]
        return [row for mode in self.modes for row in self.compare(found, mode)]

    def part_ragged(self) -> list[Row]:
        """Sequences of different lengths: beside as many frames in one sequence, and padded"""
        program = self.ragged
        steps, batch = max(program.lengths), len(program.lengths)
        found = self.beside_pytorch(program)
        one, padded = replace(program, lengths=(program.frames,)), (steps,) * batch
        found.append(sides.Rgraph(replace(one, name="one sequence"), "in one sequence"))
        found.append(sides.Rgraph(replace(program, name="padded", lengths=padded), "padded"))
        return [row for mode in self.modes for row in self.compare(found, mode)]

    def part_overhead(self) -> list[Row]:
        """The graph itself"""
        operations, steps = (40, 4) if self.options.quick else (2000, 100)
        neighbours = Neighbours()
        found = {
            f"graph of {operations} operations": overhead.build(operations),
            "a step of a small LSTM": overhead.lstm(steps, 32, self.repeat, self.least),
        }
        others = neighbours.share()
        return [
            {"what": what, "side": side, "ms": 1e3 * seconds, "others": others}
            for what, times in found.items()
            for side, seconds in times.items()
        ]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measures, prints tables, and gives all their rows."""
    options = _parser().parse_args(arguments)
    if options.engine:
        rgraph.device.use_cpu_engine(options.engine)
        os.environ["RGRAPH_CPU_ENGINE"] = options.engine  # for processes that measure memory
    bench = Bench(options)
    about = _machine()
    for name, value in about.items():
        print(f"{name}: {value}")
    rows: list[Row] = []
    for part in options.parts:
        measure = getattr(bench, f"part_{part}")
        print(f"\n## {measure.__doc__}\n", flush=True)
        found = measure()
        print(table(found), flush=True)
        rows += [{"part": part, **row} for row in found]
    print(f"\nmatrix product: {bench.peak / 1e9:.1f} GFLOP/s")
    if options.record:
        about["matrix product, GFLOP/s"] = bench.peak / 1e9
        record = {"machine": about, "columns": COLUMNS, "rows": rows}
        Path(options.record).write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nwritten to {options.record}")
    return rows


def _parser() -> argparse.ArgumentParser:
    columns = "".join(f"\n  {name:12}{text}" for name, text in COLUMNS.items())
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        epilog="columns:" + columns,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*PROGRAMS, *map(str.lower, PROGRAMS)]
    parser.add_argument("--programs", nargs="+", choices=names, default=list(PROGRAMS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    mode = parser.add_mutually_exclusive_group()
    for name in "forward", "train":
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name)
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=sides.NAMES[1:],
        default=["eager"],
        help="ways to run PyTorch (default: eager)",
    )
    engines = rgraph.device.cpu_engines()
    parser.add_argument("--engine", choices=engines, help=f"rgraph's (default: {engines[0]})")
    parser.add_argument("--repeat", type=int, default=5, help="rounds, at least (default: 5)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one round")
    parser.add_argument("--record", metavar="FILE", help="write all numbers as JSON")
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


def table(rows: Sequence[Row]) -> str:
    """Rows of the same columns as a table in Markdown."""
    cells = [list(rows[0]), *([_cell(name, v) for name, v in row.items()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [isinstance(v, str) for v in rows[0].values()]
    rule = ["-" * w if t else "-" * (w - 1) + ":" for w, t in zip(widths, text, strict=True)]
    return "\n".join(
        "| "
        + " | ".join(
            c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, text, strict=True)
        )
        + " |"
        for line in [cells[0], rule, *cells[1:]]
    )


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name in ("of peak", "others"):
        return f"{value:.1%}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
