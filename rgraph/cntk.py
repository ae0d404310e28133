"""CNTK's own name for rgraph: once this is imported, programs that say `import cntk` run on it.

>>> import rgraph.cntk
>>> import cntk
>>> from cntk.layers.blocks import LSTM
>>> cntk.__version__, LSTM is C.layers.LSTM
('2.7', True)
"""

import sys
from typing import Any

import rgraph

from .surface import Finder

__version__ = "2.7"  # of the CNTK whose names these are; programs ask for it
__path__: list[str] = []
__all__ = list(rgraph.__all__)


def __getattr__(name: str) -> Any:
    return getattr(rgraph, name)


def __dir__() -> list[str]:
    return dir(rgraph)


if sys.modules.setdefault("cntk", sys.modules[__name__]) is not sys.modules[__name__]:
    raise ImportError("CNTK itself is imported already: import rgraph.cntk before it")
for name, module in list(sys.modules.items()):
    if name.startswith("rgraph."):
        sys.modules[f"cntk.{name.removeprefix('rgraph.')}"] = module
sys.modules["_cntk_py"] = rgraph.cntk_py  # as CNTK's examples spell it
sys.meta_path.insert(0, Finder("cntk"))  # for those that are loaded later
