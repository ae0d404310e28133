"""Debugging and profiling: CNTK's `debugging` module."""

from __future__ import annotations

import os
from typing import Any

from .device import gpu_convolutions
from .graph.context import context
from .inspect import nans
from .inspect.profile import Profile, Stopwatch, timing
from .model.debugger import debug_model
from .runtime import watching
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


def set_checked_mode(enable: bool) -> None:
    """Whether to check every run for NaN.

    In checked mode `eval`, `grad` and training raise a `GraphError` that names the input or
    parameter with NaN, or the operation that computed the first NaN, with the user's line, the
    frame and the sequence. Operations are called one by one, which is slow.

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
    watching.set_observer(nans.FINDER, enable)


def force_deterministic(seed: int) -> None:
    """Makes results reproducible: sets the seed, and deterministic convolutions on GPUs.

    Source: CNTK's `debugging.force_deterministic`.

    >>> C.debugging.force_deterministic(1)
    """
    _set_seed(seed)
    gpu_convolutions(deterministic=True)


def set_computation_network_trace_level(level: int) -> None:
    """Accepted for compatibility with CNTK, without effect.

    >>> C.debugging.set_computation_network_trace_level(1)
    """


def dump_signature(root: object, tag: str | None = None) -> None:
    """Prints the arguments and outputs of a function.

    >>> C.debugging.dump_signature(C.input_variable(2, name="x") + 1)
    Plus('x' (2,) per sample) -> (2,) per sample
    """
    print(root if tag is None else f"{tag}: {root}")


def dump_function(root: Any, tag: str | None = None) -> None:
    """Prints the structure of a function, as `Function.summary` does.

    >>> C.debugging.dump_function(C.layers.Dense(2)(C.input_variable(3)))
    layer...
    """
    print(root.summary() if tag is None else f"{tag}\n{root.summary()}")


class _Profiler:
    """The state between `start_profiler` and `stop_profiler`."""

    def __init__(self, folder: str) -> None:
        self.folder, self.stopwatch = folder, Stopwatch()


def start_profiler(
    dir: str = "profiler", sync_gpu: bool = True, reserve_mem: int = 2**25, *, enabled: bool = True
) -> None:
    """Starts to measure the time of each operation in all runs, until `stop_profiler`.

    Args:
        dir: the folder that `stop_profiler` writes to.
        sync_gpu, reserve_mem: accepted for compatibility with CNTK, without effect.
        enabled: whether to start at once, or at `enable_profiler`.

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
        raise RuntimeError(
            "a profiler is already running; call debugging.stop_profiler() to end it"
        )
    context().profiler = _Profiler(dir)
    if enabled:
        enable_profiler()


def _observe(on: bool) -> None:
    """Enables or disables a running profiler; without one nothing happens, as in CNTK."""
    if context().profiler is not None:
        watching.set_observer(context().profiler.stopwatch, on)


def enable_profiler() -> None:
    """Resumes a profiler after `disable_profiler`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     C.debugging.start_profiler(folder, enabled=False)
    ...     C.debugging.enable_profiler()
    ...     C.debugging.stop_profiler()
    """
    _observe(True)


def disable_profiler() -> None:
    """Pauses a profiler until `enable_profiler`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     C.debugging.start_profiler(folder)
    ...     C.debugging.disable_profiler()
    ...     C.debugging.stop_profiler()
    """
    _observe(False)


def stop_profiler() -> None:
    """Ends a profiler, and writes `summary.txt`, a table, and `trace.json` to its folder.

    Open `trace.json` in a browser with chrome://tracing or ui.perfetto.dev.

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


def set_node_timing(enable: bool) -> None:
    """Whether to measure the time of each operation in all runs, for `print_node_timing`.

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
    watching.set_observer(timing(), enable)
