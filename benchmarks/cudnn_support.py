"""`python -m benchmarks.cudnn_support`: what cuDNN has engines for, asked without a GPU.

cuDNN answers for a device that is described to it. The `cuda` engine runs here on the GPU that the
tests play, with nothing computed: it asks cuDNN for what it would ask for on that device, so a
table of the answers shows which convolutions have engines, and where the engine goes another way.
Tails are compiled by cuDNN for the device, and generated kernels by NVRTC, which tells their
registers.
That shows neither numbers nor speed.

Needs CuPy, cuDNN, its frontend and NVRTC as wheels, and a C compiler: the driver that cuDNN loads
is a stub, made here.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rgraph as C
from rgraph import device
from rgraph.engines.cuda import cudnn as ours
from rgraph.engines.cuda import library, options
from rgraph.engines.cuda.options import Options
from rgraph.plan import Run
from tests.engines import played_gpu
from tests.engines.strict_arrays import LIBRARY, Array
from tests.engines.test_cuda_gpu import GEOMETRIES

HERE = Path(__file__).parent
DEVICES = ("h100", "a100")
ARCHITECTURES = (80, 90, 100)
ROWS = 11  # of the tests' geometries; a first run has them in blocks of 8 and 3
_NVRTC = "cupy_backends.cuda.libs.nvrtc"  # imported before CuPy is played
PACKAGES = ("nvidia-cudnn-cu13", "nvidia-cudnn-frontend", "nvidia-cuda-nvrtc", "cupy-cuda13x")
PRECISIONS = ("tf32", "float32", "float64", "float16", "bfloat16")


# A device that is not there


def load_stub_driver() -> None:
    """Loads a `libcuda.so.1` of which nothing works but to load a module.

    It has whatever name of the driver's stands in cuDNN's libraries. Without it cuDNN can't load
    the library that compiles tails; and such an engine counts as built once it is loaded.
    """
    found = importlib.metadata.files("nvidia-cudnn-cu13") or []
    names: set[str] = set()
    for file in found:
        if ".so" in file.name:
            code = Path(str(file.locate())).read_bytes()
            names |= {m.decode() for m in re.findall(rb"\0(cu[A-Z][A-Za-z0-9_]+)(?=\0)", code)}
    given = {"cuLibraryLoadData", "cuLibraryGetKernel", "cuModuleLoadData", "cuModuleGetFunction",
             "cuKernelGetFunction", "cuLibraryGetModule"}  # fmt: skip
    works = ("cuModule", "cuLibrary", "cuKernel", "cuFunc", "cuTensorMap")
    lines = []
    for name in sorted(names | given):
        if name in given:
            lines.append(f"int {name}(void** made) {{ *made = (void*)16; return 0; }}")
        else:
            lines.append(f"int {name}() {{ return {0 if name.startswith(works) else 100}; }}")
    folder = Path(tempfile.mkdtemp(prefix="no-gpu-"))
    (folder / "stub.c").write_text("\n".join(lines))
    target = folder / "libcuda.so.1"
    command = ["cc", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(target)]
    subprocess.run([*command, str(folder / "stub.c")], check=True)
    ctypes.CDLL(str(target), mode=ctypes.RTLD_GLOBAL)


def described(cudnn: Any, name: str) -> Any:
    """The properties of a device, as cuDNN wants them."""
    properties = json.loads((HERE / "devices" / f"{name}.json").read_text())
    del properties["source"]
    return cudnn.create_device_properties(json.dumps(properties))


# Asking


class Asked(NamedTuple):
    """What the engine asked cuDNN for.

    Attributes:
        program: in which program or test.
        precision: "tf32", … for values of float32; else the type of the values.
        tail: names of the pointwise operations in the same plan.
    """

    program: str
    what: str
    at: ours.Geometry
    precision: str
    tail: tuple[str, ...]


class Answer(NamedTuple):
    """What cuDNN said.

    Attributes:
        engine: its favourite, or "" if there is none.
        built: how many engines could be built, of those that are timed against each other.
        error: what it said instead.
        seconds: to plan and to build the favourite.
    """

    engine: str
    built: int
    error: str
    seconds: float


def ask(cudnn: Any, properties: Any, asked: tuple[Any, ...], tail: dict[str, Any]) -> Answer:
    """Asks cuDNN for a plan; any error but that there is no engine goes through."""
    what, at, kind, chosen = asked
    start = time.perf_counter()
    try:
        made, _ = ours.planned(cudnn, what, at, kind, chosen, described=properties, **tail)
    except ours.Unsupported as error:
        return Answer("", 0, str(error), time.perf_counter() - start)
    seconds = time.perf_counter() - start
    built, favourite = 1, ""
    if not tail:  # each engine of a tail's is compiled
        built = 0
        for i in range(made.get_execution_plan_count()):
            try:
                made.build_plan_at_index(i)
            except cudnn.cudnnGraphNotSupportedError:
                continue
            built += 1
            favourite = favourite or made.get_plan_name_at_index(i)
    favourite = favourite or made.get_plan_name_at_index(0)
    return Answer(favourite.split("_")[0], built, "", seconds)


class Survey:
    """All that the engine asks cuDNN for on a device, with the answers."""

    def __init__(self, cudnn: Any, name: str) -> None:
        self.cudnn, self.properties = cudnn, described(cudnn, name)
        self.program = ""
        self.answers: dict[Asked, Answer] = {}
        self.warnings: list[str] = []
        self.kernels: dict[str, str] = {}  # what was generated, by source
        survey = self

        class Plan:
            """In the place of `ConvolutionPlan`: cuDNN is asked, nothing is run."""

            def __init__(self, library: Any, what: str, at: Any, kind: str, **tail: Any) -> None:
                answer = survey.asks(what, at, kind, library.options, tail)
                if answer.error:
                    raise ours.Unsupported(answer.error)

            def __call__(self, *arrays: Any) -> None:
                pass

        class Kernel:
            """In the place of CuPy's: noted, not run."""

            def __init__(self, code: str, name: str) -> None:
                survey.kernels.setdefault(code, name)

            def __call__(self, *arguments: Any) -> None:
                pass

        ours.ConvolutionPlan = Plan  # type: ignore[assignment, misc]
        LIBRARY.RawKernel = Kernel
        self.engine = played_gpu.make_engine()
        self.engine.cudnn.seconds = _no_time
        device._cuda_engine = lambda number: self.engine  # type: ignore[assignment]
        device._gpu_count = lambda: 1
        sys.modules["cupy"] = LIBRARY  # type: ignore[assignment]
        library.driver = lambda: (13000, 1)  # type: ignore[assignment]

    def asks(self, what: str, at: Any, kind: str, chosen: Options, tail: dict[str, Any]) -> Answer:
        precision = chosen.precision if kind in ("float32", "bfloat16") else kind
        names = tuple(step[0] for step in tail.get("tail", ()))
        asked = Asked(self.program, what, at, precision, names)
        answer = ask(self.cudnn, self.properties, (what, at, kind, chosen), tail)
        self.answers[asked] = answer
        return answer

    def noted(self, program: str, precision: str) -> warnings.catch_warnings[Any]:
        """While this lasts, what is asked for is this program's, and warnings are kept."""
        self.program = program
        options.choose(precision=precision, deterministic=False)
        self.engine.cudnn.plans.clear()
        return _Warnings(self.warnings)

    def geometries(self) -> None:
        """The tests' convolutions, with both gradients."""
        for operand, kernel, strides, padding, dilation, groups in GEOMETRIES:
            at = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
            for precision in PRECISIONS:
                own = precision if precision in ("tf32", "float32", "bfloat16") else "tf32"
                dtype = precision if precision.startswith("float") else "float32"
                with self.noted(f"test {operand} {kernel}", own):
                    for self.engine.cudnn.exact in (False, True):
                        self._three(operand, kernel, at, np.dtype(dtype))

    def _three(self, operand: Any, kernel: Any, at: Any, dtype: np.dtype) -> None:
        x, w = (Array(np.zeros(s, dtype)) for s in ((ROWS, *operand), kernel))
        run, kernels = Run(self.engine, {}, ROWS), self.engine.kernels
        y = kernels["convolution"](run, w, x, **at)
        kernels["convolution_transpose"](run, w, y, spatial=operand[1:], **at)
        kernels["convolution_weights"](run, x, y, kernel=kernel[2:], **at)

    def programs(self, names: Iterable[str]) -> None:
        """The benchmarks' programs, forward and with gradients; each comes back, so has tails."""
        from .gpu import PROGRAMS, Ours

        for program in PROGRAMS:
            if program.name in names:
                for precision in options.PRECISIONS:
                    with self.noted(program.name, precision):
                        side = Ours(program)
                        for _ in range(2):
                            side.forward()
                            side.train()
                    print(f"  {program.name} {precision}", flush=True)

    def half(self) -> None:
        """What there is for values of float16, which the engine does not have."""
        for asked in list(self.answers):
            if asked.precision == "tf32" and not asked.tail:
                given = asked.what, asked.at, "float16", Options()
                answer = ask(self.cudnn, self.properties, given, {})
                self.answers[asked._replace(precision="float16")] = answer

    def learners(self) -> None:
        """Steps of learners, for the kernels that they generate."""
        with self.noted("learners", "tf32"):
            w = C.Parameter((16, 16, 3, 3), init=0.1)
            gradient = {w: Array(np.zeros(w.shape, np.float32))}
            for learner in (C.sgd([w], 0.1), C.momentum_sgd([w], 0.1, 0.9), C.adam([w], 0.1, 0.9)):
                for guard in (None, self.engine.make_guard()):
                    self.engine.guard = guard
                    learner.update(gradient, 1)


def _no_time(work: Any, rival: float = 0.0) -> float:
    work()
    return 0.0


class _Warnings(warnings.catch_warnings):  # type: ignore[type-arg]
    """Keeps what is warned of in a list."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(record=True)
        self.kept = kept

    def __enter__(self) -> Any:
        self.seen = super().__enter__()
        warnings.simplefilter("always")
        return self.seen

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.kept += [str(w.message) for w in self.seen or ()]


# Generated kernels


def resources(source: str, architecture: int) -> dict[str, int]:
    """Registers and bytes of spilled ones of a kernel, as ptxas tells them."""
    nvrtc = sys.modules[_NVRTC]
    made = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        flags = (f"-arch=sm_{architecture}", "-ftz=true", "--ptxas-options=-v")
        nvrtc.compileProgram(made, flags)
        log = nvrtc.getProgramLog(made)
    finally:
        nvrtc.destroyProgram(made)
    spilled = re.findall(r"(\d+) bytes spill", log)
    return {"registers": int(re.findall(r"Used (\d+) registers", log)[-1]),
            "spilled": sum(map(int, spilled))}  # fmt: skip


def kernels_table(sources: dict[str, str]) -> list[dict[str, Any]]:
    """The kernels that were generated, each with its resources on each architecture."""
    rows = []
    for source, name in sources.items():
        steps = len(re.findall(r"T v\d+ = (?!T\()", source))
        row: dict[str, Any] = {"kernel": name, "operations": steps}
        row |= {f"sm_{a}": resources(source, a) for a in ARCHITECTURES}
        rows.append(row)
    return sorted(rows, key=lambda r: -r[f"sm_{ARCHITECTURES[-1]}"]["registers"])


# The record


def table(record: dict[str, Any]) -> str:
    """The record as people read it."""
    lines = [
        f"# What cuDNN has engines for, {record['date'][:10]}",
        "",
        "By `python -m benchmarks.cudnn_support`, without a GPU: "
        + ", ".join(f"{k} {v}" for k, v in record["packages"].items())
        + ". The engine that cuDNN prefers, and how many can be built to be timed; `-`: none. "
        "Nothing was run: no numbers and no times are shown by this.",
    ]
    for name, found in record["devices"].items():
        plain_ones = [row for row in found["asked"] if not row["tail"]]
        tails = [row for row in found["asked"] if row["tail"]]
        counts = [
            f"{sum(not row['error'] for row in rows)} of {len(rows)} {what}"
            for rows, what in ((plain_ones, "convolutions"), (tails, "convolutions with a tail"))
        ]
        lines += ["", f"## {name}", "", f"There are engines for {' and '.join(counts)}."]
        lines += ["", "| program | | operand; kernel; result | "]
        lines[-1] += " | ".join(PRECISIONS) + " |"
        lines.append("| --- | --- | --- |" + " --- |" * len(PRECISIONS))
        plain: dict[Any, dict[str, str]] = {}
        for row in plain_ones:
            key = row["program"], row["what"], row["geometry"]
            said = "-" if row["error"] else f"{row['engine']}, {row['built']}"
            plain.setdefault(key, {})[row["precision"]] = said
        for key, by in plain.items():
            cells = [*key, *(by.get(p, "") for p in PRECISIONS)]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", "With a tail in the same plan, compiled for the device:", ""]
        lines += ["| program | | geometry | tail | precision | engine | s |", "| --- " * 7 + "|"]
        for row in tails:
            said = " ".join(row["error"].split())[:60] or row["engine"]
            cells = (row["program"], row["what"], row["geometry"], " ".join(row["tail"]),
                     row["precision"], said, f"{row['seconds']:.1f}")  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", "Computed by products, one for each tap, with a warning:", ""]
        lines += [f"- {w}" for w in found["warnings"]] or ["- nothing"]
    lines += ["", "## Generated kernels", "", "Registers (bytes spilled), by ptxas:", ""]
    lines.append("| kernel | operations | " + " | ".join(f"sm_{a}" for a in ARCHITECTURES) + " |")
    lines.append("| --- | ---: |" + " ---: |" * len(ARCHITECTURES))
    for row in record["kernels"]:
        cells = [
            f"{row[f'sm_{a}']['registers']} ({row[f'sm_{a}']['spilled']})" for a in ARCHITECTURES
        ]
        lines.append(f"| {row['kernel']} | {row['operations']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _spelled(at: ours.Geometry) -> str:
    sizes = ("x".join(map(str, s)) for s in (at.operand, at.kernel, at.result))
    sided = any(low != high for low, high in at.padding)
    return "; ".join(sizes) + (", padded on one side" if sided else "")


def main() -> None:
    """Asks for everything and writes the record."""
    today = datetime.date.today().isoformat()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--programs", nargs="*", default=["W3", "W2", "W1"])
    parser.add_argument("--record", default=str(HERE / f"records/cudnn-support-{today}"))
    given = parser.parse_args()
    load_stub_driver()
    import cudnn

    importlib.import_module(_NVRTC)

    record: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        "devices": {},
    }
    sources: dict[str, str] = {}
    for name in DEVICES:
        print(name, flush=True)
        survey = Survey(cudnn, name)
        survey.geometries()
        survey.programs(given.programs)
        survey.half()
        survey.learners()
        sources |= survey.kernels
        record["devices"][name] = {
            "asked": [
                asked._replace(at=None)._asdict()
                | {"geometry": _spelled(asked.at)}
                | answer._asdict()
                for asked, answer in survey.answers.items()
            ],
            "warnings": sorted(set(survey.warnings)),
        }
    del sys.modules["cupy"]  # NVRTC's binding wants the real one
    record["kernels"] = kernels_table(sources)
    Path(given.record + ".md").write_text(table(record))
    Path(given.record + ".json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(f"written to {given.record}.md and .json")


if __name__ == "__main__":
    main()
