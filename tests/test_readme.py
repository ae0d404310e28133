"""What the README shows is what happens, and what it links to is there."""

import ast
import re
from pathlib import Path

import pytest

import rgraph as C

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language, text=README):
    """A page's blocks of code in a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[0])
def test_programs_give_what_stands_under_them(code):
    names = {}
    exec("import numpy as np\nimport rgraph as C", names)
    value = None
    for statement in ast.parse(code).body:
        source = ast.unparse(statement)
        if not isinstance(statement, ast.Expr):
            exec(source, names)
        elif value is None:
            value = eval(source, names)
        else:  # a value that stands under an expression
            assert value == ast.literal_eval(source)
            value = None


def test_message_of_images_into_an_lstm():
    video = C.sequence.input_variable((32, 26, 5), name="video")
    with pytest.raises(C.GraphError) as raised:
        C.layers.Recurrence(C.layers.LSTM(100))(video)
    (shown,) = blocks("text")
    for line in shown.splitlines():
        if not line.strip().startswith("at "):
            assert line.strip() in str(raised.value)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda p: p.name)
def test_programs_of_pages_run(page, monkeypatch, tmp_path):
    """From top to bottom, one after the other."""
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("import numpy as np\nimport rgraph as C", names)
    for number, code in enumerate(blocks("python", page.read_text())):
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)
