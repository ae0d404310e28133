"""What training by many machines would cost: a model, from what was measured and what is assumed.

    python -m benchmarks --parts ranks --record ranks.json
    python -m benchmarks.scaling ranks.json --plot docs/several-processes.png

A step of n workers takes what the slowest one computes, and after that the sum of the gradients:

    seconds = compute + 2 ceil(log2 n) latency + 2 (n - 1) / n bytes / bandwidth

(a ring for what is large, a tree for what is small; Thakur, Rabenseifner and Gropp, 2005). With
overlap, as much of the sum as back-propagation takes, two thirds of `compute`, would cost nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
COUNTS = [2**k for k in range(13)]
LOWEST = 0.8  # of a worker's time that must go into its own work
BACK = 2 / 3  # of a step that is back-propagation


class Network(NamedTuple):
    """What joins the workers.

    Attributes:
        latency: seconds until a message of no length is there.
        bandwidth: bytes a second between two.
    """

    latency: float
    bandwidth: float


class Work(NamedTuple):
    """What a step of a worker is.

    Attributes:
        compute: seconds.
        gradients: bytes.
    """

    compute: float
    gradients: float


# Assumed: what vendors state, less what protocols take.
NETWORKS = {
    "10 Gb/s Ethernet": Network(30e-6, 1.1e9),
    "100 Gb/s InfiniBand": Network(2e-6, 11e9),
}


def seconds_of_sum(work: Work, count: int, network: Network) -> float:
    """How long n workers' sum of the gradients takes."""
    if count == 1:
        return 0.0
    messages = 2 * math.ceil(math.log2(count)) * network.latency
    return messages + 2 * (count - 1) / count * work.gradients / network.bandwidth


def efficiency(
    work: Work, count: int, network: Network, shared: bool = False, overlap: bool = False
) -> float:
    """The part of each worker's time that goes into its own work.

    Args:
        shared: whether one minibatch is shared by all; else each has one of its own.
        overlap: whether sums go on while back-propagation does.
    """
    compute = work.compute / count if shared else work.compute
    waits = seconds_of_sum(work, count, network)
    if overlap:
        waits = max(0.0, waits - BACK * compute)
    return compute / (compute + waits)


def most(work: Work, network: Network, **options: Any) -> int:
    """The largest number of workers, a power of two, of which each is busy enough."""
    found = [n for n in COUNTS if efficiency(work, n, network, **options) >= LOWEST]
    return max(found)


def read(path: Path) -> tuple[Work, Network]:
    """The video example's step and this machine's memory as a network, as they were measured."""
    rows = json.loads(path.read_text())["rows"]
    found = {row["what"]: row["measured"] for row in rows if row["part"] == "ranks"}
    work = Work(1e-3 * found["ms of a worker's step"], 1e3 * found["KB of gradients"])
    # A sum of two: two messages one after the other; each sends half of its bytes twice.
    latency = 1e-6 * found["us of a sum of one number"] / 2
    return work, Network(latency, 1e9 * found["GB/s of a large sum"])


def rows_of(work: Work, here: Network) -> list[Row]:
    """How many workers are busy enough, for the video example's net and for larger ones."""
    sizes = {
        "the video example": work,
        "100 times its gradients": work._replace(gradients=100 * work.gradients),
        "10,000 times": work._replace(gradients=1e4 * work.gradients),
    }
    rows = []
    for name, one in sizes.items():
        for title, network in {"this machine": here, **NETWORKS}.items():
            rows.append(
                {
                    "net": name,
                    "MB": one.gradients / 1e6,
                    "network": title,
                    "ms of a sum of 64": 1e3 * seconds_of_sum(one, 64, network),
                    "a minibatch each": most(one, network),
                    "with overlap": most(one, network, overlap=True),
                    "one shared": most(one, network, shared=True),
                }
            )
    return rows


def draw(work: Work, here: Network, path: Path) -> None:
    """The efficiency over the number of workers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for panel, shared in zip(panels, (False, True), strict=True):
        for i, (title, network) in enumerate({"this machine": here, **NETWORKS}.items()):
            for factor, style in ((1, "-"), (10_000, "--")):
                one = work._replace(gradients=factor * work.gradients)
                values = [efficiency(one, n, network, shared) for n in COUNTS]
                name = f"{title}, {one.gradients / 1e6:.3g} MB"
                panel.plot(COUNTS, values, style, color=f"C{i}", label=name)
        panel.axhline(LOWEST, color="black", linewidth=0.6)
        panel.set_xscale("log", base=2)
        panel.set(xlabel="workers", title="one minibatch for all" if shared else "a minibatch each")
    panels[0].set(ylabel="of each worker's time in its own work", ylim=(0, 1.02))
    panels[1].legend(fontsize=7)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Prints the table and draws the picture."""
    from .report import table

    parser = argparse.ArgumentParser("python -m benchmarks.scaling")
    parser.add_argument("record", type=Path, help="what `--parts ranks --record` wrote")
    parser.add_argument("--plot", type=Path, help="where to draw; needs Matplotlib")
    options = parser.parse_args(arguments)
    work, here = read(options.record)
    rows = rows_of(work, here)
    print(table(rows, rows[0]))
    if options.plot:
        draw(work, here, options.plot)
    return rows


if __name__ == "__main__":
    main()
