"""The work in C: an extension module for each level of instruction sets. All else is in setup.cfg.

Where there is no C compiler, or it fails, the package is built without: NumPy does everything then.
"""

import hashlib
import os
import platform
import shlex
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path("rgraph/engines/native")
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fvisibility=hidden", "-pthread"]
FLAGS += ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wno-sign-conversion"]
LEVELS = {"_baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS = {
        "_baseline": ["-march=x86-64"],
        "_v3": ["-march=x86-64-v3"],
        "_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }


SOURCES, HEADERS = (sorted(map(str, HERE.glob(f"*.{kind}"))) for kind in "ch")
CHOSEN = shlex.split(os.environ.get("CFLAGS", ""))  # by who builds, before ours of the level
DIGEST = hashlib.sha256(b"".join(Path(p).read_bytes() for p in (*SOURCES, *HEADERS))).hexdigest()


class BuildEach(build_ext):
    """The same sources for each level: their objects must not meet."""

    def build_extension(self, ext: Extension) -> None:
        common = self.build_temp
        self.build_temp = str(Path(common, ext.name))
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = common


setup(
    ext_modules=[
        Extension(
            f"rgraph.engines.native.{name}",
            SOURCES,
            depends=HEADERS,
            define_macros=[("MODULE", name), ("SOURCES", f'"{DIGEST}"')],
            extra_compile_args=[*FLAGS, *CHOSEN, "-isystem", numpy.get_include(), *level],
            extra_link_args=["-pthread"],
            libraries=["m"],
            py_limited_api=True,
            optional=True,
        )
        for name, level in LEVELS.items()
    ],
    cmdclass={"build_ext": BuildEach},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
