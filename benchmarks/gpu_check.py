"""The check and measurement on a machine with an NVIDIA GPU, what is worth most first.

    python benchmarks/gpu_check.py --out FOLDER [--wheels FOLDER] [--part 1 2 3]

installs the wheels of the folder beside what this Python has (where CuPy, cuDNN, PyTorch, SciPy,
pytest and NumPy are there already, `nvidia-cudnn-frontend` alone; no network is used), and does in
this order:

1. versions and the device; a smoke test, which fails if cuDNN refused anything or nothing was
   captured; times of W2, W1 with eight sequences, the large one and W3 beside PyTorch's, captured;
2. the tests, on the GPU, in several processes where pytest-xdist is installed; times in float32
   and bfloat16;
3. times beside PyTorch's compiled ways; the video example; compute-sanitizer.

Each part takes at most nine minutes (some two with sixteen cores); they can be run one after the
other, with `--part`, or all at once. Whatever is found is in the `--out` folder at once, so the
check may be cut off at any moment; the outputs are written while they come, and `done.json` has how
each step ended. `--rehearse` goes through all of it where there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (  # of tests
    "engines", "train", "layers", "learners", "runtime", "model", "plan", "passes", "ops", "files",
    "io", "testing",
)  # fmt: skip
PART_SECONDS = 540
PYTEST = ("-m", "pytest", "-v", "-W", "default", "--tb=short", "-p", "no:cacheprovider")
VERSIONS = """
import importlib
for name in ("cupy", "numpy", "scipy", "cudnn", "torch", "pytest", "rgraph"):
    try:
        print(name, importlib.import_module(name).__version__)
    except Exception as error:
        print(name, error)
import rgraph as C
from rgraph import device
print(C.use_default_device(), C.all_devices())
try:
    print("cuDNN", device.engine(C.gpu(0)).cudnn.cudnn.backend_version())
    import cudnn
    print("properties", cudnn.create_device_properties(0).serialize())
except Exception as error:
    print(type(error).__name__, error)
"""


class Check:
    """One run of the script."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out = Path(options.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.until = 0.0
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "2",
            "OPENBLAS_NUM_THREADS": "2",
        }
        self._find_packages()

    def left(self) -> float:
        """Seconds until the part must be done."""
        return self.until - time.monotonic()

    def step(self, name: str, command: Sequence[str], most: float = PART_SECONDS) -> int:
        """Runs a command; its output is in a file of that name while it comes.

        Args:
            most: its seconds, if as many are left.
        """
        seconds, start = min(most, self.left()), time.monotonic()
        if seconds < 5:
            self._note(name, "left out: no time was left", 0)
            return -1
        with open(self.out / f"{name}.txt", "w") as output:
            process = subprocess.Popen(
                list(command), cwd=ROOT, env=self.environment, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # what it has started too
                status = process.wait()
        self._note(name, status, time.monotonic() - start)
        return status

    def python(self, name: str, *arguments: str, most: float = PART_SECONDS) -> int:
        """As `step`, of this Python with what was installed."""
        return self.step(name, [sys.executable, *arguments], most)

    def _note(self, name: str, how: Any, seconds: float) -> None:
        """Adds to `done.json` how a step ended; it is put in place whole."""
        path = self.out / "done.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        done[name] = {"ended": now, "status": how, "seconds": round(seconds, 1)}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(done, indent=1) + "\n")
        fresh.replace(path)
        print(f"{name}: {how}, {seconds:.0f} s, {self.left():.0f} s left", flush=True)

    def install(self) -> None:
        """The wheels, in a folder of their own that stands before what Python has."""
        wheels = sorted(map(str, Path(self.options.wheels).resolve().glob("*.whl")))
        pip = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade"]
        self.python("install", *pip, "--target", str(self._packages()), *wheels, most=180)
        self._find_packages()

    def _packages(self) -> Path:
        return Path(self.options.packages).resolve()

    def _find_packages(self) -> None:
        folder = self._packages()
        if folder.exists():
            self.environment["PYTHONPATH"] = f"{ROOT}:{folder}"
            libraries = [*map(str, sorted(folder.glob("nvidia/*/lib")))]
            known = os.environ.get("LD_LIBRARY_PATH")
            paths = [*libraries, *([known] if known else [])]
            self.environment["LD_LIBRARY_PATH"] = ":".join(paths)

    def times(self, name: str, *arguments: str, most: float = PART_SECONDS) -> None:
        """Times beside PyTorch's; the record is written after each of them."""
        if self.options.rehearse:
            return
        seconds = min(most, self.left())
        minutes = f"{0.8 * seconds / 60:.2f}"  # after these nothing more is begun
        record = str(self.out / f"{name}.json")
        command = ["-m", "benchmarks.gpu", "--record", record, "--minutes", minutes]
        self.python(name, *command, *arguments, most=most)

    # The parts

    def first(self) -> None:
        """Facts, smoke, and the times that are held to."""
        if shutil.which("nvidia-smi"):
            self.step("nvidia-smi", ["nvidia-smi"], 20)
        self.python("versions", "-c", VERSIONS, most=90)
        played = ["--played"] if self.options.rehearse else []
        record = str(self.out / "smoke.json")
        self.python("smoke", "-m", "benchmarks.gpu_smoke", "--record", record, *played, most=120)
        programs = ("--programs", "W2", "W1-B8", "large", "W3")
        self.times("times", *programs, "--ways", "graphed", "eager")

    def second(self) -> None:
        """The tests, and other precisions."""
        found = [f for t in FOLDERS for f in sorted((ROOT / "tests" / t).glob("test_*.py"))]
        files, engine = [str(f.relative_to(ROOT)) for f in found], "cuda"
        if self.options.rehearse:
            files, engine = files[-2:], "played"
        self.python("tests", *PYTEST, *self._processes(), "--engine", engine, *files, most=300)
        for precision in ("bfloat16", "float32"):
            given = ("--precision", precision, "--programs", "W3", "W2", "--ways", "graphed")
            self.times(f"times-{precision}", *given, most=90)

    def _processes(self) -> list[str]:
        """How tests run in several processes, if they can."""
        if importlib.util.find_spec("xdist") is None:
            return []
        return ["-p", "xdist", "-n", str(max((os.cpu_count() or 1) - 2, 1))]

    def third(self) -> None:
        """The rest."""
        programs = ("--programs", "W3", "W2")
        self.times("times-compiled", *programs, "--ways", "compiled", "reduce-overhead", most=220)
        video = ("examples/convgru_video.py", "--out", str(self.out / "video"))
        self.python("video", *video, *(["--quick"] if self.options.rehearse else []), most=120)
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if Path(tool).exists():
            some = "captured_runs or products_are or generated and (tanh or plus or log_add_exp)"
            test = ("tests/engines/test_cuda_gpu.py", "-k", some)
            command = [tool, "--error-exitcode", "9", sys.executable, *PYTEST, *test]
            self.step("sanitizer", command, 75)


def main(arguments: Sequence[str] | None = None) -> None:
    """Does all of it."""
    today = datetime.date.today().isoformat()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default=str(ROOT / f"benchmarks/records/gpu-{today}"))
    parser.add_argument("--wheels", help="a folder of wheels to install")
    parser.add_argument("--packages", default="gpu-check-packages", help="where to install them")
    parser.add_argument("--part", nargs="+", type=int, choices=(1, 2, 3), default=[1, 2, 3])
    parser.add_argument("--rehearse", action="store_true", help="go on where there is no GPU")
    options = parser.parse_args(arguments)
    check = Check(options)
    parts = {1: check.first, 2: check.second, 3: check.third}
    for number in options.part:
        check.until = time.monotonic() + PART_SECONDS
        if options.wheels and number == min(options.part):
            check.install()
        parts[number]()
    print(f"written to {check.out}")


if __name__ == "__main__":
    main()
