"""Runs Keras 2's own tests on rgraph: `python -m conformance keras FOLDER [PATTERN ...]`.

FOLDER is a checkout of keras-team/keras at the tag 2.2.4. Nothing is fetched. The tests run
unchanged, each file in a process that `python -m rgraph run` started; `shim.py` gives back what
Python, NumPy, h5py, PyYAML and pytest have taken away since. Needed are h5py, pyyaml, six, pandas,
keras_applications==1.0.6, keras_preprocessing==1.0.5 and pytest. What counts are the tests that
real CNTK 2.7 passes (`passes.json`); `known.json` has the reasons of failures that stand.
"""

import os
import sys
import tempfile
from pathlib import Path

from conformance import running

HERE = Path(__file__).parent

# Files that rgraph is not held to, and why.
LEFT_OUT = {
    "integration_tests/applications_test.py": "trained models to download",
    "integration_tests/imagenet_utils_test.py": "lists of classes to download",
    "integration_tests/test_datasets.py": "data to download",
}


def main() -> None:
    parser = running.parser("python -m conformance keras", __doc__, "a checkout of Keras 2.2.4")
    options = parser.parse_args()
    tests = options.folder.resolve() / "tests"
    if not (tests / "keras" / "backend").is_dir():
        parser.error(f"{options.folder} is no checkout of Keras 2 with its tests")
    common = ["-o", "addopts=", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    with tempfile.TemporaryDirectory() as home:  # where Keras writes what it was set to
        os.environ |= {"KERAS_BACKEND": "cntk", "KERAS_HOME": home}
        if options.record:
            files = [f.relative_to(tests).as_posix() for f in sorted(tests.rglob("*test*.py"))]
            pytest_there = [options.record, "-m", "pytest"]
            commands = {
                f: [*pytest_there, str(tests / f), *common]
                for f in files
                if f not in LEFT_OUT and not f.endswith("conftest.py")
            }
            made = "python 3.6, cntk==2.7.post2, keras 2.2.4, pytest 6.2.5, CPU"
            return running.record(HERE, made, commands, options.limit, [tests.parent])

        def command(file: str) -> list[str]:
            rgraph = [sys.executable, "-m", "rgraph", "run", str(HERE / "shim.py")]
            return [*rgraph, str(tests / file), *common]

        running.run_all(HERE, options, command, [tests.parent])
    print("Left out: " + "; ".join(f"{file} ({why})" for file, why in LEFT_OUT.items()) + ".")


if __name__ == "__main__":
    main()
