"""Runs CNTK's own Python tests on rgraph: `python -m conformance [PATTERN ...]`.

The tests come out of CNTK's last wheel, which pip fetches into a temporary folder. They run
unchanged, each file in a process of its own. What counts are the tests that CNTK 2.7 itself passes,
listed in `passes.json`; where a test fails for a reason that stands, `known.json` gives the reason.
Prints a table and then the plain count. This is a measure and not a gate: failures leave the exit
status at 0.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
WHEEL = "cntk==2.7.post2"
# The wheel is for Python 3.6 only, and pip refuses it unless told that this is wanted.
PIP = (
    f"-m pip download {WHEEL} --quiet --no-deps --only-binary :all: --python-version 36"
    " --implementation cp --abi cp36m --platform manylinux1_x86_64 --disable-pip-version-check"
)
INI = """[pytest]
python_files = *.py
python_classes = *Test
addopts = -q -s -p no:cacheprovider -W ignore
"""
REASONS_SHOWN = 6

# Files that rgraph is not held to, and why.
LEFT_OUT = {
    "contrib/": "reinforcement learning, Caffe import",
    "ops/tests/sparse_test.py": "sparse storage",
    "ops/tests/fp16_test.py": "fp16 on CPU",
}
MARKS = {"passed": ".", "failed": "x", "skipped": "s"}


class Outcome(NamedTuple):
    passed: bool
    reason: str = ""
    detail: str = ""


def fetch_tests(wheel: Path | None, folder: Path) -> None:
    """Puts the tests, and nothing else of the wheel, into `folder`."""
    if wheel is None:
        subprocess.run([sys.executable, *PIP.split(), "--dest", str(folder)], check=True)
        (wheel,) = folder.glob("cntk-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            left_out = name.removeprefix("cntk/").startswith(tuple(LEFT_OUT))
            if "/tests/" in name and not left_out and not name.endswith("__init__.py"):
                archive.extract(name, folder)
    (folder / "pytest.ini").write_text(INI)


def read_passes() -> dict[str, list[str]]:
    """The tests that CNTK passes, by file; one mark per parametrization, `.` is passed."""
    marks = json.loads((HERE / "passes.json").read_text())["passes"]
    return {
        file: [f"{name}#{i}" for name, row in tests.items() for i, m in enumerate(row) if m == "."]
        for file, tests in marks.items()
    }


def run_pytest(command: list[str], wanted: list[str] | None, limit: float) -> list[list[str]]:
    """One process over one file: what the recorder wrote, and a last word if it broke off."""
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        results, plan = Path(scratch, "results"), Path(scratch, "wanted")
        options = [f"--results={results}", f"--limit={limit}", f"--basetemp={scratch}/tmp"]
        if wanted is not None:
            plan.write_text(json.dumps(wanted))
            options.append(f"--wanted={plan}")
        process = subprocess.run(
            [*command, *options], cwd=scratch, env=environment, capture_output=True, text=True
        )
        lines = results.read_text().splitlines() if results.exists() else []
    events = [json.loads(line) for line in lines]
    if not events or events[-1][0] not in ("end", "import"):
        code, said = process.returncode, process.stderr.strip().splitlines() or ["no word"]
        reason = f"crashed: {signal.Signals(-code).name if code < 0 else said[-1]}"
        if "Timeout (" in process.stderr:
            reason = "timed out"
        events.append(["died", reason, process.stdout[-4000:] + process.stderr[-4000:]])
    return events


def run_file(command: list[str], wanted: list[str], limit: float) -> dict[str, Outcome]:
    """Runs the wanted tests of a file; after one that takes the process down, goes on behind it."""
    outcomes: dict[str, Outcome] = {}
    while left := [name for name in wanted if name not in outcomes]:
        running, rest = None, Outcome(False, "not collected")
        for kind, *words in run_pytest(command, left, limit):
            if kind == "start":
                running = words[0]
            elif kind in ("import", "died"):
                rest = Outcome(False, *words)
                if kind == "died" and running in left and running not in outcomes:
                    outcomes[running], running = rest, None
                    break
            elif kind != "end":
                outcomes[words[0]] = Outcome(kind == "passed", *words[1:])
        else:
            outcomes |= {name: rest for name in left if name not in outcomes}
    return outcomes


def record(python: str, limit: float) -> None:
    """Writes passes.json, given an interpreter that has CNTK 2.7 and pytest installed."""
    where = "import cntk, os; print(os.path.dirname(cntk.__file__))"
    shown = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    root = Path(shown.stdout.split()[-1])
    passes: dict[str, dict[str, str]] = {}
    for path in sorted(root.glob("**/tests/*.py")):
        file = path.relative_to(root).as_posix()
        if file.startswith(tuple(LEFT_OUT)):
            continue
        command = [python, "-m", "pytest", str(path), "-o", "addopts=", "-pconformance.recorder"]
        last = {name: kind for kind, name, *_ in run_pytest(command, None, limit) if kind in MARKS}
        rows: dict[str, str] = {}
        for name, kind in last.items():
            function = name.partition("#")[0]
            rows[function] = rows.get(function, "") + MARKS[kind]
        if "." in "".join(rows.values()):
            passes[file] = rows
    count = sum(row.count(".") for rows in passes.values() for row in rows.values())
    made = f"python 3.6, {WHEEL}, pytest 6.2.5, CPU, MKL_CBWR=COMPATIBLE"
    head = {"made": made, "marks": {v: k for k, v in MARKS.items()}, "count": count}
    (HERE / "passes.json").write_text(json.dumps(head | {"passes": passes}, indent=1) + "\n")


def reason_of(test: str, outcome: Outcome, known: dict[str, str]) -> str:
    named = next((reason for pattern, reason in known.items() if fnmatch(test, pattern)), None)
    return named or outcome.reason


def table(results: dict[str, dict[str, Outcome]], known: dict[str, str]) -> Iterator[str]:
    rows = [("file", "CNTK 2.7", "rgraph", "why the rest fails"), ("---", "---:", "---:", "---")]
    for file, outcomes in results.items():
        reasons = Counter(
            reason_of(f"{file}::{name}", outcome, known)
            for name, outcome in outcomes.items()
            if not outcome.passed
        ).most_common()
        why = [f"{count} × {textwrap.shorten(text, 90)}" for text, count in reasons[:REASONS_SHOWN]]
        if others := sum(count for _, count in reasons[REASONS_SHOWN:]):
            why.append(f"{others} × other")
        passed = sum(outcome.passed for outcome in outcomes.values())
        rows.append((file, str(len(outcomes)), str(passed), "; ".join(why).replace("|", "\\|")))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        file, cntk, ours = (
            cell.rjust(width) if column and cell[0] != "-" else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row[:3], widths, strict=True))
        )
        yield f"| {file} | {cntk} | {ours} | {row[3]} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("patterns", nargs="*", help="parts of file names (left out: all files)")
    parser.add_argument("-k", default="", metavar="TEXT", help="functions with TEXT in the name")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {WHEEL}, if it is here already")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="files run at a time")
    parser.add_argument("--limit", type=float, default=120, help="seconds that one test may take")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of each failure")
    parser.add_argument("--record", metavar="PYTHON", help="rewrite passes.json on CNTK itself")
    options = parser.parse_args()
    if options.record:
        return record(options.record, options.limit)

    wanted = {
        file: chosen
        for file, names in read_passes().items()
        if any(pattern in file for pattern in options.patterns or [""])
        and (chosen := [name for name in names if options.k in name])
    }
    known = json.loads((HERE / "known.json").read_text())
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        folder = Path(temporary).resolve()
        fetch_tests(options.wheel, folder)

        def run(file: str) -> dict[str, Outcome]:
            command = [sys.executable, "-m", "pytest", str(folder / "cntk" / file)]
            command += [f"--rootdir={folder}", "--import-mode=importlib"]
            command += ["-pconformance.recorder", "-pconformance.adapter"]
            outcomes = run_file(command, wanted[file], options.limit)
            passed = sum(outcome.passed for outcome in outcomes.values())
            print(f"{file}: {passed} of {len(outcomes)}", file=sys.stderr)
            return outcomes

        results = dict(zip(wanted, pool.map(run, wanted), strict=True))
    for file, outcomes in results.items():
        for name, outcome in outcomes.items():
            if options.verbose and not outcome.passed:
                print(f"\n{file}::{name}: {outcome.reason}\n{outcome.detail}")
    print("\n".join(table(results, known)))
    print("\nLeft out: " + "; ".join(f"{file} ({why})" for file, why in LEFT_OUT.items()) + ".")
    every = [outcome.passed for outcomes in results.values() for outcome in outcomes.values()]
    print(f"{every.count(True)} passed, {every.count(False)} failed")


if __name__ == "__main__":
    main()
