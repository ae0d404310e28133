"""Writes docs/from-cntk.md from the tables of what is left out and what differs.

python -m docs.from_cntk
"""

from __future__ import annotations

from pathlib import Path

from rgraph.surface import left_out

PAGE = Path(__file__).with_name("from-cntk.md")

HEAD = """\
# Coming from CNTK: what differs and why, by name

This page is made by `python -m docs.from_cntk`, from the tables that the test of the surface holds
against CNTK 2.7 (`tests/test_surface.py`).

A program in CNTK 2.7's Python runs as it is:

    python -m rgraph run train.py --epochs 10

or, in a program of your own, with `import rgraph as C` in the place of `import cntk as C`. After
`import rgraph.cntk` whatever says `import cntk` or `from cntk.layers import …` gets rgraph. So does
Keras up to 2.3, whose backend CNTK may be:

    KERAS_BACKEND=cntk python -m rgraph run train_keras.py

Every public name of CNTK 2.7 is at the same module path (`rgraph.ops.functions`,
`rgraph.layers.blocks`, …), with the same parameters in the same places, but for the names below. A
star import brings what CNTK's brings, and nothing that rgraph has on top (`C.where`, `C.einsum`,
`C.testing`, …). Some module paths hold no file here; editors and type checkers see the others.

Parameters begin with the values that CNTK draws for them on a CPU: with a seed, without one, and
after `set_fixed_random_seed`. Only `C.set_seed`, which CNTK has not, gives others. On a CPU
`C.random` with a seed and a shape draws CNTK's numbers, too, and so does `random_sample` with a
seed and duplicates; dropout and what has no seed draw their own.

Where CNTK crashes, hangs or gives numbers of no meaning, rgraph does what was meant, or refuses
with a hint.
"""

BEHAVES = """
## What does something else

| name | here |
| --- | --- |
"""

DECLARED = """
## What is declared otherwise

| name | here |
| --- | --- |
"""

LEFT_OUT = """
## What is left out

Programs that only import these run; where they are used, the reason is said. `.name` is a member of
several classes.

| name | why |
| --- | --- |
"""

END = """
Of `cntk_py`, the C++ library under CNTK's Python, there is what programs reach for: seeds, kinds of
devices and types, and switches, most of which do nothing here. The rest of it is what CNTK's own
Python is made of.
"""


def page() -> str:
    """The page's text."""
    reasons = left_out.LEFT_OUT.items()
    omitted = [f"| {_listed(names.split())} | {why} |\n" for why, names in reasons]
    tables = [BEHAVES, *_rows(left_out.BEHAVES), DECLARED, *_rows(left_out.DECLARED)]
    return "".join([HEAD, *tables, LEFT_OUT, *omitted, END])


def _rows(table: dict[str, str]) -> list[str]:
    ordered = sorted(table.items(), key=lambda pair: pair[0].lower())
    return [f"| {_listed([name])} | {what} |\n" for name, what in ordered]


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names, key=str.lower))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
