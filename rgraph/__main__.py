"""`python -m rgraph run SCRIPT.py [ARGUMENT …]`: runs a program that says `import cntk`."""

import importlib
import os
import runpy
import sys


def main() -> None:
    """Runs the script as Python itself would, with rgraph where it looks for CNTK."""
    if len(sys.argv) < 3 or sys.argv[1] != "run":
        sys.exit(__doc__)
    importlib.import_module("rgraph.cntk")
    script = sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
