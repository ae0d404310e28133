"""What all runs of other people's tests share: a process for each file, and a table of results."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
REASONS_SHOWN = 6
MARKS = {"passed": ".", "failed": "x", "skipped": "s"}


class Outcome(NamedTuple):
    passed: bool
    reason: str = ""
    detail: str = ""


def run_pytest(
    command: list[str], wanted: list[str] | None, limit: float, paths: Iterable[Path] = ()
) -> list[list[str]]:
    """One process over one file: what the recorder wrote, and a last word if it broke off.

    Args:
        paths: where else modules are looked for.
    """
    folders = [str(REPOSITORY), *map(str, paths), os.environ.get("PYTHONPATH")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as scratch:
        results, plan = Path(scratch, "results"), Path(scratch, "wanted")
        options = [f"--results={results}", f"--limit={limit}", f"--basetemp={scratch}/tmp"]
        if wanted is not None:
            plan.write_text(json.dumps(wanted))
            options.append(f"--wanted={plan}")
        process = subprocess.Popen(
            [*command, *options], cwd=scratch, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        said = finish(process)
        lines = results.read_text().splitlines() if results.exists() else []
    events = [json.loads(line) for line in lines]
    if not events or events[-1][0] not in ("end", "import"):
        code, last = process.returncode, (said[1].strip().splitlines() or ["no word"])[-1]
        reason = f"crashed: {signal.Signals(-code).name if code < 0 else last}"
        if "Timeout (" in said[1]:
            reason = "timed out"
        events.append(["died", reason, said[0][-4000:] + said[1][-4000:]])
    return events


def finish(process: subprocess.Popen[str]) -> list[str]:
    """What a process wrote, to its end; what it started and left behind is ended, too."""
    with ThreadPoolExecutor(2) as readers:
        texts = readers.map(lambda pipe: pipe.read(), (process.stdout, process.stderr))
        process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return list(texts)


def run_file(
    command: list[str], wanted: list[str], limit: float, paths: Iterable[Path] = ()
) -> dict[str, Outcome]:
    """Runs the wanted tests of a file; after one that takes the process down, goes on behind it."""
    outcomes: dict[str, Outcome] = {}
    while left := [name for name in wanted if name not in outcomes]:
        running, rest = None, Outcome(False, "not collected")
        for kind, *words in run_pytest(command, left, limit, paths):
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


def read_passes(folder: Path) -> dict[str, list[str]]:
    """The tests that CNTK passes, by file; one mark per parametrization, `.` is passed."""
    marks = json.loads((folder / "passes.json").read_text())["passes"]
    return {
        file: [f"{name}#{i}" for name, row in tests.items() for i, m in enumerate(row) if m == "."]
        for file, tests in marks.items()
    }


def record(
    folder: Path, made: str, commands: Mapping[str, list[str]], limit: float, paths: Iterable[Path]
) -> None:
    """Writes passes.json: what these commands, one for each file, say of their tests.

    Args:
        made: how it was made.
    """
    passes: dict[str, dict[str, str]] = {}
    for file, command in commands.items():
        events = run_pytest([*command, "-pconformance.recorder"], None, limit, paths)
        last = {name: kind for kind, name, *_ in events if kind in MARKS}
        rows: dict[str, str] = {}
        for name, kind in last.items():
            function = name.partition("#")[0]
            rows[function] = rows.get(function, "") + MARKS[kind]
        if "." in "".join(rows.values()):
            passes[file] = rows
    count = sum(row.count(".") for rows in passes.values() for row in rows.values())
    head = {"made": made, "marks": {v: k for k, v in MARKS.items()}, "count": count}
    (folder / "passes.json").write_text(json.dumps(head | {"passes": passes}, indent=1) + "\n")


def parser(program: str, description: str | None, folder: str = "") -> argparse.ArgumentParser:
    """The options that all such runs have, behind a folder if there is to be one."""
    made = argparse.ArgumentParser(prog=program, description=description)
    if folder:
        made.add_argument("folder", type=Path, help=folder)
    made.add_argument("patterns", nargs="*", help="parts of file names (left out: all files)")
    made.add_argument("-k", default="", metavar="TEXT", help="functions with TEXT in the name")
    made.add_argument("--jobs", type=int, default=os.cpu_count(), help="files run at a time")
    made.add_argument("--limit", type=float, default=120, help="seconds that one test may take")
    made.add_argument("--verbose", action="store_true", help="show the traceback of each failure")
    made.add_argument("--record", metavar="PYTHON", help="rewrite passes.json on CNTK itself")
    return made


def run_all(
    folder: Path,
    options: argparse.Namespace,
    command: Callable[[str], list[str]],
    paths: Iterable[Path] = (),
) -> None:
    """Runs the tests that CNTK passes and the options choose, and prints how they went.

    Args:
        folder: has passes.json, and known.json with the reasons of failures that stand.
        command: what runs the tests of a file.
    """
    wanted = {
        file: chosen
        for file, names in read_passes(folder).items()
        if any(pattern in file for pattern in options.patterns or [""])
        and (chosen := [name for name in names if options.k in name])
    }
    known = json.loads((folder / "known.json").read_text())

    def run(file: str) -> dict[str, Outcome]:
        recorded = [*command(file), "-pconformance.recorder"]
        outcomes = run_file(recorded, wanted[file], options.limit, paths)
        passed = sum(outcome.passed for outcome in outcomes.values())
        print(f"{file}: {passed} of {len(outcomes)}", file=sys.stderr)
        return outcomes

    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(wanted, pool.map(run, wanted), strict=True))
    for file, outcomes in results.items():
        for name, outcome in outcomes.items():
            if options.verbose and not outcome.passed:
                print(f"\n{file}::{name}: {outcome.reason}\n{outcome.detail}")
    print("\n".join(table(results, known)))
    every = [outcome.passed for outcomes in results.values() for outcome in outcomes.values()]
    print(f"{every.count(True)} passed, {every.count(False)} failed")


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
