"""One set of filters on each channel of an image, without mixing channels: which way is best?

    python examples/shared_filters.py             # 3, 30 and 100 channels of 200x200, a minute
    python examples/shared_filters.py --quick     # a few seconds, to see that it works

An ordinary convolution sums over the channels. Here 20 filters of 5x5 are applied to each of C
channels by itself, and the result is (C, 20, height, width). There are three ways to write that:

    frames    the channels are the frames of a sequence: a convolution runs on every frame
    volume    the image is a volume with one channel: a 3-D convolution with a (1, 5, 5) kernel
    loop      the same convolution is called for one channel after the other, and all are spliced

All three must give the same results and the same gradients, which is checked first. Then each is
timed in a process of its own, which also shows its peak memory. The program prints a table; `--out`
(default: shared_filters/) receives shared_filters.png, the table as a plot, which needs Matplotlib:
pip install '.[examples]'.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rgraph as C

REPEAT = 3  # runs of each; the fastest counts

# -------------------------------------------------------------------------------- the three ways
# Each makes the input and the result for `count` channels of `size` x `size`, with filters W of
# shape (filters, 1, k, k) and a bias b of shape (filters, 1, 1).


def as_frames(W: Any, b: Any, count: int, size: int) -> tuple[Any, Any]:
    x = C.sequence.input_variable((1, size, size), needs_gradient=True)
    return x, C.convolution(W, x, auto_padding=[False]) + b


def as_volume(W: Any, b: Any, count: int, size: int) -> tuple[Any, Any]:
    x = C.input_variable((1, count, size, size), needs_gradient=True)
    deep = C.reshape(W, (W.shape[0], 1, 1, *W.shape[2:]))
    y = C.convolution(deep, x, auto_padding=[False]) + C.reshape(b, (b.shape[0], 1, 1, 1))
    return x, y


def in_a_loop(W: Any, b: Any, count: int, size: int) -> tuple[Any, Any]:
    x = C.input_variable((count, size, size), needs_gradient=True)
    each = []
    for i in range(count):
        y = C.convolution(W, C.slice(x, 0, i, i + 1), auto_padding=[False]) + b
        each.append(C.reshape(y, (1, *y.shape)))
    return x, C.splice(*each, axis=0)


# How each is built, what it takes for images (N, C, height, width), and what it gives as
# (N, C, filters, height, width).
WAYS: dict[str, tuple[Callable[..., Any], ...]] = {
    "frames": (as_frames, lambda images: images[:, :, None], np.stack),
    "volume": (as_volume, lambda images: images[:, None], lambda y: np.swapaxes(y, 1, 2)),
    "loop": (in_a_loop, np.asarray, np.asarray),
}


class Model:
    """A way with random filters, and the gradients of the sum of the squares of its result."""

    def __init__(self, way: str, channels: int, args: argparse.Namespace) -> None:
        build, fed, self.laid_out = WAYS[way]
        rng = np.random.default_rng(args.seed)
        shape = (args.filters, 1, args.kernel, args.kernel)
        self.W = C.Parameter(shape, init=rng.normal(size=shape).astype(np.float32))
        self.b = C.Parameter((args.filters, 1, 1), init=0.5)
        self.x, self.y = build(self.W, self.b, channels, args.size)
        self.loss = C.reduce_sum(C.square(self.y))
        images = rng.normal(size=(args.images, channels, args.size, args.size))
        self.data = {self.x: fed(images.astype(np.float32))}

    def result(self) -> Any:
        return self.y.eval(self.data)

    def gradients(self) -> Any:
        return self.loss.grad(self.data, wrt=[self.W, self.b, self.x])

    def numbers(self) -> list[np.ndarray]:
        """The result and the gradients, laid out the same for all ways."""
        result, of = self.laid_out(self.result()), self.gradients()
        of_images = np.reshape(of[self.x], (*result.shape[:2], *self.x.shape[-2:]))
        return [result, of[self.W], of[self.b], of_images]


def check_same(args: argparse.Namespace) -> float:
    """The greatest difference between any two ways, as a part of the greatest number."""
    small = argparse.Namespace(**{**vars(args), "size": min(args.size, 24), "images": 2})
    truth, *others = [Model(way, 3, small).numbers() for way in WAYS]
    greatest = 0.0
    for numbers in others:
        for a, b in zip(truth, numbers, strict=True):
            assert a.shape == b.shape
            greatest = max(greatest, float(np.abs(a - b).max() / np.abs(a).max()))
    assert greatest < 1e-5, f"the three ways differ by {greatest:.1e}"
    return greatest


# ---------------------------------------------------------------------------------- measuring


class Row(NamedTuple):
    """What was measured, in seconds and bytes; `first` is building the graph and a first run."""

    channels: int
    way: str
    first: float
    forward: float
    gradients: float
    memory: float


def held(what: str) -> float:
    """Bytes that this process holds (VmRSS), or the most it ever held (VmHWM). NaN off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(what))


def measure(way: str, channels: int, args: argparse.Namespace) -> Row:
    """The fastest of some runs; to be called in a fresh process, for the memory's sake."""

    def seconds(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    before, start = held("VmRSS"), time.perf_counter()
    model = Model(way, channels, args)
    model.result()
    first = time.perf_counter() - start
    forward = min(seconds(model.result) for _ in range(REPEAT))
    gradients = min(seconds(model.gradients) for _ in range(1 + REPEAT))
    return Row(channels, way, first, forward, gradients, held("VmHWM") - before)


def table(args: argparse.Namespace) -> list[Row]:
    """Measures everything, and prints each row as soon as it is known."""
    print("channels  way     first run    forward  gradients    memory   (the result alone)")
    rows = []
    for channels in args.channels:
        result = 4e-6 * args.images * channels * args.filters * (args.size - args.kernel + 1) ** 2
        for way in WAYS:
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                row = fresh.apply(measure, (way, channels, args))
            times = "".join(f"{1e3 * t:8.1f} ms" for t in row[2:5])
            memory = f"{row.memory / 1e6:7.0f} MB{result:11.0f} MB"
            print(f"{channels:8}  {way:6}{times}{memory}", flush=True)
            rows.append(row)
        fast, *_, slow = sorted(rows[-len(WAYS) :], key=lambda row: row.gradients)
        ratio = slow.gradients / fast.gradients
        print(f"{'':8}  gradients: {slow.way} takes {ratio:.1f} times as long as {fast.way}")
    return rows


def draw(rows: list[Row], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no picture: it needs Matplotlib, pip install '.[examples]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    titles = {"forward": "forward, seconds", "gradients": "gradients, seconds", "memory": "bytes"}
    for panel, (field, title) in zip(panels, titles.items(), strict=True):
        for way, mark in zip(WAYS, "os^", strict=True):
            own = [r for r in rows if r.way == way]
            line = [r.channels for r in own], [getattr(r, field) for r in own]
            panel.loglog(*line, mark + "-", label=way)
        panel.set(title=title, xlabel="channels")
        panel.set_xticks(line[0], labels=map(str, line[0]))
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--channels", type=int, nargs="+", default=[3, 30, 100], help="%(default)s")
    p.add_argument("--size", type=int, default=200, help="of an image, in pixels (%(default)s)")
    p.add_argument("--images", type=int, default=1, help="in a minibatch (%(default)s)")
    p.add_argument("--filters", type=int, default=20, help="how many (%(default)s)")
    p.add_argument("--kernel", type=int, default=5, help="their size in pixels (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="random seed (%(default)s)")
    p.add_argument("--out", type=Path, default=Path("shared_filters"), help="folder for the plot")
    p.add_argument("--quick", action="store_true", help="small and short, to see that it works")
    if p.parse_args(argv).quick:
        p.set_defaults(channels=[2, 4], size=20)
    args = p.parse_args(argv)
    if min(*args.channels, args.images, args.filters, args.kernel) < 1 or args.size < args.kernel:
        p.error("all numbers must be positive, and the images not smaller than the filters")

    greatest = check_same(args)
    print(f"the three ways agree, gradients too: they differ by {greatest:.0e} at most")
    rows = table(args)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(rows, args.out / "shared_filters.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
