"""Makes the reference of all public names from their docstrings: `python -m docs.reference FOLDER`.

Modules list for a star what CNTK's bring, see `rgraph.surface`; the reference shows what is
rgraph's own, too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc

import rgraph


def main(folder: str) -> None:
    """Writes the pages into a folder."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == rgraph.__name__ and hasattr(module, "__ours__"):
            module.__dict__["__all__"] = module.__ours__
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(rgraph.__name__, output_directory=Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
