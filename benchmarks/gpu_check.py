"""The whole check and measurement on a machine with an NVIDIA GPU, within ten minutes.

    python benchmarks/gpu_check.py --wheels FOLDER

makes an environment of the wheels in the folder (CuPy, nvidia-cudnn, nvidia-cudnn-frontend, NumPy,
SciPy, pytest, and PyTorch to compare with; no network is used), runs the tests on the GPU, the
benchmarks beside PyTorch's, compute-sanitizer if it is there, and writes a dated record with all of
it. Without `--wheels` this Python's own environment is used.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("numpy", "scipy", "pytest", "nvidia-cudnn-frontend")
TESTS = ("tests/engines", "tests/ops", "tests/layers", "tests/passes", "tests/graph")
PROCESSES = 6  # that run tests at the same time, on the one GPU


class Check:
    """One run of the script."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.start = time.monotonic()
        self.python = sys.executable
        self.record: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        }

    def left(self) -> float:
        """Seconds until all must be done."""
        return 60 * self.options.minutes - (time.monotonic() - self.start)

    def write(self) -> None:
        path = Path(self.options.record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.record, indent=1) + "\n")

    def run(self, command: Sequence[str], most: float) -> tuple[int, str]:
        """The exit status and the output of a command that is given so many seconds at most."""
        most = max(1.0, min(most, self.left()))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
        process = subprocess.Popen(
            list(command), cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=most)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return 124, output + f"\nstopped after {most:.0f} s"
        return process.returncode, output

    def environment(self) -> None:
        """An environment of the wheels alone."""
        if not self.options.wheels:
            return
        folder = Path(self.options.environment)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        self.python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
        names = [w.name.split("-")[0].replace("_", "-") for w in self._wheels()]
        own = ("cupy-cuda", "nvidia-", "torch", "triton")  # all there are: the CUDA libraries too
        wanted = [*NEEDED, *(n for n in names if n.startswith(own))]
        pip = [self.python, "-m", "pip", "install", "-q", "--no-index", "--find-links"]
        status, output = self.run([*pip, self.options.wheels, *dict.fromkeys(wanted)], 240)
        self.record["environment"] = output[-2000:] if status else "made of wheels"
        if status:
            self.write()
            raise SystemExit(output)

    def _wheels(self) -> list[Path]:
        return sorted(Path(self.options.wheels).glob("*.whl"))

    def facts(self) -> None:
        """The GPU, and cuDNN's own description of it, with which it plans where there is no GPU."""
        _, self.record["nvidia-smi"] = self.run(["nvidia-smi"], 20) if shutil.which(
            "nvidia-smi"
        ) else (1, "not there")  # fmt: skip
        _, self.record["packages"] = self.run([self.python, "-m", "pip", "freeze"], 20)
        code = "import cudnn; print(cudnn.create_device_properties(0).serialize())"
        status, output = self.run([self.python, "-c", code], 30)
        self.record["cuDNN device properties"] = output if status == 0 else ""
        code = "import rgraph as C; print(C.use_default_device(), C.all_devices())"
        status, output = self.run([self.python, "-c", code], 60)
        self.record["devices"] = output.strip()
        if status or "GPU" not in output:
            self.write()
            raise SystemExit(f"rgraph finds no GPU here:\n{output}")

    def tests(self) -> None:
        """The tests that need a GPU, then all others on the GPU, some files at a time."""
        pytest = [self.python, "-m", "pytest", "-q", "-W", "default", "--tb=short"]
        status, output = self.run([*pytest, "-m", "gpu", "tests/engines"], 150)
        self.record["tests that need a GPU"] = _summary(status, output)
        self.write()
        files = [str(f.relative_to(ROOT)) for t in TESTS for f in (ROOT / t).glob("test_*.py")]
        files += [f"tests/test_{n}.py" for n in ("plan", "function", "autodiff", "learners")]
        files.sort(key=lambda f: -os.path.getsize(ROOT / f))
        until = time.monotonic() + self.options.test_seconds

        def one(file: str) -> tuple[str, Any]:
            if time.monotonic() > until:
                return file, "not run: no time was left"
            result = self.run([*pytest, "--engine", "cuda", file], until - time.monotonic())
            return file, _summary(*result)

        with ThreadPoolExecutor(PROCESSES) as pool:
            self.record["tests on the GPU"] = dict(pool.map(one, files))
        self.write()

    def sanitizer(self) -> None:
        """compute-sanitizer over the kernels that are generated here."""
        tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not Path(tool).exists():
            self.record["compute-sanitizer"] = "not there"
            return
        test = "tests/engines/test_cuda_gpu.py"
        command = [tool, "--error-exitcode", "9", self.python, "-m", "pytest", "-q", test]
        status, output = self.run([*command, "-k", "generated or captured"], 90)
        self.record["compute-sanitizer"] = {"status": status, "output": output[-1500:]}

    def benchmarks(self) -> None:
        """Times beside PyTorch's, as long as there is time."""
        path = Path(self.options.record).with_suffix(".times.json")
        minutes = max(0.2, self.left() / 60 - 1)
        command = [self.python, "-m", "benchmarks.gpu", "--record", str(path)]
        status, output = self.run([*command, "--minutes", f"{minutes:.2f}"], self.left() - 10)
        self.record["benchmarks"] = json.loads(path.read_text()) if path.exists() else {}
        self.record["benchmarks' output"] = output[-6000:] if status else ""
        path.unlink(missing_ok=True)


def _summary(status: int, output: str) -> dict[str, Any]:
    lines = output.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    found: dict[str, Any] = {"status": status, "summary": lines[-1] if lines else ""}
    if status:
        found["failed"] = failed[:40]
        found["output"] = output[-3000:]
    return found


def main() -> None:
    """Does all of it, writing the record after each part."""
    today = datetime.date.today().isoformat()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", help="a folder of wheels")
    parser.add_argument("--environment", default="gpu-check-env", help="where to make one")
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--test-seconds", type=float, default=150)
    parser.add_argument("--record", default=str(ROOT / f"benchmarks/records/gpu-{today}.json"))
    parser.add_argument("--only", nargs="+", choices=["tests", "sanitizer", "benchmarks"])
    check = Check(parser.parse_args())
    check.environment()
    check.facts()
    for part in check.options.only or ["tests", "benchmarks", "sanitizer"]:
        getattr(check, part)()
        check.write()
        print(f"{part}: {check.left():.0f} s are left", flush=True)
    print(f"written to {check.options.record}")


if __name__ == "__main__":
    main()
