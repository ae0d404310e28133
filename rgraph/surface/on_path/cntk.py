"""What the processes that a program of `python -m rgraph run` starts find as `cntk`."""

import importlib
import sys

del sys.modules["cntk"]  # this module, in whose place rgraph.cntk puts itself
importlib.import_module("rgraph.cntk")
