"""What mkdocs adds to the pages in this folder: the reference, and the changelog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
MODULES = {
    "layers": "Layers", "ops": "Operations", "ops.sequence": "Operations on sequences",
    "ops.random": "Random numbers", "losses": "Losses", "metrics": "Metrics",
    "learners": "Learners", "train": "Training", "io": "Reading data", "eval": "Evaluation",
    "logging": "Progress and pictures", "testing": "Checking gradients",
    "initializer": "Initializers", "device": "Devices", "debugging": "Debugging",
    "model.function": "Function", "operands.variables": "Variables", "files.weights": "Weights",
}  # fmt: skip


class Examples(griffe.Extension):
    """Examples in docstrings are shown as programs."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            example = r"^>>> .*(?:\n.+)*"
            obj.docstring.value = re.sub(
                example, r"```pycon\n\g<0>\n```", obj.docstring.value, flags=re.MULTILINE
            )


def on_config(config: Any) -> Any:
    """Puts the reference into the navigation."""
    config.nav.append({"Reference": [{t: f"reference/{m}.md"} for m, t in MODULES.items()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Makes a page for each module, and one of the changelog."""
    pages = {
        f"reference/{m}.md": f"# {t}\n\n`rgraph.{m}`\n\n::: rgraph.{m}\n"
        for m, t in MODULES.items()
    }
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Files that are not on the site are named, not linked."""
    return re.sub(r"\[([^]]*)\]\(\.\./([^)#]+)[^)]*\)", _named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if path.endswith(text) else f"{text} (`{path}` in the repository)"
