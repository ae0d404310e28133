"""Measures the time of each call in a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..engines.base import Engine
from ..graph import Node
from ..graph.context import context
from ..runtime.evaluation import Feed, Request, Runner
from ..runtime.watching import observed_by
from .explain import place, shown, title
from .tables import Line, as_html, as_text


class Event(NamedTuple):
    """One call: its nodes, start and duration in seconds."""

    nodes: tuple[Node, ...]
    start: float
    seconds: float


class Profile:
    """The time of each call in a run.

    `print(profile)`, or a notebook, shows a table of layers and their calls, the most expensive
    first. `profile.save(path)` writes a file for a browser's trace viewer (chrome://tracing,
    ui.perfetto.dev).
    """

    def __init__(self, events: Sequence[Event], total: float) -> None:
        self.events, self.total = list(events), total

    columns = ("what", "ms", "share", "calls")

    def _lines(self) -> list[Line]:
        layers: dict[str, dict[tuple[Node, ...], list[float]]] = {}
        for event in self.events:
            layers.setdefault(place(event.nodes[-1]), {}).setdefault(event.nodes, []).append(
                event.seconds
            )
        lines = []
        for layer, calls in sorted(layers.items(), key=lambda part: -_seconds(part[1])):
            if any(layers):
                lines.append(self._line(layer or "outside of layers", _seconds(calls)))
            for nodes, times in sorted(calls.items(), key=lambda call: -sum(call[1])):
                what = f"{' + '.join(map(title, nodes))} -> {shown(nodes[-1])}"
                lines.append(self._line(what, sum(times), len(times), int(any(layers))))
        rest = self.total - sum(e.seconds for e in self.events)
        return [*lines, self._line("between the calls", rest)]

    def _line(self, what: str, seconds: float, calls: int = 0, depth: int = 0) -> Line:
        times = f"{1e3 * seconds:.3f}", f"{seconds / (self.total or 1):.1%}"
        return Line((what, *times, str(calls or "")), depth)

    def __str__(self) -> str:
        return as_text(self.columns, self._lines(), {1, 2, 3})

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.columns, self._lines())

    def save(self, path: str) -> None:
        """Writes the events as JSON for a trace viewer."""
        events = [
            {"name": " + ".join(map(title, e.nodes)), "ph": "X", "pid": 0, "tid": 0,
             "ts": 1e6 * e.start, "dur": 1e6 * e.seconds,
             "args": {"made at": str(e.nodes[-1].origin)}}
            for e in self.events
        ]  # fmt: skip
        with open(path, "w") as file:
            json.dump({"traceEvents": events}, file)


def _seconds(calls: Mapping[Any, Sequence[float]]) -> float:
    return sum(map(sum, calls.values()))


class Stopwatch:
    """An observer that records the start and duration of each call."""

    hindrance = "its calls are timed"
    separate = False

    def __init__(self) -> None:
        self.events: list[Event] = []

    def around(
        self, kernel: Callable[..., Any], nodes: tuple[Node, ...], engine: Engine
    ) -> Callable[..., Any]:
        """The kernel with a timer; waits for asynchronous engines."""

        def timed(*arguments: Any, **options: Any) -> Any:
            engine.synchronize()
            start = time.perf_counter()
            result = kernel(*arguments, **options)
            engine.synchronize()
            self.events.append(Event(nodes, start, time.perf_counter() - start))
            return result

        return timed


def profile(request: Request, given: Feed, inputs: Sequence[Any]) -> Profile:
    """The times of the second of two runs; the first one allocates and caches."""
    runner, stopwatch = Runner(), Stopwatch()
    with observed_by(stopwatch):
        runner.run(request, given, inputs)
        stopwatch.events.clear()
        start = time.perf_counter()
        runner.run(request, given, inputs)
        return Profile(stopwatch.events, time.perf_counter() - start)


def timing() -> Stopwatch:
    """The observer of `debugging.set_node_timing`."""
    own = context()
    if own.timing is None:
        own.timing = Stopwatch()
    found: Stopwatch = own.timing
    return found


def print_node_timing() -> None:
    """Prints the times of all runs since the last call."""
    events = list(timing().events)
    timing().events.clear()
    if events:
        print(Profile(events, sum(e.seconds for e in events)))
    else:
        print("no run was timed: call debugging.set_node_timing(True) before")
