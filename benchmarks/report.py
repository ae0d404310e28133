"""What was measured, as tables in Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SHARES = ("of peak", "its of peak", "others")


def table(rows: Sequence[Row], columns: Iterable[str]) -> str:
    """Those of these columns that any row has, as a table in Markdown."""
    columns = [name for name in columns if any(row.get(name) is not None for row in rows)]
    cells = [list(columns), *([_cell(name, row.get(name)) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [all(isinstance(row.get(name), str | None) for row in rows) for name in columns]
    rule = ["-" * w if t else "-" * (w - 1) + ":" for w, t in zip(widths, text, strict=True)]
    return "\n".join(
        "| "
        + " | ".join(
            c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, text, strict=True)
        )
        + " |"
        for line in [cells[0], rule, *cells[1:]]
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def held(rows: Sequence[Row]) -> list[Row]:
    """What the project is held to, and whether it is met, of all that was measured."""
    found: list[Row] = []

    def judge(what: str, target: float, value: float, at_least: bool, rounds: Any = None) -> None:
        met = value >= target if at_least else value <= target
        limit = f"{'at least' if at_least else 'at most'} {target:.3g}"
        found.append(
            {
                "what": what,
                "target": limit,
                "measured": value,
                "of rounds": rounds,
                "met": "yes" if met else "no",
            }
        )

    for row in rows:
        what = f"{row.get('program', row.get('what'))}, {row.get('run', row.get('side'))}"
        if row.get("target") and "ratio" in row:
            judge(f"{what}: ratio", row["target"], row["ratio"], True, row["of rounds"])
        if row.get("memory target") and row.get("its MB"):
            share = row["MB"] / row["its MB"]
            judge(f"{what}: memory over PyTorch's", row["memory target"], share, False)
        if row.get("at most, of one's"):
            beside = f"{what}, {row['busy']} busy: over one thread's time"
            judge(beside, row["at most, of one's"], row["over one's"], False)
        for word in ("at most", "at least"):
            if row.get(word):
                judge(row["what"], row[word], row["measured"], word == "at least")
        if row.get("at most, ms"):
            judge(f"{what}, ms", row["at most, ms"], row["ms"], False)
    return found


def plot(rows: Sequence[Row], path: str | Path) -> None:
    """PyTorch's time over ours of each program, with the targets.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if "ratio" in row][::-1]
    figure, panel = pyplot.subplots(
        figsize=(9, 1.2 + 0.24 * len(rows)), layout="constrained", squeeze=True
    )
    colors = ["tab:blue" if row["run"].startswith("forward") else "tab:orange" for row in rows]
    panel.barh(range(len(rows)), [row["ratio"] - 1 for row in rows], left=1, color=colors)
    for y, row in enumerate(rows):
        panel.plot(row["ratios"], [y] * len(row["ratios"]), "|", color="black", alpha=0.25)
        if row["target"]:
            panel.plot([row["target"]] * 2, [y - 0.45, y + 0.45], color="tab:red", linewidth=2)
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xscale("log")
    ticks = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20)
    low = min([0.5, *(min(row["ratios"]) for row in rows)])
    high = max([2, *(max(row["ratios"]) for row in rows)])
    shown = [t for t in ticks if low / 1.2 < t < high * 1.2]
    panel.set_xticks(shown, labels=[f"{t:g}" for t in shown])
    panel.set_xticks([], minor=True)
    names = [f"{row['program'].partition(':')[0]}, {row['run']}" for row in rows]
    panel.set_yticks(range(len(rows)), labels=names)
    panel.set(
        ylim=(-0.7, len(rows) - 0.3),
        xlabel="PyTorch's best time over rgraph's (right of 1: rgraph is faster)",
        title="bars: fastest rounds; ticks: each round; red: what it is held to",
    )
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
