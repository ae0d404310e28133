"""Runs CNTK's own Python tests on rgraph: `python -m conformance [PATTERN ...]`.

The tests come out of CNTK's last wheel, which pip fetches into a temporary folder. They run
unchanged, each file in a process of its own. What counts are the tests that CNTK 2.7 itself passes,
listed in `passes.json`; where a test fails for a reason that stands, `known.json` gives the reason.
Prints a table and then the plain count. This is a measure and not a gate: failures leave the exit
status at 0.

`python -m conformance keras FOLDER` runs the tests of Keras instead, `python -m conformance
programs FOLDER` CNTK's tutorials and examples.
"""

import runpy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from conformance import running

HERE = Path(__file__).parent
OTHERS = ("keras", "programs")  # what else there is to run, each in a folder of its own
WHEEL = "cntk==2.7.post2"
# The wheel is for Python 3.6 only, and pip refuses it unless told that this is wanted.
PIP = (
    f"-m pip download {WHEEL} --quiet --no-deps --only-binary :all: --python-version 36"
    " --implementation cp --abi cp36m --platform manylinux1_x86_64 --disable-pip-version-check"
)
INI = """[pytest]
python_files = *.py
python_classes = *Test
addopts = -q -s -p no:cacheprovider -W ignore
"""

# Files that rgraph is not held to, and why.
LEFT_OUT = {
    "contrib/": "reinforcement learning, Caffe import",
    "ops/tests/sparse_test.py": "sparse storage",
    "ops/tests/fp16_test.py": "fp16 on CPU",
}


def fetch_tests(wheel: Path | None, folder: Path) -> None:
    """Puts the tests, and nothing else of the wheel, into `folder`."""
    if wheel is None:
        subprocess.run([sys.executable, *PIP.split(), "--dest", str(folder)], check=True)
        (wheel,) = folder.glob("cntk-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            left_out = name.removeprefix("cntk/").startswith(tuple(LEFT_OUT))
            if "/tests/" in name and not left_out and not name.endswith("__init__.py"):
                archive.extract(name, folder)
    (folder / "pytest.ini").write_text(INI)


def record(python: str, limit: float) -> None:
    """Writes passes.json, given an interpreter that has CNTK 2.7 and pytest installed."""
    where = "import cntk, os; print(os.path.dirname(cntk.__file__))"
    shown = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    root = Path(shown.stdout.split()[-1])
    files = {p.relative_to(root).as_posix(): p for p in sorted(root.glob("**/tests/*.py"))}
    commands = {
        file: [python, "-m", "pytest", str(path), "-o", "addopts="]
        for file, path in files.items()
        if not file.startswith(tuple(LEFT_OUT))
    }
    made = f"python 3.6, {WHEEL}, pytest 6.2.5, CPU, MKL_CBWR=COMPATIBLE"
    running.record(HERE, made, commands, limit, ())


def main() -> None:
    if sys.argv[1:] and sys.argv[1] in OTHERS:
        runpy.run_module(f"conformance.{sys.argv.pop(1)}", run_name="__main__")
        return
    parser = running.parser("python -m conformance", __doc__)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {WHEEL}, if it is here already")
    options = parser.parse_args()
    if options.record:
        return record(options.record, options.limit)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        fetch_tests(options.wheel, folder)

        def command(file: str) -> list[str]:
            tests = str(folder / "cntk" / file)
            pytest = [sys.executable, "-m", "pytest", tests, f"--rootdir={folder}"]
            return [*pytest, "--import-mode=importlib", "-pconformance.adapter"]

        running.run_all(HERE, options, command)
    print("Left out: " + "; ".join(f"{file} ({why})" for file, why in LEFT_OUT.items()) + ".")


if __name__ == "__main__":
    main()
