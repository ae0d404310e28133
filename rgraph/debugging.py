"""Help in finding mistakes: CNTK's `debugging` module."""

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
    watching.set_observer(nans.FINDER, enable)


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
    watching.set_observer(timing(), enable)
