"""One program, run in rgraph and in PyTorch: results, times and memory side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from .measure import Neighbours, interleaved
from .memory import peak_memory
from .sides import Side

COLUMNS = {
    "program": "what is computed: T frames, B sequences, sizes",
    "run": "forward, or train: forward and backward",
    "ms": "rgraph's fastest round",
    "ms a frame": "that over the frames of the longest sequence",
    "PyTorch": "its fastest way to run the program",
    "its ms": "the fastest round of that",
    "ratio": "PyTorch's fastest round over rgraph's: above 1 rgraph is faster",
    "of rounds": "the median of the same within each round",
    "target": "the ratio that the program is held to",
    "of peak": "floating-point work, counted from the shapes, over the matrix product's rate",
    "its of peak": "the same of PyTorch's fastest way",
    "MB": "peak memory above what importing costs, in a process of its own",
    "its MB": "the same of PyTorch's fastest way",
    "others": "what other processes took of the cores meanwhile: trust no row where it is much",
}

Row = dict[str, Any]


def compare(
    sides: Sequence[Side],
    others: Sequence[Side],
    mode: str,
    peak: float,
    rounds: tuple[int, float],
    memory: bool = True,
) -> list[Row]:
    """A row for each of rgraph's sides, beside PyTorch's fastest.

    Args:
        sides: rgraph's first, then PyTorch's, found to compute the same.
        others: more to be timed with them, for the record.
        mode: `forward` or `train`.
        peak: floating-point operations per second that the machine can do.
        rounds: how many at least, and for how many seconds, as for `interleaved`.
        memory: whether to measure that too, in more processes.
    """
    everyone = [*sides, *others]
    neighbours = Neighbours()
    times = interleaved({s.name: getattr(s, mode) for s in everyone}, *rounds)
    share = neighbours.share()
    print("- " + _sentence(str(sides[0].program), mode, times), flush=True)
    peers = [s for s in sides if s.name.startswith("PyTorch")]
    best = min(peers, key=lambda s: min(times[s.name])) if peers else None
    ours = [s for s in sides if s not in peers]
    rows = [_row(side, best, mode, times, peak) | {"others": share} for side in ours]
    if memory:
        taken = {s.name: _megabytes(s, mode) for s in [*ours, *([best] if best else [])]}
        for side, row in zip(ours, rows, strict=True):
            row["MB"] = taken[side.name]
            row["its MB"] = taken[best.name] if best else None
    return rows


def _megabytes(side: Side, mode: str) -> float:
    return peak_memory(side.program, side.way, mode == "train") / 1e6


def _row(
    side: Side, best: Side | None, mode: str, times: dict[str, list[float]], peak: float
) -> Row:
    train, program, seconds = mode == "train", side.program, times[side.name]
    run = mode if side.name == "rgraph" else mode + side.name.removeprefix("rgraph")
    rate = program.flops(train) / peak
    row = {
        "program": str(program),
        "run": run,
        "ms": 1e3 * min(seconds),
        "ms a frame": 1e3 * min(seconds) / program.steps,
        "of peak": rate / min(seconds),
        "target": program.targets.get(run),
        "memory target": program.targets.get("memory") if run == "train" else None,
        "all, ms": {name: [1e3 * s for s in found] for name, found in times.items()},
    }
    if best is None:
        return row
    theirs = times[best.name]
    ratios = [b / a for a, b in zip(seconds, theirs, strict=True)]
    return row | {
        "PyTorch": best.name.removeprefix("PyTorch "),
        "its ms": 1e3 * min(theirs),
        "ratio": min(theirs) / min(seconds),
        "of rounds": statistics.median(ratios),
        "ratios": ratios,
        "its of peak": rate / min(theirs),
    }


def _sentence(program: str, mode: str, times: dict[str, list[float]]) -> str:
    each = ", ".join(f"{name} {1e3 * min(found):.4g}" for name, found in times.items())
    return f"{program}, {mode}: {each} ms ({len(next(iter(times.values())))} rounds)"
