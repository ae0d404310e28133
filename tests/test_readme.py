"""What the README shows is what happens, and what it links to is there."""

import ast
import itertools
import json
import re
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path

import pytest

import rgraph as C
from docs import notebooks
from rgraph.ops.records import TABLE

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


def steps(page):
    """The programs of a page, each with the output that stands under it, if there is one."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    for (language, code), (after, shown) in itertools.pairwise([*found, ("", "")]):
        if language == "python":
            yield code, shown if after == "text" else None


@pytest.fixture
def same_operations():
    """A page adds operations."""
    before = set(TABLE)
    yield
    for name in set(TABLE) - before:
        del TABLE[name]


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda p: p.name)
@pytest.mark.usefixtures("same_operations")
def test_programs_of_pages_run(page, monkeypatch, tmp_path, capsys):
    """From top to bottom, one after the other, and print what stands under them."""
    programs = "".join(blocks("python", page.read_text()))
    for module in re.findall(r"^(?:import|from) (\w+)", programs, re.MULTILINE):
        pytest.importorskip(module, reason=f"{module} is not installed")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec("import numpy as np\nimport rgraph as C", names)
    for number, (code, shown) in enumerate(steps(page)):
        exec(compile(code, f"{page.name}, program {number}", "exec"), names)
        printed = capsys.readouterr().out
        if shown is not None:
            assert OutputChecker().check_output(shown, printed, ELLIPSIS | NORMALIZE_WHITESPACE)


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_notebooks_are_the_pages(name):
    """Or else: python -m docs.notebooks"""
    page = ROOT / "docs" / f"{name}.md"
    text = (ROOT / "docs/notebooks" / f"{name}.ipynb").read_text()
    assert text == notebooks.notebook(page)
    cells = json.loads(text)["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    assert code == [program.strip("\n") for program, _ in steps(page)]
