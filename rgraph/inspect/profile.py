"""How long the calls of runs take."""

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
    """One call: its node or nodes, when it began and how long it took (seconds)."""

    nodes: tuple[Node, ...]
    start: float
    seconds: float


class Profile:
    """How long each call of one run took.

    `print(profile)`, or a notebook, shows a table: layers, and in each what its calls did, the
    most expensive first. `profile.save(path)` writes a file that a browser's trace viewer
    (chrome://tracing, ui.perfetto.dev) opens.
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
        """Writes the events in the trace viewers' JSON form."""
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
    """An observer that notes when each call began and how long it took."""

    hindrance = "its calls are timed"
    separate = False

    def __init__(self) -> None:
        self.events: list[Event] = []

    def around(
        self, kernel: Callable[..., Any], nodes: tuple[Node, ...], engine: Engine
    ) -> Callable[..., Any]:
        """The kernel, timed until it is done; an engine that only begins work is waited for."""

        def timed(*arguments: Any, **options: Any) -> Any:
            engine.synchronize()
            start = time.perf_counter()
            result = kernel(*arguments, **options)
            engine.synchronize()
            self.events.append(Event(nodes, start, time.perf_counter() - start))
            return result

        return timed


def profile(request: Request, given: Feed, inputs: Sequence[Any]) -> Profile:
    """The times of the second of two runs: the first makes what is kept."""
    runner, stopwatch = Runner(), Stopwatch()
    with observed_by(stopwatch):
        runner.run(request, given, inputs)
        stopwatch.events.clear()
        start = time.perf_counter()
        runner.run(request, given, inputs)
        return Profile(stopwatch.events, time.perf_counter() - start)


def timing() -> Stopwatch:
    """What `debugging.set_node_timing` has look on."""
    own = context()
    if own.timing is None:
        own.timing = Stopwatch()
    found: Stopwatch = own.timing
    return found


def print_node_timing() -> None:
    """Prints what was timed since the last time, of all that ran."""
    events = list(timing().events)
    timing().events.clear()
    if events:
        print(Profile(events, sum(e.seconds for e in events)))
    else:
        print("no run was timed: debugging.set_node_timing(True) has them timed")
