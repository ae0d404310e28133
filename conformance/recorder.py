"""A pytest plugin that runs chosen tests and writes down how each one went.

It knows nothing of CNTK or rgraph, and is written for Python 3.6 and later, because the same plugin
records what CNTK 2.7 itself passes. A test is named `function#index`, the index counting the
parametrizations of that function: pytest's own names hold addresses and change between versions.
"""

import faulthandler
import json
import re
from typing import Any

import pytest


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--results", help="file that gets one JSON line per event")
    parser.addoption("--wanted", help="JSON file: names of the tests to run (left out: all)")
    parser.addoption("--limit", type=float, default=300.0, help="seconds one test may take")


def pytest_configure(config: Any) -> None:
    if config.getoption("--results"):
        config.pluginmanager.register(Recorder(config), "recorder-of-results")


class Recorder:
    def __init__(self, config: Any) -> None:
        self.log = open(config.getoption("--results"), "a")  # noqa: SIM115, open to the end
        self.limit = config.getoption("--limit")
        wanted = config.getoption("--wanted")
        self.wanted = None
        if wanted:
            with open(wanted) as file:
                self.wanted = set(json.load(file))
        self.names = {}
        self.watch()

    def watch(self) -> None:
        """Ends this process if nothing happens in time: a hanging kernel can't be interrupted."""
        faulthandler.dump_traceback_later(self.limit, exit=True)

    def write(self, *event: str) -> None:
        self.log.write(json.dumps(event) + "\n")
        self.log.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list) -> None:
        counts = {}
        for item in items:
            function = item.nodeid.split("[")[0].split("::", 1)[1]
            index = counts[function] = counts.get(function, -1) + 1
            self.names[item.nodeid] = f"{function}#{index}"
        if self.wanted is not None:
            items[:] = [item for item in items if self.names[item.nodeid] in self.wanted]

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.write("import", shorten(report), str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.watch()
        self.write("start", self.names[nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = self.names[report.nodeid]
        if report.failed:
            self.write("failed", name, shorten(report), str(report.longrepr))
        elif report.skipped or hasattr(report, "wasxfail"):
            self.write("skipped", name, "skipped", str(report.longrepr))
        elif report.when == "call":
            self.write("passed", name)

    def pytest_sessionfinish(self) -> None:
        self.write("end", "")
        faulthandler.cancel_dump_traceback_later()


def shorten(report: Any) -> str:
    """The reason of a failure in one line, the same for failures that have the same cause."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    if not crash and "\nE " in text:
        text = text.split("\nE ", 1)[1]
    lines = [" ".join(line.split()) for line in text.strip().splitlines()] or ["?"]
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    what = re.search(r"where False = (?:<function )?([\w.]+)", text)
    if reason.endswith("assert False") and what:
        reason = "not " + what.group(1)
    return re.sub(r"0x[0-9a-f]+", "0x", reason)
