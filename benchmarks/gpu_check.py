"""The whole check and measurement on a machine with an NVIDIA GPU, within ten minutes.

    python benchmarks/gpu_check.py --wheels FOLDER

installs the wheels of the folder beside what this Python has (all that is missing of CuPy,
nvidia-cudnn, nvidia-cudnn-frontend, NumPy, SciPy, pytest, and PyTorch to compare with; no network
is used), and does in this order, what is worth most first: the tests that need a GPU, times beside
PyTorch's, the tests of all operations on the GPU, times beside PyTorch's compiled ones, and
compute-sanitizer. Each part is given its seconds, and what one part suffers the next does not. A
dated record with all of it is written after each. Without `--wheels` nothing is installed;
`--rehearse` goes through all parts where there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests/ops", "tests/layers", "tests/passes")
MODULES = ("plan", "function", "autodiff", "learners", "train", "minibatch", "values")
LARGEST_OUTPUT = 4000  # characters of a part's output that are kept
SPARE = 10  # seconds at the end, for the record


class Check:
    """One run of the script."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.start = time.monotonic()
        self.record: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "command": sys.argv[1:],
            "seconds": {},
        }
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "2",
            "OPENBLAS_NUM_THREADS": "2",
        }

    def left(self) -> float:
        """Seconds until all must be done."""
        return 60 * self.options.minutes - (time.monotonic() - self.start) - SPARE

    def write(self) -> None:
        """Puts the record in the place of the one before, whole."""
        path = Path(self.options.record)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(self.record, indent=1) + "\n")
        fresh.replace(path)

    def run(self, command: Sequence[str], most: float, **more: str) -> tuple[int, str]:
        """The exit status and the output of a command that is given so many seconds at most.

        Args:
            more: to its environment.
        """
        most = max(1.0, min(most, self.left()))
        process = subprocess.Popen(
            list(command), cwd=ROOT, env=self.environment | more, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=most)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it has started too
            output, _ = process.communicate()
            return 124, output + f"\nstopped after {most:.0f} s"
        return process.returncode, output

    def python(self, *arguments: str, most: float, **more: str) -> tuple[int, str]:
        """As `run`, of this Python with what was installed."""
        return self.run([sys.executable, *arguments], most, **more)

    # The parts

    def install(self) -> None:
        """The wheels, in a folder of their own that stands before what Python has."""
        if not self.options.wheels:
            self.record["installed"] = "nothing"
            return
        wheels = sorted(map(str, Path(self.options.wheels).resolve().glob("*.whl")))
        folder = Path(self.options.packages).resolve()
        pip = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade"]
        status, output = self.python(*pip, "--target", str(folder), *wheels, most=180)
        libraries = map(str, folder.glob("nvidia/*/lib"))
        known = self.environment.get("LD_LIBRARY_PATH")
        self.environment["LD_LIBRARY_PATH"] = ":".join([*libraries, *([known] if known else [])])
        self.environment["PYTHONPATH"] = f"{ROOT}:{folder}"
        self.record["installed"] = _tail(output) if status else [Path(w).name for w in wheels]

    def facts(self) -> None:
        """The GPU, the packages, and what rgraph says of them."""
        if shutil.which("nvidia-smi"):
            _, self.record["nvidia-smi"] = self.run(["nvidia-smi"], 20)
        self.record["packages"] = self.python("-c", VERSIONS, most=60)[1].strip().splitlines()
        code = "import cudnn; print(cudnn.create_device_properties(0).serialize())"
        status, output = self.python("-c", code, most=30)
        self.record["cuDNN device properties"] = output if status == 0 else ""
        code = "import rgraph as C; print(C.use_default_device(), C.all_devices()); C.gpu(0)"
        code += "; from rgraph import device; device.engine(C.gpu(0))"
        status, output = self.python("-c", code, most=60)
        self.record["devices"] = _tail(output)
        if status and not self.options.rehearse:
            self.write()
            raise SystemExit(f"rgraph finds no GPU here:\n{output}")

    def gpu_tests(self) -> None:
        """The tests that need a GPU; generated kernels, which are to be compiled, by themselves."""
        parts = {k: ("-m", "gpu", "-k", k, "tests/engines") for k in ("generated", "not generated")}
        found = self._pytest(parts, self.options.gpu_test_seconds)
        self.record["tests that need a GPU"] = found

    def tests(self) -> None:
        """The tests of operations and of what stands on them, on the GPU, several at a time."""
        files = [str(f.relative_to(ROOT)) for t in FOLDERS for f in (ROOT / t).glob("test_*.py")]
        files += [f"tests/test_{n}.py" for n in MODULES]
        files.sort(key=lambda f: -os.path.getsize(ROOT / f))
        if self.options.rehearse:
            files = files[-2:]
        engine = "played" if self.options.rehearse else "cuda"
        parts = {file: ("--engine", engine, file) for file in files}
        self.record["tests on the GPU"] = self._pytest(parts, self.options.test_seconds)

    def _pytest(self, parts: Mapping[str, Sequence[str]], seconds: float) -> dict[str, Any]:
        """How runs of pytest with these arguments end, several at a time."""
        until = time.monotonic() + min(seconds, self.left())
        share = f"{90 // self.options.processes}%"

        def one(name: str) -> Any:
            left = until - time.monotonic()
            if left < 5:
                return "not run: no time was left"
            return _summary(
                *self.python(*PYTEST, *parts[name], most=left, CUPY_GPU_MEMORY_LIMIT=share)
            )

        with ThreadPoolExecutor(self.options.processes) as pool:
            found = dict(zip(parts, pool.map(one, parts), strict=True))
        bad = [name for name, how in found.items() if isinstance(how, str) or how["status"]]
        print(f"- {len(found) - len(bad)} of {len(found)} passed; not {bad}", flush=True)
        return found

    def benchmarks(self) -> None:
        """Times beside PyTorch's own way and the one with its whole run captured."""
        self._benchmarks("benchmarks", self.options.benchmark_seconds, "eager", "graphed")

    def compiled(self) -> None:
        """Times beside PyTorch's compiled ways, which take long to compile."""
        self._benchmarks("benchmarks, compiled", self.left(), "compiled", "reduce-overhead")

    def _benchmarks(self, name: str, seconds: float, *ways: str) -> None:
        path = Path(self.options.record).resolve().with_suffix(".times.json")
        path.unlink(missing_ok=True)
        seconds = max(10.0, min(seconds, self.left()))
        minutes = f"{0.8 * seconds / 60:.2f}"  # after these nothing more is begun
        command = ["-m", "benchmarks.gpu", "--record", str(path), "--minutes", minutes, "--ways"]
        status, output = self.python(*command, *ways, most=seconds)
        self.record[name] = json.loads(path.read_text()) if path.exists() else {}
        if status:
            self.record[f"{name}: output"] = _tail(output)
        path.unlink(missing_ok=True)
        for row in self.record[name].get("rows", []):
            print("- " + ", ".join(f"{k}: {v}" for k, v in row.items()), flush=True)

    def sanitizer(self) -> None:
        """compute-sanitizer over some of the kernels that are generated here; it takes its time."""
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not Path(tool).exists():
            self.record["compute-sanitizer"] = "not there"
            return
        command = [tool, "--error-exitcode", "9", sys.executable, *PYTEST]
        some = "captured_runs or products_are or generated and (tanh or plus or log_add_exp)"
        test = ("tests/engines/test_cuda_gpu.py", "-k", some)
        status, output = self.run([*command, *test], self.options.sanitizer_seconds)
        self.record["compute-sanitizer"] = {"status": status, "output": _tail(output)}

    def part(self, name: str) -> None:
        """Does a part, writes the record, and says how it ended."""
        start = time.monotonic()
        if self.left() < 5:
            self.record.setdefault("left out for lack of time", []).append(name)
        else:
            work: Callable[[], None] = getattr(self, name)
            try:
                work()
            except Exception as error:
                self.record[f"{name} broke off"] = f"{type(error).__name__}: {error}"
        self.record["seconds"][name] = round(time.monotonic() - start, 1)
        self.write()
        print(f"{name}: {time.monotonic() - start:.0f} s, {self.left():.0f} s left", flush=True)


VERSIONS = """
import importlib
for name in ("cupy", "numpy", "scipy", "cudnn", "torch", "pytest", "rgraph"):
    try:
        print(name, importlib.import_module(name).__version__)
    except Exception as error:
        print(name, error)
"""
PYTEST = ("-m", "pytest", "-q", "-W", "default", "--tb=short", "-p", "no:cacheprovider")
PARTS = ("gpu_tests", "benchmarks", "tests", "compiled", "sanitizer")


def _tail(output: str) -> str:
    return output.strip()[-LARGEST_OUTPUT:]


def _summary(status: int, output: str) -> dict[str, Any]:
    lines = output.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    found: dict[str, Any] = {"status": status, "summary": lines[-1] if lines else ""}
    if status:
        found["failed"] = failed[:40]
        found["output"] = _tail(output)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Does all of it."""
    today = datetime.date.today().isoformat()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", help="a folder of wheels to install")
    parser.add_argument("--packages", default="gpu-check-packages", help="where to install them")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it")
    parser.add_argument("--gpu-test-seconds", type=float, default=150)
    parser.add_argument("--benchmark-seconds", type=float, default=150)
    parser.add_argument("--test-seconds", type=float, default=120)
    parser.add_argument("--sanitizer-seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=8, help="tests that run at a time")
    parser.add_argument("--record", default=str(ROOT / f"benchmarks/records/gpu-{today}.json"))
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--rehearse", action="store_true", help="go on where there is no GPU")
    check = Check(parser.parse_args(arguments))
    for part in ("install", "facts", *(check.options.only or PARTS)):
        check.part(part)
    print(f"written to {check.options.record}")


if __name__ == "__main__":
    main()
