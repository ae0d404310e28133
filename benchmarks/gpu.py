"""`python -m benchmarks.gpu`: times on an NVIDIA GPU, beside PyTorch's on the same one.

Both sides have their data on the GPU before they are timed and leave their results there. Times are
the GPU's own, between events around many runs, so what the CPU can't hide is in them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import rgraph as C
from rgraph import device
from rgraph.engines.cuda import library

from .programs.convgru import ConvGRU, torch_step

PROGRAMS = [
    ConvGRU("W2", (10,) * 4, (16, 64, 64), 64, {"forward": 1.1, "train": 1.1}),
    ConvGRU("W1-B8", (16,) * 8, (3, 224, 224), 32, {"forward": 1.1, "train": 1.1}),
    ConvGRU("large", (20,) * 32, (64, 64, 64), 64, {"forward": 1.1, "train": 1.1}),
    ConvGRU("W3", (20,) * 8, (1, 16, 16), 16, {"forward": 2.0, "train": 2.0}),
    ConvGRU("W1", (16,), (3, 224, 224), 32, {}),
]
WAYS = ("eager", "graphed", "compiled", "reduce-overhead")
TOLERANCE = {"tf32": 5e-3, "float32": 1e-5, "bfloat16": 5e-2}  # of the largest value
LEAST = 0.3  # seconds that a measurement lasts
ROUNDS = 5


class Ours:
    """The program in rgraph, on the first GPU."""

    name = "rgraph"

    def __init__(self, program: ConvGRU) -> None:
        self.engine = device.engine(C.gpu(0))
        made = program.in_rgraph()
        self.made = made
        for name, value in program.weights().items():
            made.parameters[name].value = value
        (x,) = made.inputs.values()
        self.data = {x: [self.engine.from_numpy(a) for a in program.data()["x"]]}

    def forward(self) -> Any:
        return self.made.result.eval(self.data, device=C.gpu(0), as_numpy=False)

    def train(self) -> Any:
        wrt = list(self.made.parameters.values())
        found = self.made.loss.grad(self.data, wrt=wrt, device=C.gpu(0), as_numpy=False)
        return {name: found[p] for name, p in self.made.parameters.items()}

    def as_numpy(self, result: Any) -> list[np.ndarray]:
        if isinstance(result, dict):
            arrays = [result[name].content for name in sorted(result)]
        else:
            arrays = result.content
        return [self.engine.to_numpy(a) for a in arrays]

    def graphs(self) -> list[str]:
        """For each plan: how many nodes its captured graph has, or why it has none."""
        found = []
        for function in (self.made.result, self.made.loss):
            for plan in function._runner.plans:
                captured = [c for c in plan._shapes.values() if c]
                nodes = [c.graph.debug_dot_str().count("label=") for c in captured]
                found.append(f"{nodes}" if captured else plan.hindrance or "not captured")
        return found

    def seconds(self, run: Callable[[], Any]) -> float:
        return _measured(run, self.engine)


def _measured(run: Callable[[], Any], engine: Any) -> float:
    """Seconds of a run, the best of some rounds, between events on the engine's stream."""
    cuda, stream = engine.cupy.cuda, engine.stream

    def elapsed(count: int) -> float:
        start, end = cuda.Event(), cuda.Event()
        start.record(stream)
        for _ in range(count):
            run()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(start, end)) / 1e3 / count

    with engine.active():
        return _best(run, elapsed, stream.synchronize)


def _best(run: Any, elapsed: Callable[[int], float], synchronize: Any) -> float:
    for _ in range(5):  # plans, graphs, PyTorch's choices
        run()
    synchronize()
    count = max(1, int(LEAST / ROUNDS / max(elapsed(2), 1e-5)))
    return min(elapsed(count) for _ in range(ROUNDS))


class PyTorch:
    """The program in PyTorch on the same GPU: channels-last, TF32, cuDNN's benchmark mode.

    Args:
        way: `eager`; `graphed`, the eager run captured whole as one CUDA graph; `compiled` and
            `reduce-overhead`, the step function through `torch.compile` in these modes.
    """

    def __init__(self, program: ConvGRU, way: str) -> None:
        import torch

        self.torch, self.program, self.way = torch, program, way
        self.name = f"PyTorch {way}"
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = C.device.gpu_convolutions()["precision"] != "float32"
        last = torch.channels_last
        self.step = torch_step
        if way in ("compiled", "reduce-overhead"):
            mode = "default" if way == "compiled" else way
            self.step = torch.compile(torch_step, mode=mode)
        self.weights = {}
        for name, value in program.weights().items():
            tensor = torch.from_numpy(value).cuda()
            if value.ndim == 4:
                tensor = tensor.to(memory_format=last)
            self.weights[name] = tensor.requires_grad_()
        film = torch.from_numpy(np.stack(program.data()["x"], 1)).cuda()
        self.frames = [f.contiguous(memory_format=last) for f in film]
        state = torch.zeros(film.shape[1], program.outputs, *program.image[1:], device="cuda")
        self.state = state.contiguous(memory_format=last)
        self.captured: dict[str, Any] = {}

    def _states(self) -> Any:
        if self.way == "reduce-overhead":
            self.torch.compiler.cudagraph_mark_step_begin()
        h, states, weights = self.state, [], list(self.weights.values())
        for x in self.frames:
            h = self.step(weights, x, h)
            states.append(h)
        return self.torch.stack(states)

    def _forward(self) -> Any:
        with self.torch.no_grad():
            return self._states()

    def _train(self) -> Any:
        for w in self.weights.values():
            w.grad = None
        self._states().sum().backward()
        return {name: w.grad for name, w in self.weights.items()}

    def forward(self) -> Any:
        return self._run("forward", self._forward)

    def train(self) -> Any:
        return self._run("train", self._train)

    def _run(self, mode: str, run: Callable[[], Any]) -> Any:
        if self.way != "graphed":
            return run()
        if mode not in self.captured:
            torch = self.torch
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    run()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = run()
            self.captured[mode] = graph, result
        graph, result = self.captured[mode]
        graph.replay()
        return result

    def as_numpy(self, result: Any) -> list[np.ndarray]:
        if isinstance(result, dict):
            return [result[name].cpu().numpy() for name in sorted(result)]
        states = result.detach().cpu().numpy()
        return [states[:n, i] for i, n in enumerate(self.program.lengths)]

    def seconds(self, run: Callable[[], Any]) -> float:
        torch = self.torch

        def elapsed(count: int) -> float:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(count):
                run()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3 / count

        return _best(run, elapsed, torch.cuda.synchronize)


# Floors


def bandwidth(engine: Any) -> float:
    """Bytes per second that are read and written by a copy within the GPU's memory."""
    cupy, size = engine.cupy, 1 << 30
    with engine.active():
        a, b = (cupy.zeros(size // 4, cupy.float32) for _ in range(2))

        def copy() -> None:
            b[...] = a

        return 2 * size / _measured(copy, engine)


def matrix_rate(precision: str) -> float:
    """Floating-point operations per second of PyTorch's matrix product in that precision."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))

    def elapsed(count: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            torch.mm(a, b)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / count

    return 2.0 * n**3 / _best(lambda: torch.mm(a, b), elapsed, torch.cuda.synchronize)


def least_bytes(program: ConvGRU, train: bool) -> float:
    """Bytes that must go through the GPU's memory: the film in and the states out once, and in
    training both once more for the weights' gradients."""
    frames = sum(program.lengths)
    channels, height, width = program.image
    once = 4.0 * frames * height * width * (channels + program.outputs)
    return (2 if train else 1) * once


# The measurement


def check_same(ours: Any, theirs: Any, precision: str) -> float:
    """The greatest difference of results and gradients, relative to the largest value of each."""
    worst = 0.0
    for mode in ("forward", "train"):
        pairs = zip(
            ours.as_numpy(getattr(ours, mode)()),
            theirs.as_numpy(getattr(theirs, mode)()),
            strict=True,
        )
        for a, b in pairs:
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-20)))
    if worst > TOLERANCE[precision]:
        raise AssertionError(f"the sides differ by {worst:.1e} of the largest value")
    return worst


def measure(
    program: ConvGRU, options: argparse.Namespace, floors: dict[str, float]
) -> Iterator[list[Any]]:
    """The rows of a table, a program's forward run and its training step: again after each side."""
    ours = Ours(program)
    difference: float | str = "no PyTorch"
    times: dict[str, dict[str, Any]] = {"forward": {}, "train": {}}

    def rows() -> list[Any]:
        about = {"difference": difference, "graphs": ours.graphs()}
        return [_row(program, mode, found, floors) | about for mode, found in times.items()]

    for mode in times:
        times[mode]["rgraph"] = ours.seconds(getattr(ours, mode))
    yield rows()
    for way in options.ways:
        if time.monotonic() > options.until:
            print(f"- {program.name}: no time is left for PyTorch {way}", flush=True)
            break
        try:
            side = PyTorch(program, way)
            if not isinstance(difference, float):
                difference = check_same(ours, side, options.precision)
            for mode in times:
                times[mode][side.name] = side.seconds(getattr(side, mode))
        except ImportError:
            break
        except Exception as error:  # a way that does not work here must not hide the others
            print(f"- {program.name}, PyTorch {way}: {type(error).__name__}: {error}", flush=True)
            if isinstance(error, AssertionError):
                difference = str(error)
        yield rows()


def _row(
    program: ConvGRU, mode: str, found: dict[str, float], floors: dict[str, float]
) -> dict[str, Any]:
    own = found["rgraph"]
    peers = {k: v for k, v in found.items() if k != "rgraph"}
    best = min(peers, key=lambda k: peers[k]) if peers else None
    compute = program.flops(mode == "train") / floors.get("matrix rate", float("inf"))
    memory = least_bytes(program, mode == "train") / floors["bandwidth"]
    return {
        "program": str(program),
        "run": mode,
        "ms": 1e3 * own,
        "PyTorch": best,
        "its ms": 1e3 * peers[best] if best else None,
        "ratio": peers[best] / own if best else None,
        "target": program.targets.get(mode),
        "floor, ms": 1e3 * max(compute, memory),
        "floor": "operations" if compute > memory else "bytes",
        "of floor": max(compute, memory) / own,
        "all ms": {k: 1e3 * v for k, v in found.items()},
    }


def machine(engine: Any) -> dict[str, Any]:
    """What was measured on."""
    cupy = engine.cupy
    properties = cupy.cuda.runtime.getDeviceProperties(engine.number)
    about = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "memory, MiB": properties["totalGlobalMem"] >> 20,
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "CUDA": cupy.cuda.runtime.runtimeGetVersion(),
        "cuDNN": engine.cudnn.cudnn.backend_version(),
        "CuPy": cupy.__version__,
        "Python": platform.python_version(),
        "rgraph": C.__version__,
    }
    try:
        import torch

        about["PyTorch"] = torch.__version__
    except ImportError:
        pass
    return about


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, and gives the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    names = [p.name for p in PROGRAMS]
    parser.add_argument("--programs", nargs="+", default=names, choices=names)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--precision", default="tf32", choices=list(TOLERANCE))
    parser.add_argument("--untimed", action="store_true", help="cuDNN's engines are not timed")
    parser.add_argument("--minutes", type=float, default=9, help="begin nothing after so long")
    parser.add_argument("--record", help="a file to write the numbers to, as JSON")
    options = parser.parse_args(arguments)
    options.until = time.monotonic() + 60 * options.minutes
    if problem := library.problem():
        raise SystemExit(str(problem.error()))
    C.device.gpu_convolutions(options.precision, timed=not options.untimed)
    engine = device.engine(C.gpu(0))
    record: dict[str, Any] = {"machine": machine(engine), "options": vars(options) | {"until": ""}}
    floors = {"bandwidth": bandwidth(engine)}
    with contextlib.suppress(ImportError, RuntimeError, AssertionError):  # no PyTorch with CUDA
        floors["matrix rate"] = matrix_rate(options.precision)
    record["floors"] = floors
    print(json.dumps(record, indent=1), flush=True)
    rows: dict[str, list[Any]] = {}

    def save() -> None:
        record["rows"] = [row for found in rows.values() for row in found]
        said = engine.cudnn.refusals.items()
        record["cuDNN has no engine"] = {f"{k[0]} {k[1]} {k[4]}": why[:300] for k, why in said}
        if options.record:
            Path(options.record).write_text(json.dumps(record, indent=1) + "\n")

    save()
    for program in PROGRAMS:
        if program.name not in options.programs or time.monotonic() > options.until:
            continue
        try:
            for found in measure(program, options, floors):
                rows[program.name] = found
                save()
        except Exception as error:
            about = {"program": str(program), "error": f"{type(error).__name__}: {error}"}
            rows.setdefault(program.name, []).append(about)
            save()
        for row in rows[program.name]:
            print("- " + json.dumps(row), flush=True)
    return record


if __name__ == "__main__":
    main()
