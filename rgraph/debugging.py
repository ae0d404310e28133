"""Help in finding mistakes: CNTK's `debugging` module."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .device import gpu_convolutions
from .engines.base import Engine
from .graph import Constant, GraphError, Input, Node, Stored
from .graph.context import context
from .graph.node import describe
from .inspect.debugger import debug_model
from .inspect.explain import Profile, Stopwatch
from .runtime import watching
from .runtime.arrays import on_cpu
from .runtime.evaluation import set_seed as _set_seed

__all__ = [
    "debug_model",
    "disable_profiler",
    "dump_function",
    "dump_signature",
    "enable_profiler",
    "force_deterministic",
    "set_checked_mode",
    "set_computation_network_trace_level",
    "set_node_timing",
    "start_profiler",
    "stop_profiler",
]


class _NaNFinder:
    """An observer that stops a run at the operation that makes the first NaN."""

    hindrance = "its results are searched for NaN"
    separate = True

    def around(
        self, kernel: Callable[..., Any], nodes: tuple[Node, ...], engine: Engine
    ) -> Callable[..., Any]:
        (node,) = nodes

        def checked(run: Any, *operands: Any, **options: Any) -> Any:
            for leaf, array in zip(node.inputs, operands, strict=False):
                if isinstance(leaf, (Input, Stored, Constant)) and (at := _first_nan(array)):
                    kind = "input" if isinstance(leaf, Input) else leaf.kind.lower()
                    raise GraphError(
                        f"{kind} {describe(leaf)} has NaN, first {_place(run, leaf, at)}\n"
                        f"  made at {leaf.origin}",
                        hint="look where these values come from; np.nan_to_num replaces NaN",
                    )
            result = kernel(run, *operands, **options)
            if at := _first_nan(result):
                raise GraphError(f"the result is NaN, first {_place(run, node, at)}")
            return result

        return checked


def _first_nan(array: Any) -> tuple[int, ...] | None:
    """Where the first NaN is; an empty place, of a number, counts as one too."""
    found = np.argwhere(np.isnan(on_cpu(array)))
    return (*found[0].tolist(), 0) if len(found) else None


def _place(run: Any, node: Node, at: tuple[int, ...]) -> str:
    """A place in an array of rows, in the minibatch's own terms."""
    row, element = at[0], at[1:-1] if node.axes else at[:-1]
    where = f"at {element}" if element else "there"
    if not node.axes:
        return where
    if len(node.axes) == 1:
        order = run.order(node.batch_axis)
        what = "row" if node.batch_axis.is_made else "sample"
        return f"{where} of {what} {row if order is None else order[row]}"
    layout = run.layouts[node.axes[1]]
    row += run.block(node.axes[1]).start or 0
    sequence = layout.order[layout.sequence_of_row[row]]
    return f"{where} of frame {layout.step_of_row[row]} of sequence {sequence}"


_finder = _NaNFinder()


def set_checked_mode(enable: bool) -> None:
    """Whether every run is searched for the operation that makes the first NaN.

    With it `eval`, `grad` and training raise a `GraphError` that names the input or parameter
    that has NaN, or the operation that made it with the user's line, the frame and the sequence.
    Operations are then called one by one, which is slow.

    Source: CNTK's `debugging.set_checked_mode`.

    >>> C.debugging.set_checked_mode(True)
    >>> x = C.input_variable(2, name="x")
    >>> try:
    ...     C.sin(x + 1).eval({x: [[1, np.inf]]})
    ... except C.GraphError as error:
    ...     print(error.problem.splitlines()[0])
    sin: the result is NaN, first at (1,) of sample 0
    >>> C.debugging.set_checked_mode(False)
    """
    watching.set_observer(_finder, enable)


@contextmanager
def checked_mode() -> Iterator[None]:
    """The checked mode for a while: to run again what gave NaN, and hear where that came from."""
    with watching.observed_by(_finder):
        yield


def force_deterministic(seed: int) -> None:
    """Has every run give the same to the last bit: one seed, and a GPU's convolutions too.

    Source: CNTK's `debugging.force_deterministic`.

    >>> C.debugging.force_deterministic(1)
    """
    _set_seed(seed)
    gpu_convolutions(deterministic=True)


def set_computation_network_trace_level(level: int) -> None:
    """Accepted for CNTK's sake: it says what CNTK prints while it runs.

    >>> C.debugging.set_computation_network_trace_level(1)
    """


def dump_signature(root: Any, tag: str | None = None) -> None:
    """Prints what a function is and gives.

    >>> C.debugging.dump_signature(C.input_variable(2, name="x") + 1)
    Plus('x' (2,) per sample) -> (2,) per sample
    """
    print(root if tag is None else f"{tag}: {root}")


def dump_function(root: Any, tag: str | None = None) -> None:
    """Prints what a function is made of, as `Function.summary` shows it.

    >>> C.debugging.dump_function(C.layers.Dense(2)(C.input_variable(3)))
    layer...
    """
    print(root.summary() if tag is None else f"{tag}\n{root.summary()}")


class _Profiler:
    """What is going on between `start_profiler` and `stop_profiler`."""

    def __init__(self, folder: str) -> None:
        self.folder, self.stopwatch = folder, Stopwatch()


def start_profiler(
    dir: str = "profiler", sync_gpu: bool = True, reserve_mem: int = 2**25, *, enabled: bool = True
) -> None:
    """Notes from here on how long each operation takes, in all runs, until `stop_profiler`.

    Args:
        dir: the folder that `stop_profiler` writes to.
        sync_gpu, reserve_mem: accepted for CNTK's sake, without effect.
        enabled: whether it begins at once, or at `enable_profiler`.

    Source: CNTK's `debugging.start_profiler`. `Function.profile` is for a single run.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     C.debugging.start_profiler(folder)
    ...     _ = C.exp(C.input_variable(2)).eval([[1, 2]])
    ...     C.debugging.stop_profiler()
    ...     "exp" in pathlib.Path(folder, "summary.txt").read_text()
    True
    """
    if context().profiler is not None:
        raise RuntimeError("a profiler is running; debugging.stop_profiler() ends it")
    context().profiler = _Profiler(dir)
    if enabled:
        enable_profiler()


def _observe(on: bool) -> None:
    """Lets a running profiler look on, or rest; without one nothing is done, as in CNTK."""
    if context().profiler is not None:
        watching.set_observer(context().profiler.stopwatch, on)


def enable_profiler() -> None:
    """Has a profiler that was started go on after `disable_profiler`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     C.debugging.start_profiler(folder, enabled=False)
    ...     C.debugging.enable_profiler()
    ...     C.debugging.stop_profiler()
    """
    _observe(True)


def disable_profiler() -> None:
    """Has a profiler that was started rest, until `enable_profiler`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     C.debugging.start_profiler(folder)
    ...     C.debugging.disable_profiler()
    ...     C.debugging.stop_profiler()
    """
    _observe(False)


def stop_profiler() -> None:
    """Ends a profiler: its folder gets `summary.txt`, a table, and `trace.json` for a browser.

    A browser's trace viewer is at chrome://tracing or ui.perfetto.dev.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     C.debugging.start_profiler(folder)
    ...     C.debugging.stop_profiler()
    ...     sorted(os.listdir(folder))
    ['summary.txt', 'trace.json']
    """
    disable_profiler()
    profiler, context().profiler = context().profiler, None
    if profiler is None:
        return
    events = profiler.stopwatch.events
    found = Profile(events, sum(e.seconds for e in events))
    os.makedirs(profiler.folder, exist_ok=True)
    with open(os.path.join(profiler.folder, "summary.txt"), "w") as file:
        file.write(f"{found}\n")
    found.save(os.path.join(profiler.folder, "trace.json"))


def _timing() -> Stopwatch:
    own = context()
    if own.timing is None:
        own.timing = Stopwatch()
    timing: Stopwatch = own.timing
    return timing


def set_node_timing(enable: bool) -> None:
    """Whether all runs note how long each operation takes, for `print_node_timing`.

    Source: CNTK's `debugging.set_node_timing`.

    >>> f = C.exp(C.input_variable(2))
    >>> C.debugging.set_node_timing(True)
    >>> _ = f.eval([[1, 2]])
    >>> C.debugging.set_node_timing(False)
    >>> f.print_node_timing()
    what                  ms   share  calls
    ---------------------------------------
    exp -> 2           ...
    """
    watching.set_observer(_timing(), enable)


def print_node_timing() -> None:
    """Prints what was timed since the last time, of all that ran."""
    timing = _timing()
    events = list(timing.events)
    timing.events.clear()
    if events:
        print(Profile(events, sum(e.seconds for e in events)))
    else:
        print("no run was timed: debugging.set_node_timing(True) has them timed")
