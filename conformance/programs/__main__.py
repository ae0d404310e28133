"""Runs CNTK's programs on rgraph and on CNTK 2.7, and says which run and which agree.

    python -m conformance programs FOLDER [PATTERN ...] --cntk COMMAND

FOLDER is a checkout of CNTK's repository at 2.7; nothing is fetched. Its notebooks (their code
cells) and Python files are run as they are, `import cntk` giving rgraph, on data that `data.py`
makes, for twenty minibatches each. Where COMMAND runs Python on real CNTK, each program runs there
first, and rgraph starts from the same parameters. `programs.json` says which arguments a program
needs, which sizes are made smaller, and what is left out and why.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conformance.programs import data

HERE = Path(__file__).parent
PARTS = ("Tutorials", "Manual", "Examples")
NEEDED = (*PARTS, "Tests/EndToEndTests/CNTKv2Python/Examples", "Tests/EndToEndTests/Speech/Data")
IMPORT = re.compile(r'^[\s"]*(import|from) cntk\b', re.MULTILINE)
TOLERANCE = 1e-3
COUNTED = ("metric", "test")  # errors: where outputs are nearly equal they go by the last digit


class Run(NamedTuple):
    """What one side made of a program."""

    error: str | None
    values: list[Any]

    @property
    def runs(self) -> bool:
        return self.error is None


class Row(NamedTuple):
    program: str
    cntk: Run | None
    ours: Run

    def difference(self) -> float | str:
        """The largest difference of a loss or a value from CNTK's, or what else differs."""
        assert self.cntk is not None
        if len(self.cntk.values) != len(self.ours.values):
            return f"{len(self.ours.values)} values instead of {len(self.cntk.values)}"
        worst = 0.0
        for (kind, shape, numbers), (own_kind, own_shape, own) in zip(
            self.cntk.values, self.ours.values, strict=True
        ):
            if (kind, shape) != (own_kind, own_shape):
                return f"{own_kind} {tuple(own_shape)} instead of {kind} {tuple(shape)}"
            if kind not in COUNTED:
                worst = max(worst, distance(np.array(numbers), np.array(own)))
        return worst

    @property
    def agrees(self) -> bool:
        difference = self.difference()
        return not isinstance(difference, str) and difference <= TOLERANCE


def distance(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference, relative to the largest number if that is above 1."""
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    finite = np.abs(expected[np.isfinite(expected)])
    apart = np.abs(expected - found) / max(1.0, finite.max(initial=0))
    apart = np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))
    return float(apart.max(initial=0))


def programs_in(folder: Path, patterns: list[str]) -> list[str]:
    """The notebooks and scripts that use CNTK, by path."""
    found = []
    for part in PARTS:
        for path in sorted((folder / part).rglob("*")):
            if path.suffix not in (".py", ".ipynb") or not path.is_file():
                continue
            text = path.read_text("utf-8", errors="replace")
            name = path.relative_to(folder).as_posix()
            starts = path.suffix == ".ipynb" or "__main__" in text or "1stSteps" in name
            if starts and IMPORT.search(text):
                found.append(name)
    return [p for p in found if any(pattern in p for pattern in patterns or [""])]


def link(folder: Path, root: Path) -> None:
    """A copy of the checkout, of links: what programs write stays out of it."""
    for part in NEEDED:
        source = (folder / part).resolve()
        for path in sorted(source.rglob("*")) if source.is_dir() else []:
            copy = root / part / path.relative_to(source)
            if path.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(path)
    for program, sizes in recipes()["sizes"].items():
        path = root / program
        if path.exists():
            text = path.read_text("utf-8")
            for size, smaller in sizes.items():
                text = text.replace(size, smaller)
            data.replace(path, text)


def run(command: list[str], package: str, plan: dict[str, Any], limit: float) -> Run:
    """One program in a process of its own."""
    result = Path(plan["result"])
    path = os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if package != "cntk":
        environment["PYTHONPATH"] = path
    try:
        process = subprocess.run(
            [*command, str(HERE / "worker.py"), package, json.dumps(plan)],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return Run(f"timed out after {limit:.0f} seconds", [])
    if not result.exists():
        said = process.stderr.strip().splitlines() or ["no word"]
        return Run(f"crashed: {said[-1]}", [])
    found = json.loads(result.read_text())
    return Run(found["error"], found["values"])


def run_both(program: str, roots: dict[str, Path], options: argparse.Namespace) -> Row:
    arguments = recipes()["arguments"].get(program, [])
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for package, root in roots.items():
            plan = {
                "program": str(root / program),
                "arguments": arguments,
                "served": str(root / "served"),
                "minibatches": options.minibatches,
                "start": f"{scratch}/start",
                "result": f"{scratch}/{package}.json",
            }
            command = shlex.split(options.cntk) if package == "cntk" else [sys.executable]
            runs[package] = run(command, package, plan, options.limit)
    row = Row(program, runs.get("cntk"), runs["rgraph"])
    print(f"{program}: {'runs' if row.ours.runs else row.ours.error}", file=sys.stderr)
    return row


def recipes() -> dict[str, Any]:
    return json.loads((HERE / "programs.json").read_text())


def left_out(program: str) -> str | None:
    reasons = recipes()["left_out"].items()
    return next((why for pattern, why in reasons if fnmatch(program, pattern)), None)


def lines(rows: list[Row]) -> Iterator[str]:
    yield "| program | CNTK 2.7 | rgraph | difference | why not |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        cntk = "" if row.cntk is None else "runs" if row.cntk.runs else "fails"
        ours = "runs" if row.ours.runs else "fails"
        why = row.ours.error or (row.cntk.error if row.cntk else None) or ""
        apart = ""
        if row.cntk is not None and row.cntk.runs and row.ours.runs:
            difference = row.difference()
            apart = difference if isinstance(difference, str) else f"{difference:.0e}"
        why = textwrap.shorten(why.splitlines()[0] if why else "", 100).replace("|", "\\|")
        yield f"| {row.program} | {cntk} | {ours} | {apart} | {why} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m conformance programs", description=__doc__)
    parser.add_argument("folder", type=Path, help="a checkout of CNTK's repository at 2.7")
    parser.add_argument("patterns", nargs="*", help="parts of paths (left out: all programs)")
    parser.add_argument("--cntk", metavar="COMMAND", help="what runs Python on real CNTK 2.7")
    parser.add_argument("--minibatches", type=int, default=20, help="that a trainer takes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="programs at a time")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one program")
    parser.add_argument("--work", type=Path, help="a folder for data, kept for the next time")
    options = parser.parse_args()

    missing = [part for part in NEEDED if not (options.folder / part).is_dir()]
    if missing:
        parser.error(f"{options.folder} is no checkout of CNTK's: it has no {', '.join(missing)}")
    every = programs_in(options.folder, options.patterns)
    wanted = [p for p in every if left_out(p) is None]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        work = options.work or Path(temporary)
        roots = {}
        for package in ["cntk", "rgraph"] if options.cntk else ["rgraph"]:
            roots[package] = root = (work / package).resolve()
            if not root.exists():
                link(options.folder, root)
                data.make(root)
        rows = list(pool.map(lambda p: run_both(p, roots, options), wanted))
    print("\n".join(lines(rows)))
    for program in every:
        if why := left_out(program):
            print(f"left out: {program}: {why}")
    report(rows)


def report(rows: list[Row]) -> None:
    ours = [row for row in rows if row.ours.runs]
    print(f"{len(ours)} of {len(rows)} run")
    both = [row for row in rows if row.cntk is not None and row.cntk.runs]
    if both:
        ran = [row for row in both if row.ours.runs]
        agree = sum(row.agrees for row in ran)
        print(f"{len(ran)} of the {len(both)} that run on CNTK; {agree} of these agree")


if __name__ == "__main__":
    main()
